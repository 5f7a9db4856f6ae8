//! Dead paths, suspended streams, and who may end or move one.

use std::time::Duration;

use bytes::Bytes;

use super::pair::{EXECUTOR, Pair, executor_with, harness_with, id};
use crate::connection::{CloseReason, ConnectionConfig};
use crate::frame::{Body, Frame, Statement};
use crate::limits;
use crate::link::Reliability;
use crate::stream::StreamError;

fn bytes(length: usize) -> Bytes {
    vec![0x5a; length].into()
}

fn resumable() -> ConnectionConfig {
    ConnectionConfig {
        reliability: Reliability::Resumable,
        ..ConnectionConfig::default()
    }
}

fn pair(names: &[&str]) -> Pair {
    Pair::reliable(Reliability::Resumable, names)
}

/// Both directions still carry messages.
fn assert_works(pair: &mut Pair, stream: &str) {
    let stream = id(stream);
    let (up, down) = (Bytes::from_static(b"up"), Bytes::from_static(b"down"));
    pair.harness.send(pair.now, &stream, up.clone()).unwrap();
    pair.executor.send(pair.now, &stream, down.clone()).unwrap();
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.at_executor[&stream].last(), Some(&up));
    assert_eq!(pair.at_harness[&stream].last(), Some(&down));
}

fn paths(pair: &Pair) -> Vec<(&'static str, &'static str)> {
    pair.paths
        .iter()
        .map(|(side, _, what)| (*side, *what))
        .collect()
}

const FIVE_SECONDS: Duration = Duration::from_secs(5);

#[test]
fn both_ends_notice_a_dead_path_within_five_seconds() {
    for busy in [false, true] {
        let mut pair = Pair::reliable(Reliability::Acknowledged, &["a"]);
        pair.run(Duration::from_millis(1_234));
        if busy {
            pair.executor
                .send(pair.now, &id("a"), bytes(900_000))
                .unwrap();
            pair.harness
                .send(pair.now, &id("a"), bytes(900_000))
                .unwrap();
        }
        pair.up.cut = true;
        pair.down.cut = true;
        let start = pair.now;
        let mut harness = None;
        let mut executor = None;
        while harness.is_none() || executor.is_none() {
            let next = [
                pair.harness.poll_timeout().filter(|_| harness.is_none()),
                pair.executor.poll_timeout().filter(|_| executor.is_none()),
            ];
            pair.now = next.into_iter().flatten().min().unwrap().max(pair.now);
            assert!(pair.now - start <= FIVE_SECONDS, "busy: {busy}");
            for (connection, noticed) in [
                (&mut pair.harness, &mut harness),
                (&mut pair.executor, &mut executor),
            ] {
                if noticed.is_none() && connection.handle_timeout(pair.now).is_err() {
                    noticed.get_or_insert(pair.now);
                }
                while connection.poll_transmit(pair.now).is_some() {}
            }
        }
    }
}

#[test]
fn an_executor_whose_websocket_works_gives_up_the_stream_alone() {
    for reliability in [Reliability::Acknowledged, Reliability::Resumable] {
        let mut pair = Pair::reliable(reliability, &["a"]);
        // The harness is gone; pings to the rendezvous are answered.
        pair.up.cut = true;
        let start = pair.now;
        loop {
            let next = pair.executor.poll_timeout().unwrap();
            pair.now = next.max(pair.now);
            assert!(pair.now - start <= FIVE_SECONDS);
            assert_eq!(pair.executor.handle_timeout(pair.now), Ok(()));
            while let Some(transmit) = pair.executor.poll_transmit(pair.now) {
                if transmit == crate::Transmit::Ping {
                    pair.executor.handle_pong(pair.now);
                }
            }
            pair.drain();
            if !pair.closed.is_empty() || !pair.paths.is_empty() {
                break;
            }
        }
        if reliability == Reliability::Acknowledged {
            assert_eq!(pair.reasons(), [("executor", "path_lost")]);
        } else {
            assert_eq!(paths(&pair), [("executor", "suspended")]);
        }
    }
}

