//! Extensions of `process/*`: terminals of any size, signals by name, the list of processes, and
//! which output is gone. Codex 0.169 has none of them; each is announced by a flag of
//! [`Capabilities`](crate::environment::Capabilities).

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

/// Request: change the size of a process's terminal.
pub const RESIZE: &str = "process/resize";
/// Request: send a signal by name.
pub const SIGNAL_GROUP: &str = "process/signalGroup";
/// Request: the processes of the session.
pub const LIST: &str = "process/list";

/// Longest `term` of [`TerminalOptions`].
pub const MAX_TERM_BYTES: usize = 64;

/// Longest `graceMs` of `process/terminate`: ten minutes.
pub const MAX_GRACE_MS: u64 = 600_000;

/// Most processes in one answer to `process/list`, and how many come when `limit` is absent.
pub const MAX_LISTED: usize = 1000;

/// Longest `program` in an answer to `process/list`.
pub const MAX_PROGRAM_BYTES: usize = 256;

/// The `terminal` member of `process/start`: what the terminal is like from the beginning.
///
/// Executors without the extension ignore it; their terminals have 24 rows of 80 columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalOptions {
    /// Lines.
    pub rows: NonZeroU16,
    /// Characters in a line.
    pub cols: NonZeroU16,
    /// The value of `TERM` for a process whose environment has none: 1 to [`MAX_TERM_BYTES`] ASCII
    /// letters, digits, `.`, `_`, `+` and `-`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<String>,
}

impl TerminalOptions {
    /// Whether `term` is absent or a name as described.
    pub fn has_valid_term(&self) -> bool {
        self.term.as_ref().is_none_or(|term| {
            (1..=MAX_TERM_BYTES).contains(&term.len())
                && term
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte))
        })
    }
}

/// Parameters of `process/resize`, answered with an empty object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResizeParams {
    /// The process.
    pub process_id: String,
    /// Lines.
    pub rows: NonZeroU16,
    /// Characters in a line.
    pub cols: NonZeroU16,
}

/// Parameters of `process/signalGroup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignalGroupParams {
    /// The process.
    pub process_id: String,
    /// Which signal.
    pub signal: GroupSignal,
}

/// Signals by their POSIX names without `SIG`.
///
/// A type of its own, because [`Signal`](super::Signal) is the reference's and its error text names
/// all variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum GroupSignal {
    /// The terminal is gone, or reread the configuration.
    Hup,
    /// Interrupt, as by Ctrl-C.
    Int,
    /// End with a core dump, as by Ctrl-\.
    Quit,
    /// End at once; cannot be caught. Unlike `process/terminate`, output is still read.
    Kill,
    /// For the program to define.
    Usr1,
    /// For the program to define.
    Usr2,
    /// End in order.
    Term,
    /// Go on after a stop.
    Cont,
    /// Stop; cannot be caught.
    Stop,
    /// Stop, as by Ctrl-Z.
    Tstp,
    /// The terminal's size has changed.
    Winch,
}

/// Result of `process/signalGroup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalGroupResult {
    /// Whether the main process had not exited, as in the result of `process/terminate`.
    pub running: bool,
}

/// Parameters of `process/list`; may be absent altogether.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListParams {
    /// Only processes whose id comes after this one, byte by byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most this many, 1 to [`MAX_LISTED`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Result of `process/list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListResult {
    /// In the order of their ids, byte by byte.
    pub processes: Vec<ListedProcess>,
    /// `after` for the rest, when there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A process of the session.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedProcess {
    /// The client's name for it.
    pub process_id: String,
    /// `argv[0]`, cut to [`MAX_PROGRAM_BYTES`]. No other argument is told.
    pub program: String,
    /// How far it is.
    pub state: ProcessState,
    /// Null until it has exited.
    pub exit_code: Option<i32>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// When the start was asked for, in milliseconds since 1970 by the executor's clock.
    pub started_at_ms: i64,
    /// The number that the next event will get, as in the result of `process/read`.
    pub next_seq: u64,
}
redacted_debug!(ListedProcess {
    process_id,
    state,
    exit_code,
    tty,
    started_at_ms,
    next_seq
});

/// How far a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProcessState {
    /// Being spawned.
    Starting,
    /// Started and not exited.
    Running,
    /// The main process has ended; output may follow.
    Exited,
    /// Nothing follows; the record is kept for a while.
    Closed,
    /// A state of a later version. Never sent.
    #[serde(other)]
    Unknown,
}

