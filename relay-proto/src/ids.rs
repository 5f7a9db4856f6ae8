//! Identifiers: streams, environments, registrations, sequence numbers.
//!
//! Text ids are checked once, when they enter, and are cheap to clone afterwards. They carry no
//! secret and may be logged.

use std::fmt;
use std::sync::Arc;

use crate::limits;

/// Why a text is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// Empty, or white space only.
    #[error("{kind} id is blank")]
    Blank {
        /// What the id would have named.
        kind: &'static str,
    },
    /// Longer than [`limits::ID_BYTES`].
    #[error("{kind} id of {length} bytes exceeds limit of {limit} bytes", limit = limits::ID_BYTES)]
    TooLong {
        /// What the id would have named.
        kind: &'static str,
        /// Its length in bytes.
        length: usize,
    },
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $normalize:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes the text.
            ///
            /// # Errors
            ///
            /// [`IdError`] if the text is blank or longer than [`limits::ID_BYTES`].
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                check(&text, $kind)?;
                let normalize: fn(&str) -> &str = $normalize;
                Ok(Self(Arc::from(normalize(&text))))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id!(
    /// Names one stream; chosen by the harness, used once.
    StreamId,
    "stream",
    |text| text
);

text_id!(
    /// Names an environment in the registry. Surrounding white space is removed.
    EnvironmentId,
    "environment",
    str::trim
);

text_id!(
    /// Names an executor's current registration; part of the handshake's prologue.
    RegistrationId,
    "registration",
    |text| text
);

/// Number of a record in one direction of a stream. Starts at 0, goes up by one, never wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Seq(pub u32);

impl Seq {
    /// The first number of a direction.
    pub const ZERO: Self = Self(0);

    /// The number after this one, or `None` at the end of the space: the direction then ends.
    ///
    /// The largest number, 4,294,967,295, is never used; the reference ends its streams there.
    pub fn next(self) -> Option<Self> {
        self.0
            .checked_add(1)
            .filter(|&next| next < u32::MAX)
            .map(Self)
    }

    /// How far `self` lies ahead of `base`; `None` if it lies behind.
    pub fn ahead_of(self, base: Self) -> Option<u32> {
        self.0.checked_sub(base.0)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The rule of [`StreamId::new`] for a text that is only looked at.
pub(crate) fn check_stream_id(text: &str) -> Result<(), IdError> {
    check(text, "stream")
}

fn check(text: &str, kind: &'static str) -> Result<(), IdError> {
    if text.trim().is_empty() {
        return Err(IdError::Blank { kind });
    }
    if text.len() > limits::ID_BYTES {
        return Err(IdError::TooLong {
            kind,
            length: text.len(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_and_overlong_ids_are_refused() {
        for text in ["", " ", "\t\n"] {
            assert_eq!(StreamId::new(text), Err(IdError::Blank { kind: "stream" }));
        }
        let long = "x".repeat(limits::ID_BYTES + 1);
        assert_eq!(
            RegistrationId::new(long).unwrap_err().to_string(),
            "registration id of 1025 bytes exceeds limit of 1024 bytes"
        );
    }

    #[test]
    fn only_environment_ids_are_trimmed() {
        assert_eq!(EnvironmentId::new(" e ").unwrap().as_str(), "e");
        assert_eq!(StreamId::new(" s ").unwrap().as_str(), " s ");
    }

    #[test]
    fn sequence_ends_instead_of_wrapping() {
        assert_eq!(Seq::ZERO.next(), Some(Seq(1)));
        assert_eq!(Seq(u32::MAX - 2).next(), Some(Seq(u32::MAX - 1)));
        assert_eq!(Seq(u32::MAX - 1).next(), None);
        assert_eq!(Seq(u32::MAX).next(), None);
        assert_eq!(Seq(3).ahead_of(Seq(5)), None);
        assert_eq!(Seq(5).ahead_of(Seq(3)), Some(2));
    }
}
