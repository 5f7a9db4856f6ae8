//! `execctl proxy`.

use harness::Error;
use serde_json::json;
use tokio::{net::TcpListener, signal::unix};
use tokio_util::sync::CancellationToken;

use crate::{args, args::Global, connect::remote, exit::Failure, output::Printer};

/// Runs the subcommand until SIGINT or SIGTERM, or until the end of standard input if that is what
/// it serves.
pub(crate) async fn proxy(
    global: &Global,
    args: args::Proxy,
    printer: Printer,
) -> Result<u8, Failure> {
    let remote = remote(global).await?;
    if args.stdio {
        harness::proxy::serve_lines(remote, tokio::io::stdin(), tokio::io::stdout()).await?;
        return Ok(0);
    }
    if !args.listen.ip().is_loopback() {
        return Err(Failure::usage(format!(
            "--listen {}: whoever connects acts with your token, so it must be a loopback address",
            args.listen
        )));
    }
    let failed = |error| Failure::from(Error::io("failed to listen", error));
    let listener = TcpListener::bind(args.listen).await.map_err(failed)?;
    let mut terminate = unix::signal(unix::SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = unix::signal(unix::SignalKind::interrupt()).map_err(failed)?;
    let url = format!("ws://{}", listener.local_addr().map_err(failed)?);
    printer.result(&json!({ "type": "proxy", "url": url }), &url)?;
    let cancel = CancellationToken::new();
    let mut serving = std::pin::pin!(harness::proxy::serve(listener, remote, cancel.clone()));
    loop {
        tokio::select! {
            ended = &mut serving => return Ok(ended.map(|()| 0)?),
            _ = terminate.recv() => cancel.cancel(),
            _ = interrupt.recv() => cancel.cancel(),
        }
    }
}
