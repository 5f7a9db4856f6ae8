use proptest::prelude::*;

use super::*;
use crate::store::TokenId;

const EXECUTOR: SocketId = SocketId(1);
const ONE: SocketId = SocketId(11);
const TWO: SocketId = SocketId(12);

fn frame(stream_id: &str, kind: BodyKind) -> Peek<'_> {
    Peek { stream_id, kind }
}

fn stream(text: &str) -> StreamId {
    StreamId::new(text).unwrap()
}

fn owner(number: u8) -> HarnessOwner {
    HarnessOwner {
        token: None,
        key_hash: [number; 32],
    }
}

/// An executor with ordinal 5 and two harnesses.
fn routes() -> Routes {
    let mut routes = Routes::new(8, 3);
    assert_eq!(routes.attach_executor(EXECUTOR, 5), Ok(vec![]));
    routes.attach_harness(ONE, 5, owner(1)).unwrap();
    routes.attach_harness(TWO, 5, owner(2)).unwrap();
    routes
}

fn claim(routes: &mut Routes, socket: SocketId, stream: &str) {
    let decision = routes.route_from_harness(socket, frame(stream, BodyKind::Resume));
    assert_eq!(decision, FromHarness::Forward);
}

fn sorted(mut effects: Vec<Effect>) -> Vec<Effect> {
    effects.sort_by_key(|effect| format!("{effect:?}"));
    effects
}

#[test]
fn resume_and_first_handshake_claim_a_stream() {
    for kind in [BodyKind::Resume, BodyKind::Handshake] {
        let mut routes = routes();
        assert_eq!(
            routes.route_from_harness(ONE, frame("s", kind)),
            FromHarness::Forward
        );
        assert_eq!(
            routes.route_from_executor(EXECUTOR, frame("s", BodyKind::Data)),
            Some(ONE)
        );
    }
}

#[test]
fn other_frames_do_not_claim_a_stream() {
    for kind in [
        BodyKind::Data,
        BodyKind::Ack,
        BodyKind::Reset,
        BodyKind::Heartbeat,
        BodyKind::Unknown,
    ] {
        let mut routes = routes();
        assert_eq!(
            routes.route_from_harness(ONE, frame("s", kind)),
            FromHarness::Drop
        );
        assert_eq!(
            routes.route_from_executor(EXECUTOR, frame("s", BodyKind::Data)),
            None
        );
        assert_eq!(routes.stream_count(), 0);
    }
}

#[test]
fn every_kind_passes_both_ways_on_a_claimed_stream() {
    let mut routes = routes();
    claim(&mut routes, ONE, "s");
    for kind in [
        BodyKind::Resume,
        BodyKind::Handshake,
        BodyKind::Data,
        BodyKind::Ack,
        BodyKind::Heartbeat,
        BodyKind::Unknown,
    ] {
        assert_eq!(
            routes.route_from_harness(ONE, frame("s", kind)),
            FromHarness::Forward
        );
        assert_eq!(
            routes.route_from_executor(EXECUTOR, frame("s", kind)),
            Some(ONE)
        );
    }
}

#[test]
fn claimed_stream_cannot_be_stolen() {
    let mut routes = routes();
    claim(&mut routes, ONE, "s");
    for kind in [BodyKind::Resume, BodyKind::Handshake] {
        assert_eq!(
            routes.route_from_harness(TWO, frame("s", kind)),
            FromHarness::Refuse
        );
    }
    for kind in [BodyKind::Data, BodyKind::Reset, BodyKind::Heartbeat] {
        assert_eq!(
            routes.route_from_harness(TWO, frame("s", kind)),
            FromHarness::Drop
        );
    }
    assert_eq!(
        routes.route_from_executor(EXECUTOR, frame("s", BodyKind::Data)),
        Some(ONE)
    );
    // The thief's end does not touch the stream either.
    assert_eq!(routes.detach(TWO), []);
    assert_eq!(
        routes.route_from_executor(EXECUTOR, frame("s", BodyKind::Data)),
        Some(ONE)
    );
}

