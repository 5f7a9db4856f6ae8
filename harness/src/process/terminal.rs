//! The size of a terminal, which Codex 0.169 fixes at 24 x 80.
//!
//! `stty` sets the size before the program takes the shell's place, so the program sees it from its
//! first moment. The shell also writes the terminal's name into a private file, with which another
//! process can set the size later; the kernel then tells the program (SIGWINCH).

use std::num::NonZeroU16;

use exec_proto::{PathUri, process::TerminalOptions};

use crate::{Client, Command, Error, limits};

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TtySize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

impl TtySize {
    /// What a start asks for. A terminal that does not know its size has the usual one.
    pub(super) fn options(self) -> TerminalOptions {
        let usual = Self::default();
        let or = |value, usual| NonZeroU16::new(value).or(NonZeroU16::new(usual));
        TerminalOptions {
            rows: or(self.rows, usual.rows).unwrap_or(NonZeroU16::MIN),
            cols: or(self.columns, usual.columns).unwrap_or(NonZeroU16::MIN),
            term: None,
        }
    }
}

impl Default for TtySize {
    /// 24 x 80: what the protocol gives.
    fn default() -> Self {
        Self {
            rows: 24,
            columns: 80,
        }
    }
}

/// Sets the size and notes the terminal's name, then becomes the program.
const RUN: &str = "\
stty rows \"$1\" cols \"$2\" 2>/dev/null
if [ -n \"$3\" ]; then (umask 077; tty >\"$3\") 2>/dev/null; fi
shift 3
exec \"$@\"";

/// Sets the size of the terminal whose name a file holds.
const RESIZE: &str = "t=$(cat \"$3\") && stty rows \"$1\" cols \"$2\" <\"$t\"";

/// What is needed to change the size later.
#[derive(Debug)]
pub(crate) struct Terminal {
    name_file: Option<PathUri>,
}

impl Terminal {
    /// Makes the command line that sets the size.
    pub(crate) fn prepare(
        client: &Client,
        size: TtySize,
        argv: Vec<String>,
    ) -> (Vec<String>, Self) {
        let name_file = client
            .info()
            .temp_dir
            .and_then(|directory| directory.to_native().ok())
            .map(|directory| directory.join(format!("execctl-tty-{}", uuid::Uuid::new_v4())))
            .filter(|path| path.to_str().is_some());
        let name = name_file
            .as_ref()
            .and_then(|path| path.to_str())
            .unwrap_or_default()
            .to_owned();
        let mut wrapped: Vec<String> = ["/bin/sh", "-c", RUN, "sh"]
            .into_iter()
            .map(String::from)
            .collect();
        wrapped.extend([size.rows.to_string(), size.columns.to_string(), name]);
        wrapped.extend(argv);
        (
            wrapped,
            Self {
                name_file: name_file.and_then(|path| PathUri::from_native(&path)),
            },
        )
    }

    pub(crate) async fn resize(&self, client: &Client, size: TtySize) -> Result<(), Error> {
        const WHAT: Error = Error::Unsupported("changing the size of a terminal");
        let path = self
            .name_file
            .as_ref()
            .and_then(|uri| uri.to_native().ok())
            .ok_or(WHAT)?;
        let path = path.to_str().ok_or(WHAT)?.to_owned();
        let command = Command::new([
            "/bin/sh".to_owned(),
            "-c".to_owned(),
            RESIZE.to_owned(),
            "sh".to_owned(),
            size.rows.to_string(),
            size.columns.to_string(),
            path,
        ]);
        let done = client
            .start(command)
            .await?
            .output(limits::BLOCK_BYTES)
            .await?;
        if done.status.code == 0 {
            Ok(())
        } else {
            Err(WHAT)
        }
    }

    /// What is to be done when the process has ended.
    pub(crate) fn clean_up(&self) -> Option<Command> {
        let path = self.name_file.as_ref()?.to_native().ok()?;
        Some(Command::new([
            "/bin/sh",
            "-c",
            "rm -f \"$1\"",
            "sh",
            path.to_str()?,
        ]))
    }
}