#[test]
fn a_slow_path_is_not_taken_for_a_dead_one() {
    let mut pair = Pair::reliable(Reliability::Acknowledged, &["a"]);
    for link in [&mut pair.up, &mut pair.down] {
        link.latency = Duration::from_millis(1_400);
    }
    for n in 0..30 {
        pair.executor
            .send(pair.now, &id("a"), bytes(10_000 + n))
            .unwrap();
        pair.run(Duration::from_secs(1));
    }
    pair.run(Duration::from_secs(120));
    assert!(
        pair.dead.is_empty() && pair.closed.is_empty(),
        "{:?}",
        pair.closed
    );
    assert_eq!(pair.at_harness[&id("a")].len(), 30);
}

#[test]
fn a_stream_moves_to_new_connections_of_both_ends() {
    let mut pair = pair(&["a", "b"]);
    for stream in ["a", "b"] {
        pair.executor
            .send(pair.now, &id(stream), bytes(500_000))
            .unwrap();
        pair.harness
            .send(pair.now, &id(stream), bytes(300_000))
            .unwrap();
    }
    // Some of it is lost with the websockets.
    let lost = (pair.executor_frames().len(), pair.harness_frames().len());
    assert_eq!(lost, (12, 10));
    let at_executor = pair.executor.suspend(pair.now);
    let at_harness = pair.harness.suspend(pair.now);
    assert_eq!(at_executor.ids().count(), 2);
    assert_eq!(
        at_executor.deadline(),
        Some(pair.now + limits::SUSPENDED_TIME)
    );
    pair.now += Duration::from_secs(20);
    pair.executor = executor_with(resumable(), pair.now);
    pair.harness = harness_with(resumable(), pair.now);
    pair.executor.adopt(pair.now, at_executor);
    pair.harness.adopt(pair.now, at_harness);
    let first = pair.up.log.len();
    pair.settle();
    // A resume claims each stream before anything else is said on it.
    let kinds: Vec<_> = pair.up.kinds().split_off(first);
    assert_eq!(kinds[..2], ["resume", "resume"]);
    assert!(matches!(
        pair.up.log[first].body,
        Body::Resume { next_seq: 0 }
    ));
    pair.run(Duration::from_secs(1));
    for stream in ["a", "b"] {
        assert_eq!(pair.at_harness[&id(stream)], [bytes(500_000)]);
        assert_eq!(pair.at_executor[&id(stream)], [bytes(300_000)]);
        assert_works(&mut pair, stream);
    }
    assert!(pair.closed.is_empty());
    assert_eq!(pair.executor.stats().streams_resumed, 2);
    assert_eq!(pair.harness.stats().streams_resumed, 2);
}

#[test]
fn an_executor_that_moves_alone_is_found_by_a_harness_that_stays() {
    let mut pair = pair(&["a"]);
    pair.executor.send(pair.now, &id("a"), bytes(10)).unwrap();
    pair.executor_frames();
    let suspended = pair.executor.suspend(pair.now);
    pair.executor = executor_with(resumable(), pair.now);
    pair.executor.adopt(pair.now, suspended);
    // The harness asks for a sign of life in time.
    pair.run(Duration::from_secs(3));
    assert_eq!(paths(&pair), [("executor", "resumed")]);
    assert_eq!(pair.at_harness[&id("a")], [bytes(10)]);
    assert_works(&mut pair, "a");
}

#[test]
fn a_harness_that_moves_is_taken_although_the_executor_has_noticed_nothing() {
    let mut pair = pair(&["a"]);
    pair.executor
        .send(pair.now, &id("a"), bytes(70_000))
        .unwrap();
    pair.executor_frames();
    let suspended = pair.harness.suspend(pair.now);
    pair.harness = harness_with(resumable(), pair.now);
    pair.harness.adopt(pair.now, suspended);
    // At once: the resume says what has not arrived.
    pair.settle();
    assert_eq!(pair.at_harness[&id("a")], [bytes(70_000)]);
    assert_eq!(paths(&pair), [("harness", "resumed")]);
    assert_works(&mut pair, "a");
}

