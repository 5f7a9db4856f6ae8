//! `execctl forward`: local ports that lead through the executor.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use harness::{
    Error,
    forward::{Event, Session, Target, serve},
};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    args::{Forward, Global},
    connect::connect,
    exit::Failure,
    output::Printer,
    session,
    signals::Signals,
};

/// `[LOCAL_ADDR:]LOCAL_PORT:HOST:PORT`, or the same without `HOST`, or one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    listen: SocketAddr,
    target: Target,
}

/// Runs the subcommand until SIGINT or SIGTERM.
pub(crate) async fn forward(
    global: &Global,
    args: Forward,
    printer: Printer,
) -> Result<u8, Failure> {
    let mut listeners = Vec::new();
    // Before anything is dialed: a port that is taken is found out at once.
    for spec in args.forwards {
        let listener = TcpListener::bind(spec.listen).await.map_err(|error| {
            Failure::from(Error::io(
                format!("failed to listen on {}", spec.listen),
                error,
            ))
        })?;
        let failed = |error| Failure::from(Error::io("failed to listen", error));
        let address = listener.local_addr().map_err(failed)?;
        listeners.push((listener, address, spec.target));
    }
    let mut signals = Signals::listen()?;
    let client = signals.unless_ended(connect(global, None)).await?;
    let session = match Session::new(client.clone()) {
        Ok(session) => Arc::new(session),
        Err(error) => {
            session::end(&client, &mut signals).await;
            return Err(error.into());
        }
    };
    drop(client);
    let cancel = CancellationToken::new();
    let mut serving = JoinSet::new();
    for (listener, address, target) in listeners {
        let object = json!({
            "type": "forward", "listen": address.to_string(), "host": target.host,
            "port": target.port,
        });
        printer.result(&object, &format!("{address} -> {target}"))?;
        if !address.ip().is_loopback() {
            printer.note(&format!("{address} is open to other machines"));
        }
        let observe = observe(target.clone(), address, printer);
        serving.spawn(serve(
            listener,
            session.clone(),
            target,
            observe,
            cancel.clone(),
        ));
    }
    let outcome = tokio::select! {
        _ = signals.ending() => Ok(()),
        Some(ended) = serving.join_next() => ended.unwrap_or(Ok(())),
    };
    cancel.cancel();
    while serving.join_next().await.is_some() {}
    session::end(&session.client().await, &mut signals).await;
    outcome.map(|()| 0).map_err(Failure::from)
}

/// Tells of connections that fail; in JSON and in logs also of the others.
fn observe(
    target: Target,
    listen: SocketAddr,
    printer: Printer,
) -> impl Fn(Event<'_>) + Send + Sync + 'static {
    move |event| {
        let (what, peer, error) = match event {
            Event::Connected(peer) => ("connected", peer, None),
            Event::Failed(peer, error) => ("failed", peer, Some(error)),
            Event::Ended(peer) => ("ended", peer, None),
            _ => return,
        };
        tracing::info!(%peer, %target, what, "forwarded connection");
        let message = error.map(|error| Failure::from(error.clone()).message);
        if printer.is_json() {
            let mut object = json!({
                "type": what, "listen": listen.to_string(), "peer": peer.to_string(),
                "host": target.host, "port": target.port,
            });
            if let (Some(message), Some(members)) = (message, object.as_object_mut()) {
                members.insert("message".into(), message.into());
            }
            // A reader that is gone is no reason to end connections.
            let _ = printer.result(&object, "");
        } else if let Some(message) = message {
            printer.note(&format!("{peer} -> {target}: {message}"));
        }
    }
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || "[LOCAL_ADDR:]LOCAL_PORT:HOST:PORT, LOCAL_PORT:PORT or PORT".to_owned();
        let parts = parts(text).ok_or_else(wrong)?;
        let (address, local, host, port) = match parts.as_slice() {
            [port] => ("", *port, LOCALHOST, *port),
            [local, port] => ("", *local, LOCALHOST, *port),
            [local, host, port] => ("", *local, *host, *port),
            [address, local, host, port] => (*address, *local, *host, *port),
            _ => return Err(wrong()),
        };
        let ip = match address {
            "" | LOCALHOST => IpAddr::V4(Ipv4Addr::LOCALHOST),
            "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            address => address
                .parse()
                .map_err(|_| format!("{address} is not an address of this machine"))?,
        };
        let local_port: u16 = local
            .parse()
            .map_err(|_| format!("{local} is not a local port: 1 to 65535, or 0 for a free one"))?;
        let port = port
            .parse()
            .map_err(|_| format!("{port} is not a port: 1 to 65535"))?;
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            listen: SocketAddr::new(ip, local_port),
            target: Target {
                host: host.to_owned(),
                port,
            },
        })
    }
}

/// The parts between colons that are not in brackets, without the brackets.
fn parts(text: &str) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let (part, after) = match rest.strip_prefix('[') {
            Some(inner) => inner.split_once(']')?,
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        parts.push(part);
        if after.is_empty() {
            return Some(parts);
        }
        rest = after.strip_prefix(':')?;
    }
}

/// The executor itself, when a forward names no host; and this machine, as an address.
const LOCALHOST: &str = "localhost";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_are_written_as_for_ssh_and_kubectl() {
        for (text, listen, target) in [
            ("8080:db:5432", "127.0.0.1:8080", "db:5432"),
            ("0:db:5432", "127.0.0.1:0", "db:5432"),
            ("0.0.0.0:8080:db:80", "0.0.0.0:8080", "db:80"),
            ("*:8080:db:80", "0.0.0.0:8080", "db:80"),
            ("localhost:8080:db:80", "127.0.0.1:8080", "db:80"),
            (":8080:db:80", "127.0.0.1:8080", "db:80"),
            ("[::1]:8080:[fe80::1]:80", "[::1]:8080", "[fe80::1]:80"),
            ("8080:[::1]:80", "127.0.0.1:8080", "[::1]:80"),
            ("8080:80", "127.0.0.1:8080", "localhost:80"),
            ("80", "127.0.0.1:80", "localhost:80"),
        ] {
            let spec: Spec = text.parse().unwrap();
            let shown = (spec.listen.to_string(), spec.target.to_string());
            assert_eq!(shown, (listen.to_owned(), target.to_owned()), "{text}");
        }
        for text in [
            "",
            ":",
            "x",
            "0",
            "1:0",
            "1:x",
            "65536:db:80",
            "1::80",
            "a:1:db:80",
            "::1:80:db:80",
            "[::1:80:db:80",
            "1:2:3:4:5",
            "[::1]x:80:db:80",
        ] {
            assert!(text.parse::<Spec>().is_err(), "{text}");
        }
    }
}
