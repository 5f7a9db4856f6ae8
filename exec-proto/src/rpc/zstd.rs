//! Payloads as zstd frames (RFC 8878), one frame for each, so that none depends on another, and what
//! does not get smaller in one place costs nothing in the next.
//!
//! Not responsible for whether a peer understands them, nor for how many bytes of one message may be
//! compressed: see `bulk`.

use std::cell::RefCell;

use bytes::Bytes;
use zstd_safe::{CCtx, CParameter, DCtx};

thread_local! {
    /// Made for the first payload that this thread compresses, some hundreds of KiB.
    static PACKER: RefCell<Option<CCtx<'static>>> = const { RefCell::new(None) };
    /// Made for the first payload that this thread decompresses.
    static UNPACKER: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// Compresses a payload; `None` where that does not pay.
///
/// Cost: what does not get smaller is found out at a multiple of the usual speed, because the
/// compressor gives up on it.
pub(super) fn pack(payload: &[u8]) -> Option<Vec<u8>> {
    // It has to fit: what saves less than this is not worth the other end's time.
    let mut packed = Vec::with_capacity(payload.len() - payload.len().div_ceil(LEAST_SAVED));
    PACKER.with_borrow_mut(|packer| {
        let packer = match packer {
            Some(packer) => packer,
            None => packer.insert(new_packer()?),
        };
        packer.compress2(&mut packed, payload).ok()
    })?;
    Some(packed)
}

/// Decompresses a payload; `None` if it is not one frame, or does not have exactly `length` bytes then.
///
/// Cost: never more memory than `length`, whatever the frame says of itself, and a state of fixed
/// size.
pub(super) fn unpack(packed: &[u8], length: usize) -> Option<Bytes> {
    // Several frames would be decoded one behind the other.
    if zstd_safe::find_frame_compressed_size(packed) != Ok(packed.len()) {
        return None;
    }
    let mut payload = Vec::with_capacity(length);
    UNPACKER.with_borrow_mut(|unpacker| {
        let unpacker = match unpacker {
            Some(unpacker) => unpacker,
            None => unpacker.insert(DCtx::try_create()?),
        };
        unpacker.decompress(&mut payload, packed).ok()
    })?;
    (payload.len() == length).then(|| payload.into())
}

fn new_packer() -> Option<CCtx<'static>> {
    let mut packer = CCtx::try_create()?;
    let level = CParameter::CompressionLevel(LEVEL);
    packer.set_parameter(level).ok()?;
    Some(packer)
}

/// The fastest one without a loss of much: it has to keep up with a path.
const LEVEL: i32 = 1;

/// At least one byte in so many.
const LEAST_SAVED: usize = 16;
