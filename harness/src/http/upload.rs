//! The body of a request, in parts: a few under way, in order, with room for them at the executor.

use std::collections::VecDeque;

use bytes::BytesMut;
use exec_proto::{
    Empty,
    http::{self as wire, BodyChunkParams},
};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::{
    Client, Error,
    client::Answer,
    engine::{
        Job,
        call::{Asker, Retry},
    },
    limits,
};

/// Sends `body` for a request. Parts that are not taken are no failure: the request is over then, and
/// its answer tells why.
///
/// # Errors
///
/// [`Error::Io`] when reading fails.
pub(super) async fn send(
    client: &Client,
    request_id: String,
    mut body: impl AsyncRead + Unpin,
) -> Result<(), Error> {
    let retry = Retry::Within(client.generation());
    let mut under_way = VecDeque::<Answer>::new();
    let mut done = false;
    for seq in 1.. {
        let mut chunk = BytesMut::with_capacity(limits::BODY_CHUNK_BYTES);
        while chunk.len() < limits::BODY_CHUNK_BYTES && !done {
            done = body.read_buf(&mut chunk).await.map_err(unreadable)? == 0;
            // What comes slowly is not held back.
            if under_way.is_empty() && !chunk.is_empty() {
                break;
            }
        }
        let params = BodyChunkParams {
            request_id: request_id.clone(),
            seq,
            chunk_base64: chunk.freeze(),
            done,
        };
        if under_way.len() >= limits::BODY_CHUNKS_IN_FLIGHT && !is_taken(&mut under_way).await {
            return Ok(());
        }
        let begun = client.begin(
            wire::BODY_CHUNK,
            &params,
            retry,
            None,
            Asker::Caller,
            Job::Call,
        );
        match begun.await {
            Ok(answer) => under_way.push_back(answer),
            Err(_) => return Ok(()),
        }
        if done {
            break;
        }
    }
    while !under_way.is_empty() {
        if !is_taken(&mut under_way).await {
            break;
        }
    }
    Ok(())
}

pub(super) fn unreadable(error: std::io::Error) -> Error {
    Error::io("failed to read the body of the request", error)
}

/// Waits for the first of the answers.
async fn is_taken(under_way: &mut VecDeque<Answer>) -> bool {
    match under_way.pop_front() {
        Some(answer) => answer.wait::<Empty>().await.is_ok(),
        None => true,
    }
}
