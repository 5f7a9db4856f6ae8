//! One connection over standard input and output, one JSON message per line.
//!
//! `\n` and `\r\n` end a line, blank lines are skipped, a last line without an end is ignored. A
//! line that is over the limit or is not UTF-8 ends the connection. At the end of input, replies
//! that are already due are written before the connection ends.

use std::{io, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    sync::mpsc,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::budget::Inbox;
use crate::{
    events,
    rpc::{PeerLabel, Transport},
    serve::Serve,
};

/// Serves the process's own standard input and output until its input ends.
pub async fn serve_stdio<S: Serve>(sessions: Arc<S>, cancel: CancellationToken) {
    serve(
        BufReader::new(tokio::io::stdin()),
        tokio::io::stdout(),
        sessions,
        cancel,
    )
    .await;
}

async fn serve<R, W, S>(input: R, output: W, sessions: Arc<S>, cancel: CancellationToken)
where
    S: Serve,
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let (incoming, to_session) = Inbox::new();
    let (from_session, outgoing) = mpsc::channel(QUEUED_MESSAGES);
    let transport = Transport::new(to_session, from_session, PeerLabel::Stdio);
    let finishing = sessions.finishing();
    let session = AbortOnDropHandle::new(tokio::spawn(sessions.serve(transport, cancel.clone())));
    let writer = AbortOnDropHandle::new(tokio::spawn(write_lines(output, outgoing)));
    tokio::select! {
        ended = read_lines(input, incoming) => if let Err(error) = ended {
            events::stdio_ended(&error);
        },
        () = cancel.cancelled() => {}
        () = finishing.cancelled() => {}
    }
    // The session answers what it has received and drops its sender; then the writer is done.
    let _ = session.await;
    let _ = writer.await;
}

/// Why reading lines ended before the end of input.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error("line exceeds limit of {MAX_LINE_BYTES} bytes")]
    TooLong,
    #[error("line is not UTF-8")]
    NotUtf8,
    #[error("failed to read standard input")]
    Io(#[from] io::Error),
}

/// Forwards lines until the end of input or the end of the session.
async fn read_lines<R>(mut input: R, incoming: Inbox) -> Result<(), LineError>
where
    R: AsyncBufRead + Unpin,
{
    let mut line = BytesMut::new();
    loop {
        let chunk = input.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(());
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(chunk.len(), |end| end + 1);
        line.extend_from_slice(chunk.get(..taken).unwrap_or_default());
        input.consume(taken);
        if line.len() > MAX_LINE_BYTES {
            return Err(LineError::TooLong);
        }
        if end.is_none() {
            continue;
        }
        let message = line.split().freeze();
        let text = str::from_utf8(&message).map_err(|_| LineError::NotUtf8)?;
        if text.trim().is_empty() {
            continue;
        }
        let message = message.slice_ref(text.trim_end_matches(['\n', '\r']).as_bytes());
        if incoming.send(message).await.is_err() {
            return Ok(());
        }
    }
}

/// Writes messages until the session has dropped its end; a reader that is gone ends it as well.
async fn write_lines<W>(mut output: W, mut outgoing: mpsc::Receiver<Bytes>) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    while let Some(message) = outgoing.recv().await {
        let mut next = Some(message);
        while let Some(message) = next {
            output.write_all(&message).await?;
            output.write_all(b"\n").await?;
            next = outgoing.try_recv().ok();
        }
        output.flush().await?;
    }
    Ok(())
}

/// Longest line, as in the reference.
const MAX_LINE_BYTES: usize = 64 << 20;
/// Messages that wait for standard output; the session bounds their bytes.
const QUEUED_MESSAGES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &[u8]) -> (Vec<Bytes>, Result<(), LineError>) {
        let (sender, mut receiver) = Inbox::new();
        let mut lines = Vec::new();
        let receive = async {
            while let Some(line) = receiver.recv().await {
                lines.push(line);
            }
        };
        let read = read_lines(BufReader::with_capacity(3, input), sender);
        let (ended, ()) = tokio::join!(read, receive);
        (lines, ended)
    }

    #[tokio::test]
    async fn both_line_ends_count_and_blank_lines_do_not() {
        let (lines, ended) = lines(b"{\"a\":1}\n\n \r\n{\"b\":2}\r\n{\"unfinished\"").await;
        assert_eq!(lines, ["{\"a\":1}", "{\"b\":2}"]);
        assert!(ended.is_ok());
    }

    #[tokio::test]
    async fn a_line_that_is_not_utf8_ends_the_connection() {
        let (lines, ended) = lines(b"{}\n\xff\n{}\n").await;
        assert_eq!(lines, ["{}"]);
        assert!(matches!(ended, Err(LineError::NotUtf8)));
    }

    #[tokio::test]
    async fn a_line_over_the_limit_ends_the_connection() {
        let input =
            tokio::io::AsyncReadExt::take(tokio::io::repeat(b'x'), 2 * MAX_LINE_BYTES as u64);
        let (sender, _receiver) = Inbox::new();
        let ended = read_lines(BufReader::with_capacity(1 << 20, input), sender).await;
        assert!(matches!(ended, Err(LineError::TooLong)));
    }

    #[tokio::test]
    async fn messages_become_lines() {
        let (sender, receiver) = mpsc::channel(4);
        for message in ["{\"id\":1}", "{\"id\":2}"] {
            sender
                .send(Bytes::from_static(message.as_bytes()))
                .await
                .unwrap();
        }
        drop(sender);
        let mut output = Vec::new();
        write_lines(&mut output, receiver).await.unwrap();
        assert_eq!(output, b"{\"id\":1}\n{\"id\":2}\n");
    }
}