#[test]
fn newer_socket_of_the_same_owner_takes_a_stream_over() {
    let mut routes = routes();
    let newer = SocketId(20);
    let effects = routes.attach_harness(newer, 5, owner(1)).unwrap();
    assert_eq!(effects, [Effect::Suspect(ONE)]);
    claim(&mut routes, ONE, "a");
    claim(&mut routes, ONE, "b");
    let resume = |stream| frame(stream, BodyKind::Resume);
    // A handshake names a stream that was never used.
    let handshake = frame("a", BodyKind::Handshake);
    assert_eq!(
        routes.route_from_harness(newer, handshake),
        FromHarness::Refuse
    );
    assert_eq!(
        routes.route_from_harness(newer, resume("a")),
        FromHarness::TakeOver { left: None }
    );
    assert_eq!(
        routes.route_from_executor(EXECUTOR, frame("a", BodyKind::Data)),
        Some(newer)
    );
    // What the older socket still has to say is late, and its end resets only what it holds.
    for (kind, decision) in [
        (BodyKind::Data, FromHarness::Drop),
        (BodyKind::Reset, FromHarness::Drop),
        (BodyKind::Resume, FromHarness::Refuse),
    ] {
        assert_eq!(routes.route_from_harness(ONE, frame("a", kind)), decision);
    }
    assert_eq!(
        routes.route_from_harness(newer, resume("b")),
        FromHarness::TakeOver { left: Some(ONE) }
    );
    assert_eq!(routes.detach(ONE), []);
    let effects = sorted(routes.detach(newer));
    assert_eq!(
        effects,
        [Effect::Reset(stream("a")), Effect::Reset(stream("b"))]
    );
}

#[test]
fn same_key_by_another_token_is_another_owner() {
    let mut routes = routes();
    claim(&mut routes, ONE, "s");
    let other = HarnessOwner {
        token: Some(TokenId::from("other".to_owned())),
        ..owner(1)
    };
    assert_eq!(routes.attach_harness(SocketId(20), 5, other), Ok(vec![]));
    assert_eq!(
        routes.route_from_harness(SocketId(20), frame("s", BodyKind::Resume)),
        FromHarness::Refuse
    );
}

#[test]
fn ending_harness_resets_each_of_its_streams() {
    let mut routes = routes();
    claim(&mut routes, ONE, "a");
    claim(&mut routes, ONE, "b");
    claim(&mut routes, TWO, "c");
    let effects = sorted(routes.detach(ONE));
    assert_eq!(
        effects,
        [Effect::Reset(stream("a")), Effect::Reset(stream("b"))]
    );
    assert_eq!(
        routes.route_from_executor(EXECUTOR, frame("a", BodyKind::Data)),
        None
    );
    assert_eq!(
        routes.route_from_executor(EXECUTOR, frame("c", BodyKind::Data)),
        Some(TWO)
    );
    assert_eq!(routes.detach(ONE), []);
}

#[test]
fn reset_by_the_harness_ends_the_claim_and_reset_by_the_executor_does_not() {
    let mut routes = routes();
    claim(&mut routes, ONE, "a");
    claim(&mut routes, ONE, "b");
    let reset = frame("a", BodyKind::Reset);
    assert_eq!(routes.route_from_harness(ONE, reset), FromHarness::Forward);
    assert_eq!(
        routes.route_from_harness(ONE, frame("a", BodyKind::Data)),
        FromHarness::Drop
    );
    assert_eq!(
        routes.route_from_executor(EXECUTOR, frame("b", BodyKind::Reset)),
        Some(ONE)
    );
    assert_eq!(
        routes.route_from_executor(EXECUTOR, frame("b", BodyKind::Data)),
        Some(ONE)
    );
    assert_eq!(routes.detach(ONE), [Effect::Reset(stream("b"))]);
}

#[test]
fn ending_executor_closes_every_harness() {
    let mut routes = routes();
    claim(&mut routes, ONE, "s");
    let effects = sorted(routes.detach(EXECUTOR));
    assert_eq!(
        effects,
        [
            Effect::Close(ONE, CloseCause::ExecutorGone),
            Effect::Close(TWO, CloseCause::ExecutorGone)
        ]
    );
    assert!(routes.is_empty());
    assert_eq!(routes.stream_count(), 0);
    assert_eq!(
        routes.attach_harness(ONE, 5, owner(1)),
        Err(AttachError::Offline)
    );
}

#[test]
fn second_socket_of_a_registration_takes_over() {
    let mut routes = routes();
    let effects = routes.attach_executor(SocketId(2), 5).unwrap();
    assert_eq!(effects[0], Effect::Close(EXECUTOR, CloseCause::Superseded));
    assert_eq!(effects.len(), 3);
    // The old socket's end comes later and must not touch the new one.
    assert_eq!(routes.detach(EXECUTOR), []);
    assert_eq!(routes.executor(), Some(SocketId(2)));
    assert_eq!(
        routes.route_from_executor(EXECUTOR, frame("s", BodyKind::Data)),
        None
    );
}

