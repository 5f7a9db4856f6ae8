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
    Output(Stream, usize),
    Exited,
    Closed,
}

fn event() -> impl Strategy<Value = Event> {
    let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
    // Parts of the limit, so that some sums are the limit itself, and what is just around it.
    let part = (1..=16_usize).prop_map(|sixteenths| sixteenths * MAX_BYTES / 16);
    let edge = (MAX_BYTES - 1)..=(MAX_BYTES + 1);
    let len = prop_oneof![6 => 1..300_000_usize, 6 => part, 1 => edge];
    prop_oneof![
        8 => (stream, len).prop_map(|(stream, len)| Event::Output(stream, len)),
        1 => Just(Event::Exited),
        1 => Just(Event::Closed),
    ]
}

/// The content of the chunk with that number, unlike that of its neighbors.
fn content(seq: u64, len: usize) -> Bytes {
    Bytes::from(vec![u8::try_from(seq % 251).unwrap(); len])
}

/// The same log without cleverness: every chunk ever, and the limits applied when reading.
///
/// Returns the page, the next number, and the first and last number that are missing.
fn model(events: &[Event], after: u64, max: Option<u64>) -> (Vec<Chunk>, u64, Option<(u64, u64)>) {
    let mut retained: Vec<Chunk> = Vec::new();
    let mut evicted = Vec::new();
    for (seq, event) in (1..).zip(events) {
        if let Event::Output(stream, len) = event {
            retained.push(Chunk {
                seq,
                stream: *stream,
                chunk: content(seq, *len),
            });
            while retained
                .iter()
                .map(|chunk| chunk.chunk.len())
                .sum::<usize>()
                > MAX_BYTES
            {
                evicted.push(retained.remove(0).seq);
            }
        }
    }
    let mut sum = 0;
    let mut page: Vec<Chunk> = Vec::new();
    for chunk in retained.into_iter().filter(|chunk| chunk.seq > after) {
        sum += chunk.chunk.len() as u64;
        if !page.is_empty() && max.is_some_and(|max| sum > max) {
            break;
        }
        page.push(chunk);
    }
    let next = match (max, page.last()) {
        (Some(_), Some(last)) => last.seq + 1,
        _ => events.len() as u64 + 1,
    };
    let missing = evicted.into_iter().filter(|seq| *seq > after).max();
    (page, next, missing.map(|last| (after + 1, last)))
}

/// A page limit that is at, below or above what a page may be.
fn page_limit() -> impl Strategy<Value = Option<u64>> {
    let part = (0..=17_u64).prop_map(|sixteenths| sixteenths * MAX_BYTES as u64 / 16);
    prop::option::of(prop_oneof![0..2_000_000_u64, part, Just(u64::MAX)])
}

proptest! {
    #[test]
    fn log_agrees_with_a_naive_model(
        events in prop::collection::vec(event(), 0..40),
        after in prop_oneof![9 => 0u64..50, 1 => Just(u64::MAX)],
        max in page_limit(),
    ) {
        let mut log = OutputLog::default();
        for (expected, event) in (1..).zip(&events) {
            let seq = match event {
                Event::Output(stream, len) => log.push_output(*stream, content(expected, *len)),
                Event::Exited => log.push_exited(0),
                Event::Closed => log.push_closed(),
            };
            prop_assert_eq!(seq, expected, "numbers have no holes");
            prop_assert_eq!(log.progress().2, expected + 1);
            prop_assert!(log.retained_bytes() <= MAX_BYTES);
        }
        let result = log.read(after, max);
        let evicted = result.evicted.map(|evicted| (evicted.from_seq, evicted.through_seq));
        prop_assert_eq!((result.chunks, result.next_seq, evicted), model(&events, after, max));
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
        let written: usize = events.iter().map(|event| match event { Event::Output(_, len) => *len, Event::Exited | Event::Closed => 0 }).sum();
        let gone = log.read(0, None).evicted.map_or(0, |evicted| evicted.total_bytes);
        prop_assert_eq!(log.retained_bytes() as u64 + gone, written as u64);
        // Page by page nothing is left out and nothing comes twice.
        let mut paged = Vec::new();
        let mut seen = 0;
        loop {
            let page = log.read(seen, max.or(Some(0)));
            if page.chunks.is_empty() {
                prop_assert_eq!(page.next_seq, events.len() as u64 + 1);
                break;
            }
            seen = page.next_seq - 1;
            paged.extend(page.chunks);
        }
        prop_assert_eq!(paged, log.read(0, None).chunks);
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
