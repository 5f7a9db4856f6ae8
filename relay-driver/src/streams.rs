//! The application's side of the driver: requests, and the channels of open streams.

use bytes::Bytes;
use relay_proto::ids::StreamId;
use relay_proto::{CloseReason, Connection, Event, Priority, SendError, Verdict};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::activity::{self, Activity, StreamKey};
use crate::driver::{Driver, Side};
use crate::handles::{Answer, DisconnectReason, IncomingStream, OpenFailure, Path, Stream};
use crate::io::now;
use crate::{STREAM_CHANNEL_MESSAGES, WRITE_BATCH_BYTES};

/// An open stream's channels.
pub(crate) struct Attached {
    key: StreamKey,
    /// Cancelled when the stream ends.
    over: CancellationToken,
    /// Room for the next message; none while the stream is paused or nobody listens.
    room: Option<OwnedPermit<Bytes>>,
    /// A message that found the window full, with the channel it came from; for each class.
    blocked: [Option<(mpsc::Receiver<Bytes>, Bytes)>; 2],
    /// To see whether something urgent is still on its way.
    urgent: mpsc::WeakSender<Bytes>,
    path: watch::Sender<Path>,
    /// The application dropped its ordinary sender.
    mute: bool,
    /// The application dropped its receiver.
    deaf: bool,
}

impl Attached {
    pub(crate) fn is(&self, key: &StreamKey) -> bool {
        self.key == *key
    }

    pub(crate) fn set_path(&self, path: Path) {
        self.path.send_replace(path);
    }

    /// Tells the application that the stream is over.
    pub(crate) fn end(&self) {
        self.over.cancel();
    }