#[test]
fn what_the_application_does_meanwhile_waits() {
    let mut pair = pair(&["a"]);
    // The rendezvous says that the harness is gone.
    pair.inject_up(&Frame::reset(id("a")));
    assert_eq!(paths(&pair), [("executor", "suspended")]);
    pair.executor.send(pair.now, &id("a"), bytes(5)).unwrap();
    assert!(
        pair.executor_frames().is_empty(),
        "nothing is sent to nobody"
    );
    let suspended = pair.harness.suspend(pair.now);
    pair.now += Duration::from_secs(30);
    pair.harness = harness_with(resumable(), pair.now);
    pair.harness.adopt(pair.now, suspended);
    pair.settle();
    assert_eq!(pair.at_harness[&id("a")], [bytes(5)]);
    assert_works(&mut pair, "a");
}

#[test]
fn a_reset_from_anybody_costs_a_round_trip_and_no_stream() {
    let mut pair = pair(&["a"]);
    pair.executor.send(pair.now, &id("a"), bytes(10)).unwrap();
    pair.executor_frames();
    pair.inject_down(&Frame::reset(id("a")));
    assert_eq!(paths(&pair), [("harness", "suspended")]);
    pair.settle();
    assert_eq!(
        paths(&pair),
        [("harness", "suspended"), ("harness", "resumed")]
    );
    assert_eq!(pair.at_harness[&id("a")], [bytes(10)]);
    assert_works(&mut pair, "a");

    // With a tag that is made up, it is one from anybody.
    let forged = Frame {
        statement: Some(Statement {
            serial: u64::MAX,
            ..Statement::default()
        }),
        ..Frame::reset(id("a"))
    };
    pair.inject_up(&forged);
    assert_eq!(paths(&pair)[2..], [("executor", "suspended")]);
    assert_works(&mut pair, "a");
    assert!(pair.closed.is_empty());
}

#[test]
fn a_reset_from_the_peer_ends_the_stream_at_once() {
    let mut pair = pair(&["a", "b"]);
    pair.harness.reset(pair.now, &id("a"));
    pair.executor.reset(pair.now, &id("b"));
    pair.settle();
    let mut reasons: Vec<_> = pair
        .closed
        .iter()
        .map(|(side, id, why)| (*side, id.as_str(), why.reason()))
        .collect();
    reasons.sort_unstable();
    assert_eq!(
        reasons,
        [
            ("executor", "a", "reset_by_peer"),
            ("executor", "b", "local"),
            ("harness", "a", "local"),
            ("harness", "b", "reset_by_peer"),
        ]
    );
    assert!(pair.paths.is_empty());
}

#[test]
fn without_agreement_a_reset_from_anybody_ends_the_stream_as_before() {
    let mut pair = Pair::reliable(Reliability::Acknowledged, &["a"]);
    pair.inject_up(&Frame::reset(id("a")));
    assert_eq!(pair.reasons(), [("executor", "reset_by_peer")]);
}

#[test]
fn an_executor_without_memory_of_a_stream_says_so_and_the_harness_gives_up() {
    let mut pair = pair(&["a"]);
    // A new process.
    pair.executor = executor_with(resumable(), pair.now);
    pair.harness.send(pair.now, &id("a"), bytes(1)).unwrap();
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.reasons(), [("harness", "reset_by_peer")]);
    assert_eq!(
        pair.harness.stats().resets_received,
        1 + u64::from(limits::RESUME_REFUSALS)
    );
}

#[test]
fn nobody_can_move_or_stop_a_stream_with_a_resume_that_proves_nothing() {
    let mut pair = pair(&["a"]);
    let sent = pair
        .up
        .log
        .iter()
        .rev()
        .find(|frame| frame.body == Body::Ack)
        .unwrap();
    let statement = sent.statement.unwrap();
    let resume = |next_seq, statement| Frame {
        statement,
        ..Frame::new(id("a"), Body::Resume { next_seq })
    };
    for forged in [
        resume(0, None),
        resume(9, None),
        resume(0, Some(statement)),
        resume(
            0,
            Some(Statement {
                serial: statement.serial + 1,
                ..statement
            }),
        ),
    ] {
        pair.inject_up(&forged);
    }
    assert!(pair.executor_frames().is_empty());
    assert!(pair.paths.is_empty() && pair.closed.is_empty());
    assert_works(&mut pair, "a");
}

