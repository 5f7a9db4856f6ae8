//! The same over two byte streams: one JSON message a line.
//!
//! For clients that start a program and speak with it over its standard input and output.

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_util::codec::{AnyDelimiterCodec, AnyDelimiterCodecError, FramedRead};

use crate::{ConnectOptions, Error, limits};

/// Carries one connection to the executor until `input` ends.
///
/// Blank lines are passed over. What arrives is written as it comes, a line each.
///
/// # Errors
///
/// [`Error::Misuse`] if a line exceeds 64 MiB, [`Error::Io`] if a stream fails, the errors of
/// connecting, and [`Error::ConnectionLost`] if the executor is lost.
///
/// # Cancel safety
///
/// Dropping the future drops the connection.
pub async fn serve_lines(
    options: ConnectOptions,
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin,
) -> Result<(), Error> {
    let transport = options.into_dial()?.dial(None).await?;
    let (mut incoming, outgoing, _carrier) = transport.into_parts();
    let mut output = output;
    let write = async {
        while let Some(message) = incoming.recv().await {
            output.write_all(&line(&message)).await?;
            output.flush().await?;
        }
        Ok(())
    };
    let codec = AnyDelimiterCodec::new_with_max_length(
        b"\n".to_vec(),
        b"\n".to_vec(),
        limits::MESSAGE_BYTES,
    );
    let mut lines = FramedRead::new(input, codec);
    let read = async {
        while let Some(line) = lines.next().await {
            let line = line.map_err(read_error)?;
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if outgoing.send(line).await.is_err() {
                return Err(lost());
            }
        }
        Ok(())
    };
    tokio::select! {
        read = read => read,
        written = write => match written {
            Ok(()) => Err(lost()),
            Err(error) => Err(Error::io("failed to write a message", error)),
        },
    }
}

/// A message as one line. A line break can only stand between the parts of a JSON text, where a
/// blank does as well.
fn line(message: &Bytes) -> Vec<u8> {
    let mut line = Vec::with_capacity(message.len() + 1);
    line.extend(message.iter().map(|&byte| match byte {
        b'\n' | b'\r' => b' ',
        byte => byte,
    }));
    line.push(b'\n');
    line
}

fn read_error(error: AnyDelimiterCodecError) -> Error {
    match error {
        AnyDelimiterCodecError::MaxChunkLengthExceeded => Error::Misuse(format!(
            "a line exceeds the limit of {} bytes",
            limits::MESSAGE_BYTES
        )),
        AnyDelimiterCodecError::Io(error) => Error::io("failed to read a message", error),
    }
}

fn lost() -> Error {
    Error::ConnectionLost("the exchange of messages")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_breaks_it_has() {
        let message = Bytes::from_static(b"{\"a\":\r\n\"b\\n\"}");
        assert_eq!(line(&message), b"{\"a\":  \"b\\n\"}\n");
    }
}
