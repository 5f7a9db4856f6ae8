//! Frames between executors and harnesses, over real sockets.

#![allow(clippy::unwrap_used, reason = "failing is how a test reports")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Peer, Rejected, TestServer, data, handshake, resume, within};
use futures_util::{SinkExt as _, StreamExt as _};
use relay_proto::frame::{Body, Frame};
use tokio_tungstenite::tungstenite::Message;

/// An executor and a harness that has claimed stream `s`.
async fn pair(server: &TestServer) -> (Peer, Peer) {
    let mut executor = server.executor("env", "t").await;
    let mut harness = server.harness("env", "t").await;
    harness.claim("s", &mut executor).await;
    (executor, harness)
}

/// A data frame of exactly `length` bytes for stream `s`.
fn frame_of(length: usize) -> Bytes {
    let overhead = data("s", 1, vec![0; length]).encode().len() - length;
    let frame = data("s", 1, vec![0; length - overhead]).encode();
    assert_eq!(frame.len(), length);
    frame
}

#[tokio::test]
async fn frames_go_to_the_holder_of_their_stream() {
    let server = TestServer::start().await;
    let mut executor = server.executor("env", "t").await;
    let mut one = server.harness("env", "t").await;
    let mut two = server.harness("env", "t").await;
    one.claim("s1", &mut executor).await;
    two.send(&handshake("s2", b"hello")).await;
    assert_eq!(executor.frame().await, handshake("s2", b"hello"));

    executor.send(&data("s2", 0, "for two")).await;
    executor.send(&data("nobody", 0, "lost")).await;
    executor.send(&data("s1", 0, "for one")).await;
    assert_eq!(one.frame().await, data("s1", 0, "for one"));
    assert_eq!(two.frame().await, data("s2", 0, "for two"));
    one.send(&data("s1", 0, "from one")).await;
    assert_eq!(executor.frame().await, data("s1", 0, "from one"));
    server.stop().await;
}

#[tokio::test]
async fn bytes_are_forwarded_unchanged() {
    let server = TestServer::start().await;
    let (mut executor, mut harness) = pair(&server).await;
    // An unknown field, a version of the future, and fields in an unusual order.
    let mut bytes = vec![0x9a, 0x06, 3, b'n', b'e', b'w', 0x08, 9];
    bytes.extend_from_slice(&[0x2a, 2, 0x22, 0, 0x12, 1, b's']);
    let bytes = Bytes::from(bytes);
    harness.send_bytes(bytes.clone()).await;
    assert_eq!(executor.bytes().await, bytes);
    executor.send_bytes(bytes.clone()).await;
    assert_eq!(harness.bytes().await, bytes);
    server.stop().await;
}

#[tokio::test]
async fn environments_do_not_mix() {
    let server = TestServer::start().await;
    let (mut executor, mut harness) = pair(&server).await;
    let mut other_executor = server.executor("other", "t").await;
    let mut other_harness = server.harness("other", "t").await;
    other_harness.claim("s", &mut other_executor).await;
    other_executor.send(&data("s", 0, "other")).await;
    executor.send(&data("s", 0, "own")).await;
    assert_eq!(harness.frame().await, data("s", 0, "own"));
    assert_eq!(other_harness.frame().await, data("s", 0, "other"));
    server.stop().await;
}

#[tokio::test]
async fn ending_harness_resets_its_streams_at_the_executor() {
    let server = TestServer::start().await;
    let (mut executor, harness) = pair(&server).await;
    let mut other = server.harness("env", "t").await;
    other.claim("other", &mut executor).await;
    // No close frame, as when a process is killed.
    drop(harness);
    executor.expect_reset("s").await;
    other.send(&data("other", 0, "still here")).await;
    assert_eq!(executor.frame().await, data("other", 0, "still here"));
    server.stop().await;
}

#[tokio::test]
async fn reset_follows_the_last_frames_of_its_stream() {
    let server = TestServer::start().await;
    let (mut executor, mut harness) = pair(&server).await;
    for seq in 0..200 {
        harness.send(&data("s", seq, vec![1; 10_000])).await;
    }
    within(harness.socket.close(None)).await.unwrap();
    for seq in 0..200 {
        assert_eq!(executor.frame().await, data("s", seq, vec![1; 10_000]));
    }
    executor.expect_reset("s").await;
    server.stop().await;
}

