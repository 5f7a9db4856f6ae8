//! The only way out: an HTTP proxy that wants credentials, and alone knows what names stand for.
//!
//! ```text
//! CONNECT host:port            tunnel, for TLS and websockets
//! POST http://host:port/path   one request, passed on in its own form, on a connection of its own
//! ```
//!
//! A name that it was not told is refused, and nothing is looked up. It remembers what it was asked
//! for; what that should have been is for the tests to say.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Result;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// The user and the password that it wants, as a URL has them.
pub const CREDENTIALS: &str = "user:pa%20ss@";

/// The running proxy. Dropping it ends it and all its connections.
#[derive(Debug)]
pub struct ForwardProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

/// What it does for a host and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It leads there.
    To(SocketAddr),
    /// 403, as for a host that it was not told.
    Forbidden,
    /// 407, whatever the credentials.
    OtherCredentials,
    /// It hangs up.
    HangUp,
}

#[derive(Debug, Default)]
struct Shared {
    ways: Mutex<HashMap<String, Way>>,
    requests: Mutex<Vec<String>>,
}

impl ForwardProxy {
    /// Starts it on a free loopback port. It leads nowhere yet.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let mut server = JoinSet::new();
        server.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            _server: server,
        })
    }

    /// Says what `target`, a host and a port, stands for from now on.
    pub fn lead(&self, target: impl Into<String>, way: Way) {
        lock(&self.shared.ways).insert(target.into(), way);
    }

    /// Its URL with the credentials that it wants.
    pub fn url(&self) -> String {
        self.url_with(CREDENTIALS)
    }

    /// Its URL with other credentials, which end in `@`, or with none.
    pub fn url_with(&self, credentials: &str) -> String {
        format!("http://{credentials}{}", self.address)
    }

    /// The first lines of all requests so far, refused ones as well.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared.requests).clone()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        // What breaks a connection is seen at its ends.
        connections.spawn(async move { drop(serve(stream, &shared).await) });
        while connections.try_join_next().is_some() {}
    }
}

/// Serves one connection: one request, and all that follows a tunnel.
async fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    // What was read too far is still in it when the bytes are passed on.
    let mut client = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if client.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let Some((first, headers)) = head.split_first() else {
        return Ok(());
    };
    lock(&shared.requests).push(first.clone());
    let mut words = first.split(' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let (target, path) = parse(target);
    let way = match is_authorized(headers) {
        true => lock(&shared.ways).get(&target).copied(),
        false => Some(Way::OtherCredentials),
    };
    let address = match way {
        Some(Way::To(address)) => address,
        Some(Way::HangUp) => return Ok(()),
        Some(Way::OtherCredentials) => {
            return refuse(client, "407 Proxy Authentication Required").await;
        }
        Some(Way::Forbidden) | None => return refuse(client, "403 Forbidden").await,
    };
    let Ok(mut upstream) = TcpStream::connect(address).await else {
        return refuse(client, "502 Bad Gateway").await;
    };
    match path {
        None => client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?,
        Some(path) => {
            let headers = headers.iter().filter(|line| !is_for_proxy(line));
            let headers: String = headers.map(|line| format!("{line}\r\n")).collect();
            let head = format!("{method} {path} HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
            upstream.write_all(head.as_bytes()).await?;
        }
    }
    copy_bidirectional(&mut client, &mut upstream).await?;
    Ok(())
}

/// Host and port of what is asked for, and the path when it is a request to be passed on.
fn parse(target: &str) -> (String, Option<String>) {
    let Some(rest) = target.strip_prefix("http://") else {
        return (target.to_owned(), None);
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| {
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    let host = match has_port {
        true => host.to_owned(),
        false => format!("{host}:80"),
    };
    (host, Some(format!("/{path}")))
}

fn is_authorized(headers: &[String]) -> bool {
    let wanted = CREDENTIALS.trim_end_matches('@').replace("%20", " ");
    let wanted = format!("Basic {}", BASE64_STANDARD.encode(wanted));
    headers.iter().any(|line| {
        line.split_once(": ").is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("proxy-authorization") && value == wanted
        })
    })
}

/// Whether a header ends at the proxy.
fn is_for_proxy(line: &str) -> bool {
    let name = line.split(':').next().unwrap_or_default();
    name.eq_ignore_ascii_case("connection") || name.to_ascii_lowercase().starts_with("proxy-")
}

async fn refuse(mut client: BufReader<TcpStream>, status: &str) -> io::Result<()> {
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_a_port() {
        for (target, host, path) in [
            ("host:443", "host:443", None),
            ("http://host/a/b?c", "host:80", Some("/a/b?c")),
            ("http://host:81", "host:81", Some("/")),
            ("http://[::1]/", "[::1]:80", Some("/")),
        ] {
            assert_eq!(parse(target), (host.to_owned(), path.map(str::to_owned)));
        }
    }
}