/// The `evicted` member of a `process/read` result: output that was asked for and is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evicted {
    /// First number that was asked for: `afterSeq` plus one.
    pub from_seq: u64,
    /// All output up to this number is gone.
    pub through_seq: u64,
    /// Decoded bytes that are gone since the process was started. A reader that had `n` bytes up to
    /// `fromSeq` has missed `totalBytes - n`.
    pub total_bytes: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::environment::Capabilities;
    use crate::process::{ReadResult, StartParams, TerminateParams};
    use crate::rpc::Params;

    fn refused<T: serde::de::DeserializeOwned + std::fmt::Debug>(
        params: serde_json::Value,
    ) -> String {
        let error = Params::encode(&params).unwrap().decode::<T>().unwrap_err();
        assert_eq!(error.code, -32602);
        error.message
    }

    #[test]
    fn flags_that_are_missing_are_false_and_unknown_ones_are_ignored() {
        let old: Capabilities =
            serde_json::from_value(json!({"fsWatchMissing": true, "later": true})).unwrap();
        let expected = Capabilities {
            fs_watch_missing: true,
            ..Capabilities::default()
        };
        assert_eq!(old, expected);
    }

    #[test]
    fn members_of_the_extensions_are_absent_unless_used() {
        let wire = json!({
            "processId": "p", "argv": ["sh"], "cwd": "file:///", "env": {}, "tty": true,
        });
        let mut start: StartParams = serde_json::from_value(wire).unwrap();
        assert!(!serde_json::to_string(&start).unwrap().contains("terminal"));
        start.terminal =
            serde_json::from_value(json!({"rows": 50, "cols": 132, "term": "xterm"})).unwrap();
        let sent = serde_json::to_value(&start).unwrap();
        assert_eq!(
            sent["terminal"],
            json!({"rows": 50, "cols": 132, "term": "xterm"})
        );
        let terminate: TerminateParams = serde_json::from_value(json!({"processId": "p"})).unwrap();
        assert_eq!(
            serde_json::to_value(&terminate).unwrap(),
            json!({"processId": "p"})
        );
    }

    #[test]
    fn answer_of_an_old_executor_says_nothing_of_evicted_output() {
        let wire = json!({
            "chunks": [], "nextSeq": 1, "exited": false, "exitCode": null, "closed": false,
            "failure": null, "sandboxDenied": false,
        });
        let read: ReadResult = serde_json::from_value(wire.clone()).unwrap();
        assert_eq!(read.evicted, None);
        assert_eq!(serde_json::to_value(&read).unwrap(), wire);
    }

    #[test]
    fn state_of_a_later_version_is_no_obstacle() {
        let states: Vec<ProcessState> =
            serde_json::from_value(json!(["closed", "hibernating"])).unwrap();
        assert_eq!(states, [ProcessState::Closed, ProcessState::Unknown]);
    }

    #[test]
    fn sizes_and_signals_that_do_not_exist_are_refused() {
        let size = |rows: i64| json!({"processId": "p", "rows": rows, "cols": 80});
        assert_eq!(
            refused::<ResizeParams>(size(0)),
            "invalid value: integer `0`, expected a nonzero u16"
        );
        assert_eq!(
            refused::<ResizeParams>(size(65_536)),
            "invalid value: integer `65536`, expected a nonzero u16"
        );
        let text = refused::<SignalGroupParams>(json!({"processId": "p", "signal": "SEGV"}));
        assert_eq!(
            text,
            "unknown variant `SEGV`, expected one of `HUP`, `INT`, `QUIT`, `KILL`, `USR1`, \
             `USR2`, `TERM`, `CONT`, `STOP`, `TSTP`, `WINCH`"
        );
    }

    #[test]
    fn names_of_terminals_are_plain() {
        let options = |term: &str| TerminalOptions {
            rows: NonZeroU16::MIN,
            cols: NonZeroU16::MIN,
            term: Some(term.to_owned()),
        };
        for term in ["xterm-256color", "vt100", "screen.xterm+x_1"] {
            assert!(options(term).has_valid_term(), "{term}");
        }
        let long = "x".repeat(MAX_TERM_BYTES + 1);
        for term in ["", "../x", "a b", "\u{e9}", long.as_str()] {
            assert!(!options(term).has_valid_term(), "{term}");
        }
    }
}
