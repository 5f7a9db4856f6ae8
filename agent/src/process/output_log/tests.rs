use proptest::prelude::*;

use super::super::spill::{SLOT_BYTES, SpillSpace};
use super::*;

fn read(log: &OutputLog, after: u64, max_bytes: Option<u64>) -> ReadResult {
    log.read(after, max_bytes).finish().unwrap()
}

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

    let all = read(&log, 0, None);
    assert_eq!(
        (all.chunks.len(), all.next_seq, all.exit_code, all.closed),
        (1, 4, Some(4), true)
    );
    let none = read(&log, 100, None);
    assert_eq!((none.chunks.len(), none.next_seq), (0, 4));
}

#[test]
fn first_chunk_is_returned_whole_whatever_the_limit() {
    let mut log = OutputLog::default();
    for _ in 0..3 {
        log.push_output(Stream::Stdout, bytes(10));
    }
    for (max, count, next) in [(0, 1, 2), (9, 1, 2), (19, 1, 2), (20, 2, 3), (100, 3, 4)] {
        let page = read(&log, 0, Some(max));
        assert_eq!(
            (page.chunks.len(), page.next_seq),
            (count, next),
            "max {max}"
        );
    }
    assert_eq!(
        read(&log, 3, Some(5)).next_seq,
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
    let all = read(&log, 0, None);
    assert_eq!((all.chunks.len(), all.chunks[0].seq), (MAX_CHUNKS, 8));
}

#[test]
fn output_beyond_the_limit_is_gone_at_once_and_wakes_nobody() {
    let mut log = OutputLog::default();
    log.push_output(Stream::Stdout, bytes(MAX_BYTES + 1));
    assert!(!log.is_ready(0));
    assert!(read(&log, 0, None).chunks.is_empty());
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
        let result = read(&log, after, max);
        let evicted = result.evicted.map(|evicted| (evicted.from_seq, evicted.through_seq));
        prop_assert_eq!((result.chunks, result.next_seq, evicted), model(&events, after, max));
        let ended = |wanted: fn(&Event) -> bool| events.iter().any(wanted);
        let exited = ended(|event| matches!(event, Event::Exited));
        let closed = ended(|event| matches!(event, Event::Closed));
        prop_assert_eq!((result.exited, result.closed), (exited, closed));
        // A waiting reader is woken for everything that it has not seen, and for nothing else.
        let news = !read(&log, after, None).chunks.is_empty();
        let unseen = exited && after < events.len() as u64;
        prop_assert_eq!(log.is_ready(after), news || closed || unseen);
        prop_assert_eq!(log.retained_bytes(), read(&log, 0, None).chunks.iter().map(|c| c.chunk.len()).sum::<usize>());
        // Nothing is lost without a word.
        let written: usize = events.iter().map(|event| match event { Event::Output(_, len) => *len, Event::Exited | Event::Closed => 0 }).sum();
        let gone = read(&log, 0, None).evicted.map_or(0, |evicted| evicted.total_bytes);
        prop_assert_eq!(log.retained_bytes() as u64 + gone, written as u64);
        // Page by page nothing is left out and nothing comes twice.
        let mut paged = Vec::new();
        let mut seen = 0;
        loop {
            let page = read(&log, seen, max.or(Some(0)));
            if page.chunks.is_empty() {
                prop_assert_eq!(page.next_seq, events.len() as u64 + 1);
                break;
            }
            seen = page.next_seq - 1;
            paged.extend(page.chunks);
        }
        prop_assert_eq!(paged, read(&log, 0, None).chunks);
    }
}

#[test]
fn evicted_output_is_told_to_those_who_asked_for_it() {
    let mut log = OutputLog::default();
    log.push_output(Stream::Stdout, bytes(10));
    log.push_output(Stream::Stdout, bytes(20));
    assert_eq!(read(&log, 0, None).evicted, None);
    log.push_exited(0);
    log.push_output(Stream::Stderr, bytes(MAX_BYTES - 15));
    let evicted = |after, from_seq| {
        let total_bytes = 30;
        let expected = Evicted {
            from_seq,
            through_seq: 2,
            total_bytes,
        };
        assert_eq!(read(&log, after, None).evicted, Some(expected));
        assert_eq!(read(&log, after, Some(0)).evicted, Some(expected));
    };
    evicted(0, 1);
    evicted(1, 2);
    // The exit is not output: who has seen the second chunk has missed nothing.
    assert_eq!(read(&log, 2, None).evicted, None);
    assert_eq!(read(&log, u64::MAX, None).evicted, None);
}

