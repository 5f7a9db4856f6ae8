//! Paths on the wire: `file:` URIs, read by the WHATWG rules and written in one canonical form.
//!
//! ```text
//! file:///a/b   file:/a/b   file:a/b   FILE://localhost/a/b   file:\\/a/b      -> /a/b
//! file:///a/./b/../c                                                            -> /a/c (lexically)
//! file:///a%20b   file:///a b                                                   -> "/a b"
//! file:///100%.txt                                                              -> /100%.txt
//! file:///%00/bad/path/<base64url>   paths that have no other spelling
//! ```
//!
//! Refused when read: other schemes, relative and native paths, queries, fragments, user info,
//! ports, `%00` outside the fallback form, and `%2F` in a segment. The last one is stricter than
//! the reference, which turns it into a separator, so that a check on the URI and the path that is
//! used can disagree there.
//!
//! Refused when used on this host ([`PathUri::to_native`]): a first segment that is a drive letter,
//! and any authority other than `localhost`.
//!
//! Segments carry bytes, not text, so names that are not UTF-8 can be addressed.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ::base64::Engine as _;
use ::base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

/// An absolute path as a `file:` URI, in canonical form. Need not be a path of this host.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathUri {
    text: String,
    target: Target,
}

/// What the URI stands for.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Target {
    Native(Vec<u8>),
    Foreign,
}