#[tokio::test]
async fn ending_executor_closes_its_harnesses_after_their_last_frames() {
    let server = TestServer::start().await;
    let (mut executor, mut harness) = pair(&server).await;
    for seq in 0..50 {
        executor.send(&data("s", seq, vec![1; 10_000])).await;
    }
    within(executor.socket.close(None)).await.unwrap();
    for seq in 0..50 {
        assert_eq!(harness.frame().await, data("s", seq, vec![1; 10_000]));
    }
    assert_eq!(harness.close_code().await, Some(1000));
    let (status, answer) = server.bundle("env", "t").await;
    assert_eq!(
        (status, answer["error"]["code"].as_str()),
        (409, Some("environment_offline"))
    );
    server.stop().await;
}

#[tokio::test]
async fn executor_comes_back_with_the_same_url() {
    let server = TestServer::start().await;
    let (executor, mut harness) = pair(&server).await;
    let url = executor.url.clone();
    drop(executor);
    assert_eq!(harness.close_code().await, Some(1000));
    let mut executor = Peer::open(&url).await.unwrap().attached().await;
    let mut harness = server.harness("env", "t").await;
    harness.claim("s", &mut executor).await;
    server.stop().await;
}

#[tokio::test]
async fn second_socket_of_an_executor_takes_over() {
    let server = TestServer::start().await;
    let (mut executor, mut harness) = pair(&server).await;
    let mut again = Peer::open(&executor.url).await.unwrap();
    assert_eq!(executor.close_code().await, Some(1000));
    assert_eq!(harness.close_code().await, Some(1000));
    let mut harness = server.harness("env", "t").await;
    harness.claim("s", &mut again).await;
    server.stop().await;
}

#[tokio::test]
async fn newest_registration_wins() {
    let server = TestServer::start().await;
    let (mut old, mut harness) = pair(&server).await;
    let url = server.register("env", "t").await;
    assert_eq!(old.close_code().await, Some(1000));
    assert_eq!(harness.close_code().await, Some(1000));
    let reason = "unexpected_executor_registration_id".to_owned();
    let rejected = Peer::open(&old.url).await.unwrap_err();
    assert_eq!(
        rejected,
        Rejected {
            status: 401,
            reason: reason.clone()
        }
    );

    let mut new = Peer::open(&url).await.unwrap().attached().await;
    // Now the old one is not to register again, or the two would drive each other out for ever.
    let rejected = Peer::open(&old.url).await.unwrap_err();
    assert_eq!(
        rejected,
        Rejected {
            status: 503,
            reason
        }
    );
    let mut harness = server.harness("env", "t").await;
    harness.claim("s", &mut new).await;
    server.stop().await;
}

#[tokio::test]
async fn bundle_opens_one_socket() {
    let server = TestServer::start().await;
    let _executor = server.executor("env", "t").await;
    let (_, bundle) = server.bundle("env", "t").await;
    let url = bundle["url"].as_str().unwrap();
    let _harness = Peer::open(url).await.unwrap();
    let rejected = Peer::open(url).await.unwrap_err();
    assert_eq!(
        rejected,
        Rejected {
            status: 401,
            reason: "expired".to_owned()
        }
    );
    server.stop().await;
}

#[tokio::test]
async fn stream_of_another_harness_cannot_be_stolen() {
    let server = TestServer::start().await;
    let (mut executor, mut holder) = pair(&server).await;
    let mut thief = server.harness("env", "t").await;
    thief.send(&data("s", 0, "forged")).await;
    thief.send(&Frame::reset(common::id("s"))).await;
    thief.send(&handshake("s", b"forged")).await;
    thief.expect_reset("s").await;
    holder.send(&data("s", 0, "genuine")).await;
    assert_eq!(executor.frame().await, data("s", 0, "genuine"));
    executor.send(&data("s", 0, "answer")).await;
    assert_eq!(holder.frame().await, data("s", 0, "answer"));
    drop(thief);
    holder.send(&data("s", 1, "still genuine")).await;
    assert_eq!(executor.frame().await, data("s", 1, "still genuine"));
    server.stop().await;
}

