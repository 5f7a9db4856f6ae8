//! Random secrets of which only a hash is kept: bearer tokens and harness authorizations.
//!
//! ```text
//! exc_0123456789abcdef_43 characters of base64url
//! ^    ^                ^
//! |    |                256 random bits
//! |    public id, the key of the row: 64 random bits
//! kind
//! ```
//!
//! A presented secret is looked up by its id, then its SHA-256 is compared in constant time. A fast
//! hash is right here: there is nothing to guess in 256 random bits.

use std::fmt;

use aws_lc_rs::digest;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use subtle::ConstantTimeEq as _;

/// Length of a hash, in bytes.
pub(crate) const HASH_BYTES: usize = 32;

/// What a secret is for; its first letters, so that a leaked one is recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bearer token of the registry.
    Token,
    /// Authorization of a harness key.
    Authorization,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Token => "exc_",
            Self::Authorization => "exa_",
        }
    }
}

/// A new secret, to be shown once.
pub(crate) struct Issued {
    /// Public id.
    pub(crate) id: String,
    /// What is kept.
    pub(crate) hash: [u8; HASH_BYTES],
    /// What is shown.
    pub(crate) text: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Issued {
    /// Draws a secret.
    pub(crate) fn new(kind: Kind) -> Result<Self, getrandom::Error> {
        let id = random_hex()?;
        let text = format!(
            "{}{id}_{}",
            kind.prefix(),
            BASE64_URL_SAFE_NO_PAD.encode(random_bytes()?)
        );
        Ok(Self {
            id,
            hash: sha256(&[text.as_bytes()]),
            text,
        })
    }
}

/// A secret as a caller presents it.
pub(crate) struct Presented<'a> {
    /// The id that it claims.
    pub(crate) id: &'a str,
    hash: [u8; HASH_BYTES],
}

impl<'a> Presented<'a> {
    /// Splits the text of a secret; `None` if it is of another form.
    pub(crate) fn parse(kind: Kind, text: &'a str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(kind.prefix())?.split_once('_')?;
        let well_formed = id.len() == 16
            && id
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            && secret.len() == 43;
        well_formed.then(|| Self {
            id,
            hash: sha256(&[text.as_bytes()]),
        })
    }

    /// Whether this is the secret with the kept `hash`.
    pub(crate) fn matches(&self, hash: &[u8]) -> bool {
        self.hash.ct_eq(hash).into()
    }
}

/// SHA-256 over parts, each preceded by its length, so that no two lists of parts collide.
pub(crate) fn sha256_of_parts(parts: &[&[u8]]) -> [u8; HASH_BYTES] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        // `usize` has at most 64 bits.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    to_array(context.finish())
}

/// 64 random bits in hexadecimal.
pub(crate) fn random_hex() -> Result<String, getrandom::Error> {
    Ok(format!("{:016x}", getrandom::u64()?))
}

/// 256 random bits.
pub(crate) fn random_bytes() -> Result<[u8; 32], getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

fn sha256(parts: &[&[u8]]) -> [u8; HASH_BYTES] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    to_array(context.finish())
}

fn to_array(digest: digest::Digest) -> [u8; HASH_BYTES] {
    let mut hash = [0; HASH_BYTES];
    for (to, from) in hash.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issued_secret_matches_its_own_hash_only() {
        let issued = Issued::new(Kind::Token).unwrap();
        let other = Issued::new(Kind::Token).unwrap();
        let presented = Presented::parse(Kind::Token, &issued.text).unwrap();
        assert_eq!(presented.id, issued.id);
        assert!(presented.matches(&issued.hash));
        assert!(!presented.matches(&other.hash));
        assert!(!presented.matches(&issued.hash[..31]));
        assert!(!presented.matches(&[]));
    }

    #[test]
    fn secret_of_another_kind_or_form_is_not_parsed() {
        let token = Issued::new(Kind::Token).unwrap().text;
        assert!(Presented::parse(Kind::Authorization, &token).is_none());
        for text in [
            "",
            "exc_",
            "exc_0123456789abcdef",
            "exc_0123456789ABCDEF_x",
            &token[1..],
        ] {
            assert!(Presented::parse(Kind::Token, text).is_none(), "{text}");
        }
        assert!(Presented::parse(Kind::Token, &token[..token.len() - 1]).is_none());
    }

    #[test]
    fn altered_secret_does_not_match() {
        let issued = Issued::new(Kind::Authorization).unwrap();
        let last = if issued.text.ends_with('A') { "B" } else { "A" };
        let altered = format!("{}{last}", &issued.text[..issued.text.len() - 1]);
        let presented = Presented::parse(Kind::Authorization, &altered).unwrap();
        assert!(!presented.matches(&issued.hash));
    }

    #[test]
    fn lengths_separate_the_parts_of_a_hash() {
        assert_ne!(
            sha256_of_parts(&[b"ab", b"c"]),
            sha256_of_parts(&[b"a", b"bc"])
        );
        assert_ne!(sha256_of_parts(&[b"abc"]), sha256_of_parts(&[b"abc", b""]));
    }

    #[test]
    fn debug_output_hides_the_secret() {
        let issued = Issued::new(Kind::Token).unwrap();
        let secret = &issued.text["exc_0123456789abcdef_".len()..];
        assert!(!format!("{issued:?}").contains(secret));
    }
}
