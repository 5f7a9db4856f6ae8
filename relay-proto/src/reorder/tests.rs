//! The receive table, and a naive model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn record(seq: u32) -> Bytes {
    Bytes::from(seq.to_be_bytes().to_vec())
}

fn drain(reorder: &mut Reorder) -> Vec<Bytes> {
    std::iter::from_fn(|| reorder.pop()).collect()
}

#[test]
fn successors_follow_the_missing_record() {
    let mut reorder = Reorder::new();
    assert_eq!(reorder.insert(Seq(2), record(2)), Ok(Arrival::Early));
    assert_eq!(reorder.insert(Seq(1), record(1)), Ok(Arrival::Early));
    assert!(reorder.has_gap());
    assert_eq!(reorder.held_bytes(), 8);
    assert_eq!(reorder.insert(Seq(0), record(0)), Ok(Arrival::Ready));
    assert!(!reorder.has_gap());
    assert_eq!(drain(&mut reorder), [record(0), record(1), record(2)]);
    assert_eq!(reorder.held_bytes(), 0);
}

#[test]
fn duplicates_are_ignored_even_when_they_differ() {
    let mut reorder = Reorder::new();
    assert_eq!(reorder.insert(Seq(1), record(1)), Ok(Arrival::Early));
    assert_eq!(reorder.insert(Seq(1), record(9)), Ok(Arrival::Duplicate));
    assert_eq!(reorder.insert(Seq(0), record(0)), Ok(Arrival::Ready));
    assert_eq!(reorder.insert(Seq(0), record(9)), Ok(Arrival::Duplicate));
    assert_eq!(drain(&mut reorder), [record(0), record(1)]);
    assert_eq!(reorder.insert(Seq(0), record(9)), Ok(Arrival::Duplicate));
    assert!(drain(&mut reorder).is_empty());
}

#[test]
fn distance_64_waits_and_65_is_an_error() {
    let mut reorder = Reorder::new();
    assert_eq!(reorder.insert(Seq(64), record(64)), Ok(Arrival::Early));
    assert_eq!(
        reorder.insert(Seq(65), record(65)),
        Err(ReorderError::TooFar { distance: 65 })
    );
}

#[test]
fn the_18th_waiting_record_of_full_size_is_an_error() {
    let mut reorder = Reorder::new();
    let full = Bytes::from(vec![0; limits::RECORD_CIPHERTEXT_BYTES]);
    for seq in 1..=17 {
        assert_eq!(reorder.insert(Seq(seq), full.clone()), Ok(Arrival::Early));
    }
    assert!(matches!(
        reorder.insert(Seq(18), full.clone()),
        Err(ReorderError::TooMuch { .. })
    ));
    // The missing record itself is always taken.
    assert_eq!(reorder.insert(Seq(0), full), Ok(Arrival::Ready));
    assert_eq!(drain(&mut reorder).len(), 18);
}

#[test]
fn the_end_of_the_numbers_is_final() {
    let mut reorder = Reorder {
        next: Some(Seq(u32::MAX - 1)),
        ..Reorder::new()
    };
    assert_eq!(
        reorder.insert(Seq(u32::MAX - 1), record(0)),
        Ok(Arrival::Ready)
    );
    assert_eq!(drain(&mut reorder).len(), 1);
    for seq in [0, 1, u32::MAX - 1, u32::MAX] {
        assert_eq!(reorder.insert(Seq(seq), record(0)), Ok(Arrival::Duplicate));
    }
}

/// What the specification says, without any cleverness.
#[derive(Default)]
struct Model {
    next: u32,
    waiting: BTreeMap<u32, Bytes>,
}

impl Model {
    fn insert(&mut self, seq: u32, record: Bytes) -> Result<Vec<Bytes>, ()> {
        if seq < self.next || self.waiting.contains_key(&seq) {
            return Ok(vec![]);
        }
        if seq - self.next > 64 {
            return Err(());
        }
        let waiting: usize = self.waiting.values().map(Bytes::len).sum();
        if seq != self.next && waiting + record.len() > 1_048_576 {
            return Err(());
        }
        self.waiting.insert(seq, record);
        let mut out = vec![];
        while let Some(record) = self.waiting.remove(&self.next) {
            out.push(record);
            self.next += 1;
        }
        Ok(out)
    }
}

proptest! {
    #[test]
    fn agrees_with_the_model(
        arrivals in proptest::collection::vec((0_u32..90, any::<u8>(), 1_usize..60_000), 1..120),
    ) {
        let mut model = Model::default();
        let mut reorder = Reorder::new();
        for (seq, fill, length) in arrivals {
            let record = Bytes::from(vec![fill; length]);
            let expected = model.insert(seq, record.clone());
            let got = reorder.insert(Seq(seq), record).map_err(drop).map(|_| drain(&mut reorder));
            prop_assert_eq!(&got, &expected);
            prop_assert!(reorder.held_bytes() <= limits::REORDER_BYTES);
            prop_assert_eq!(reorder.has_gap(), !model.waiting.is_empty());
        }
    }
}
