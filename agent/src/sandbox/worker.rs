//! File requests from inside a sandbox: the process that serves them.
//!
//! It runs where a command would, under the same mounts and filters, and calls the same code as the
//! executor does for requests without a sandbox. So the kernel decides about every path, links and
//! races included, and errors are those that a command would get.
//!
//! Messages are JSON behind their length in four bytes, both ways, over standard input, which is a
//! socket. Answers come in any order. At the end of input everything that was begun is finished.
//!
//! Protected names that do not exist are not occupied for it, because its process lives longer than a
//! command and the host would see them all that time. It knows them and refuses to make them.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use exec_proto::capabilities::{DISCOVER_V1, DISCOVER_V2};
use exec_proto::fs as wire;
use exec_proto::rpc::RpcError;
use exec_proto::{Empty, PathUri};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::failure::{Failure, Stage, at, report_ready};
use super::sys;
use super::view::{Host, resolve};
use crate::capabilities;
use crate::fs::FsConnection;
use crate::rpc::Outbox;

/// A request to the process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) method: String,
    pub(crate) params: Box<RawValue>,
}

/// Its answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) id: u64,
    pub(crate) outcome: Result<Box<RawValue>, RpcError>,
}

/// Serves until the other end of standard input is closed, and ends the process.
pub(super) fn serve<'a>(report: &OwnedFd, occupied: impl Iterator<Item = &'a Path>) -> Failure {
    let occupied: Vec<PathBuf> = occupied.map(Path::to_owned).collect();
    let begin = || -> io::Result<()> {
        rustix::process::setsid()?;
        sys::deliver_signals()?;
        report_ready(&std::fs::File::from(report.try_clone()?))?;
        // The pipe of the report among them: nothing is told any more.
        sys::close_others(&[])
    };
    if let Err(err) = begin() {
        return at(Stage::Program)(err);
    }
    let served = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(run(occupied)));
    sys::exit(i32::from(served.is_err()))
}

async fn run(occupied: Vec<PathBuf>) -> io::Result<()> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    let (mut incoming, mut outgoing) = UnixStream::from_std(socket)?.into_split();
    // Nothing here sends notifications.
    let (outbox, _) = Outbox::new(mpsc::channel(1).0, None);
    let connection = Arc::new(FsConnection::new(outbox));
    let occupied = Arc::new(occupied);
    let (answers, mut answered) = mpsc::channel::<Vec<u8>>(ANSWERS);
    let write = async move {
        while let Some(answer) = answered.recv().await {
            outgoing.write_all(&answer).await?;
        }
        Ok::<(), io::Error>(())
    };
    let read = async move {
        let mut working = JoinSet::new();
        while let Some(message) = receive(&mut incoming).await? {
            let request: Request = serde_json::from_slice(&message)?;
            let (connection, occupied) = (Arc::clone(&connection), Arc::clone(&occupied));
            let answers = answers.clone();
            working.spawn(async move {
                let outcome = perform(&connection, &occupied, &request).await;
                let id = request.id;
                if let Ok(text) = frame(&Answer { id, outcome }) {
                    // The other end may be gone.
                    let _ = answers.send(text).await;
                }
            });
            while working.try_join_next().is_some() {}
        }
        while working.join_next().await.is_some() {}
        Ok::<(), io::Error>(())
    };
    tokio::try_join!(read, write).map(|_| ())
}

