//! The routing decisions of one environment. No I/O, no clock, no payloads.
//!
//! One executor socket and any number of harness sockets. A stream belongs to the harness socket
//! that claimed its id first, by a resume frame or by the first handshake frame, until that socket
//! ends or resets the stream itself, or a newer socket of the same owner claims it by a resume frame:
//! then its harness has left the older one, whose path may be dead. Everything else follows:
//!
//! ```text
//! from a harness    stream held by it       forward to the executor
//!                   unheld, resume or       claim, forward
//!                     handshake
//!                   unheld, anything else   drop
//!                   held by an older one    claim, forward; the older one is closed if that was
//!                     of its owner, resume    its last stream
//!                   held by another         refuse (a reset goes back), the holder notices nothing
//! from the executor stream held             forward to the holder
//!                   unheld                  drop
//! harness ends      each of its streams     reset to the executor
//! executor ends     every harness socket    closed
//! newer executor    the old one and every   closed
//!                     harness socket
//! ```
//!
//! A reset from the executor does not end a claim: it also answers a repeated handshake for a stream
//! that goes on. The claim then lasts as long as the socket, and the final reset does no harm.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use relay_proto::frame::{BodyKind, Peek};
use relay_proto::ids::StreamId;

use crate::store::HarnessOwner;

/// Names one websocket for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SocketId(pub(crate) u64);

/// Something to do after an event, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Send a reset of this stream to the executor.
    Reset(StreamId),
    /// Close this socket; it is no longer known here.
    Close(SocketId, CloseCause),
    /// See whether anybody is still behind this socket.
    Suspect(SocketId),
}

/// Why a socket is closed by this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CloseCause {
    /// The executor of the harness is gone, or another one took its place.
    ExecutorGone,
    /// A newer executor socket or registration took the place of this executor.
    Superseded,
    /// The harness reads more slowly than its streams produce.
    TooSlow,
    /// The executor reads nothing any more.
    Stalled,
    /// A message that is no relay frame, from a harness.
    Malformed,
    /// A message above the size limit.
    TooLarge,
    /// The token behind the socket was revoked or has expired.
    Unauthorized,
    /// The server stops; the peer is told when to come back.
    ShuttingDown {
        /// How long the peer should wait.
        retry_after: Duration,
    },
}

/// What to do with a frame from a harness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FromHarness {
    /// Forward it to the executor.
    Forward,
    /// The same; the stream was another socket's.
    TakeOver {
        /// That one, if it has no stream left: nobody is there any more.
        left: Option<SocketId>,
    },
    /// Drop it.
    Drop,
    /// Drop it and answer with a reset of the stream.
    Refuse,
}

/// Why a socket cannot join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttachError {
    /// There is a newer registration.
    Superseded,
    /// There is no executor socket of the registration.
    Offline,
    /// The limit on harness sockets.
    TooManyHarnesses,
}

impl AttachError {
    /// A name from a closed set.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Superseded => "superseded",
            Self::Offline => "offline",
            Self::TooManyHarnesses => "too_many_harnesses",
        }
    }
}

/// Sockets and streams of one environment.
#[derive(Debug)]
pub(crate) struct Routes {
    harness_limit: usize,
    streams_per_harness: usize,
    /// Ordinal of the newest registration heard of.
    newest: i64,
    executor: Option<Executor>,
    harnesses: HashMap<SocketId, Harness>,
    holders: HashMap<StreamId, SocketId>,
}

#[derive(Debug)]
struct Harness {
    owner: HarnessOwner,
    streams: HashSet<StreamId>,
}

#[derive(Clone, Copy, Debug)]
struct Executor {
    socket: SocketId,
    ordinal: i64,
}

impl Routes {
    /// An environment without sockets.
    pub(crate) fn new(harness_limit: usize, streams_per_harness: usize) -> Self {
        Self {
            harness_limit,
            streams_per_harness,
            newest: i64::MIN,
            executor: None,
            harnesses: HashMap::new(),
            holders: HashMap::new(),
        }
    }

    /// Whether the executor of the registration with this ordinal is connected.
    pub(crate) fn is_online(&self, ordinal: i64) -> bool {
        self.executor
            .is_some_and(|executor| executor.ordinal == ordinal)
    }