#[test]
fn older_registration_cannot_come_back() {
    let mut routes = routes();
    assert_eq!(
        routes.attach_executor(SocketId(2), 4),
        Err(AttachError::Superseded)
    );
    assert_eq!(routes.executor(), Some(EXECUTOR));
    let effects = routes.supersede(6);
    assert_eq!(effects[0], Effect::Close(EXECUTOR, CloseCause::Superseded));
    assert_eq!(effects.len(), 3);
    assert_eq!(
        routes.attach_executor(SocketId(2), 5),
        Err(AttachError::Superseded)
    );
    assert_eq!(routes.attach_executor(SocketId(2), 6), Ok(vec![]));
    assert_eq!(routes.supersede(6), []);
    assert!(routes.is_online(6) && !routes.is_online(5));
}

#[test]
fn bundle_of_an_older_registration_does_not_attach() {
    let mut routes = routes();
    routes.attach_executor(SocketId(2), 6).unwrap();
    assert_eq!(
        routes.attach_harness(SocketId(20), 5, owner(3)),
        Err(AttachError::Offline)
    );
    assert_eq!(routes.attach_harness(SocketId(20), 6, owner(3)), Ok(vec![]));
}

#[test]
fn limits_on_harnesses_and_streams_hold() {
    let mut routes = Routes::new(1, 2);
    routes.attach_executor(EXECUTOR, 1).unwrap();
    routes.attach_harness(ONE, 1, owner(1)).unwrap();
    assert_eq!(
        routes.attach_harness(TWO, 1, owner(2)),
        Err(AttachError::TooManyHarnesses)
    );
    claim(&mut routes, ONE, "a");
    claim(&mut routes, ONE, "b");
    let third = frame("c", BodyKind::Resume);
    assert_eq!(routes.route_from_harness(ONE, third), FromHarness::Refuse);
    // Streams that are held go on, and a place that is given back can be used.
    assert_eq!(
        routes.route_from_harness(ONE, frame("a", BodyKind::Data)),
        FromHarness::Forward
    );
    routes.route_from_harness(ONE, frame("a", BodyKind::Reset));
    assert_eq!(routes.route_from_harness(ONE, third), FromHarness::Forward);
}

