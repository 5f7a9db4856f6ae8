#![allow(
    clippy::cast_possible_truncation,
    reason = "numbers of a few dozen events"
)]

use proptest::prelude::*;

use super::*;

fn output(text: &str) -> ProcessEvent {
    ProcessEvent::Output {
        stream: OutputStream::Stdout,
        chunk: Bytes::copy_from_slice(text.as_bytes()),
    }
}

fn chunk(seq: u64, text: &str) -> (u64, OutputStream, Bytes) {
    (
        seq,
        OutputStream::Stdout,
        Bytes::copy_from_slice(text.as_bytes()),
    )
}

fn exited(code: i32) -> ExitStatus {
    ExitStatus {
        code,
        sandbox_denied: false,
    }
}

fn drain(sequencer: &mut Sequencer) -> Vec<ProcessEvent> {
    std::iter::from_fn(|| sequencer.pop()).collect()
}

#[test]
fn early_event_waits_for_the_ones_before_it() {
    let mut sequencer = Sequencer::new();
    assert_eq!(sequencer.push(2, output("b")), Pushed::Kept);
    assert_eq!(drain(&mut sequencer), []);
    assert!(sequencer.needs_page());
    assert_eq!(sequencer.push(1, output("a")), Pushed::Kept);
    assert_eq!(drain(&mut sequencer), [output("a"), output("b")]);
    assert!(!sequencer.needs_page());
}

#[test]
fn event_that_was_handed_out_is_not_taken_again() {
    let mut sequencer = Sequencer::new();
    sequencer.push(1, output("a"));
    drain(&mut sequencer);
    assert_eq!(sequencer.push(1, output("a")), Pushed::Duplicate);
    assert_eq!(drain(&mut sequencer), []);
}

#[test]
fn exit_in_the_middle_of_a_page_is_placed_in_the_only_hole() {
    let mut sequencer = Sequencer::new();
    let page = Page {
        chunks: vec![chunk(1, "a"), chunk(3, "c")],
        next_seq: 5,
        exit: Some(exited(7)),
        closed: true,
    };
    sequencer.replay(0, page);
    let expected = [
        output("a"),
        ProcessEvent::Exited(exited(7)),
        output("c"),
        ProcessEvent::Closed,
    ];
    assert_eq!(drain(&mut sequencer), expected);
    assert!(sequencer.is_finished());
}

#[test]
fn evicted_output_is_reported_with_its_range_and_the_rest_is_kept() {
    let mut sequencer = Sequencer::new();
    let page = Page {
        chunks: vec![chunk(5, "e")],
        next_seq: 6,
        exit: None,
        closed: false,
    };
    sequencer.replay(0, page);
    let expected = [ProcessEvent::Lost { first: 1, last: 4 }, output("e")];
    assert_eq!(drain(&mut sequencer), expected);
    assert_eq!(sequencer.after_seq(), 5);
}

#[test]
fn exit_status_survives_when_its_number_was_evicted_with_others() {
    let mut sequencer = Sequencer::new();
    let page = Page {
        chunks: vec![chunk(5, "e")],
        next_seq: 7,
        exit: Some(exited(3)),
        closed: true,
    };
    sequencer.replay(0, page);
    let expected = [
        ProcessEvent::Lost { first: 1, last: 3 },
        ProcessEvent::Exited(exited(3)),
        output("e"),
        ProcessEvent::Closed,
    ];
    assert_eq!(drain(&mut sequencer), expected);
}

#[test]
fn hole_below_a_pushed_exit_is_not_taken_for_the_exit() {
    let mut sequencer = Sequencer::new();
    sequencer.push(3, ProcessEvent::Exited(exited(0)));
    let page = Page {
        chunks: vec![chunk(1, "a")],
        next_seq: 4,
        exit: Some(exited(0)),
        closed: false,
    };
    sequencer.replay(0, page);
    let expected = [
        output("a"),
        ProcessEvent::Lost { first: 2, last: 2 },
        ProcessEvent::Exited(exited(0)),
    ];
    assert_eq!(drain(&mut sequencer), expected);
}

