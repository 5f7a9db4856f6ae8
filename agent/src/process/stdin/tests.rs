use std::io::Read as _;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};

use super::*;

/// Standard input and the program's end of its pipe.
fn piped() -> (Stdin, StdinWriter, std::fs::File) {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    rustix::fs::fcntl_setfl(&write, rustix::fs::OFlags::NONBLOCK).unwrap();
    let (stdin, writer) = Stdin::open(write, false);
    (stdin, writer, read.into())
}

async fn read_all(mut file: std::fs::File) -> String {
    tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    })
    .await
    .unwrap()
}

async fn accept(stdin: &Stdin, id: impl ToString, chunk: &'static str) {
    let status = stdin
        .write(Bytes::from_static(chunk.as_bytes()), id.to_string())
        .await;
    assert_eq!(status, Ok(WriteStatus::Accepted));
}

#[tokio::test]
async fn an_id_is_remembered_for_4096_writes() {
    let (stdin, writer, read) = piped();
    let writer = tokio::spawn(writer.run());
    let read = tokio::spawn(read_all(read));
    accept(&stdin, 0, "first").await;
    for id in 1..REMEMBERED_IDS {
        accept(&stdin, id, "").await;
    }
    accept(&stdin, 0, "not again").await;
    accept(&stdin, REMEMBERED_IDS, "").await;
    accept(&stdin, 0, " forgotten").await;
    stdin.close().await.unwrap();
    writer.await.unwrap();
    assert_eq!(read.await.unwrap(), "first forgotten");
}

#[tokio::test(start_paused = true)]
async fn full_queue_makes_the_write_wait_and_a_cancelled_one_leaves_no_trace() {
    let (stdin, writer, read) = piped();
    for id in 0..MAX_WRITES {
        accept(&stdin, id, "x").await;
    }
    let late = stdin.write(Bytes::from_static(b"late"), "late".to_owned());
    assert!(
        tokio::time::timeout(Duration::from_secs(1), late)
            .await
            .is_err()
    );
    let writer = tokio::spawn(writer.run());
    accept(&stdin, "late", "retried").await;
    stdin.close().await.unwrap();
    writer.await.unwrap();
    assert_eq!(read_all(read).await, "x".repeat(MAX_WRITES) + "retried");
}

#[tokio::test(start_paused = true)]
async fn bytes_in_the_queue_are_bounded_too() {
    let (stdin, _writer, _read) = piped();
    let half = Bytes::from(vec![0; MAX_BYTES / 2]);
    for id in ["1", "2"] {
        stdin.write(half.clone(), id.to_owned()).await.unwrap();
    }
    let more = stdin.write(Bytes::from_static(b"x"), "3".to_owned());
    assert!(
        tokio::time::timeout(Duration::from_secs(1), more)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn write_after_the_program_closed_its_input_is_refused_and_a_retried_one_is_not() {
    let (stdin, writer, read) = piped();
    accept(&stdin, 1, "x").await;
    let writer = tokio::spawn(writer.run());
    drop(read);
    // Nothing is written meanwhile: the kernel tells.
    writer.await.unwrap();
    for _ in 0..2 {
        let status = stdin.write(Bytes::from_static(b"y"), "2".to_owned()).await;
        assert_eq!(status, Ok(WriteStatus::StdinClosed));
    }
    accept(&stdin, 1, "x").await;
}

#[tokio::test]
async fn waiting_write_fails_when_the_process_is_terminated() {
    let (stdin, writer, _read) = piped();
    for id in 0..MAX_WRITES {
        accept(&stdin, id, "x").await;
    }
    let waiting = stdin.write(Bytes::from_static(b"x"), "late".to_owned());
    let terminate = async {
        stdin.terminate();
        // Its task ends with the process.
        drop(writer);
    };
    let (result, ()) = tokio::join!(waiting, terminate);
    assert_eq!(
        result.unwrap_err().message,
        "failed to write to process stdin"
    );
}

#[tokio::test]
async fn terminal_input_cannot_be_closed() {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (stdin, _writer) = Stdin::open(write, true);
    assert_eq!(stdin.close().await.unwrap_err().code, -32602);
    drop(read);
}