    /// Whether no socket is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.executor.is_none() && self.harnesses.is_empty()
    }

    /// The executor's socket.
    pub(crate) fn executor(&self) -> Option<SocketId> {
        self.executor.map(|executor| executor.socket)
    }

    /// How many streams are held.
    #[cfg(test)]
    pub(crate) fn stream_count(&self) -> usize {
        self.holders.len()
    }

    /// A registration was made: sockets of older ones are closed.
    pub(crate) fn supersede(&mut self, ordinal: i64) -> Vec<Effect> {
        self.newest = self.newest.max(ordinal);
        match self.executor {
            Some(executor) if executor.ordinal < self.newest => {
                let mut effects = vec![Effect::Close(executor.socket, CloseCause::Superseded)];
                effects.extend(self.remove_executor());
                effects
            }
            _ => Vec::new(),
        }
    }

    /// An executor connected. It takes the place of an older one, also of the same registration:
    /// that one's path may be dead without anybody having noticed.
    pub(crate) fn attach_executor(
        &mut self,
        socket: SocketId,
        ordinal: i64,
    ) -> Result<Vec<Effect>, AttachError> {
        if ordinal < self.newest {
            return Err(AttachError::Superseded);
        }
        self.newest = ordinal;
        let mut effects = Vec::new();
        if let Some(old) = self.executor {
            effects.push(Effect::Close(old.socket, CloseCause::Superseded));
            effects.extend(self.remove_executor());
        }
        self.executor = Some(Executor { socket, ordinal });
        Ok(effects)
    }

    /// Whether a harness with a bundle of the registration with this ordinal could connect.
    pub(crate) fn check_harness(&self, ordinal: i64) -> Result<(), AttachError> {
        if !self.is_online(ordinal) {
            return Err(AttachError::Offline);
        }
        if self.harnesses.len() >= self.harness_limit {
            return Err(AttachError::TooManyHarnesses);
        }
        Ok(())
    }

    /// A harness connected with a bundle of the registration with this ordinal. Its older sockets are
    /// suspected: mostly it comes again because it lost one, and an executor of release 0.169 does not
    /// give its session back before that one has ended.
    pub(crate) fn attach_harness(
        &mut self,
        socket: SocketId,
        ordinal: i64,
        owner: HarnessOwner,
    ) -> Result<Vec<Effect>, AttachError> {
        self.check_harness(ordinal)?;
        let effects = self
            .harnesses
            .iter()
            .filter(|(_, harness)| harness.owner == owner)
            .map(|(older, _)| Effect::Suspect(*older))
            .collect();
        let streams = HashSet::new();
        self.harnesses.insert(socket, Harness { owner, streams });
        Ok(effects)
    }

    /// Whether there are harnesses, which wait for the executor.
    pub(crate) fn has_harnesses(&self) -> bool {
        !self.harnesses.is_empty()
    }

    /// A socket ended. Does nothing for one that was closed by an effect.
    pub(crate) fn detach(&mut self, socket: SocketId) -> Vec<Effect> {
        if self.executor() == Some(socket) {
            return self.remove_executor();
        }
        let Some(harness) = self.harnesses.remove(&socket) else {
            return Vec::new();
        };
        harness
            .streams
            .into_iter()
            .map(|stream| {
                self.holders.remove(&stream);
                Effect::Reset(stream)
            })
            .collect()
    }

    /// Decides about a frame from a harness.
    ///
    /// Cost: no allocation, except for a claim.
    pub(crate) fn route_from_harness(&mut self, socket: SocketId, frame: Peek<'_>) -> FromHarness {
        let Some(harness) = self.harnesses.get_mut(&socket) else {
            return FromHarness::Drop;
        };
        match self.holders.get(frame.stream_id) {
            Some(&holder) if holder == socket => {
                if frame.kind == BodyKind::Reset {
                    harness.streams.remove(frame.stream_id);
                    self.holders.remove(frame.stream_id);
                }
                FromHarness::Forward
            }
            Some(&holder) if frame.kind == BodyKind::Resume => {
                self.take_over(holder, socket, frame.stream_id)
            }
            Some(_) if claims(frame.kind) => FromHarness::Refuse,
            None if claims(frame.kind) => {
                if harness.streams.len() >= self.streams_per_harness {
                    return FromHarness::Refuse;
                }
                // A frame with an unusable id is not a frame; peeking has refused it before.
                let Ok(stream) = StreamId::new(frame.stream_id) else {
                    return FromHarness::Drop;
                };
                harness.streams.insert(stream.clone());
                self.holders.insert(stream, socket);
                FromHarness::Forward
            }
            Some(_) | None => FromHarness::Drop,
        }
    }

    /// Gives a stream of `holder` to `socket`, if both have the same owner and `socket` is newer: what
    /// an older one still has to say is late.
    fn take_over(&mut self, holder: SocketId, socket: SocketId, stream: &str) -> FromHarness {
        let is_allowed = match (self.harnesses.get(&holder), self.harnesses.get(&socket)) {
            (Some(old), Some(new)) => {
                holder < socket
                    && old.owner == new.owner
                    && new.streams.len() < self.streams_per_harness
            }
            _ => false,
        };
        let Some(old) = self.harnesses.get_mut(&holder).filter(|_| is_allowed) else {
            return FromHarness::Refuse;
        };
        let Some(stream) = old.streams.take(stream) else {
            return FromHarness::Refuse;
        };
        let left = old.streams.is_empty().then_some(holder);
        self.holders.insert(stream.clone(), socket);
        if let Some(new) = self.harnesses.get_mut(&socket) {
            new.streams.insert(stream);
        }
        FromHarness::TakeOver { left }
    }

    /// The harness socket that a frame from `socket` goes to, if that is the executor's socket and
    /// the stream is held.
    pub(crate) fn route_from_executor(
        &self,
        socket: SocketId,
        frame: Peek<'_>,
    ) -> Option<SocketId> {
        if self.executor() != Some(socket) {
            return None;
        }
        self.holders.get(frame.stream_id).copied()
    }

    /// Removes the executor and closes every harness socket. Nobody is left to be told of resets.
    fn remove_executor(&mut self) -> Vec<Effect> {
        self.executor = None;
        self.holders.clear();
        self.harnesses
            .drain()
            .map(|(socket, _)| Effect::Close(socket, CloseCause::ExecutorGone))
            .collect()
    }
}

/// Whether a frame of this kind claims its stream.
fn claims(kind: BodyKind) -> bool {
    matches!(kind, BodyKind::Resume | BodyKind::Handshake)
}

#[cfg(test)]
mod tests;
