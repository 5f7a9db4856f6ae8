//! Signals that this program gets while it follows a remote one.

use harness::{Client, Error, ProcessControl, Signal};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

use crate::{
    output::Printer,
    run::{Discard, GIVEN_UP},
};

/// Waits for a signal that asks this program to end; returns its exit code.
///
/// From the call on, the signals no longer end this program by themselves.
///
/// # Errors
///
/// When the system refuses to listen for them.
pub(crate) fn ended() -> Result<impl Future<Output = u8>, Error> {
    let listen = |kind| signal(kind).map_err(|error| Error::io("failed to await signals", error));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    Ok(async move {
        let got = tokio::select! {
            _ = interrupt.recv() => 2,
            _ = terminate.recv() => 15,
            _ = hangup.recv() => 1,
        };
        128 + got
    })
}

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

/// Passes signals on. Returns when the user gives up waiting.
pub(crate) async fn handle(
    client: &Client,
    control: &ProcessControl,
    discard: &Discard,
    leaving: Leaving,
    printer: Printer,
) -> u8 {
    let listen = |kind| signal(kind).ok();
    let (
        Some(mut interrupt),
        Some(mut terminate),
        Some(mut hangup),
        Some(mut quit),
        Some(mut user1),
        Some(mut user2),
    ) = (
        listen(SignalKind::interrupt()),
        listen(SignalKind::terminate()),
        listen(SignalKind::hangup()),
        listen(SignalKind::quit()),
        listen(SignalKind::user_defined1()),
        listen(SignalKind::user_defined2()),
    )
    else {
        return std::future::pending().await;
    };
    let mut sending = JoinSet::new();
    let mut interrupts = 0;
    let mut asked_to_end = false;
    loop {
        let got = tokio::select! {
            _ = interrupt.recv() => Signal::Int,
            _ = terminate.recv() => Signal::Term,
            _ = hangup.recv() => Signal::Hup,
            _ = quit.recv() => Signal::Quit,
            _ = user1.recv() => Signal::Usr1,
            _ = user2.recv() => Signal::Usr2,
        };
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
        Signal::Quit => 3,
        _ => 15,
    }
}