/// Why a text is not a path URI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathUriError {
    /// No absolute URI, or an authority that no file URI has.
    #[error("invalid URI: {0}")]
    Syntax(#[source] url::ParseError),
    /// Another scheme than `file`.
    #[error("unsupported path URI scheme `{0}`")]
    Scheme(String),
    /// A query, even an empty one.
    #[error("query parameters are not allowed in path URIs")]
    Query,
    /// A fragment, even an empty one.
    #[error("fragments are not allowed in path URIs")]
    Fragment,
    /// A path that this host cannot have.
    #[error(transparent)]
    Foreign(#[from] ForeignPath),
}

/// A URI that names no path of this host: drive letter, other host, or a byte that no name has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{uri}' is invalid on '{}'", std::env::consts::OS)]
pub struct ForeignPath {
    uri: String,
}

/// The first segment and the two after it of the fallback form.
const FALLBACK_PREFIX: &str = "/%00/bad/path/";

/// Bytes of a segment that canonical URIs escape; non-ASCII bytes are always escaped.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'/')
    .add(b'%')
    .add(b'\\');

impl PathUri {
    /// Parses a URI.
    ///
    /// # Errors
    ///
    /// [`PathUriError`] with the protocol's text.
    pub fn parse(text: &str) -> Result<Self, PathUriError> {
        let url = Url::parse(text).map_err(PathUriError::Syntax)?;
        if url.scheme() != "file" {
            return Err(PathUriError::Scheme(url.scheme().to_owned()));
        }
        if url.query().is_some() {
            return Err(PathUriError::Query);
        }
        if url.fragment().is_some() {
            return Err(PathUriError::Fragment);
        }
        let path = url.path();
        if url.host().is_none()
            && let Some(encoded) = path.strip_prefix(FALLBACK_PREFIX)
        {
            return Self::from_fallback(&url, encoded);
        }
        let is_foreign = url.host().is_some() || has_drive(path);
        let segments: Vec<Vec<u8>> = path
            .split('/')
            .skip(1)
            .map(|segment| percent_decode_str(segment).collect())
            .collect();
        let mut bytes = segments.iter().flatten();
        if bytes.any(|byte| *byte == 0 || (*byte == b'/' && !is_foreign)) {
            return Err(ForeignPath {
                uri: url.to_string(),
            }
            .into());
        }
        if is_foreign {
            return Ok(Self::foreign(&url));
        }
        Ok(Self::from_segments(&segments))
    }

    /// The URI of a native absolute path. Repeated and trailing slashes and `.` components vanish.
    ///
    /// Returns `None` for a relative path.
    pub fn from_native(path: &Path) -> Option<Self> {
        if !path.is_absolute() {
            return None;
        }
        let segments: Vec<&[u8]> = path
            .components()
            .skip(1)
            .map(|component| component.as_os_str().as_bytes())
            .collect();
        let mut native = vec![b'/'];
        native.extend_from_slice(&segments.join(&b'/'));
        let text = if needs_fallback(&native) {
            fallback_text(&native)
        } else {
            canonical_text(&segments)
        };
        Some(Self {
            text,
            target: Target::Native(native),
        })
    }

    /// The native path.
    ///
    /// # Errors
    ///
    /// [`ForeignPath`] if the URI has a drive letter or another host's name.
    pub fn to_native(&self) -> Result<PathBuf, ForeignPath> {
        match &self.target {
            Target::Native(bytes) => Ok(PathBuf::from(OsString::from_vec(bytes.clone()))),
            Target::Foreign => Err(ForeignPath {
                uri: self.text.clone(),
            }),
        }
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A URI of another kind of host stays as it came, but for the letter of a drive.
    fn foreign(url: &Url) -> Self {
        let mut path = url.path().to_owned();
        if url.host().is_none()
            && let Some(letter) = path.get_mut(1..2)
        {
            letter.make_ascii_uppercase();
        }
        Self {
            text: format!("file://{}{path}", url.host_str().unwrap_or_default()),
            target: Target::Foreign,
        }
    }

    fn from_segments(segments: &[Vec<u8>]) -> Self {
        let mut native = vec![b'/'];
        native.extend_from_slice(&segments.join(&b'/'));
        let text = if needs_fallback(&native) {
            fallback_text(&native)
        } else {
            canonical_text(segments)
        };
        Self {
            text,
            target: Target::Native(native),
        }
    }

    fn from_fallback(url: &Url, encoded: &str) -> Result<Self, PathUriError> {
        let text = url.to_string();
        let target = match URL_SAFE_NO_PAD.decode(encoded) {
            Ok(native) if needs_fallback(&native) => Target::Native(native),
            Ok(native) if !native.is_empty() => Target::Foreign,
            _ => return Err(ForeignPath { uri: text }.into()),
        };
        Ok(Self { text, target })
    }
}

impl fmt::Display for PathUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for PathUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl FromStr for PathUri {
    type Err = PathUriError;
    fn from_str(text: &str) -> Result<Self, PathUriError> {
        Self::parse(text)
    }
}

impl Serialize for PathUri {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for PathUri {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = PathUri;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<PathUri, E> {
                PathUri::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

fn canonical_text<S: AsRef<[u8]>>(segments: &[S]) -> String {
    let mut text = "file://".to_owned();
    for segment in segments {
        text.push('/');
        text.extend(percent_encode(segment.as_ref(), SEGMENT));
    }
    if segments.is_empty() {
        text.push('/');
    }
    text
}

fn fallback_text(native: &[u8]) -> String {
    format!("file://{FALLBACK_PREFIX}{}", URL_SAFE_NO_PAD.encode(native))
}

/// Whether the path of a URI begins with a Windows drive, as it stands there: an escaped letter is none.
fn has_drive(path: &str) -> bool {
    let first = path.split('/').nth(1).unwrap_or_default();
    let colon = first.get(1..).unwrap_or_default();
    first.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && (colon == ":" || colon.eq_ignore_ascii_case("%3a"))
}

/// A letter and a colon: what the plain form would make a Windows drive.
fn is_drive(segment: &[u8]) -> bool {
    matches!(segment, [letter, b':'] if letter.is_ascii_alphabetic())
}

/// Absolute paths that the plain form cannot spell: a NUL, or a first component like a drive.
fn needs_fallback(native: &[u8]) -> bool {
    native.first() == Some(&b'/')
        && (native.contains(&0)
            || native
                .split(|byte| *byte == b'/')
                .find(|part| !part.is_empty())
                .is_some_and(is_drive))
}

#[cfg(test)]
mod tests;
