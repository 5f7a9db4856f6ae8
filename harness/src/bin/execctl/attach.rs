//! `execctl attach`: back to a program that `run --detach` has started.

use harness::{Client, Overflow, ProcessState};

use crate::{
    args::{Attach, Global},
    connect::resume,
    exit::Failure,
    output::Printer,
    run::{self, Ended, Following},
    signals::{Leaving, Signals},
    stdin::{self, Kind},
};

/// Runs the subcommand.
pub(crate) async fn attach(global: &Global, args: Attach, printer: Printer) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let client = signals
        .unless_ended(resume(global, &args.handle.session))
        .await?;
    let (id, listed) = args.handle.find(&client).await?;
    let tty = listed.map_or(args.tty, |listed| listed.tty);
    let process = client.attach(&id, tty, Overflow::Block).await?;
    let input = if args.no_stdin {
        Kind::Empty
    } else {
        stdin::open().await
    };
    let following = Following {
        input: match input {
            Kind::Empty => None,
            Kind::Terminal(input) | Kind::Stream(input) => Some(input),
        },
        tty,
        // Its terminal has the size of whoever started it.
        size: None,
        ends: tty,
        leaving: Leaving::Keep,
    };
    let ended = run::follow(&client, process, following, &mut signals, printer).await?;
    match ended {
        Ended::Program { .. } => finish(&client).await,
        Ended::Left(_) => {
            printer.note(&format!("left running: {}", args.handle));
            client.close().await;
        }
    }
    Ok(ended.code())
}

/// Ends the session, unless something runs in it.
async fn finish(client: &Client) {
    let is_over = match client.processes().await {
        Ok(processes) => processes
            .iter()
            .all(|process| process.state == ProcessState::Closed),
        Err(_) => false,
    };
    if is_over {
        let Err(error) = client.close_session().await else {
            return;
        };
        tracing::debug!(error = %error, "the session is left to expire");
    }
    client.close().await;
}
