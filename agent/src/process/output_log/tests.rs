use proptest::prelude::*;

use super::*;

fn bytes(len: usize) -> Bytes {
    Bytes::from(vec![b'x'; len])
}

#[test]
fn numbers_of_a_process_with_one_output() {
    let mut log = OutputLog::default();
    assert!(!log.is_ready(0));
    assert_eq!(log.push_output(Stream::Stdout, bytes(1)), 1);
    assert!(log.is_ready(0) && !log.is_ready(1));
    assert_eq!(log.push_exited(4), 2);
    assert!(
        log.is_ready(1) && !log.is_ready(2),
        "the exit has been seen, the close is missing"
    );
    assert_eq!(log.push_closed(), 3);
    assert!(log.is_ready(3) && log.is_ready(100));

    let all = log.read(0, None);
    assert_eq!(
        (all.chunks.len(), all.next_seq, all.exit_code, all.closed),
        (1, 4, Some(4), true)
    );
    let none = log.read(100, None);
    assert_eq!((none.chunks.len(), none.next_seq), (0, 4));
}

#[test]
fn first_chunk_is_returned_whole_whatever_the_limit() {
    let mut log = OutputLog::default();
    for _ in 0..3 {
        log.push_output(Stream::Stdout, bytes(10));
    }
    for (max, count, next) in [(0, 1, 2), (9, 1, 2), (19, 1, 2), (20, 2, 3), (100, 3, 4)] {
        let page = log.read(0, Some(max));
        assert_eq!(
            (page.chunks.len(), page.next_seq),
            (count, next),
            "max {max}"
        );
    }
    assert_eq!(
        log.read(3, Some(5)).next_seq,
        4,
        "nothing returned: where the next event will be"
    );
}

#[test]
fn number_of_chunks_is_bounded() {
    let mut log = OutputLog::default();
    for _ in 0..MAX_CHUNKS + 7 {
        log.push_output(Stream::Pty, bytes(1));
    }
    let all = log.read(0, None);
    assert_eq!((all.chunks.len(), all.chunks[0].seq), (MAX_CHUNKS, 8));
}

/// What happened, in the order of events.
#[derive(Debug, Clone)]
enum Event {
    Output(usize),
    Exited,
    Closed,
}

/// The same log without cleverness: every chunk ever, and the limits applied when reading.
///
/// Returns the numbers of the page, the next number, and the first and last number that are missing.
fn model(events: &[Event], after: u64, max: Option<u64>) -> (Vec<u64>, u64, Option<(u64, u64)>) {
    let mut retained: Vec<(u64, usize)> = Vec::new();
    let mut evicted = Vec::new();
    for (seq, event) in (1..).zip(events) {
        if let Event::Output(len) = event {
            retained.push((seq, *len));
            while retained.iter().map(|(_, len)| len).sum::<usize>() > MAX_BYTES {
                evicted.push(retained.remove(0).0);
            }
        }
    }
    let mut sum = 0;
    let mut page = Vec::new();
    for (seq, len) in retained.into_iter().filter(|(seq, _)| *seq > after) {
        sum += len as u64;
        if !page.is_empty() && max.is_some_and(|max| sum > max) {
            break;
        }
        page.push(seq);
    }
    let next = match (max, page.last()) {
        (Some(_), Some(last)) => last + 1,
        _ => events.len() as u64 + 1,
    };
    let missing = evicted.into_iter().filter(|seq| *seq > after).max();
    (page, next, missing.map(|last| (after + 1, last)))
}

proptest! {
    #[test]
    fn log_agrees_with_a_naive_model(
        events in prop::collection::vec(
            prop_oneof![8 => (1usize..300_000).prop_map(Event::Output), 1 => Just(Event::Exited), 1 => Just(Event::Closed)], 0..40),
        after in 0u64..50,
        max in prop::option::of(0u64..2_000_000),
    ) {
        let mut log = OutputLog::default();
        for event in &events {
            match event {
                Event::Output(len) => log.push_output(Stream::Stdout, bytes(*len)),
                Event::Exited => log.push_exited(0),
                Event::Closed => log.push_closed(),
            };
            prop_assert!(log.retained_bytes() <= MAX_BYTES);
        }
        let result = log.read(after, max);
        let seqs: Vec<u64> = result.chunks.iter().map(|chunk| chunk.seq).collect();
        let evicted = result.evicted.map(|evicted| (evicted.from_seq, evicted.through_seq));
        prop_assert_eq!((seqs, result.next_seq, evicted), model(&events, after, max));
        let ended = |wanted: fn(&Event) -> bool| events.iter().any(wanted);
        let exited = ended(|event| matches!(event, Event::Exited));
        let closed = ended(|event| matches!(event, Event::Closed));
        prop_assert_eq!((result.exited, result.closed), (exited, closed));
        // A waiting reader is woken for everything that it has not seen, and for nothing else.
        let news = !log.read(after, None).chunks.is_empty();
        let unseen = exited && after < events.len() as u64;
        prop_assert_eq!(log.is_ready(after), news || closed || unseen);
        prop_assert_eq!(log.retained_bytes(), log.read(0, None).chunks.iter().map(|c| c.chunk.len()).sum::<usize>());
        // Nothing is lost without a word.
        let written: usize = events.iter().map(|event| match event { Event::Output(len) => *len, Event::Exited | Event::Closed => 0 }).sum();
        let gone = log.read(0, None).evicted.map_or(0, |evicted| evicted.total_bytes);
        prop_assert_eq!(log.retained_bytes() as u64 + gone, written as u64);
    }
}

#[test]
fn evicted_output_is_told_to_those_who_asked_for_it() {
    let mut log = OutputLog::default();
    log.push_output(Stream::Stdout, bytes(10));
    log.push_output(Stream::Stdout, bytes(20));
    assert_eq!(log.read(0, None).evicted, None);
    log.push_exited(0);
    log.push_output(Stream::Stderr, bytes(MAX_BYTES - 15));
    let evicted = |after, from_seq| {
        let total_bytes = 30;
        let expected = Evicted {
            from_seq,
            through_seq: 2,
            total_bytes,
        };
        assert_eq!(log.read(after, None).evicted, Some(expected));
        assert_eq!(log.read(after, Some(0)).evicted, Some(expected));
    };
    evicted(0, 1);
    evicted(1, 2);
    // The exit is not output: who has seen the second chunk has missed nothing.
    assert_eq!(log.read(2, None).evicted, None);
    assert_eq!(log.read(u64::MAX, None).evicted, None);
}
