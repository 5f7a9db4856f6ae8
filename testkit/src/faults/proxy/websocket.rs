//! Websocket frames as they are on the wire, without a word to either end.
//!
//! ```text
//! byte 0   FIN, reserved bits, opcode        byte 1   MASK, length (126: 16 bits follow, 127: 64)
//! then     length, mask if MASK, payload
//! ```
//!
//! Source: RFC 6455, section 5.2. Frames are passed on with the bytes they came with; the payload
//! is unmasked only to see what relay frame it is.

use anyhow::{Result, bail};
use bytes::{Buf as _, Bytes, BytesMut};
use relay_proto::frame::{Body, BodyKind, Frame, peek};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// One websocket frame.
#[derive(Debug, Clone)]
pub(super) struct WireFrame {
    /// All its bytes.
    pub(super) bytes: Bytes,
    /// The relay frame in it; `None` for everything else, which faults leave alone.
    pub(super) relay: Option<BodyKind>,
}

/// Cuts what it reads into websocket frames.
#[derive(Debug)]
pub(super) struct Reader<R> {
    source: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Starts with `buffer`, which was read before.
    pub(super) fn new(source: R, buffer: BytesMut) -> Self {
        Self { source, buffer }
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or a frame is larger than any end sends.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Option<WireFrame>> {
        loop {
            if let Some(header) = Header::parse(&self.buffer)? {
                let total = header.header_bytes + header.payload_bytes;
                if self.buffer.len() >= total {
                    let bytes = self.buffer.split_to(total).freeze();
                    let relay = header.relay(&bytes);
                    return Ok(Some(WireFrame { bytes, relay }));
                }
            }
            if self.source.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

impl WireFrame {
    /// The frame with one bit of its record's ciphertext turned over; `None` if it has no record.
    /// `draw` picks the place.
    pub(super) fn corrupted(&self, draw: usize) -> Option<Self> {
        let header = Header::parse(&self.bytes).ok().flatten()?;
        let message = header.payload(&self.bytes);
        let Body::Data { payload, .. } = Frame::decode(message.clone()).ok()?.body else {
            return None;
        };
        let start = message
            .windows(payload.len())
            .position(|part| part == payload)?;
        let place = header.header_bytes + start + draw % payload.len();
        // Masking is an exclusive or as well, so the same bit turns over underneath it.
        let mut bytes = self.bytes.to_vec();
        *bytes.get_mut(place)? ^= 1 << (draw % 8);
        Some(Self {
            bytes: bytes.into(),
            relay: self.relay,
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Header {
    is_whole_binary_message: bool,
    mask: Option<[u8; 4]>,
    header_bytes: usize,
    payload_bytes: usize,
}

impl Header {
    /// `None` when more bytes are needed.
    fn parse(mut bytes: &[u8]) -> Result<Option<Self>> {
        let available = bytes.len();
        if available < 2 {
            return Ok(None);
        }
        let first = bytes.get_u8();
        let second = bytes.get_u8();
        let length = match second & 0x7f {
            126 => bytes.try_get_u16().map(u64::from),
            127 => bytes.try_get_u64(),
            short => Ok(u64::from(short)),
        };
        let Ok(length) = length else {
            return Ok(None);
        };
        if length > LARGEST_FRAME_BYTES {
            bail!("websocket frame of {length} bytes exceeds limit of {LARGEST_FRAME_BYTES} bytes");
        }
        let mut mask = None;
        if second & 0x80 != 0 {
            let mut key = [0; 4];
            if bytes.try_copy_to_slice(&mut key).is_err() {
                return Ok(None);
            }
            mask = Some(key);
        }
        Ok(Some(Self {
            is_whole_binary_message: first & 0x8f == 0x82,
            mask,
            header_bytes: available - bytes.len(),
            payload_bytes: usize::try_from(length)?,
        }))
    }

    fn payload(&self, frame: &[u8]) -> Bytes {
        let masked = frame.iter().skip(self.header_bytes);
        let mask = self.mask.unwrap_or_default();
        masked
            .zip(mask.iter().cycle())
            .map(|(byte, key)| byte ^ key)
            .collect()
    }

    fn relay(&self, frame: &[u8]) -> Option<BodyKind> {
        if !self.is_whole_binary_message {
            return None;
        }
        peek(&self.payload(frame)).ok().map(|peek| peek.kind)
    }
}

/// Well above what either end accepts.
const LARGEST_FRAME_BYTES: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use relay_proto::ids::Seq;

    use super::*;

    /// A record as it is on the wire, with number 1.
    fn record(payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        let head = [0x08, 1, 0x12, 6, b's', b't', b'r', b'e', b'a', b'm'];
        let data = [0x2a, length + 6, 0x08, 1, 0x18, 1, 0x22, length];
        [&head[..], &data, payload].concat()
    }

    fn masked(message: &[u8], mask: [u8; 4]) -> Vec<u8> {
        let mut bytes = vec![0x82, 0x80 | u8::try_from(message.len()).unwrap()];
        bytes.extend(mask);
        bytes.extend(message.iter().zip(mask.iter().cycle()).map(|(b, k)| b ^ k));
        bytes
    }

    #[tokio::test]
    async fn frames_are_cut_where_they_end_and_keep_their_bytes() {
        let first = masked(&record(b"ciphertext"), [1, 2, 3, 4]);
        let ping = [0x89, 0x00];
        let long = [&[0x82, 126, 0x01, 0x00][..], &[7; 256]].concat();
        let all = [&first[..], &ping, &long].concat();
        let (before, after) = all.split_at(5);
        let mut reader = Reader::new(after, BytesMut::from(before));
        let frame = reader.next().await.unwrap().unwrap();
        assert_eq!(
            (&frame.bytes[..], frame.relay),
            (&first[..], Some(BodyKind::Data))
        );
        let frame = reader.next().await.unwrap().unwrap();
        assert_eq!((&frame.bytes[..], frame.relay), (&ping[..], None));
        let frame = reader.next().await.unwrap().unwrap();
        assert_eq!((&frame.bytes[..], frame.relay), (&long[..], None));
        assert!(reader.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn corruption_changes_one_bit_of_the_ciphertext_only() {
        let message = record(b"ciphertext");
        let bytes = masked(&message, [9, 8, 7, 6]);
        let mut reader = Reader::new(&bytes[..], BytesMut::new());
        let frame = reader.next().await.unwrap().unwrap();
        for draw in 0..40 {
            let corrupted = frame.corrupted(draw).unwrap();
            let header = Header::parse(&corrupted.bytes).unwrap().unwrap();
            let decoded = Frame::decode(header.payload(&corrupted.bytes)).unwrap();
            let Body::Data { seq, payload } = decoded.body else {
                panic!("{decoded:?}");
            };
            assert_eq!(seq, Seq(1));
            let flipped: u32 = payload
                .iter()
                .zip(b"ciphertext")
                .map(|(one, other)| (one ^ other).count_ones())
                .sum();
            assert_eq!(flipped, 1);
        }
    }
}
