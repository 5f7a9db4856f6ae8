//! The live sockets of all environments, and the queues between them.
//!
//! Carries out what [`Routes`] decides. Each environment has a lock of its own; nothing waits while
//! it is held. A frame is queued under the same lock as the decision where it goes, so that no frame
//! of a stream can follow the reset that ended it.
//!
//! Not responsible for reading and writing sockets, nor for who may open one.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use relay_proto::frame::{self, Frame};
use relay_proto::ids::{EnvironmentId, StreamId};

use super::outbox::{Outbox, OutboxLimits, SharedRoom};
use super::routes::{AttachError, CloseCause, Effect, FromHarness, Routes, SocketId};
use super::socket::FrameHandler;
use crate::events;
use crate::limits::{self, RendezvousLimits};
use crate::store::{HarnessOwner, Registration, TokenId};

/// All environments that have a socket.
#[derive(Debug)]
pub(crate) struct Hub {
    limits: RendezvousLimits,
    shared_room: SharedRoom,
    next_socket: AtomicU64,
    environments: Mutex<HashMap<EnvironmentId, Arc<Environment>>>,
}

#[derive(Debug)]
struct Environment {
    id: EnvironmentId,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    routes: Routes,
    sockets: HashMap<SocketId, LiveSocket>,
}

#[derive(Debug)]
struct LiveSocket {
    outbox: Arc<Outbox>,
    token: Option<TokenId>,
}

/// A socket's place in its environment; dropping it takes the socket out.
#[derive(Debug)]
struct Membership {
    hub: Arc<Hub>,
    environment: Arc<Environment>,
    socket: SocketId,
    outbox: Arc<Outbox>,
}

/// An executor's socket: hands its frames to the harnesses.
#[derive(Debug)]
pub(crate) struct ExecutorSocket {
    membership: Membership,
    dropped_frames: u64,
}

/// A harness's socket: hands its frames to the executor.
#[derive(Debug)]
pub(crate) struct HarnessSocket {
    membership: Membership,
    executor: Arc<Outbox>,
    dropped_frames: u64,
}

impl Hub {
    /// A hub without sockets.
    pub(crate) fn new(limits: RendezvousLimits) -> Self {
        let shared_room = SharedRoom::new(limits.shared_queue_bytes);
        Self {
            limits,
            shared_room,
            next_socket: AtomicU64::new(1),
            environments: Mutex::default(),
        }
    }

    /// How many environments have a socket.
    pub(crate) fn environment_count(&self) -> usize {
        self.lock().len()
    }

    /// The limits.
    pub(crate) fn limits(&self) -> &RendezvousLimits {
        &self.limits
    }

    /// Whether the executor of this registration is connected.
    pub(crate) fn is_online(
        &self,
        environment: &EnvironmentId,
        registration: &Registration,
    ) -> bool {
        self.find(environment)
            .is_some_and(|environment| environment.lock().routes.is_online(registration.ordinal))
    }

    /// Whether a harness could connect to the executor of this registration.
    pub(crate) fn has_room(
        &self,
        environment: &EnvironmentId,
        registration: &Registration,
    ) -> bool {
        self.find(environment).is_some_and(|environment| {
            environment
                .lock()
                .routes
                .check_harness(registration.ordinal)
                .is_ok()
        })
    }

    /// Closes the sockets of the registrations before this one.
    pub(crate) fn supersede(&self, environment: &EnvironmentId, registration: &Registration) {
        if let Some(environment) = self.find(environment) {
            let mut state = environment.lock();
            let effects = state.routes.supersede(registration.ordinal);
            state.apply(effects);
        }
    }

    /// Takes an executor's socket in, in place of any older one of the environment.
    pub(crate) fn attach_executor(
        self: &Arc<Self>,
        environment: &EnvironmentId,
        registration: &Registration,
    ) -> Result<ExecutorSocket, AttachError> {
        let outbox = Arc::new(Outbox::new(OutboxLimits {
            bytes: self.limits.executor_queue_bytes,
            frames: self.limits.executor_queue_frames,
            resets: self.limits.executor_queue_resets,
            own: None,
        }));
        let token = registration.token.clone();
        let (membership, ()) = self.attach(environment, outbox, token, |state, socket| {
            let effects = state.routes.attach_executor(socket, registration.ordinal)?;
            state.apply(effects);
            Ok(())
        })?;
        Ok(ExecutorSocket {
            membership,
            dropped_frames: 0,
        })
    }

    /// Takes a harness's socket in, if the executor of its bundle's registration is connected.
    pub(crate) fn attach_harness(
        self: &Arc<Self>,
        environment: &EnvironmentId,
        registration: &Registration,
        owner: HarnessOwner,
    ) -> Result<HarnessSocket, AttachError> {
        let outbox = Arc::new(Outbox::new(OutboxLimits {
            bytes: self.limits.harness_queue_bytes,
            frames: self.limits.harness_queue_frames,
            resets: 0,
            own: Some((self.limits.harness_own_bytes, self.shared_room.clone())),
        }));
        let token = owner.token.clone();
        let (membership, executor) = self.attach(environment, outbox, token, |state, socket| {
            let effects = state
                .routes
                .attach_harness(socket, registration.ordinal, owner)?;
            state.apply(effects);
            let executor = state.executor().ok_or(AttachError::Offline)?;
            executor.draw_attention();
            Ok(executor)
        })?;
        Ok(HarnessSocket {
            membership,
            executor,
            dropped_frames: 0,
        })
    }

