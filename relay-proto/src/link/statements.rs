//! Making and taking statements.

use std::time::Instant;

use super::{End, Heard, Link, Mode, Path, Reliability};
use crate::ack::Acknowledgement;
use crate::credit::{Backlog, Grant};
use crate::frame::{BodyKind, Statement};
use crate::stream::StreamError;

impl Link {
    /// Makes a statement for a frame of this kind. `now` is given where an answer may be asked for.
    pub(crate) fn statement(
        &mut self,
        now: Option<Instant>,
        kind: BodyKind,
        acknowledgement: Acknowledgement,
        next_seq: u32,
        backlog: Backlog,
    ) -> Statement {
        self.serial += 1;
        self.credit.update(acknowledgement.ack, backlog);
        let Grant { max_seq, max_bytes } = self.credit.tell();
        let mut flags = 0;
        if let (Some(now), true) = (now, self.wants_answer) {
            flags |= Statement::ANSWER;
            self.wants_answer = false;
            if self.asked.len() >= ASKED {
                self.asked.pop_front();
            }
            self.asked.push_back((self.serial, now));
        }
        if std::mem::take(&mut self.owes_answer) {
            flags |= Statement::ANSWERS;
        }
        if self.reliability == Reliability::Resumable {
            flags |= Statement::RESUMABLE;
        }
        if self.is_reliable() {
            flags |= Statement::CONFIRMED;
        }
        let mut statement = Statement {
            serial: self.serial,
            flags,
            max_seq,
            max_bytes,
            echo: self.echo,
            tag: Default::default(),
        };
        statement.tag = self
            .keys
            .sign(&statement.text(kind, acknowledgement, next_seq));
        self.acker.sent();
        statement
    }

    /// Takes a statement.
    ///
    /// # Errors
    ///
    /// [`StreamError::FalseAcknowledgement`]: the peer says that it has what was never sent.
    pub(crate) fn hear(
        &mut self,
        now: Instant,
        kind: BodyKind,
        acknowledgement: Acknowledgement,
        next_seq: u32,
        statement: &Statement,
    ) -> Result<Heard, StreamError> {
        let acknowledgement_is_due = self.credit.opened_bytes() > 0;
        if self.mode == Mode::Off || statement.serial <= self.peer_serial {
            return Ok(Heard::Stale);
        }
        let text = statement.text(kind, acknowledgement, next_seq);
        if !self.keys.verify(&text, &statement.tag) {
            return Ok(Heard::Forged);
        }
        self.peer_serial = statement.serial;
        if statement.flags & Statement::ANSWER != 0 {
            self.echo = statement.serial;
            self.owes_answer = true;
            self.acker.at_once();
        }
        let confirmed = !self.is_reliable();
        if confirmed {
            let proves = match self.end {
                End::Harness => kind == BodyKind::Ack,
                End::Executor => statement.flags & Statement::CONFIRMED != 0,
            };
            if !proves {
                // An executor answers a hello with a question of its own.
                self.wants_answer |= self.end == End::Executor;
                return Ok(Heard::Hello);
            }
            self.mode = Mode::Reliable;
            self.wants_answer = false;
            self.retransmit.make_ambiguous();
            // The executor waits for it; and there may be records that nobody has acknowledged.
            if self.end == End::Harness || acknowledgement_is_due {
                self.acker.at_once();
            }
        }
        self.liveness.heard(now);
        self.allowed.max_seq = self.allowed.max_seq.max(statement.max_seq);
        self.allowed.max_bytes = self.allowed.max_bytes.max(statement.max_bytes);
        self.peer_keeps_streams = statement.flags & Statement::RESUMABLE != 0;
        self.take_answer(now, statement);
        // A timeout should not have to be guessed for long.
        self.wants_answer |= confirmed && !self.retransmit.rtt.is_measured();
        self.retransmit
            .acknowledge(now, acknowledgement)
            .map_err(|_| StreamError::FalseAcknowledgement)?;
        self.beyond_repair = self
            .retransmit
            .is_beyond_repair(acknowledgement)
            .then(|| self.beyond_repair.unwrap_or(now));
        let resumed = !self.is_live();
        self.path = Path::Live;
        if resumed || kind == BodyKind::Resume {
            // What the peer does not have by now was lost with the path before.
            self.retransmit.lose_all();
            self.acker.at_once();
        }
        Ok(Heard::News { confirmed, resumed })
    }

    fn take_answer(&mut self, now: Instant, statement: &Statement) {
        let position = self
            .asked
            .iter()
            .position(|(serial, _)| *serial == statement.echo);
        if let Some((_, at)) =
            position.and_then(|position| self.asked.drain(..=position).next_back())
            && statement.flags & Statement::ANSWERS != 0
        {
            self.retransmit
                .rtt
                .sample(now.saturating_duration_since(at));
        }
    }
}

/// Statements that asked for an answer and are remembered for its round-trip time.
const ASKED: usize = 8;
