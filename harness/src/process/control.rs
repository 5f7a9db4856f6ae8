//! Writing to a process and ending it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use exec_proto::process::{
    self as wire, CloseStdinParams, GroupSignal, ResizeParams, SignalGroupParams,
    SignalGroupResult, SignalParams, TerminateParams, TerminateResult, WriteParams, WriteResult,
    WriteStatus,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Mutex;

use super::{
    feed::Feed,
    terminal::{Terminal, TtySize},
};
use crate::{Client, Command, Error, engine::call::Retry, limits};

/// The means to write to a process and to end it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ProcessControl {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    id: String,
    /// One write at a time: executors may reorder writes that are on their way together.
    input: Mutex<Writer>,
    has_terminal: bool,
    /// What an executor without means of its own needs.
    terminal: Option<Terminal>,
    /// Removes what lies beside the process on the executor when it has ended.
    clean_up: Option<Command>,
    cleaned_up: AtomicBool,
}

#[derive(Debug)]
struct Writer {
    input: Input,
    ended: bool,
    /// Before the number in the name of each write.
    prefix: String,
    next_write: u64,
}

/// How standard input reaches the process.
#[derive(Debug)]
pub(crate) enum Input {
    /// It has none.
    None,
    /// The executor's own pipe.
    Pipe { can_end: bool },
    /// A FIFO beside it.
    Feed(Feed),
    /// A terminal.
    Terminal,
}

/// What ^D is to a terminal in its usual mode.
const END_OF_TRANSMISSION: &[u8] = &[4];

impl ProcessControl {
    pub(super) fn new(
        client: Client,
        id: String,
        input: Input,
        terminal: Option<Terminal>,
        prefix: String,
    ) -> Self {
        let has_terminal = matches!(input, Input::Terminal);
        let clean_up = match &input {
            Input::Feed(feed) => feed.clean_up(),
            _ => terminal.as_ref().and_then(Terminal::clean_up),
        };
        let input = Mutex::new(Writer {
            input,
            ended: false,
            prefix,
            next_write: 1,
        });
        let cleaned_up = AtomicBool::new(false);
        let inner = Inner {
            client,
            id,
            input,
            has_terminal,
            terminal,
            clean_up,
            cleaned_up,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The process's name in the session.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// Writes to standard input, and waits until the executor has taken all of it.
    ///
    /// A write that the connection was lost under is repeated and delivered once. An executor that
    /// does not say so drops what is written to a process that has ended.
    ///
    /// # Errors
    ///
    /// [`Error::StdinClosed`], [`Error::ProcessGone`], or what ended the session.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, a part of the bytes may have been written.
    pub async fn write(&self, bytes: impl Into<Bytes>) -> Result<(), Error> {
        let mut bytes: Bytes = bytes.into();
        let mut writer = self.inner.input.lock().await;
        while !bytes.is_empty() {
            if writer.ended {
                return Err(Error::StdinClosed);
            }
            match &mut writer.input {
                Input::None => return Err(Error::StdinClosed),
                Input::Pipe { .. } | Input::Terminal => {
                    let chunk = bytes.split_to(bytes.len().min(limits::STDIN_CHUNK_BYTES));
                    self.write_raw(&mut writer, chunk).await?;
                }
                Input::Feed(feed) => {
                    let segment = bytes.split_to(bytes.len().min(limits::BLOCK_BYTES));
                    let line = feed.stage(&self.inner.client, segment).await?;
                    self.write_raw(&mut writer, line).await?;
                }
            }
        }
        Ok(())
    }

    /// Ends standard input. Of a terminal, types ^D.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for [`Stdin::PipedWithoutEnd`](crate::Stdin::PipedWithoutEnd) with an
    /// executor that has no means for it; otherwise as for [`ProcessControl::write`].
    pub async fn close_stdin(&self) -> Result<(), Error> {
        let mut writer = self.inner.input.lock().await;
        match &writer.input {
            _ if writer.ended => Ok(()),
            Input::None => Ok(()),
            Input::Terminal => {
                self.write_raw(&mut writer, Bytes::from_static(END_OF_TRANSMISSION))
                    .await
            }
            Input::Feed(_) => {
                self.write_raw(&mut writer, Bytes::from_static(Feed::END))
                    .await?;
                writer.ended = true;
                Ok(())
            }
            Input::Pipe { can_end: false } => Err(Error::Unsupported("the end of standard input")),
            Input::Pipe { can_end: true } => {
                let params = CloseStdinParams {
                    process_id: self.inner.id.clone(),
                };
                let _: exec_proto::Empty = self
                    .inner
                    .client
                    .call(wire::CLOSE_STDIN, &params, Retry::Repeat)
                    .await?;
                writer.ended = true;
                Ok(())
            }
        }
    }

    /// Sends SIGINT to the process group. Of a terminal, prefer writing byte 3.
    ///
    /// # Errors
    ///
    /// What ended the session; a process that has ended is no error.
    pub async fn interrupt(&self) -> Result<(), Error> {
        let params = SignalParams {
            process_id: self.inner.id.clone(),
            signal: wire::Signal::Interrupt,
        };
        let _: exec_proto::Empty = self.ask(wire::SIGNAL, &params, Retry::Repeat).await?;
        Ok(())
    }

    /// Sends a signal to the process group; true when the process had not exited.
    ///
    /// SIGUSR1 and SIGUSR2 are not sent again over a lost connection, since programs may count
    /// them; all others may arrive twice.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] when the executor knows no signals by name; SIGINT and SIGKILL reach
    /// it even so. Otherwise what ended the session; a process that has ended is no error.
    pub async fn signal(&self, signal: GroupSignal) -> Result<bool, Error> {
        if !self.inner.client.capabilities().process_signal_group {
            return match signal {
                GroupSignal::Int => self.interrupt().await.map(|()| true),
                GroupSignal::Kill => self.terminate().await,
                _ => Err(Error::Unsupported("signals other than interrupt and kill")),
            };
        }
        let retry = match signal {
            GroupSignal::Usr1 | GroupSignal::Usr2 => Retry::Never,
            _ => Retry::Repeat,
        };
        let params = SignalGroupParams {
            process_id: self.inner.id.clone(),
            signal,
        };
        let result: SignalGroupResult = self.ask(wire::SIGNAL_GROUP, &params, retry).await?;
        Ok(result.running)
    }

    /// Kills the process group; true when it was running. Output that was not read yet is dropped.
    ///
    /// # Errors
    ///
    /// What ended the session; a process that has ended is no error.
    pub async fn terminate(&self) -> Result<bool, Error> {
        self.terminate_within(Duration::ZERO).await
    }

    /// Sends SIGTERM to the process group, and kills it when it has not ended within `grace`; true
    /// when it was running. Returns at once: the executor watches the time.
    ///
    /// An executor without that extension kills at once.
    ///
    /// # Errors
    ///
    /// [`Error::Limit`] beyond ten minutes; otherwise as for [`ProcessControl::terminate`].
    pub async fn terminate_within(&self, grace: Duration) -> Result<bool, Error> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        if grace_ms > wire::MAX_GRACE_MS {
            return Err(Error::Limit {
                what: "grace period in milliseconds",
                size: grace_ms,
                limit: wire::MAX_GRACE_MS,
            });
        }
        let params = TerminateParams {
            process_id: self.inner.id.clone(),
            grace_ms: (grace_ms > 0).then_some(grace_ms),
        };
        let result: TerminateResult = self.ask(wire::TERMINATE, &params, Retry::Repeat).await?;
        Ok(result.running)
    }

    /// Changes the size of the terminal, as if its window had been resized.
    ///
    /// With an executor that has no method for it, this runs `stty` there.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] when the process has no terminal, [`Error::Unsupported`] when the executor
    /// cannot do it.
    pub async fn resize(&self, size: TtySize) -> Result<(), Error> {
        if !self.inner.has_terminal {
            return Err(Error::Misuse("the process has no terminal".into()));
        }
        if self.inner.client.capabilities().process_resize {
            let options = size.options();
            let params = ResizeParams {
                process_id: self.inner.id.clone(),
                rows: options.rows,
                cols: options.cols,
            };
            let _: exec_proto::Empty = self.ask(wire::RESIZE, &params, Retry::Repeat).await?;
            return Ok(());
        }
        match &self.inner.terminal {
            Some(terminal) => terminal.resize(&self.inner.client, size).await,
            None => Err(Error::Unsupported("changing the size of a terminal")),
        }
    }

    async fn ask<P: Serialize, R: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &P,
        retry: Retry,
    ) -> Result<R, Error> {
        self.inner.client.call(method, params, retry).await
    }

