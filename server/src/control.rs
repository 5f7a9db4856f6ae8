//! The control socket: how a command on the same machine speaks to a running server.
//!
//! A Unix socket in the data directory. Whoever may use it is who may write to the directory, which is
//! the operator anyway, so there is nothing to authenticate; it needs no port; and unlike a file that the
//! server would have to look for, it answers at once and tells when the server has ended.
//!
//! ```text
//! command -> server   one line of JSON: {"drain": {...}} or {"take_over": {}}
//! server -> command   {"accepted": {"pid": 4711}}      with two descriptors for take_over
//!                     {"stopped": {"complete": true}}  before the server ends
//! ```
//!
//! A server that is started to take over from another one gets that one's listening socket and its
//! claim to the data directory, both of which thus never go away, and the other one drains.
//!
//! The name in the file system is never removed: a stale one refuses connections.

use std::convert::Infallible;
use std::fs::Permissions;
use std::io::{self, BufRead as _, BufReader, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::config::DrainConfig;
use crate::events;

/// What a command asks for.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// To drain and end. What is absent is as the server was configured.
    Drain(DrainOrder),
    /// To hand everything over to the asking process, and to drain and end.
    TakeOver {},
}

/// How to drain.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct DrainOrder {
    /// When peers are told to come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_ms: Option<u64>,
    /// How long all of it may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
}

/// What the server answers.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// It does as it was told.
    Accepted {
        /// Its process.
        pid: u32,
    },
    /// It ends now.
    Stopped {
        /// Whether every connection had ended by itself.
        complete: bool,
    },
}

/// The server's end.
#[derive(Debug)]
pub(crate) struct Control {
    listener: UnixListener,
    state: Arc<State>,
}

/// What the tasks of the control socket share with the server.
#[derive(Debug)]
pub(crate) struct State {
    defaults: DrainConfig,
    order: watch::Sender<Option<DrainConfig>>,
    stopped: watch::Sender<Option<bool>>,
    /// What a successor gets. Gone once it has been handed over, or is of no use any more.
    heritage: Mutex<Option<Heritage>>,
}

/// What one server leaves to the next.
#[derive(Debug)]
pub(crate) struct Heritage {
    /// The listening socket.
    pub(crate) listener: OwnedFd,
    /// The locked file that is the claim to the data directory.
    pub(crate) claim: OwnedFd,
}

impl Control {
    /// Takes the name of the control socket in `directory`, which the caller must have claimed.
    pub(crate) fn bind(
        directory: &Path,
        defaults: DrainConfig,
        heritage: Heritage,
    ) -> io::Result<Self> {
        let place = Place::of(directory)?;
        match std::fs::remove_file(place.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(place.path())?;
        std::fs::set_permissions(place.path(), Permissions::from_mode(0o600))?;
        Ok(Self {
            listener,
            state: Arc::new(State {
                defaults,
                order: watch::Sender::new(None),
                stopped: watch::Sender::new(None),
                heritage: Mutex::new(Some(heritage)),
            }),
        })
    }

    /// What the server looks at.
    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }

    /// Serves commands until dropped.
    pub(crate) async fn run(self) -> Infallible {
        let mut commands = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = commands.join_next() => {}
                accepted = self.listener.accept(), if commands.len() < MAX_COMMANDS => match accepted {
                    Ok((stream, _)) => {
                        commands.spawn(serve(stream, Arc::clone(&self.state)));
                    }
                    Err(error) => {
                        events::accept_failed(&error);
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }
}

impl State {
    /// Waits for the order to end.
    pub(crate) async fn ordered(&self) -> DrainConfig {
        let mut order = self.order.subscribe();
        match order.wait_for(Option::is_some).await {
            Ok(order) => order.unwrap_or(self.defaults),
            // The sender is in `self`.
            Err(_) => self.defaults,
        }
    }

    /// Whether another server has taken over.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.heritage().is_none()
    }

    /// Gives up what a successor would get, so that nothing keeps it open.
    pub(crate) fn forget_heritage(&self) {
        drop(self.heritage().take());
    }

    /// Tells the commands that wait that the server ends. They have been told when this returns, if the
    /// control socket is served meanwhile.
    pub(crate) async fn stopped(&self, complete: bool) {
        self.stopped.send_replace(Some(complete));
        self.stopped.closed().await;
    }

    fn heritage(&self) -> std::sync::MutexGuard<'_, Option<Heritage>> {
        self.heritage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, config: DrainConfig) {
        self.order.send_modify(|order| {
            order.get_or_insert(config);
        });
    }
}

/// Serves one command to the end of the server.
async fn serve(stream: UnixStream, state: Arc<State>) {
    if let Err(error) = converse(stream, &state).await {
        events::control_failed(&error);
    }
}

