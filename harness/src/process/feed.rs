//! Standard input with an end, for executors that cannot close a pipe.
//!
//! Bytes go into numbered files in a private directory on the executor; their names go, one per
//! line, down the standard input that cannot be closed; and a shell loop copies the files, in that
//! order, into a FIFO that is the program's standard input. A line with a dot ends the loop, which
//! closes the FIFO: the end of input.
//!
//! ```text
//! client --fs/writeFile--> dir/1, dir/2, ...
//! client --process/write-> "1\n2\n.\n" -> loop: cat dir/$n; rm dir/$n -> dir/in -> program
//! ```
//!
//! Any bytes pass unchanged, whatever their amount, as they come. At most [`SEGMENTS_AHEAD`] files
//! wait on the executor: further ones wait until the oldest has been taken. The loop holds neither
//! of the program's outputs, so it cannot delay the closing of the process.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use exec_proto::PathUri;

use crate::{Client, Command, Error, limits};

/// Files that may wait on the executor to be taken by the program.
const SEGMENTS_AHEAD: usize = 8;

/// How often a full staging directory is looked at.
const POLL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// Makes a directory that only this user can read, with the FIFO in it, and prints its path.
const PREPARE: &str = "umask 077 && d=$(mktemp -d \"${TMPDIR:-/tmp}/execctl.XXXXXXXXXX\") && mkfifo \"$d/in\" && printf %s \"$d\"";

