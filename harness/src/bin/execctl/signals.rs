//! Signals that this program gets while it follows a remote one.

use harness::{Client, Error, ProcessControl, Signal};
use tokio::{
    signal::unix::{self, SignalKind},
    task::JoinSet,
};

use crate::{
    exit::Failure,
    output::Printer,
    run::{Discard, GIVEN_UP},
};

/// What becomes of the remote program when this one leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// It is killed: nobody would know of it.
    Kill,
    /// It runs on: it has a handle.
    Keep,
}

/// What a signal leads to.
enum Act {
    Send(Signal),
    Kill,
    Leave(u8),
}

/// The signals that this program acts upon. From when they are listened for, they no longer end it by
/// themselves.
pub(crate) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
    quit: unix::Signal,
    user1: unix::Signal,
    user2: unix::Signal,
}

impl Signals {
    /// Listens.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub(crate) fn listen() -> Result<Self, Error> {
        let listen = |kind| {
            unix::signal(kind).map_err(|error| Error::io("failed to listen for signals", error))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            quit: listen(SignalKind::quit())?,
            user1: listen(SignalKind::user_defined1())?,
            user2: listen(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Int,
            _ = self.terminate.recv() => Signal::Term,
            _ = self.hangup.recv() => Signal::Hup,
            _ = self.quit.recv() => Signal::Quit,
            _ = self.user1.recv() => Signal::Usr1,
            _ = self.user2.recv() => Signal::Usr2,
        }
    }

    /// Waits for a signal that asks this program to end; returns its exit code.
    pub(crate) async fn ending(&mut self) -> u8 {
        loop {
            match self.next().await {
                Signal::Usr1 | Signal::Usr2 => {}
                ending => return 128 + number(ending),
            }
        }
    }

    /// Does `work` unless such a signal comes.
    pub(crate) async fn unless_ended<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            outcome = work => outcome,
            code = self.ending() => Err(Failure::ended(code)),
        }
    }
}

/// Passes signals on. Returns when the user gives up waiting.
pub(crate) async fn handle(
    signals: &mut Signals,
    client: &Client,
    control: &ProcessControl,
    discard: &Discard,
    leaving: Leaving,
    printer: Printer,
) -> u8 {
    let mut sending = JoinSet::new();
    let mut interrupts = 0;
    let mut asked_to_end = false;
    loop {
        let got = signals.next().await;
        let by_name = client.info().capabilities.process_signal_group;
        let act = match got {
            Signal::Int => {
                interrupts += 1;
                match interrupts {
                    1 => Act::Send(Signal::Int),
                    // Whoever is only attached wants to leave, not to kill.
                    2 if leaving == Leaving::Kill => Act::Kill,
                    2 => Act::Send(Signal::Int),
                    _ => Act::Leave(GIVEN_UP),
                }
            }
            Signal::Usr1 | Signal::Usr2 if by_name => Act::Send(got),
            Signal::Usr1 | Signal::Usr2 => {
                printer.note("this executor cannot pass the signal on");
                continue;
            }
            ending if leaving == Leaving::Keep => Act::Leave(128 + number(ending)),
            ending if by_name && !asked_to_end => {
                asked_to_end = true;
                Act::Send(ending)
            }
            _ => Act::Kill,
        };
        let control = control.clone();
        match act {
            Act::Send(Signal::Int) => {
                sending.spawn(async move { control.interrupt().await });
            }
            Act::Send(signal) => {
                sending.spawn(async move { control.signal(signal).await.map(drop) });
            }
            Act::Kill => {
                // A full pipe behind standard output would keep the connection stopped.
                discard.switch_on();
                sending.spawn(async move { control.terminate().await.map(drop) });
            }
            Act::Leave(code) => return code,
        }
    }
}

/// The numbers of the signals that end this program.
fn number(signal: Signal) -> u8 {
    match signal {
        Signal::Hup => 1,
        Signal::Int => 2,
        Signal::Quit => 3,
        _ => 15,
    }
}
