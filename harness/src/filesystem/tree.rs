//! Copying files and directories between this machine and the executor: what both ways share.
//!
//! Links to files are followed; links to directories are not, since following them could go round
//! in circles. Those, special files and names that are not text are skipped and reported.
//!
//! # What an interrupted copy leaves
//!
//! On an executor that can rename, a new file appears under its name when it is complete, and an
//! interrupted replacement of an old file leaves the old one. Elsewhere, and on this machine, files are
//! written in place and an interrupted copy leaves a partial one.
//!
//! [`Complete::Skip`] makes a later copy leave out what is there already: a file of the same size that
//! was last changed no earlier than its original. Sizes tell partial files, because in-place writes
//! go from front to back; where an executor without rename gets a large file, of which several blocks
//! are on the way at once, they do not, and such files are copied again. The two times come from two
//! clocks. When the destination's is ahead, an original that was changed, without a change of its
//! size, within that difference after the first copy passes for complete; so this is not the default.
//!
//! The protocol carries neither permissions nor times, so files get those of a new file; see
//! [`CopyEvent::Executable`] for the one bit that matters most.

use std::path::Path;

use exec_proto::PathUri;

use crate::Error;

mod download;
mod local;
mod upload;

pub use download::download;
pub use upload::upload;

/// What happens during a copy.
#[derive(Debug)]
#[non_exhaustive]
pub enum CopyEvent<'a> {
    /// A file is about to be copied.
    File {
        /// Its path at the source, for display.
        source: &'a str,
        /// Its size when it was looked at.
        size: u64,
    },
    /// Bytes were moved.
    Bytes(u64),
    /// What was moved of the current file does not count; it is started again.
    Restart(u64),
    /// A local file that was copied to the executor may be executed by its owner.
    Executable(&'a PathUri),
    /// A file was complete already.
    Unchanged {
        /// Its path at the source, for display.
        source: &'a str,
        /// Its size.
        size: u64,
    },
    /// Something was left out.
    Skipped {
        /// Its path at the source, for display.
        source: &'a str,
        /// Why.
        why: &'static str,
    },
}

/// What a copy did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Regular files.
    pub files: u64,
    /// Directories, including those that existed.
    pub directories: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Files that were complete already.
    pub unchanged: u64,
    /// What was left out.
    pub skipped: u64,
}

/// What becomes of files that seem to be complete at the destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Complete {
    /// They are copied like all others.
    #[default]
    Copy,
    /// They are left alone, to continue an interrupted copy: those of the same size that were last
    /// changed no earlier than their originals. Not safe when the destination's clock is ahead and an
    /// original is changed, without a change of its size, within that difference after the first copy.
    Skip,
}

/// Whether a destination is a complete copy, by size and time of last change in milliseconds.
fn is_complete(source: (u64, i64), destination: (u64, i64)) -> bool {
    // A time of 0 is an unknown one.
    source.0 == destination.0 && source.1 > 0 && destination.1 >= source.1
}

fn local(verb: &str, path: &Path, error: std::io::Error) -> Error {
    Error::io(format!("failed to {verb} {}", path.display()), error)
}

fn modified_ms(metadata: &std::fs::Metadata) -> i64 {
    let since = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(std::time::SystemTime::UNIX_EPOCH).ok());
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_of_the_same_size_that_is_no_older_is_complete() {
        assert!(is_complete((5, 100), (5, 100)));
        assert!(is_complete((5, 100), (5, 101)));
        assert!(!is_complete((5, 100), (5, 99)));
        assert!(!is_complete((5, 100), (4, 101)));
        assert!(
            !is_complete((5, 0), (5, 101)),
            "an unknown time tells nothing"
        );
    }
}
