//! One direction of one websocket: frames come in, some of them go out.
//!
//! ```text
//! read -> [delayed, in order] -> lose? corrupt? -> duplicate? reorder? -> write
//!                                                     | copies and overtaken frames
//!                                                     +-> [aside] -> write, a few frames later
//! ```
//!
//! A frame that is set aside is written after at most [`MOST_OVERTAKING`] others, or after
//! [`LONGEST_ASIDE`] when nothing follows.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Result, bail};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use relay_proto::frame::BodyKind;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    Control, Faults, Lane, Scope, Shared,
    websocket::{Reader, WireFrame},
};

/// The state of a lane of one websocket.
#[derive(Debug)]
pub(super) struct LanePump<'s, R, W> {
    lane: Lane,
    shared: &'s Shared,
    control: watch::Receiver<Control>,
    rng: StdRng,
    reader: Reader<R>,
    writer: W,
    /// Frames that have yet to leave, with the time when they may.
    delayed: VecDeque<(Instant, WireFrame)>,
    aside: Vec<Aside>,
}

/// A frame that others may overtake.
#[derive(Debug)]
struct Aside {
    frame: WireFrame,
    /// How many frames may still overtake it.
    overtaking: u32,
    until: Instant,
}

impl<'s, R, W> LanePump<'s, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// `number` tells the draws of one websocket from those of another.
    pub(super) fn new(
        lane: Lane,
        shared: &'s Shared,
        number: u64,
        reader: Reader<R>,
        writer: W,
    ) -> Self {
        let index = lane.index() as u64;
        let seed = shared.seed ^ number.rotate_left(32) ^ index.rotate_left(60);
        Self {
            lane,
            shared,
            control: shared.control.subscribe(),
            rng: StdRng::seed_from_u64(seed),
            reader,
            writer,
            delayed: VecDeque::new(),
            aside: Vec::new(),
        }
    }

    /// Runs until the sender ends, and then ends the receiver after everything that is due to it.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or was to be cut here.
    pub(super) async fn run(mut self) -> Result<()> {
        let mut has_ended = false;
        while !(has_ended && self.delayed.is_empty() && self.aside.is_empty()) {
            let held = self.control.borrow_and_update().held;
            let wake = self.next_departure();
            let has_room = self.delayed.len() < MOST_DELAYED;
            tokio::select! {
                changed = self.control.changed() => changed?,
                frame = self.reader.next(), if !held && !has_ended && has_room => match frame? {
                    Some(frame) => self.accept(frame),
                    None => has_ended = true,
                },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if !held && wake.is_some() => {
                    self.depart().await?;
                }
            }
        }
        self.writer.shutdown().await?;
        Ok(())
    }

    fn faults(&self) -> Faults {
        let control = self.control.borrow();
        let faults = control.faults.get(self.lane.index());
        faults.copied().unwrap_or_default()
    }

    fn accept(&mut self, frame: WireFrame) {
        let mut due = Instant::now();
        let longest = self.faults().delay;
        if !longest.is_zero() {
            due += longest.mul_f64(self.rng.random());
        }
        if let Some((last, _)) = self.delayed.back() {
            due = due.max(*last);
        }
        self.delayed.push_back((due, frame));
    }

    fn next_departure(&self) -> Option<Instant> {
        let first = self.delayed.front().map(|(due, _)| *due);
        let aside = self.aside.iter().map(|aside| aside.until);
        aside.chain(first).min()
    }

    async fn depart(&mut self) -> Result<()> {
        let now = Instant::now();
        self.write_aside(|aside| aside.until <= now).await?;
        while self.delayed.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, frame)) = self.delayed.pop_front() {
                self.pass(frame).await?;
            }
        }
        self.writer.flush().await?;
        Ok(())
    }

    /// Draws what happens to `frame`, and makes it happen.
    async fn pass(&mut self, frame: WireFrame) -> Result<()> {
        let faults = self.faults();
        // Always four draws, so that one probability does not change what the others hit.
        let mut draw = |probability| self.rng.random_bool(probability);
        let lost = draw(faults.lose);
        let corrupted = draw(faults.corrupt);
        let duplicated = draw(faults.duplicate);
        let reordered = draw(faults.reorder);
        if !is_hit(faults.scope, frame.relay) {
            return self.write(&frame).await;
        }
        if lost {
            self.shared.count(|counts| counts.lost += 1);
            return Ok(());
        }
        let mut frame = frame;
        if corrupted && let Some(changed) = frame.corrupted(self.rng.random_range(0..1 << 20)) {
            self.shared.count(|counts| counts.corrupted += 1);
            frame = changed;
        }
        if duplicated {
            self.shared.count(|counts| counts.duplicated += 1);
            self.set_aside(frame.clone());
        }
        if reordered {
            self.shared.count(|counts| counts.reordered += 1);
            self.set_aside(frame);
            return Ok(());
        }
        self.write(&frame).await?;
        for aside in &mut self.aside {
            aside.overtaking = aside.overtaking.saturating_sub(1);
        }
        self.write_aside(|aside| aside.overtaking == 0).await
    }

    fn set_aside(&mut self, frame: WireFrame) {
        self.aside.push(Aside {
            frame,
            overtaking: self.rng.random_range(1..=MOST_OVERTAKING),
            until: Instant::now() + LONGEST_ASIDE,
        });
    }

    async fn write_aside(&mut self, is_due: impl Fn(&Aside) -> bool) -> Result<()> {
        for aside in self
            .aside
            .extract_if(.., |aside| is_due(aside))
            .collect::<Vec<_>>()
        {
            self.write(&aside.frame).await?;
        }
        Ok(())
    }

    async fn write(&mut self, frame: &WireFrame) -> Result<()> {
        if frame.relay == Some(BodyKind::Data)
            && let Some(done) = self.shared.takes_mid_frame(self.lane)
        {
            let half = frame.bytes.len() / 2;
            self.writer
                .write_all(frame.bytes.get(..half).unwrap_or_default())
                .await?;
            self.writer.flush().await?;
            // Perhaps nobody waits for it any more.
            let _ = done.send(());
            bail!("cut in the middle of a frame");
        }
        self.writer.write_all(&frame.bytes).await?;
        if frame.relay.is_some() {
            self.shared.count(|counts| counts.passed += 1);
        }
        Ok(())
    }
}

fn is_hit(scope: Scope, relay: Option<BodyKind>) -> bool {
    match scope {
        Scope::Records => matches!(relay, Some(BodyKind::Data | BodyKind::Ack)),
        Scope::Everything => relay.is_some(),
    }
}

/// How many frames may overtake one. Far below the 64 for which a receiver waits.
const MOST_OVERTAKING: u32 = 4;

/// How long a frame waits to be overtaken.
const LONGEST_ASIDE: Duration = Duration::from_millis(30);

/// Frames of one lane that wait for their time. More stay with the sender.
const MOST_DELAYED: usize = 1024;