    /// Whether the application wants no more of the stream.
    fn is_left(&self) -> bool {
        let is_urgent_sent = self
            .urgent
            .upgrade()
            .is_none_or(|urgent| urgent.capacity() == urgent.max_capacity());
        self.mute && self.deaf && is_urgent_sent
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    pub(crate) fn on_activity(&mut self, activity: Activity) {
        match activity {
            Activity::Answered(token, answer) => {
                self.asked.remove(token.stream());
                let verdict = match answer {
                    Some(Answer::Approve(opened)) => {
                        self.approved.insert(token.stream().clone(), opened);
                        Verdict::Approved
                    }
                    Some(Answer::Verdict(verdict)) => verdict,
                    None => Verdict::Refused,
                };
                self.connection.authorize(now(), &token, verdict);
                self.drain_events();
                // Still here only if the handshake was gone; dropped, it tells the approver so.
                self.approved.remove(token.stream());
            }
            Activity::Sent(key, priority, receiver, Some(message)) => {
                self.send(&key, priority, receiver, message);
                self.with(&key, |_, _| {});
            }
            Activity::Sent(key, Priority::Ordinary, _, None) => {
                self.with(&key, |attached, _| attached.mute = true);
            }
            Activity::Sent(key, Priority::Urgent, _, None) => self.with(&key, |_, _| {}),
            Activity::Deaf(key) => self.with(&key, |attached, connection| {
                attached.deaf = true;
                // What waits for nobody is dropped, not held.
                connection.resume(&attached.key.id);
            }),
            Activity::Room(key, room) => self.with(&key, |attached, connection| {
                attached.room = room;
                connection.resume(&attached.key.id);
            }),
            Activity::Over => {}
        }
    }

    /// Acts on a stream if it is still the same one; closes it when the application left it.
    fn with(&mut self, key: &StreamKey, act: impl FnOnce(&mut Attached, &mut Connection)) {
        let Some(attached) = self.streams.get_mut(&key.id).filter(|it| it.key == *key) else {
            return;
        };
        act(attached, &mut self.connection);
        if attached.is_left() {
            self.connection.close(now(), &key.id);
        }
    }

    /// Takes a message, and those that wait behind it, up to a batch: what was sent together goes into
    /// one write, which wakes everybody on the way once.
    fn send(
        &mut self,
        key: &StreamKey,
        priority: Priority,
        mut receiver: mpsc::Receiver<Bytes>,
        message: Bytes,
    ) {
        let Some(attached) = self.streams.get_mut(&key.id).filter(|it| it.key == *key) else {
            return;
        };
        let mut next = message;
        let mut batch = 0_usize;
        let sent = loop {
            batch = batch.saturating_add(next.len());
            let sent = self.connection.send_with(now(), &key.id, next, priority);
            if sent.is_err() || batch >= WRITE_BATCH_BYTES {
                break sent;
            }
            match receiver.try_recv() {
                Ok(message) => next = message,
                // The end is seen by who waits for the next one.
                Err(_) => break Ok(()),
            }
        };
        match sent {
            Ok(()) => {
                let over = attached.over.clone();
                self.activities
                    .push(activity::outgoing(key.clone(), priority, receiver, over));
            }
            Err(SendError::WouldBlock(message)) => {
                let [ordinary, urgent] = &mut attached.blocked;
                let blocked = match priority {
                    Priority::Ordinary => ordinary,
                    Priority::Urgent => urgent,
                };
                *blocked = Some((receiver, message));
            }
            Err(SendError::Length { length }) => {
                tracing::warn!(stream = %key.id, length, "message cannot be sent");
                self.connection.reset(now(), &key.id);
            }
            // The event that says why is on its way.
            Err(_) => {}
        }
    }

    pub(crate) fn drain_events(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::HandshakeRequested {
                    token,
                    harness_key,
                    authorization,
                } => {
                    let (answer, answered) = oneshot::channel();
                    let id = token.stream().clone();
                    let over = CancellationToken::new();
                    self.asked.insert(id.clone(), over.clone());
                    self.answers.push(activity::answer(token, answered, over));
                    let request = IncomingStream {
                        id,
                        harness_key,
                        authorization,
                        answer,
                    };
                    // What the queue does not take is dropped, and that refuses it.
                    if let Side::Executor { requests } = &self.side
                        && !self.finishing.is_cancelled()
                    {
                        let _ = requests.try_send(request);
                    }
                }
                Event::Opened { stream } => self.attach(stream),
                Event::Message { stream, message } => self.deliver(&stream, message),
                Event::Writable { stream } => {
                    let Some(attached) = self.streams.get_mut(&stream) else {
                        continue;
                    };
                    let key = attached.key.clone();
                    let [ordinary, urgent] = std::mem::take(&mut attached.blocked);
                    for (priority, blocked) in
                        [(Priority::Urgent, urgent), (Priority::Ordinary, ordinary)]
                    {
                        if let Some((receiver, message)) = blocked {
                            self.send(&key, priority, receiver, message);
                        }
                    }
                }
                Event::Suspended { stream } => self.set_path(&stream, Path::Lost),
                Event::Resumed { stream } => self.set_path(&stream, Path::Live),
                Event::Closed { stream, reason } => self.detach(&stream, reason),
                _ => {}
            }
        }
    }

    fn attach(&mut self, id: StreamId) {
        let (to_application, incoming) = mpsc::channel(STREAM_CHANNEL_MESSAGES);
        let (outgoing, from_application) = mpsc::channel(STREAM_CHANNEL_MESSAGES);
        let (urgent, urgent_from_application) = mpsc::channel(STREAM_CHANNEL_MESSAGES);
        let weak_urgent = urgent.downgrade();
        let (path, path_seen) = watch::channel(Path::Live);
        let stream = Stream {
            id: id.clone(),
            incoming,
            outgoing,
            urgent,
            path: path_seen,
        };
        let taken = match &mut self.side {
            Side::Executor { .. } => self
                .approved
                .remove(&id)
                .is_some_and(|opened| opened.send(stream).is_ok()),
            Side::Harness { opened, .. } => opened
                .take()
                .is_some_and(|opened| opened.send(Ok(stream)).is_ok()),
        };
        if !taken {
            self.connection.reset(now(), &id);
            return;
        }
        let key = StreamKey {
            id: id.clone(),
            serial: self.next_serial,
        };
        self.next_serial += 1;
        let over = CancellationToken::new();
        for (priority, receiver) in [
            (Priority::Ordinary, from_application),
            (Priority::Urgent, urgent_from_application),
        ] {
            self.activities.push(activity::outgoing(
                key.clone(),
                priority,
                receiver,
                over.clone(),
            ));
        }
        self.activities.push(activity::deaf(
            key.clone(),
            to_application.clone(),
            over.clone(),
        ));
        let room = to_application.try_reserve_owned().ok();
        let attached = Attached {
            key,
            over,
            room,
            blocked: [None, None],
            urgent: weak_urgent,
            path,
            mute: false,
            deaf: false,
        };
        self.streams.insert(id, attached);
    }

    fn set_path(&mut self, id: &StreamId, path: Path) {
        if let Some(attached) = self.streams.get(id) {
            attached.set_path(path);
        }
    }

    fn deliver(&mut self, id: &StreamId, message: Bytes) {
        let Some(attached) = self.streams.get_mut(id) else {
            return;
        };
        // No room means that nobody listens: while a stream is paused no message comes.
        let Some(room) = attached.room.take() else {
            return;
        };
        match room.send(message).try_reserve_owned() {
            Ok(room) => attached.room = Some(room),
            Err(TrySendError::Full(sender)) => {
                self.connection.pause(id);
                let (key, over) = (attached.key.clone(), attached.over.clone());
                self.activities.push(activity::room(key, sender, over));
            }
            Err(TrySendError::Closed(_)) => {}
        }
    }

    fn detach(&mut self, id: &StreamId, reason: CloseReason) {
        tracing::debug!(stream = %id, reason = reason.reason(), "stream closed");
        self.approved.remove(id);
        if let Some(over) = self.asked.remove(id) {
            over.cancel();
        }
        if let Some(attached) = self.streams.remove(id) {
            attached.end();
        }
        if let Side::Harness { opened, .. } = &mut self.side {
            if let Some(opened) = opened.take() {
                let _ = opened.send(Err(OpenFailure::Closed(reason)));
            }
            self.end
                .get_or_insert(DisconnectReason::StreamClosed(reason));
        }
    }
}
