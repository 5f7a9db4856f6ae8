//! What a sandbox tells the executor while its program runs, over one pipe.
//!
//! ```text
//! n         the kernel has refused a call
//! e CODE    the program has ended with that code, nothing of it is left, and no name is kept any more
//! ```
//!
//! The filter of system calls hands some calls to a descriptor instead of refusing them itself. Init
//! of the sandbox has that descriptor. It writes `n` and refuses the call; the caller waits meanwhile, so
//! the byte is there before the program can end. The arguments are never looked at: they may change
//! while one looks, and nothing is decided. Refused files are not among it. A file system that is mounted
//! read-only answers before any part of the kernel that would tell, and Landlock tells the superuser
//! alone.
//!
//! The first process tells of the end before it ends itself, because the kernel may take milliseconds
//! to forget removed names and namespaces, which nobody has to wait for.

use std::os::fd::{AsFd, OwnedFd};

use super::sys;

/// Init's side.
#[derive(Debug)]
pub(super) struct Notices {
    /// Where calls wait.
    pub(super) listener: OwnedFd,
    /// The executor has the other end.
    pub(super) pipe: OwnedFd,
}

impl Notices {
    /// Tells of a call that waits, and refuses it.
    pub(super) fn take(&self) {
        sys::refuse(&self.listener, || {
            // It does not matter how many there are, so a full pipe is as good.
            let _ = rustix::io::write(&self.pipe, &[CALL]);
        });
    }
}

/// The first process's side: tells of the program's end.
pub(super) fn tell_end(pipe: &OwnedFd, code: i32) {
    if let Ok(code) = u8::try_from(code) {
        // If the pipe is full, the end of the first process tells the same.
        let _ = rustix::io::write(pipe, &[END, code]);
    }
}

/// The executor's side: what was told so far.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The kernel has refused something.
    pub(crate) refused: bool,
    /// How the program has ended.
    pub(crate) code: Option<i32>,
    /// Nothing more will come.
    pub(crate) is_all: bool,
    code_follows: bool,
}

impl Told {
    /// Reads what there is, without waiting.
    ///
    /// # Errors
    ///
    /// Whatever the pipe says, `WouldBlock` if there is nothing now.
    pub(crate) fn read(&mut self, pipe: impl AsFd) -> std::io::Result<()> {
        let mut buffer = [0; 64];
        loop {
            let read = rustix::io::read(&pipe, &mut buffer)?;
            if read == 0 {
                self.is_all = true;
                return Ok(());
            }
            for byte in buffer.iter().take(read) {
                match byte {
                    code if self.code_follows => {
                        self.code = Some((*code).into());
                        self.code_follows = false;
                    }
                    &END => self.code_follows = true,
                    _ => self.refused = true,
                }
            }
        }
    }
}

const CALL: u8 = b'n';
const END: u8 = b'e';

#[cfg(test)]
mod tests {
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    #[test]
    fn refusals_and_the_end_are_told_apart() {
        let (ours, theirs) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let mut told = Told::default();
        assert!(told.read(&ours).is_err() && !told.refused);
        rustix::io::write(&theirs, &[CALL; 100]).unwrap();
        tell_end(&theirs, i32::from(CALL));
        assert!(told.read(&ours).is_err());
        assert_eq!(
            (told.refused, told.code, told.is_all),
            (true, Some(110), false)
        );
        drop(theirs);
        told.read(&ours).unwrap();
        assert!(told.is_all);
        // A code that looks like the mark of one.
        let (ours, theirs) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let mut told = Told::default();
        tell_end(&theirs, i32::from(END));
        assert!(told.read(&ours).is_err());
        assert_eq!((told.refused, told.code), (false, Some(101)));
    }
}
