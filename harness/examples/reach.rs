//! Uses the network of a remote executor: `reach URL HOST:PORT JOURNAL`.

use std::{env::args, env::var, io::Write as _, sync::Arc, time::Duration};

use harness::{
    CancellationToken, Client, ConnectOptions, Error, HttpRequest, PathUri,
    forward::{Session, serve},
};
use tokio::{net::TcpListener, signal::ctrl_c};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (registry, environment) = (var("EXECCTL_REGISTRY")?, var("EXECCTL_ENVIRONMENT")?);
    let options = ConnectOptions::with_token(&registry, &environment, &var("EXECCTL_TOKEN")?)?;
    let client = connect(options).await?;
    let [url, target, journal] = &args().skip(1).collect::<Vec<_>>()[..] else {
        return Err("usage: reach URL HOST:PORT JOURNAL".into());
    };
    let (journal, mut stdout) = (client.resolve(journal)?, std::io::stdout());

    // A request that the executor makes. The body comes as it arrives.
    note(&client, &journal, "asking\n").await?;
    let mut response = client.http(HttpRequest::new("GET", url)).await?;
    writeln!(stdout, "status {}", response.status)?;
    while let Some(chunk) = response.next_chunk().await? {
        stdout.write_all(&chunk)?;
    }

    // A port of this machine that leads to what the executor reaches.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(stdout, "listening on {}", listener.local_addr()?)?;
    let session = Arc::new(Session::new(client.clone())?);
    let observe = |event: harness::forward::Event<'_>| {
        let _ = writeln!(std::io::stderr(), "{event:?}");
    };
    let serving = serve(
        listener,
        session,
        target.parse()?,
        observe,
        CancellationToken::new(),
    );
    tokio::select! {
        served = serving => served?,
        _ = ctrl_c() => {} // Dropped, it ends all its connections.
    }
    note(&client, &journal, "over\n").await?;
    Ok(client.close_session().await?)
}

/// Tries again as long as that may help.
async fn connect(options: ConnectOptions) -> Result<Client, Error> {
    for _ in 0..10 {
        match Client::connect(options.clone()).await {
            Err(error) if error.is_retryable() => {
                let wait = error.retry_after().unwrap_or(Duration::from_secs(1));
                let _ = writeln!(std::io::stderr(), "{}: {error}", error.reason());
                tokio::time::sleep(wait).await;
            }
            outcome => return outcome,
        }
    }
    Client::connect(options).await
}

/// Adds a line to a file once, also when the connection is lost in the middle of it.
async fn note(client: &Client, journal: &PathUri, line: &'static str) -> Result<(), Error> {
    let files = client.filesystem();
    match files.append(journal, line).await {
        // Nobody but us writes to it, so whether it was done can be seen there.
        Err(Error::OutcomeUnknown { .. }) => {
            if !files.read(journal).await?.ends_with(line.as_bytes()) {
                files.append(journal, line).await?;
            }
            Ok(())
        }
        outcome => outcome.map(drop),
    }
}