    /// Removes what this client put beside the process. Done once; failures do not matter.
    pub(super) async fn clean_up(&self) {
        if self.inner.cleaned_up.load(Ordering::Acquire) {
            return;
        }
        if let Some(command) = &self.inner.clean_up {
            let done = async {
                // The future of a start contains the one of a clean-up; boxing ends the recursion.
                let started = Box::pin(self.inner.client.start(command.clone())).await?;
                Box::pin(started.output(limits::BLOCK_BYTES)).await
            };
            if let Err(error) = done.await {
                tracing::debug!(error = %error, "temporary files are left on the executor");
            }
        }
        self.inner.cleaned_up.store(true, Ordering::Release);
    }

    async fn write_raw(&self, writer: &mut Writer, chunk: Bytes) -> Result<(), Error> {
        // One id per write, not per attempt: by it the executor knows a repeated one.
        let write_id = format!("{}{}", writer.prefix, writer.next_write);
        writer.next_write += 1;
        let params = WriteParams {
            process_id: self.inner.id.clone(),
            chunk,
            write_id,
        };
        let result: WriteResult = self
            .inner
            .client
            .call(wire::WRITE, &params, Retry::Repeat)
            .await?;
        match result.status {
            WriteStatus::Accepted => Ok(()),
            WriteStatus::StdinClosed => {
                writer.ended = true;
                Err(Error::StdinClosed)
            }
            WriteStatus::UnknownProcess => Err(Error::ProcessGone),
            // The start was answered before this handle existed.
            WriteStatus::Starting => Err(Error::Protocol(
                "it says that a started process is starting".into(),
            )),
        }
    }
}
