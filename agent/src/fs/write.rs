//! `fs/writeFile`, and replacing content in general.
//!
//! Links are written through and stay what they are. Content is replaced atomically wherever the file
//! and its directory allow it, see [`super::stage`]; elsewhere the file is truncated and written in
//! place. Nothing is synced to the disk: the promise covers the death of this process, not of the host;
//! `fs/sync` is for the rest.

use std::fs::File;
use std::io;
use std::sync::Arc;

use rustix::fs::Mode;

use super::FsError;
use super::stage::{Attempt, Staged};
use super::target::Target;

/// Writes `data` as the whole content of `target`, creating it if there is none.
pub(crate) fn write_file(target: Target, data: &[u8]) -> Result<(), FsError> {
    replace(target, Permissions::Keep, &mut |mut file| {
        io::Write::write_all(&mut file, data)
    })
}

/// The mode of a file whose content was replaced.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Permissions {
    /// As it was; 0666 less the umask for a new file.
    Keep,
    /// This one.
    Set(Mode),
}

/// Replaces the content of `target` with what `fill` writes.
///
/// `fill` gets an empty file at its beginning, and may be called a second time with another one when
/// the first cannot be put in place. On an error the old content is still there, unless the file had to
/// be written in place.
pub(crate) fn replace(
    target: Target,
    permissions: Permissions,
    fill: &mut dyn FnMut(&File) -> io::Result<()>,
) -> Result<(), FsError> {
    match target {
        Target::Special(file) => Ok(fill(&file)?),
        Target::Missing(location) => {
            let staged = Staged::new_file(Arc::new(location))?;
            match fill_and_place(staged, permissions, fill)? {
                Attempt::Done(()) => Ok(()),
                // The directory took a new file but not its name. There is no old content to write to.
                Attempt::Impossible(errno) => Err(errno.into()),
            }
        }
        Target::Regular {
            file,
            stat,
            location,
        } => {
            if let Some(location) = location
                && let Attempt::Done(staged) =
                    Staged::replacement(Arc::new(location), &file, &stat)?
                && let Attempt::Done(()) = fill_and_place(staged, permissions, fill)?
            {
                return Ok(());
            }
            file.set_len(0)?;
            fill(&file)?;
            set_permissions(&file, permissions)
        }
    }
}

fn fill_and_place(
    staged: Staged,
    permissions: Permissions,
    fill: &mut dyn FnMut(&File) -> io::Result<()>,
) -> Result<Attempt<()>, FsError> {
    fill(&staged.file)?;
    set_permissions(&staged.file, permissions)?;
    staged.place()
}

fn set_permissions(file: &File, permissions: Permissions) -> Result<(), FsError> {
    match permissions {
        Permissions::Keep => Ok(()),
        Permissions::Set(mode) => Ok(rustix::fs::fchmod(file, mode)?),
    }
}

#[cfg(test)]
mod tests;