/// Runs the loop beside the program. Descriptor 3 brings the names to the loop, since a shell gives
/// `/dev/null` to what it starts in the background.
const RUN: &str = "\
d=$1; shift
exec 3<&0
{ exec 3<&-; while IFS= read -r n && [ \"$n\" != . ]; do cat \"$d/$n\" || break; rm -f \"$d/$n\"; done; rm -f \"$d/loop\"; } <&3 >\"$d/in\" 2>/dev/null &
echo $! >\"$d/loop\"
exec 3<&-
exec \"$@\" <\"$d/in\"";

/// Ends the loop, should the program have ended before its input, and removes the directory. The
/// executor keeps the pipe open that the loop reads, so the loop cannot notice by itself.
const CLEAN_UP: &str = "kill \"$(cat \"$1/loop\")\" 2>/dev/null; rm -rf \"$1\"";

/// The staging directory of one process.
#[derive(Debug)]
pub(crate) struct Feed {
    directory: PathUri,
    next: u64,
    waiting: VecDeque<PathUri>,
}

impl Feed {
    /// The line that ends the input.
    pub(crate) const END: &'static [u8] = b".\n";

    /// Makes the directory, and the command line that reads from it.
    pub(crate) async fn prepare(
        client: &Client,
        argv: Vec<String>,
    ) -> Result<(Vec<String>, Self), Error> {
        let command = Command::new(["/bin/sh", "-c", PREPARE]);
        // The future of a start contains the one of this start; boxing ends the recursion.
        let made = Box::pin(client.start(command))
            .await?
            .output(limits::BLOCK_BYTES)
            .await?;
        if made.status.code != 0 {
            return Err(Error::Unsupported(
                "standard input with an end: it has no mktemp or mkfifo",
            ));
        }
        let directory = String::from_utf8(made.stdout)
            .map_err(|_| Error::Unsupported("standard input with an end: TMPDIR is not text"))?;
        let uri = client.resolve(&directory)?;
        let mut wrapped: Vec<String> = ["/bin/sh", "-c", RUN, "sh"]
            .into_iter()
            .map(String::from)
            .collect();
        wrapped.push(directory);
        wrapped.extend(argv);
        Ok((
            wrapped,
            Self {
                directory: uri,
                next: 1,
                waiting: VecDeque::new(),
            },
        ))
    }

    /// Puts bytes into a file and returns the line that names it.
    pub(crate) async fn stage(&mut self, client: &Client, bytes: Bytes) -> Result<Bytes, Error> {
        self.wait_for_room(client).await?;
        let name = self.next.to_string();
        let path = child(&self.directory, &name)?;
        let fs = client.filesystem();
        match fs.write_again(&path, &bytes).await {
            // The directory is removed when the process has ended.
            Err(error) if error.is_not_found() => return Err(Error::StdinClosed),
            other => other?,
        }
        self.next += 1;
        self.waiting.push_back(path);
        Ok(Bytes::from(format!("{name}\n")))
    }

    async fn wait_for_room(&mut self, client: &Client) -> Result<(), Error> {
        let mut delay = POLL.0;
        while self.waiting.len() >= SEGMENTS_AHEAD {
            let Some(oldest) = self.waiting.front() else {
                break;
            };
            match client.filesystem().metadata(oldest).await {
                Err(error) if error.is_not_found() => drop(self.waiting.pop_front()),
                Err(error) => return Err(error),
                Ok(_) => {
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(POLL.1);
                }
            }
        }
        Ok(())
    }

    /// What is to be done when the process has ended.
    pub(crate) fn clean_up(&self) -> Option<Command> {
        let native = self.directory.to_native().ok()?;
        Some(Command::new([
            "/bin/sh",
            "-c",
            CLEAN_UP,
            "sh",
            native.to_str()?,
        ]))
    }
}

/// A path below a directory.
fn child(directory: &PathUri, name: &str) -> Result<PathUri, Error> {
    let native = directory
        .to_native()
        .map_err(|error| Error::Misuse(error.to_string()))?;
    PathUri::from_native(&native.join(name))
        .ok_or_else(|| Error::Misuse("a path cannot be expressed".into()))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{Read, Write},
        path::{Path, PathBuf},
        process::{Child, Command, Stdio},
    };

    use super::{CLEAN_UP, PREPARE, RUN};

    fn shell(script: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "sh"]).args(arguments);
        command
    }

    fn prepared(temporary: &Path) -> PathBuf {
        let made = shell(PREPARE, &[])
            .env("TMPDIR", temporary)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        PathBuf::from(String::from_utf8(made.stdout).unwrap())
    }

    fn program(directory: &Path, argv: &[&str]) -> Child {
        let mut arguments = vec![directory.to_str().unwrap()];
        arguments.extend(argv);
        shell(RUN, &arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn clean_up(directory: &Path) {
        let done = shell(CLEAN_UP, &[directory.to_str().unwrap()]).status();
        assert!(done.unwrap().success());
        assert!(!directory.exists());
    }

    #[test]
    fn all_bytes_arrive_unchanged_and_end_with_the_dot() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = prepared(temporary.path());
        let mut child = program(&directory, &["cat"]);
        let mut names = child.stdin.take().unwrap();
        let first: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        fs::write(directory.join("1"), &first).unwrap();
        names.write_all(b"1\n").unwrap();
        fs::write(directory.join("2"), b"\n.\nend").unwrap();
        names.write_all(b"2\n.\n").unwrap();
        // The pipe stays open, as with an executor that cannot close it.
        let mut output = Vec::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_end(&mut output)
            .unwrap();
        assert!(child.wait().unwrap().success());
        assert!(output.starts_with(&first));
        assert_eq!(output.get(first.len()..), Some(&b"\n.\nend"[..]));
        assert!(
            !directory.join("1").exists(),
            "a file that was taken is removed"
        );
        drop(names);
        clean_up(&directory);
    }

    #[test]
    fn program_that_ends_before_its_input_is_not_held_up() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = prepared(temporary.path());
        let mut child = program(&directory, &["sh", "-c", "echo early; exit 5"]);
        let names = child.stdin.take().unwrap();
        let mut output = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut output)
            .unwrap();
        assert_eq!(
            (output.as_str(), child.wait().unwrap().code()),
            ("early\n", Some(5))
        );
        let waiting: u32 = fs::read_to_string(directory.join("loop"))
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let process = PathBuf::from(format!("/proc/{waiting}"));
        assert!(process.exists(), "the loop waits for names");
        clean_up(&directory);
        // The loop was told to end; the pipe that it reads is still open.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while fs::read_to_string(process.join("stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(
                std::time::Instant::now() < deadline,
                "the loop is still there"
            );
            std::thread::yield_now();
        }
        drop(names);
    }

    #[test]
    fn staging_directory_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let temporary = tempfile::tempdir().unwrap();
        let directory = prepared(temporary.path());
        let mode = fs::metadata(&directory).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        clean_up(&directory);
    }
}