#[tokio::test]
async fn text_messages_are_ignored() {
    let server = TestServer::start().await;
    let (mut executor, mut harness) = pair(&server).await;
    harness.socket.send(Message::text("hello")).await.unwrap();
    executor.socket.send(Message::text("hello")).await.unwrap();
    harness.send(&data("s", 0, "one")).await;
    assert_eq!(executor.frame().await, data("s", 0, "one"));
    executor.send(&data("s", 0, "two")).await;
    assert_eq!(harness.frame().await, data("s", 0, "two"));
    server.stop().await;
}

#[tokio::test]
async fn malformed_frame_is_dropped_from_an_executor_and_ends_a_harness() {
    let server = TestServer::start().await;
    let (mut executor, mut harness) = pair(&server).await;
    for garbage in [&b""[..], b"\xff", b"\x12\x01 \x3a\x00", b"\x12\x7fs"] {
        executor.send_bytes(Bytes::from_static(garbage)).await;
    }
    executor.send(&data("s", 0, "fine")).await;
    assert_eq!(harness.frame().await, data("s", 0, "fine"));
    harness.send_bytes(Bytes::from_static(b"\xff")).await;
    assert_eq!(harness.close_code().await, Some(1002));
    executor.expect_reset("s").await;
    server.stop().await;
}

#[tokio::test]
async fn largest_message_passes_and_a_larger_one_ends_the_socket() {
    let server = TestServer::start().await;
    let (mut executor, mut harness) = pair(&server).await;
    let largest = frame_of(262_144);
    harness.send_bytes(largest.clone()).await;
    assert_eq!(executor.bytes().await, largest);
    executor.send_bytes(largest.clone()).await;
    assert_eq!(harness.bytes().await, largest);

    harness.send_bytes(frame_of(262_145)).await;
    executor.expect_reset("s").await;
    let mut harness = server.harness("env", "t").await;
    harness.claim("t", &mut executor).await;
    executor.send_bytes(frame_of(262_145)).await;
    assert_eq!(harness.close_code().await, Some(1000));
    server.stop().await;
}

