//! Names of detached programs and of signals on the command line.

use std::{fmt, str::FromStr};

use harness::{Client, Error, ListedProcess, Signal};

use crate::exit::Failure;

/// `SESSION/PROCESS`, or a session alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) session: String,
    pub(crate) process: Option<String>,
}

impl Handle {
    pub(crate) fn new(session: &str, process: &str) -> Self {
        Self {
            session: session.to_owned(),
            process: Some(process.to_owned()),
        }
    }

    /// Finds the process that is meant, and what the executor says of it, if it lists processes.
    pub(crate) async fn find(
        &self,
        client: &Client,
    ) -> Result<(String, Option<ListedProcess>), Failure> {
        let listed = match client.processes().await {
            Ok(listed) => listed,
            Err(Error::Unsupported(_)) => {
                let process = self.process.clone().ok_or_else(|| {
                    Failure::usage("this executor does not list processes: name one")
                })?;
                return Ok((process, None));
            }
            Err(error) => return Err(Failure::from(error)),
        };
        let mut meant = listed.into_iter().filter(|listed| {
            self.process
                .as_ref()
                .is_none_or(|process| *process == listed.process_id)
        });
        match (meant.next(), meant.next()) {
            (Some(one), None) => Ok((one.process_id.clone(), Some(one))),
            (None, _) => Err(Failure::from(Error::ProcessGone)),
            _ => Err(Failure::usage(
                "the session has several processes: name one",
            )),
        }
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.session)?;
        match &self.process {
            Some(process) => write!(f, "/{process}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Handle {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (session, process) = match text.split_once('/') {
            Some((session, process)) => (session, Some(process)),
            None => (text, None),
        };
        if session.is_empty() || process == Some("") {
            return Err("a handle is SESSION/PROCESS, as run --detach prints it");
        }
        Ok(Self {
            session: session.to_owned(),
            process: process.map(str::to_owned),
        })
    }
}

/// Reads the name of a signal, with or without SIG, in any case.
pub(crate) fn signal(text: &str) -> Result<Signal, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, signal)| *signal)
        .ok_or_else(|| {
            let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
            format!("one of {}", names.join(", "))
        })
}

const NAMES: [(&str, Signal); 11] = [
    ("HUP", Signal::Hup),
    ("INT", Signal::Int),
    ("QUIT", Signal::Quit),
    ("KILL", Signal::Kill),
    ("USR1", Signal::Usr1),
    ("USR2", Signal::Usr2),
    ("TERM", Signal::Term),
    ("CONT", Signal::Cont),
    ("STOP", Signal::Stop),
    ("TSTP", Signal::Tstp),
    ("WINCH", Signal::Winch),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handle_is_a_session_with_or_without_a_process() {
        let handle: Handle = "5e55/a/b".parse().unwrap();
        assert_eq!(handle, Handle::new("5e55", "a/b"));
        assert_eq!(handle.to_string(), "5e55/a/b");
        let session: Handle = "5e55".parse().unwrap();
        assert_eq!(
            (session.process.as_deref(), &*session.to_string()),
            (None, "5e55")
        );
        for bad in ["", "/", "/1", "5e55/"] {
            assert!(bad.parse::<Handle>().is_err(), "{bad}");
        }
    }

    #[test]
    fn signals_have_their_usual_names() {
        for text in ["TERM", "SIGTERM", "sigterm", "term"] {
            assert_eq!(signal(text), Ok(Signal::Term), "{text}");
        }
        assert!(signal("SIG").is_err() && signal("SEGV").is_err());
    }
}