    /// The tokens behind the live sockets.
    pub(crate) fn tokens(&self) -> HashSet<TokenId> {
        self.all()
            .iter()
            .flat_map(|environment| {
                let state = environment.lock();
                state
                    .sockets
                    .values()
                    .filter_map(|live| live.token.clone())
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// Closes the sockets behind which there is a token of `ended`. Returns which tokens lost sockets
    /// of which environments.
    pub(crate) fn close_unauthorized(
        &self,
        ended: &HashSet<TokenId>,
    ) -> Vec<(EnvironmentId, TokenId)> {
        let mut cut = Vec::new();
        for environment in self.all() {
            let mut state = environment.lock();
            let tokens = state.sockets.values().filter_map(|live| live.token.clone());
            let of_these: HashSet<_> = tokens.filter(|token| ended.contains(token)).collect();
            state.close_where(CloseCause::Unauthorized, |live| {
                live.token
                    .as_ref()
                    .is_some_and(|token| of_these.contains(token))
            });
            drop(state);
            cut.extend(
                of_these
                    .into_iter()
                    .map(|token| (environment.id.clone(), token)),
            );
        }
        cut
    }

    /// Closes the sockets of all environments, one environment after the other, within `window`, and
    /// tells their peers to come back after `retry_after`.
    pub(crate) async fn drain(&self, window: Duration, retry_after: Duration) {
        let environments = self.all();
        let count = u32::try_from(environments.len()).unwrap_or(u32::MAX).max(1);
        let pause = limits::DRAIN_PAUSE.min(window / count);
        for (index, environment) in environments.into_iter().enumerate() {
            if index > 0 {
                tokio::time::sleep(pause).await;
            }
            // The executor and its harnesses together: neither can do anything without the other.
            environment.lock().send_away(retry_after);
        }
    }

    /// Closes every socket that is left.
    pub(crate) fn send_all_away(&self, retry_after: Duration) {
        for environment in self.all() {
            environment.lock().send_away(retry_after);
        }
    }

    /// Adds a socket under the lock of the map, so that an environment that becomes empty at the
    /// same time is not lost.
    fn attach<T>(
        self: &Arc<Self>,
        id: &EnvironmentId,
        outbox: Arc<Outbox>,
        token: Option<TokenId>,
        join: impl FnOnce(&mut State, SocketId) -> Result<T, AttachError>,
    ) -> Result<(Membership, T), AttachError> {
        let socket = SocketId(self.next_socket.fetch_add(1, Ordering::Relaxed));
        let mut environments = self.lock();
        let environment = environments.get(id).cloned().unwrap_or_else(|| {
            Arc::new(Environment {
                id: id.clone(),
                state: Mutex::new(State {
                    routes: Routes::new(
                        self.limits.harness_sockets,
                        self.limits.streams_per_harness,
                    ),
                    sockets: HashMap::new(),
                }),
            })
        });
        let joined = {
            let mut state = environment.lock();
            let joined = join(&mut state, socket)?;
            state.sockets.insert(
                socket,
                LiveSocket {
                    outbox: Arc::clone(&outbox),
                    token,
                },
            );
            joined
        };
        environments
            .entry(id.clone())
            .or_insert_with(|| Arc::clone(&environment));
        drop(environments);
        let membership = Membership {
            hub: Arc::clone(self),
            environment,
            socket,
            outbox,
        };
        Ok((membership, joined))
    }

    fn find(&self, id: &EnvironmentId) -> Option<Arc<Environment>> {
        self.lock().get(id).cloned()
    }

    fn all(&self) -> Vec<Arc<Environment>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EnvironmentId, Arc<Environment>>> {
        self.environments
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Environment {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn executor(&self) -> Option<Arc<Outbox>> {
        let socket = self.routes.executor()?;
        self.sockets
            .get(&socket)
            .map(|live| Arc::clone(&live.outbox))
    }

    fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Close(socket, cause) => {
                    if let Some(live) = self.sockets.remove(&socket) {
                        live.outbox.close(cause);
                    }
                }
                Effect::Reset(stream) => self.reset(stream),
                Effect::Suspect(socket) => {
                    if let Some(live) = self.sockets.get(&socket) {
                        live.outbox.suspect();
                    }
                }
            }
        }
    }

    /// Has the executor drop a stream. An executor that has no room for that reads nothing.
    fn reset(&mut self, stream: StreamId) {
        let Some(executor) = self.executor() else {
            return;
        };
        if executor.push_reset(Frame::reset(stream).encode()).is_err()
            && let Some(socket) = self.routes.executor()
        {
            self.close(socket, CloseCause::Stalled);
        }
    }

    fn close(&mut self, socket: SocketId, cause: CloseCause) {
        if let Some(live) = self.sockets.remove(&socket) {
            live.outbox.close(cause);
        }
        let effects = self.routes.detach(socket);
        self.apply(effects);
    }

    fn close_where(&mut self, cause: CloseCause, condition: impl Fn(&LiveSocket) -> bool) {
        let chosen: Vec<_> = self
            .sockets
            .iter()
            .filter(|(_, live)| condition(live))
            .map(|(socket, live)| (*socket, Arc::clone(&live.outbox)))
            .collect();
        // First all causes, then the consequences: a harness that is itself chosen must not be told
        // that its executor is gone.
        for (_, outbox) in &chosen {
            outbox.close(cause);
        }
        for (socket, _) in chosen {
            self.close(socket, cause);
        }
    }

    /// Closes every socket. Harnesses are told to come a little later than their executor, without
    /// which they would be sent away again.
    fn send_away(&mut self, retry_after: Duration) {
        let executor = self.routes.executor();
        if let Some(live) = executor.and_then(|socket| self.sockets.get(&socket)) {
            live.outbox.close(CloseCause::ShuttingDown { retry_after });
        }
        let retry_after = retry_after.saturating_add(limits::HARNESS_BEHIND);
        self.close_where(CloseCause::ShuttingDown { retry_after }, |_| true);
    }

    /// Queues a frame for a harness, or closes its socket when it has no room.
    fn deliver(&mut self, socket: SocketId, frame: Bytes) {
        let Some(live) = self.sockets.get(&socket) else {
            return;
        };
        match live.outbox.try_reserve(frame.len()) {
            Ok(reservation) => live.outbox.push(frame, reservation),
            Err(_) => self.close(socket, CloseCause::TooSlow),
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut environments = self.hub.lock();
        let empty = {
            let mut state = self.environment.lock();
            state.sockets.remove(&self.socket);
            let effects = state.routes.detach(self.socket);
            state.apply(effects);
            state.routes.is_empty()
        };
        let is_listed = environments
            .get(&self.environment.id)
            .is_some_and(|listed| Arc::ptr_eq(listed, &self.environment));
        if empty && is_listed {
            environments.remove(&self.environment.id);
        }
    }
}

impl ExecutorSocket {
    /// The queue of this socket.
    pub(crate) fn outbox(&self) -> Arc<Outbox> {
        Arc::clone(&self.membership.outbox)
    }
}

impl FrameHandler for ExecutorSocket {
    /// Hands a frame to the harness that holds its stream. Never waits: a slow harness is the
    /// harness's trouble, not that of the executor's other streams.
    async fn handle(&mut self, message: Bytes) -> Result<(), CloseCause> {
        let peek = match frame::peek(&message) {
            Ok(peek) => peek,
            Err(error) => {
                events::malformed_frame(&self.membership.environment.id, &error);
                self.dropped_frames += 1;
                return Ok(());
            }
        };
        let mut state = self.membership.environment.lock();
        match state
            .routes
            .route_from_executor(self.membership.socket, peek)
        {
            Some(harness) => state.deliver(harness, message),
            None => self.dropped_frames += 1,
        }
        Ok(())
    }

    /// Its harnesses may be of release 0.169, which would wait for ever for an executor that is gone.
    fn is_watched(&self) -> bool {
        self.membership.environment.lock().routes.has_harnesses()
    }

    fn dropped_frames(&self) -> u64 {
        self.dropped_frames
    }
}

impl HarnessSocket {
    /// The queue of this socket.
    pub(crate) fn outbox(&self) -> Arc<Outbox> {
        Arc::clone(&self.membership.outbox)
    }
}

impl FrameHandler for HarnessSocket {
    /// Hands a frame to the executor, waiting for room in its queue: then this socket is not read,
    /// and the harness feels it.
    async fn handle(&mut self, message: Bytes) -> Result<(), CloseCause> {
        if let Err(error) = frame::peek(&message) {
            events::malformed_frame(&self.membership.environment.id, &error);
            return Err(CloseCause::Malformed);
        }
        let Ok(reservation) = self.executor.reserve(message.len()).await else {
            return Err(CloseCause::ExecutorGone);
        };
        let mut state = self.membership.environment.lock();
        // Looked at again: nothing borrowed is kept while waiting, and it costs next to nothing.
        let Ok(peek) = frame::peek(&message) else {
            return Err(CloseCause::Malformed);
        };
        match state
            .routes
            .route_from_harness(self.membership.socket, peek)
        {
            FromHarness::Forward => self.executor.push(message, reservation),
            FromHarness::TakeOver { left } => {
                self.executor.push(message, reservation);
                if let Some(socket) = left {
                    state.close(socket, CloseCause::Superseded);
                }
            }
            FromHarness::Drop => self.dropped_frames += 1,
            FromHarness::Refuse => {
                self.dropped_frames += 1;
                if let Ok(stream) = StreamId::new(peek.stream_id) {
                    state.deliver(self.membership.socket, Frame::reset(stream).encode());
                }
            }
        }
        Ok(())
    }

    /// A harness may hold up reading for as long as it likes, and then answers nothing.
    fn is_watched(&self) -> bool {
        false
    }

    fn dropped_frames(&self) -> u64 {
        self.dropped_frames
    }
}
