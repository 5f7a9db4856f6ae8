//! What must hold of everything that one side sends.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::frame::{Body, Frame};
use crate::ids::StreamId;

/// Everything that one side has sent, as far as it is needed to notice a number that stands for two
/// records.
#[derive(Default)]
pub(super) struct Watch {
    records: BTreeMap<(StreamId, u32), Bytes>,
}

impl Watch {
    /// Looks at a frame on its way out.
    pub(super) fn sent(&mut self, bytes: &Bytes) {
        let frame = Frame::decode(bytes.clone()).expect("only valid frames are sent");
        if let Body::Data { seq, payload } = frame.body {
            let record = self
                .records
                .entry((frame.stream_id, seq.0))
                .or_insert_with(|| payload.clone());
            assert_eq!(*record, payload, "record {seq} has the same bytes again");
        }
    }
}