#[test]
fn a_suspended_stream_is_kept_for_a_time_and_then_ended() {
    let mut pair = pair(&["a"]);
    pair.up.cut = true;
    pair.inject_up(&Frame::reset(id("a")));
    pair.harness = harness_with(super::world::patient(Reliability::Off), pair.now);
    pair.run(limits::SUSPENDED_TIME - Duration::from_millis(1));
    assert!(pair.closed.is_empty(), "{:?}", pair.closed);
    pair.run(Duration::from_millis(1));
    assert_eq!(
        pair.closed,
        [(
            "executor",
            id("a"),
            CloseReason::Stream(StreamError::PathLost)
        )]
    );

    // The same between two connections.
    let mut pair = self::pair(&["a", "b"]);
    let mut suspended = pair.executor.suspend(pair.now);
    let deadline = suspended.deadline().unwrap();
    assert!(
        suspended
            .expire(deadline - Duration::from_millis(1))
            .is_empty()
    );
    suspended.remove(&id("a"));
    assert_eq!(suspended.expire(deadline), [id("b")]);
    assert!(suspended.is_empty() && suspended.deadline().is_none());
}

#[test]
fn a_harness_tries_another_websocket_when_nobody_answers_and_gives_up_in_the_end() {
    let mut pair = pair(&["a"]);
    pair.up.cut = true;
    let start = pair.now;
    let mut tries = 0;
    while pair.closed.is_empty() {
        pair.run(Duration::from_secs(6));
        assert!(
            pair.now - start < 2 * limits::SUSPENDED_TIME,
            "never given up"
        );
        if pair.dead.contains(&"harness") {
            pair.dead.clear();
            let suspended = pair.harness.suspend(pair.now);
            pair.harness = harness_with(resumable(), pair.now);
            pair.harness.adopt(pair.now, suspended);
            tries += 1;
        }
    }
    assert!(tries >= 8, "{tries}");
    assert_eq!(pair.closed[0].2, CloseReason::Stream(StreamError::PathLost));
}

#[test]
fn a_stream_without_a_path_makes_room_for_a_new_one() {
    let mut pair = Pair::configured(1, resumable(), resumable());
    let names: Vec<_> = (0..limits::ACTIVE_STREAMS)
        .map(|n| format!("s{n:03}"))
        .collect();
    for name in &names {
        pair.open(name);
        pair.settle();
    }
    pair.inject_up(&Frame::reset(id("s077")));
    let mut other = harness_with(resumable(), pair.now);
    let key = EXECUTOR.public_key().clone();
    other
        .open(pair.now, id("new"), key, "authorization")
        .unwrap();
    let request = super::pair::frames(&mut other, pair.now);
    pair.inject_up(&request[1]);
    assert_eq!(
        pair.closed,
        [(
            "executor",
            id("s077"),
            CloseReason::Stream(StreamError::Evicted)
        )]
    );
}

#[test]
fn streams_that_do_not_fit_a_connection_end() {
    let mut pair = pair(&["a"]);
    let at_executor = pair.executor.suspend(pair.now);
    let at_harness = pair.harness.suspend(pair.now);
    // Of the other end, and with an id in use.
    pair.harness = harness_with(resumable(), pair.now);
    pair.harness.adopt(pair.now, at_executor);
    let key = EXECUTOR.public_key().clone();
    pair.harness.open(pair.now, id("a"), key, "").unwrap();
    pair.harness.adopt(pair.now, at_harness);
    pair.drain();
    assert_eq!(
        pair.reasons(),
        [("harness", "path_lost"), ("harness", "path_lost")]
    );
}

#[test]
fn a_suspended_stream_that_is_closed_ends_in_time() {
    let mut pair = pair(&["a"]);
    pair.inject_up(&Frame::reset(id("a")));
    pair.up.cut = true;
    pair.harness = harness_with(resumable(), pair.now);
    pair.executor.send(pair.now, &id("a"), bytes(1)).unwrap();
    pair.executor.close(pair.now, &id("a"));
    assert!(
        pair.executor.suspend(pair.now).is_empty(),
        "closed streams do not move"
    );
    pair.run(limits::DRAIN_TIMEOUT);
    assert_eq!(pair.closed, [("executor", id("a"), CloseReason::Local)]);
}