#[test]
fn event_without_room_is_asked_for_again() {
    let mut sequencer = Sequencer::new();
    for seq in 2..2 + limits::REORDER_EVENTS as u64 {
        assert_eq!(sequencer.push(seq, output("x")), Pushed::Kept);
    }
    let beyond = 2 + limits::REORDER_EVENTS as u64;
    assert_eq!(sequencer.push(beyond, output("y")), Pushed::Discarded);
    assert_eq!(sequencer.push(1, output("a")), Pushed::Kept);
    assert_eq!(drain(&mut sequencer).len(), limits::REORDER_EVENTS + 1);
    assert!(sequencer.needs_page());
    assert_eq!(sequencer.after_seq(), beyond - 1);
}

/// What the executor holds: the whole history of one process.
#[derive(Debug, Clone)]
struct History(Vec<ProcessEvent>);

impl History {
    fn page(&self, after: u64, upto: u64) -> Page {
        let mut page = Page {
            chunks: vec![],
            next_seq: upto + 1,
            exit: None,
            closed: false,
        };
        for (index, event) in self.0.iter().enumerate().take(upto as usize) {
            let seq = index as u64 + 1;
            match event {
                ProcessEvent::Output { stream, chunk } if seq > after => {
                    page.chunks.push((seq, *stream, chunk.clone()));
                }
                ProcessEvent::Exited(status) => page.exit = Some(*status),
                ProcessEvent::Closed => page.closed = true,
                _ => {}
            }
        }
        page
    }
}

fn history() -> impl Strategy<Value = History> {
    (0usize..12, any::<prop::sample::Index>()).prop_map(|(outputs, exit_at)| {
        let mut events: Vec<_> = (0..outputs)
            .map(|n| output(&format!("chunk {n}")))
            .collect();
        events.insert(exit_at.index(outputs + 1), ProcessEvent::Exited(exited(9)));
        events.push(ProcessEvent::Closed);
        History(events)
    })
}

/// One thing that can happen to the client.
#[derive(Debug, Clone)]
enum Step {
    /// The executor produces an event, and its push arrives.
    Deliver,
    /// The executor produces an event while no connection can carry it.
    Drop,
    /// The executor produces an event that arrives only with the next page.
    Hold,
    /// An event that was sent before arrives once more.
    Repeat(prop::sample::Index),
    /// The client reads back; the page reflects what was produced by now.
    Read,
    /// The client takes what is in order.
    Take,
    /// The client has no room for the next event.
    Discard,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Deliver),
        1 => Just(Step::Drop),
        1 => Just(Step::Hold),
        1 => any::<prop::sample::Index>().prop_map(Step::Repeat),
        2 => Just(Step::Read),
        2 => Just(Step::Take),
        1 => Just(Step::Discard),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_of_pushes_and_pages_gives_each_event_once_in_order(
        history in history(), steps in steps()
    ) {
        let mut sequencer = Sequencer::new();
        let mut produced = 0u64;
        let mut held = Vec::new();
        let mut taken = Vec::new();
        let total = history.0.len() as u64;
        for step in steps {
            let fresh = (produced < total).then(|| (produced + 1, history.0[produced as usize].clone()));
            match step {
                Step::Deliver => if let Some((seq, event)) = fresh {
                    produced += 1;
                    sequencer.push(seq, event);
                },
                Step::Drop => if fresh.is_some() { produced += 1; },
                Step::Hold => if let Some(late) = fresh {
                    produced += 1;
                    held.push(late);
                },
                Step::Discard => if let Some((seq, _)) = fresh {
                    produced += 1;
                    sequencer.discard(seq);
                },
                Step::Repeat(index) => if produced > 0 {
                    let seq = index.index(produced as usize) as u64 + 1;
                    sequencer.push(seq, history.0[seq as usize - 1].clone());
                },
                Step::Read => {
                    let after = sequencer.after_seq();
                    let page = history.page(after, produced);
                    for (seq, event) in held.drain(..) {
                        sequencer.push(seq, event);
                    }
                    sequencer.replay(after, page);
                }
                Step::Take => taken.extend(drain(&mut sequencer)),
            }
        }
        // Whatever happened, one more page brings the rest.
        sequencer.replay(sequencer.after_seq(), history.page(sequencer.after_seq(), total));
        taken.extend(drain(&mut sequencer));
        prop_assert_eq!(&taken, &history.0);
        prop_assert!(sequencer.is_finished());
        prop_assert!(!sequencer.needs_page());
    }
}