async fn converse(mut stream: UnixStream, state: &State) -> io::Result<()> {
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new((&mut stream).take(MAX_LINE_BYTES));
    tokio::time::timeout(REQUEST_TIMEOUT, reader.read_line(&mut line))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)??;
    let request = serde_json::from_str(&line)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a request"))?;
    let accepted = encode(&Answer::Accepted {
        pid: std::process::id(),
    });
    let mut stopped = state.stopped.subscribe();
    match request {
        Request::Drain(order) => {
            state.order(state.defaults.with(order));
            stream.write_all(&accepted).await?;
        }
        Request::TakeOver {} => {
            // Only one gets it; whoever comes second is told by the end of the connection.
            let Some(heritage) = state.heritage().take() else {
                return Ok(());
            };
            let descriptors = [heritage.listener.as_fd(), heritage.claim.as_fd()];
            let sent = stream
                .async_io(Interest::WRITABLE, || {
                    send_with(&stream, &accepted, &descriptors)
                })
                .await;
            if let Err(error) = sent {
                // Nobody has taken over.
                state.heritage().replace(heritage);
                return Err(error);
            }
            // The successor listens already, so nobody has to wait.
            state.order(DrainConfig {
                retry_after: Duration::ZERO,
                ..state.defaults
            });
        }
    }
    if let Ok(complete) = stopped
        .wait_for(Option::is_some)
        .await
        .map(|stopped| *stopped)
    {
        let complete = complete.unwrap_or(false);
        stream
            .write_all(&encode(&Answer::Stopped { complete }))
            .await?;
    }
    Ok(())
}

fn encode(answer: &Answer) -> Vec<u8> {
    // A struct of numbers always serializes.
    let mut line = serde_json::to_vec(answer).unwrap_or_default();
    line.push(b'\n');
    line
}

fn send_with(stream: &UnixStream, line: &[u8], fds: &[BorrowedFd<'_>; 2]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(fds));
    // The line is far below what a socket takes at once.
    sendmsg(
        stream,
        &[IoSlice::new(line)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// The command's end.
#[derive(Debug)]
pub(crate) struct Commander {
    stream: BufReader<StdUnixStream>,
}

impl Commander {
    /// Connects to the server that runs on `directory`; `None` if there is none.
    pub(crate) fn connect(directory: &Path) -> io::Result<Option<Self>> {
        let place = match Place::of(directory) {
            Ok(place) => place,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match StdUnixStream::connect(place.path()) {
            Ok(stream) => Ok(Some(Self {
                stream: BufReader::new(stream),
            })),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Has the server drain. Returns its process.
    pub(crate) fn drain(&mut self, order: DrainOrder) -> io::Result<u32> {
        self.request(&Request::Drain(order))?;
        match self.answer(Some(ANSWER_TIMEOUT))? {
            Answer::Accepted { pid } => Ok(pid),
            Answer::Stopped { .. } => Err(unexpected()),
        }
    }

    /// Waits until the server ends; says whether every connection had ended by itself.
    pub(crate) fn stopped(&mut self, timeout: Duration) -> io::Result<bool> {
        match self.answer(Some(timeout))? {
            Answer::Stopped { complete } => Ok(complete),
            Answer::Accepted { .. } => Err(unexpected()),
        }
    }

    /// Takes over from the server. `None` if somebody else does.
    pub(crate) fn take_over(mut self) -> io::Result<Option<Heritage>> {
        self.request(&Request::TakeOver {})?;
        let stream = self.stream.get_ref();
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut line = [0; 256];
        let received = recvmsg(
            stream,
            &mut [IoSliceMut::new(&mut line)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        if received.bytes == 0 {
            return Ok(None);
        }
        let mut fds = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        let mut fds = fds.into_iter();
        match (fds.next(), fds.next()) {
            (Some(listener), Some(claim)) => Ok(Some(Heritage { listener, claim })),
            _ => Err(unexpected()),
        }
    }

    fn request(&mut self, request: &Request) -> io::Result<()> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)
    }

    fn answer(&mut self, timeout: Option<Duration>) -> io::Result<Answer> {
        self.stream.get_ref().set_read_timeout(timeout)?;
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        serde_json::from_str(&line).map_err(|_| unexpected())
    }
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "unexpected answer")
}

/// Where the socket is, under a name that is short enough for the system's limit of 108 bytes, however
/// long that of the directory is.
struct Place {
    directory: OwnedFd,
}

impl Place {
    fn of(directory: &Path) -> io::Result<Self> {
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory, flags, rustix::fs::Mode::empty())?;
        Ok(Self { directory })
    }

    fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd as _;
        PathBuf::from(format!(
            "/proc/self/fd/{}/{CONTROL_SOCKET}",
            self.directory.as_raw_fd()
        ))
    }
}

const CONTROL_SOCKET: &str = "control.sock";
const MAX_COMMANDS: usize = 16;
const MAX_LINE_BYTES: u64 = 4096;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
