//! Keys that prove where a statement comes from.
//!
//! Acknowledgements, windows, resumes and resets travel outside the records, so that the rendezvous
//! sees them; a tag keeps it from making them up. The keys come from the handshake's chaining key
//! next to the record keys: Noise derives those as `HKDF(ck, "")`, that is from `HMAC(ck, "")`, and
//! these come from `HMAC(ck, label)` with a label that is not empty. Neither tells anything about the
//! other.
//!
//! The tag is HMAC-SHA-256, cut to 16 bytes. It needs no nonce, so nothing can be reused by mistake.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

/// Bytes of a tag.
pub(crate) const TAG_BYTES: usize = 16;

/// Both directions' keys of one stream.
pub(crate) struct StatementKeys {
    send: hmac::Key,
    receive: hmac::Key,
}

impl StatementKeys {
    /// Derives the keys from the chaining key and the hash at the end of the handshake.
    pub(super) fn derive(chaining_key: &[u8], hash: &[u8], initiator: bool) -> Self {
        let mut context = hmac::Context::with_key(&key(chaining_key));
        context.update(LABEL);
        context.update(hash);
        let secret = key(context.sign().as_ref());
        let from_harness = key(hmac::sign(&secret, b"harness").as_ref());
        let from_executor = key(hmac::sign(&secret, b"executor").as_ref());
        let (send, receive) = if initiator {
            (from_harness, from_executor)
        } else {
            (from_executor, from_harness)
        };
        Self { send, receive }
    }

    /// Tag of what this side says.
    pub(crate) fn sign(&self, text: &[u8]) -> [u8; TAG_BYTES] {
        cut(&hmac::sign(&self.send, text))
    }

    /// Whether the other side said this.
    pub(crate) fn verify(&self, text: &[u8], tag: &[u8; TAG_BYTES]) -> bool {
        let expected = cut(&hmac::sign(&self.receive, text));
        verify_slices_are_equal(&expected, tag).is_ok()
    }
}

fn key(bytes: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, bytes)
}

fn cut(tag: &hmac::Tag) -> [u8; TAG_BYTES] {
    let mut out = [0; TAG_BYTES];
    for (out, byte) in out.iter_mut().zip(tag.as_ref()) {
        *out = *byte;
    }
    out
}

const LABEL: &[u8] = b"exec-relay-statements/v1";