#[tokio::test]
async fn slow_harness_is_closed_and_stalls_nobody() {
    let server = TestServer::with(|config| config.limits.harness_queue_bytes = 1024 * 1024).await;
    let (mut executor, slow) = pair(&server).await;
    let mut quick = server.harness("env", "t").await;
    quick.claim("quick", &mut executor).await;
    // The slow one reads nothing. What the system buffers is a few megabytes at most.
    let flood = data("s", 0, vec![7; 200_000]).encode();
    let mut was_reset = false;
    for round in 0..1_000 {
        executor.send_bytes(flood.clone()).await;
        executor.send(&data("quick", round, "ping")).await;
        assert_eq!(quick.frame().await, data("quick", round, "ping"));
        quick.send(&data("quick", round, "pong")).await;
        let frame = executor.frame().await;
        if matches!(frame.body, Body::Reset { .. }) {
            assert_eq!(frame.stream_id.as_str(), "s");
            was_reset = true;
            break;
        }
        assert_eq!(frame, data("quick", round, "pong"));
    }
    assert!(was_reset, "the slow harness was never closed");
    assert_eq!(executor.frame().await.stream_id.as_str(), "quick");
    drop(slow);
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_lost_when_the_executor_reads_late() {
    let server = TestServer::start().await;
    let (mut executor, mut harness) = pair(&server).await;
    const FRAMES: u32 = 400;
    // 40 MB, far more than the queue and the system's buffers: the harness has to wait.
    let sending = tokio::spawn(async move {
        for seq in 0..FRAMES {
            harness.send(&data("s", seq, vec![3; 100_000])).await;
        }
        harness
    });
    // Another harness gets its turn meanwhile.
    let mut other = server.harness("env", "t").await;
    other.send(&resume("other")).await;
    let mut next = 0;
    let mut seen_other = false;
    while next < FRAMES || !seen_other {
        let frame = executor.frame().await;
        if frame.stream_id.as_str() == "other" {
            seen_other = true;
        } else {
            assert_eq!(frame, data("s", next, vec![3; 100_000]));
            next += 1;
        }
    }
    let _harness = within(sending).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn executor_that_reads_nothing_is_closed() {
    let server = TestServer::with(|config| {
        config.limits.write_timeout = Duration::from_millis(300);
        config.limits.ping_interval = Duration::from_secs(60);
    })
    .await;
    let (executor, harness) = pair(&server).await;
    let (mut sink, mut stream) = harness.socket.split();
    // Fails as soon as the socket is closed, which is what is waited for.
    let flood = tokio::spawn(async move {
        let frame = data("s", 0, vec![7; 200_000]).encode();
        while sink.send(Message::Binary(frame.clone())).await.is_ok() {}
    });
    let mut code = None;
    while let Some(Ok(message)) = within(stream.next()).await {
        if let Message::Close(frame) = message {
            code = frame.map(|frame| u16::from(frame.code));
        }
    }
    assert!(code.is_none_or(|code| code == 1000), "{code:?}");
    flood.abort();
    let (status, _) = server.bundle("env", "t").await;
    assert_eq!(status, 409);
    drop(executor);
    server.stop().await;
}

#[tokio::test]
async fn pings_are_answered() {
    let server = TestServer::start().await;
    let mut executor = server.executor("env", "t").await;
    let ping = Message::Ping(Bytes::from_static(b"here?"));
    executor.socket.send(ping).await.unwrap();
    let answer = within(executor.socket.next()).await.unwrap().unwrap();
    assert_eq!(answer, Message::Pong(Bytes::from_static(b"here?")));
    server.stop().await;
}

#[tokio::test]
async fn silent_harness_is_dropped_and_its_streams_are_reset() {
    let server = TestServer::with(|config| {
        config.limits.ping_interval = Duration::from_millis(200);
        config.limits.pong_timeout = Duration::from_secs(1);
    })
    .await;
    let mut executor = server.executor("env", "t").await;
    // This library answers pings only while it is read. The executor is, the harness never.
    let reading = tokio::spawn(async move {
        assert_eq!(executor.frame().await, resume("s"));
        executor.expect_reset("s").await;
    });
    let mut harness = server.harness("env", "t").await;
    harness.send(&resume("s")).await;
    within(reading).await.unwrap();
    drop(harness);
    server.stop().await;
}

#[tokio::test]
async fn too_many_harnesses_are_turned_away() {
    let server = TestServer::with(|config| config.limits.harness_sockets = 1).await;
    let mut executor = server.executor("env", "t").await;
    let mut harness = server.harness("env", "t").await;
    harness.claim("s", &mut executor).await;
    let (_, bundle) = server.bundle("env", "t").await;
    let rejected = Peer::open(bundle["url"].as_str().unwrap())
        .await
        .unwrap_err();
    assert_eq!(
        rejected,
        Rejected {
            status: 503,
            reason: "route_unavailable".to_owned()
        }
    );
    server.stop().await;
}

#[tokio::test]
async fn shutdown_reaches_the_sockets_of_every_environment() {
    let server = TestServer::start().await;
    let mut executors = Vec::new();
    for number in 0..20 {
        executors.push(server.executor(&format!("env{number}"), "t").await);
    }
    let stopping = tokio::spawn(server.stop());
    for mut executor in executors {
        assert_eq!(executor.close_code().await, Some(1001));
    }
    within(stopping).await.unwrap();
}

#[tokio::test]
async fn shutdown_closes_sockets_with_going_away() {
    let server = TestServer::start().await;
    let (mut executor, mut harness) = pair(&server).await;
    let stopping = tokio::spawn(server.stop());
    assert_eq!(executor.close_code().await, Some(1001));
    assert_eq!(harness.close_code().await, Some(1001));
    drop((executor, harness));
    within(stopping).await.unwrap();
}