/// One thing that can happen.
#[derive(Clone, Copy, Debug)]
enum Event {
    AttachExecutor {
        ordinal: i64,
    },
    AttachHarness {
        ordinal: i64,
        owner: u8,
    },
    /// The n-th socket ever attached ends.
    Detach {
        index: usize,
    },
    Supersede {
        ordinal: i64,
    },
    FromHarness {
        index: usize,
        stream: usize,
        kind: usize,
    },
    FromExecutor {
        index: usize,
        stream: usize,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let (index, stream) = (0..12_usize, 0..5_usize);
    prop_oneof![
        1 => (0..4_i64).prop_map(|ordinal| Event::AttachExecutor { ordinal }),
        3 => (0..4_i64, 0..3_u8)
            .prop_map(|(ordinal, owner)| Event::AttachHarness { ordinal, owner }),
        2 => index.clone().prop_map(|index| Event::Detach { index }),
        1 => (0..4_i64).prop_map(|ordinal| Event::Supersede { ordinal }),
        8 => (index.clone(), stream.clone(), 0..KINDS.len())
            .prop_map(|(index, stream, kind)| Event::FromHarness { index, stream, kind }),
        4 => (index, stream).prop_map(|(index, stream)| Event::FromExecutor { index, stream }),
    ]
}

const STREAMS: [&str; 5] = ["a", "b", "c", "d", "e"];
const KINDS: [BodyKind; 4] = [
    BodyKind::Resume,
    BodyKind::Handshake,
    BodyKind::Data,
    BodyKind::Reset,
];

/// What has to be true, kept as plain lists.
#[derive(Default)]
struct Model {
    executor: Option<SocketId>,
    harnesses: Vec<SocketId>,
    owners: HashMap<SocketId, u8>,
    held: Vec<(usize, SocketId)>,
}

impl Model {
    /// Carries out what the routes asked for, and checks that each effect makes sense.
    fn apply(&mut self, effects: &[Effect], had_executor: bool) {
        for effect in effects {
            match effect {
                Effect::Reset(stream) => {
                    assert!(had_executor, "nobody to send a reset to");
                    let index = STREAMS
                        .iter()
                        .position(|text| *text == stream.as_str())
                        .unwrap();
                    let held = self.held.iter().position(|(held, _)| *held == index);
                    self.held
                        .swap_remove(held.expect("a reset of a stream that nobody held"));
                }
                Effect::Close(socket, CloseCause::Superseded) => {
                    assert_eq!(self.executor.take(), Some(*socket));
                }
                Effect::Close(socket, cause) => {
                    assert_eq!(*cause, CloseCause::ExecutorGone);
                    let known = self.harnesses.iter().position(|known| known == socket);
                    self.harnesses.swap_remove(known.expect("closed twice"));
                    self.held.retain(|(_, holder)| holder != socket);
                }
                Effect::Suspect(socket) => assert!(self.harnesses.contains(socket)),
            }
        }
    }
}

proptest! {
    #[test]
    fn any_order_of_events_keeps_streams_with_their_holders(
        events in prop::collection::vec(event(), 1..120)
    ) {
        let mut routes = Routes::new(4, 2);
        let mut model = Model::default();
        let mut sockets: Vec<SocketId> = Vec::new();
        for event in events {
            let fresh = SocketId(100 + sockets.len() as u64);
            match event {
                Event::AttachExecutor { ordinal } => {
                    if let Ok(effects) = routes.attach_executor(fresh, ordinal) {
                        model.apply(&effects, false);
                        prop_assert!(model.harnesses.is_empty() && model.held.is_empty());
                        model.executor = Some(fresh);
                        sockets.push(fresh);
                    }
                }
                Event::AttachHarness { ordinal, owner: number } => {
                    let joined = routes.attach_harness(fresh, ordinal, owner(number));
                    if let Ok(effects) = joined {
                        model.apply(&effects, false);
                        for effect in effects {
                            let Effect::Suspect(older) = effect else {
                                panic!("{effect:?}")
                            };
                            prop_assert_eq!(model.owners[&older], number);
                        }
                        model.owners.insert(fresh, number);
                        prop_assert!(model.executor.is_some());
                        model.harnesses.push(fresh);
                        sockets.push(fresh);
                    }
                }
                Event::Detach { index } => {
                    let Some(&socket) = sockets.get(index) else { continue };
                    let effects = routes.detach(socket);
                    if model.executor == Some(socket) {
                        model.executor = None;
                        model.apply(&effects, false);
                        prop_assert!(model.harnesses.is_empty());
                    } else {
                        model.apply(&effects, model.executor.is_some());
                        model.harnesses.retain(|known| *known != socket);
                        prop_assert!(model.held.iter().all(|(_, holder)| *holder != socket));
                    }
                }
                Event::Supersede { ordinal } => {
                    let effects = routes.supersede(ordinal);
                    model.apply(&effects, false);
                }
                Event::FromHarness { index, stream, kind } => {
                    let Some(&socket) = sockets.get(index) else { continue };
                    let kind = KINDS[kind];
                    let decision = routes.route_from_harness(socket, frame(STREAMS[stream], kind));
                    let holder =
                        model.held.iter().find(|(held, _)| *held == stream).map(|(_, by)| *by);
                    let claims = matches!(kind, BodyKind::Resume | BodyKind::Handshake);
                    let own = model.held.iter().filter(|(_, by)| *by == socket).count();
                    let expected = if !model.harnesses.contains(&socket) {
                        FromHarness::Drop
                    } else if holder == Some(socket) {
                        FromHarness::Forward
                    } else if !claims {
                        FromHarness::Drop
                    } else if holder.is_none() && own < 2 {
                        FromHarness::Forward
                    } else if let Some(holder) = holder
                        && kind == BodyKind::Resume
                        && holder < socket
                        && model.owners[&holder] == model.owners[&socket]
                        && own < 2
                    {
                        let held = model.held.iter().filter(|(_, by)| *by == holder).count();
                        FromHarness::TakeOver { left: (held == 1).then_some(holder) }
                    } else {
                        FromHarness::Refuse
                    };
                    prop_assert_eq!(decision, expected);
                    if matches!(decision, FromHarness::Forward | FromHarness::TakeOver { .. }) {
                        model.held.retain(|(held, _)| *held != stream);
                        if kind != BodyKind::Reset {
                            model.held.push((stream, socket));
                        }
                    }
                }
                Event::FromExecutor { index, stream } => {
                    let Some(&socket) = sockets.get(index) else { continue };
                    let to = routes.route_from_executor(
                        socket,
                        frame(STREAMS[stream], BodyKind::Data),
                    );
                    let holder =
                        model.held.iter().find(|(held, _)| *held == stream).map(|(_, by)| *by);
                    let expected = if model.executor == Some(socket) { holder } else { None };
                    prop_assert_eq!(to, expected);
                }
            }
            prop_assert_eq!(routes.executor(), model.executor);
            prop_assert_eq!(routes.stream_count(), model.held.len());
            prop_assert!(model.harnesses.len() <= 4);
            prop_assert_eq!(
                routes.is_empty(),
                model.executor.is_none() && model.harnesses.is_empty()
            );
        }
    }
}
