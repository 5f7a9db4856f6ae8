//! A session that is ended when the subcommand is, whatever comes of it.

use std::time::Duration;

use harness::Client;
use tokio::time::timeout;

use crate::{args::Global, connect::connect, exit::Failure, signals::Signals};

/// How long the executor may take to end a session. Otherwise it is left to expire.
const END_LIMIT: Duration = Duration::from_secs(2);

/// Does `work` in a session of its own. A signal that asks this program to end gives it up.
///
/// # Errors
///
/// When there is no connection, when `work` fails, or the signal.
pub(crate) async fn within<T>(
    global: &Global,
    environment: Option<&str>,
    work: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut signals = Signals::listen()?;
    let client = signals.unless_ended(connect(global, environment)).await?;
    let outcome = signals.unless_ended(work(&client)).await;
    end(&client, &mut signals).await;
    outcome
}

/// Ends the session at the executor, and what runs in it, if the executor can do that; closes the
/// client in any case. Who is in a hurry repeats the signal.
pub(crate) async fn end(client: &Client, signals: &mut Signals) {
    let end = timeout(END_LIMIT, client.close_session());
    let ended = tokio::select! {
        ended = end => matches!(ended, Ok(Ok(()))),
        _ = signals.ending() => false,
    };
    if !ended {
        tracing::debug!("the session is left to expire");
        client.close().await;
    }
}
