//! The sums that a connection keeps, done again. Exists in tests and under `cfg(fuzzing)` only.

use std::time::Instant;

use super::leaving::Leaving;
use super::{Connection, Event};
use crate::ids::StreamId;
use crate::limits;
use crate::noise::Transport;
use crate::reorder::Reorder;
use crate::stream::Stream;

impl Connection {
    /// Adds an open stream whose keys somebody else knows as well.
    pub(crate) fn insert_stream(&mut self, now: Instant, id: StreamId, transport: Transport) {
        let stream = Stream::new(self.beginning(now), transport, Reorder::new());
        self.streams.insert(id.clone(), stream);
        self.events.push_back(Event::Opened { stream: id.clone() });
        self.settle(&id);
    }

    /// Whether the sums are right and everything is within its limit.
    ///
    /// # Panics
    ///
    /// If not.
    pub(crate) fn check_books(&self) {
        let streams = || self.streams.values();
        let held: usize = streams()
            .map(Stream::held_bytes)
            .chain(self.leaving.values().map(Leaving::bytes))
            .sum();
        assert_eq!(self.held_bytes, held, "received bytes");
        assert!(held <= limits::CONNECTION_RECEIVE_BYTES);
        let queued: usize = streams().map(|stream| stream.outbox.bytes()).sum();
        assert_eq!(self.send_bytes, queued, "bytes to send");
        let reserved: usize = streams().map(|stream| stream.link.credit.reserved()).sum();
        let room = self.large.free() + reserved;
        assert_eq!(room, limits::CONNECTION_LARGE_BYTES, "room");
        for stream in streams() {
            assert!(stream.link.retransmit.bytes() <= limits::STREAM_UNACKED_BYTES);
        }
        assert!(
            self.rota.contains_each_once(),
            "each stream once in the rota"
        );
        assert!(self.control.len() <= limits::CONTROL_FRAMES);
        assert!(self.streams.len() <= limits::ACTIVE_STREAMS);
        assert!(self.pending.len() <= limits::PENDING_HANDSHAKES);
    }
}
