//! Captured output of a program, line by line.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    sync::watch,
    time::timeout,
};

/// Lines that a program has written so far. Cheap to clone; all clones see the same lines.
#[derive(Debug, Clone)]
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    changed: watch::Sender<Progress>,
}

impl Log {
    pub(super) fn new() -> Self {
        Self {
            lines: Arc::default(),
            changed: watch::Sender::new(Progress::default()),
        }
    }

    /// Reads lines from `source` until it ends.
    pub(super) async fn capture(self, source: impl AsyncRead + Unpin) {
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        // An error here means that the pipe is gone, which is the end as well.
        while source
            .read_until(b'\n', &mut line)
            .await
            .is_ok_and(|n| n > 0)
        {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            self.lock().push(text);
            self.changed.send_modify(|progress| progress.lines += 1);
        }
        self.changed.send_modify(|progress| progress.ended = true);
    }

    /// Everything so far as one text.
    pub fn text(&self) -> String {
        self.lock().join("\n")
    }

    /// How many lines there are; where [`Log::wait_from`] may begin.
    pub fn position(&self) -> usize {
        self.lock().len()
    }

    /// Waits for the first line that contains `part`, from the beginning of the log.
    ///
    /// # Errors
    ///
    /// When the deadline passes or the output ends; the error shows the whole log.
    pub async fn wait_for(&self, part: &str, deadline: Duration) -> anyhow::Result<String> {
        self.wait_from(0, part, deadline).await
    }

    /// Like [`Log::wait_for`], but looks only at lines after the first `start`.
    ///
    /// # Errors
    ///
    /// As [`Log::wait_for`].
    pub async fn wait_from(
        &self,
        start: usize,
        part: &str,
        deadline: Duration,
    ) -> anyhow::Result<String> {
        let mut changed = self.changed.subscribe();
        let search = async {
            loop {
                let ended = changed.borrow_and_update().ended;
                let found = self
                    .lock()
                    .iter()
                    .skip(start)
                    .find(|l| l.contains(part))
                    .cloned();
                if found.is_some() || ended {
                    return found;
                }
                if changed.changed().await.is_err() {
                    return None;
                }
            }
        };
        match timeout(deadline, search).await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => anyhow::bail!("output ended without `{part}`:\n{}", self.text()),
            Err(_) => anyhow::bail!("no `{part}` within {deadline:?}:\n{}", self.text()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Progress {
    lines: usize,
    ended: bool,
}