/// Does what the owner of a log does after each push.
fn spill(log: &mut OutputLog, space: &std::sync::Arc<SpillSpace>) {
    while let Some(batch) = log.spill_due() {
        match space.write(&batch) {
            Some(segment) => log.spilled(segment),
            None => log.make_room(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A log that spills answers like one that holds as much in memory, except that it may have
    /// evicted up to a slot more, and everything that did not fit while the disk was full.
    #[test]
    fn log_on_disk_agrees_with_one_in_memory(
        lengths in prop::collection::vec((1_usize..65_537, 0_u32..12), 0..120),
        memory in 330_000_usize..900_000,
        more in 0_usize..3_000_000,
        slots in 0_u64..20,
        after in 0_u64..130,
        max in prop::option::of(0_u64..3_000_000),
    ) {
        let total = memory + more;
        let directory = tempfile::tempdir().unwrap();
        let space = SpillSpace::new(directory.path().to_owned(), slots * SLOT_BYTES as u64);
        let limits = Limits { memory_bytes: memory, bytes: total, ..Limits::on_disk(0) };
        let mut log = OutputLog::new(limits);
        let mut model = OutputLog::new(Limits { bytes: total, ..Limits::default() });
        let mut written = 0;
        for (len, other) in lengths {
            // Now and then another event takes a number.
            if other == 0 {
                prop_assert_eq!(log.push_exited(3), model.push_exited(3));
            }
            let next = log.events + 1;
            let chunk = content(next, len);
            prop_assert_eq!(log.push_output(Stream::Stderr, chunk.clone()), next);
            model.push_output(Stream::Stderr, chunk);
            written += len as u64;
            spill(&mut log, &space);
            prop_assert!(log.memory_bytes() <= memory, "{} in memory", log.memory_bytes());
            prop_assert!(log.retained_bytes() <= total);
            prop_assert!(space.used() <= slots);
        }
        let whole = read(&log, 0, None);
        let expected = read(&model, 0, None);
        // The newest part of what the model has, byte by byte and number by number.
        let missing = expected.chunks.len() - whole.chunks.len();
        prop_assert!(expected.chunks[missing..] == whole.chunks[..]);
        prop_assert_eq!(log.retained_bytes(), whole.chunks.iter().map(|it| it.chunk.len()).sum::<usize>());
        // With room on disk hardly more is gone than in memory.
        if slots * SLOT_BYTES as u64 * 3 / 4 > more as u64 + 2 * SLOT_BYTES as u64 {
            prop_assert!(model.retained_bytes() - log.retained_bytes() <= SLOT_BYTES);
        }
        // What is gone is told.
        let gone = whole.evicted.map_or(0, |evicted| evicted.total_bytes);
        prop_assert_eq!(log.retained_bytes() as u64 + gone, written);
        let first = whole.chunks.first().map_or(u64::MAX, |chunk| chunk.seq);
        prop_assert!(whole.evicted.is_none_or(|evicted| evicted.through_seq < first));

        // Any page is what the rules make of the whole.
        let page = read(&log, after, max);
        let mut sum = 0;
        let of_whole: Vec<_> = whole.chunks.iter().filter(|it| it.seq > after).enumerate()
            .take_while(|(index, it)| {
                sum += it.chunk.len() as u64;
                *index == 0 || max.is_none_or(|max| sum <= max)
            })
            .map(|(_, it)| it.clone()).collect();
        prop_assert!(page.chunks == of_whole);
        let next = match (max, page.chunks.last()) {
            (Some(_), Some(last)) => last.seq + 1,
            _ => log.events + 1,
        };
        prop_assert_eq!(page.next_seq, next);
        prop_assert_eq!((page.exited, page.exit_code), (expected.exited, expected.exit_code));
        prop_assert_eq!(log.is_ready(after), model.is_ready(after));

        // Nothing is left on disk when nobody has it any more.
        drop(log);
        prop_assert!(!space.has_file());
    }
}

#[test]
fn number_of_chunks_on_disk_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let space = SpillSpace::new(directory.path().to_owned(), 1 << 30);
    let mut log = OutputLog::new(Limits::on_disk(32 << 20));
    let written = MAX_CHUNKS_ON_DISK + 100_000;
    for _ in 0..written {
        log.push_output(Stream::Stdout, bytes(1));
        spill(&mut log, &space);
    }
    let whole = read(&log, 0, None);
    assert!(whole.chunks.len() <= MAX_CHUNKS_ON_DISK);
    assert!(whole.chunks.len() > MAX_CHUNKS_ON_DISK - 50_000);
    assert_eq!(
        whole.evicted.unwrap().total_bytes,
        (written - whole.chunks.len()) as u64
    );
    assert!(log.chunks.len() <= MAX_CHUNKS);
}
