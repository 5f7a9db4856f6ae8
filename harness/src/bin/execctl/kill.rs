//! `execctl kill`: end a detached program, or send it a signal.

use std::time::Duration;

use crate::{
    args::{Global, Kill},
    connect::resume,
    exit::Failure,
    output::Printer,
};

/// Runs the subcommand.
pub(crate) async fn kill(global: &Global, args: Kill, printer: Printer) -> Result<u8, Failure> {
    let client = resume(global, &args.handle.session).await?;
    let (id, listed) = args.handle.find(&client).await?;
    let control = client.control(&id, listed.is_some_and(|listed| listed.tty));
    let was_running = match args.signal {
        Some(signal) => control.signal(signal).await,
        None => {
            let grace = Duration::from_secs(args.grace_secs);
            if !grace.is_zero() && !client.info().capabilities.process_terminate_grace {
                printer.note("this executor gives no grace period: the program is killed at once");
            }
            control.terminate_within(grace).await
        }
    };
    client.close().await;
    if was_running? {
        Ok(0)
    } else {
        Err(Failure::other(format!(
            "{}: it is not running",
            args.handle
        )))
    }
}
