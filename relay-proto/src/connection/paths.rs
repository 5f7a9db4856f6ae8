//! Streams that outlive their path: loss, suspension, and the move to another connection.
//!
//! A stream moves as a whole: keys, numbers, what is not acknowledged, what waits. Nothing is copied,
//! so no number can be used twice.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{CloseReason, Connection, Event, Farewell};
use crate::ids::StreamId;
use crate::link::{BareReset, End};
use crate::stream::{Stream, StreamError};

/// Streams without a connection.
///
/// Each is kept until its deadline. Dropping it ends them without a word to their peers.
pub struct Suspended {
    end: End,
    streams: BTreeMap<StreamId, Stream>,
}

impl Suspended {
    /// The streams.
    pub fn ids(&self) -> impl Iterator<Item = &StreamId> {
        self.streams.keys()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// When [`Suspended::expire`] is to be called next.
    pub fn deadline(&self) -> Option<Instant> {
        self.streams
            .values()
            .filter_map(|stream| stream.link.suspended_until())
            .min()
    }

    /// Gives up the streams that have waited for [`limits::SUSPENDED_TIME`], and names them.
    ///
    /// [`limits::SUSPENDED_TIME`]: crate::limits::SUSPENDED_TIME
    pub fn expire(&mut self, now: Instant) -> Vec<StreamId> {
        let expired: Vec<_> = self
            .streams
            .iter()
            .filter(|(_, stream)| {
                stream
                    .link
                    .suspended_until()
                    .is_none_or(|until| until <= now)
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in &expired {
            self.streams.remove(id);
        }
        expired
    }

    /// Gives up one stream.
    pub fn remove(&mut self, stream: &StreamId) {
        self.streams.remove(stream);
    }
}

impl std::fmt::Debug for Suspended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Suspended")
            .field("end", &self.end)
            .field("streams", &self.streams.len())
            .finish()
    }
}

impl Connection {
    /// Takes out the streams that can go on over another connection, after the websocket has ended.
    ///
    /// Those are the ones whose both ends are [`Resumable`](crate::Reliability::Resumable) and that
    /// the application has not closed. The others stay and end with this connection.
    pub fn suspend(&mut self, now: Instant) -> Suspended {
        let ids: Vec<_> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.link.is_resumable() && stream.drain_deadline.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        let mut streams = BTreeMap::new();
        for id in ids {
            if let Some(mut stream) = self.forget(&id) {
                stream.link.suspend(now);
                streams.insert(id, stream);
            }
        }
        Suspended {
            end: self.end,
            streams,
        }
    }

    /// Takes in the streams of a connection before this one.
    ///
    /// A harness asks for each at once; an executor waits for its harness. [`Event::Resumed`] follows,
    /// or [`Event::Closed`]. Environment and registration do not matter any more: they are part of
    /// the handshake only. Streams that do not fit (of the other role, or with an id in use) end.
    pub fn adopt(&mut self, now: Instant, suspended: Suspended) {
        let fits = suspended.end == self.end;
        for (id, mut stream) in suspended.streams {
            let is_used = self.streams.contains_key(&id)
                || self.pending.contains_key(&id)
                || self.opening.contains_key(&id);
            if !fits || is_used {
                self.push_closed(id, CloseReason::Stream(StreamError::PathLost));
                continue;
            }
            self.send_bytes += stream.outbox.bytes();
            self.held_bytes += stream.held_bytes();
            self.large.bring(stream.link.credit.reserved());
            self.any_blocked |= stream.blocked.is_some();
            stream.in_rota = false;
            stream.is_speaking = false;
            stream.is_listed = false;
            if self.end == End::Harness {
                stream.link.resume(now);
            }
            self.streams.insert(id.clone(), stream);
            self.list_readable(&id);
            self.settle(&id);
        }
        self.wake_blocked();
        self.update_input();
    }

    /// A stream's path is dead.
    pub(super) fn lose_path(&mut self, now: Instant, id: &StreamId) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        match self.end {
            // Another websocket may find the executor.
            End::Harness => self.is_path_dead = true,
            End::Executor if stream.link.is_resumable() => self.suspend_stream(now, id),
            End::Executor => self.end(
                id,
                CloseReason::Stream(StreamError::PathLost),
                Farewell::Reset,
            ),
        }
    }

    /// A reset came without a proof that it is from the peer: the rendezvous ends a path that way, a
    /// peer without a memory of the stream answers that way, and anybody in between can send one.
    pub(super) fn on_bare_reset(&mut self, now: Instant, id: &StreamId) {
        let verdict = self
            .streams
            .get_mut(id)
            .map_or(BareReset::End, |stream| stream.link.bare_reset(now));
        match (verdict, self.end) {
            (BareReset::End, _) => self.end(id, CloseReason::ResetByPeer, Farewell::Nothing),
            (BareReset::PathLost, End::Executor) => self.suspend_stream(now, id),
            (BareReset::PathLost, End::Harness) => {
                // An executor that still has the stream answers, whoever sent this.
                if let Some(stream) = self.streams.get_mut(id) {
                    stream.link.resume(now);
                    self.note_suspended(id);
                }
            }
            (BareReset::Ignore, _) => {}
        }
        self.settle(id);
    }

    fn suspend_stream(&mut self, now: Instant, id: &StreamId) {
        if let Some(stream) = self.streams.get_mut(id) {
            stream.link.suspend(now);
            self.note_suspended(id);
        }
    }

    fn note_suspended(&mut self, id: &StreamId) {
        self.stats.streams_suspended += 1;
        self.events
            .push_back(Event::Suspended { stream: id.clone() });
    }
}