/// One request, without any sandbox but the process's own.
async fn perform(
    connection: &FsConnection,
    occupied: &[PathBuf],
    request: &Request,
) -> Result<Box<RawValue>, RpcError> {
    let params = &request.params;
    match request.method.as_str() {
        wire::READ_FILE => encode(connection.read_file(decode(params)?).await?),
        wire::GET_METADATA => encode(connection.get_metadata(decode(params)?).await?),
        wire::CANONICALIZE => encode(connection.canonicalize(decode(params)?).await?),
        wire::READ_DIRECTORY => encode(connection.read_directory(decode(params)?).await?),
        wire::WALK => encode(connection.walk(decode(params)?).await?),
        wire::SYNC => done(connection.sync(decode(params)?).await?),
        wire::REMOVE => done(connection.remove(decode(params)?).await?),
        wire::READ_BLOCK => encode(connection.read_block(decode(params)?).await?),
        wire::WRITE_BLOCK => done(connection.write_block(decode(params)?).await?),
        wire::CLOSE => done(connection.close(decode(params)?).await?),
        wire::WRITE_FILE => {
            let params: wire::WriteFileParams = decode(params)?;
            check_name(occupied, &params.path)?;
            done(connection.write_file(params).await?)
        }
        wire::APPEND => {
            let params: wire::AppendParams = decode(params)?;
            check_name(occupied, &params.path)?;
            encode(connection.append(params).await?)
        }
        wire::CREATE_DIRECTORY => {
            let params: wire::CreateDirectoryParams = decode(params)?;
            check_name(occupied, &params.path)?;
            done(connection.create_directory(params).await?)
        }
        wire::OPEN => {
            let params: wire::OpenParams = decode(params)?;
            if params.mode == wire::OpenMode::Replace {
                check_name(occupied, &params.path)?;
            }
            encode(connection.open(params).await?)
        }
        wire::RENAME => {
            let params: wire::RenameParams = decode(params)?;
            check_name(occupied, &params.destination_path)?;
            done(connection.rename(params).await?)
        }
        wire::COPY => {
            let params: wire::CopyParams = decode(params)?;
            check_name(occupied, &params.destination_path)?;
            check_tree(occupied, &params.source_path, &params.destination_path)?;
            done(connection.copy(params).await?)
        }
        DISCOVER_V1 => encode(capabilities::discover_v1(connection, decode(params)?).await?),
        DISCOVER_V2 => encode(capabilities::describe(connection, decode(params)?).await?),
        other => Err(RpcError::internal(format!(
            "`{other}` cannot be served in a sandbox"
        ))),
    }
}

/// Refuses to make a protected name.
fn check_name(occupied: &[PathBuf], path: &PathUri) -> Result<(), RpcError> {
    let path = resolved(path)?;
    if occupied.iter().any(|occupied| path.starts_with(occupied)) {
        return Err(read_only());
    }
    Ok(())
}

/// Refuses to copy a tree whose parts would get protected names.
fn check_tree(occupied: &[PathBuf], source: &PathUri, to: &PathUri) -> Result<(), RpcError> {
    let (source, to) = (resolved(source)?, resolved(to)?);
    let hits = occupied.iter().any(|occupied| {
        occupied
            .strip_prefix(&to)
            .is_ok_and(|inside| source.join(inside).symlink_metadata().is_ok())
    });
    if hits { Err(read_only()) } else { Ok(()) }
}

fn resolved(path: &PathUri) -> Result<PathBuf, RpcError> {
    let path = crate::fs::native(path)?;
    let resolved = resolve(&Host, &path).map_err(|err| RpcError::from_io(&err))?;
    Ok(resolved.path)
}

fn read_only() -> RpcError {
    RpcError::from_io(&Errno::ROFS.into())
}

fn decode<'a, T: Deserialize<'a>>(params: &'a RawValue) -> Result<T, RpcError> {
    serde_json::from_str(params.get()).map_err(|err| RpcError::internal(err.to_string()))
}

fn encode<T: Serialize>(result: T) -> Result<Box<RawValue>, RpcError> {
    serde_json::value::to_raw_value(&result).map_err(|err| RpcError::internal(err.to_string()))
}

fn done((): ()) -> Result<Box<RawValue>, RpcError> {
    encode(Empty {})
}

/// A message behind its length.
pub(crate) fn frame<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut text = vec![0; LENGTH_BYTES];
    serde_json::to_writer(&mut text, message)?;
    let length = u32::try_from(text.len().saturating_sub(LENGTH_BYTES))
        .map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    if let Some(place) = text.first_chunk_mut::<LENGTH_BYTES>() {
        *place = length.to_be_bytes();
    }
    Ok(text)
}

/// The next message; `None` at the end.
pub(crate) async fn receive(
    socket: &mut (impl tokio::io::AsyncRead + Unpin),
) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; LENGTH_BYTES];
    match socket.read_exact(&mut length).await {
        Ok(_) => {}
        Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(err) => return Err(err),
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_MESSAGE_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut message = vec![0; length];
    socket.read_exact(&mut message).await?;
    Ok(Some(message))
}

const LENGTH_BYTES: usize = 4;

/// The longest message of the protocol, and what is around it here.
const MAX_MESSAGE_BYTES: usize = (64 << 20) + (1 << 10);

/// Answers that wait for the socket.
const ANSWERS: usize = 8;
