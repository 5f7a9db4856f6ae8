//! What reaches the logs, at the most verbose level, of this crate and of all the ones below it.

use std::io;
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};

use futures_util::{SinkExt, StreamExt};
use http::HeaderMap;
use registry_client::{Connector, ConnectorConfig, ConnectorEnvironment, RendezvousUrl};
use tokio_tungstenite::tungstenite::Message;
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{
    Authority, Server, TOKEN, client_with, config_in, connector, environment, http_answer, key,
    register_answer,
};

/// Everything that was logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<String>>);

impl Lines {
    fn push(&self, text: &str) {
        self.0.lock().expect("not poisoned").push_str(text);
    }

    fn text(&self) -> String {
        self.0.lock().expect("not poisoned").clone()
    }
}

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.push(&format!("{}: {}\n", record.target(), record.args()));
    }

    fn flush(&self) {}
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Runs itself in a process of its own, since loggers are global.
#[test]
fn no_log_shows_a_signed_url_a_credential_or_a_proxy_password() {
    const CHILD: &str = "REGISTRY_CLIENT_TEST_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let name = "logs::no_log_shows_a_signed_url_a_credential_or_a_proxy_password";
        let status = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .status()
            .expect("started");
        assert!(status.success());
        return;
    }
    static LINES: LazyLock<Lines> = LazyLock::new(Lines::default);
    let lines = &*LINES;
    log::set_logger(lines).expect("the first logger");
    log::set_max_level(log::LevelFilter::Trace);
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(lines.clone())
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .expect("a runtime")
        .block_on(every_way_of_connecting());

    let text = lines.text();
    // Proof that the logs of the libraries below do arrive here.
    assert!(text.contains("reqwest::connect: "), "{text}");
    assert!(text.contains("tungstenite::protocol: "), "{text}");
    for line in text.lines() {
        assert!(!line.contains("s3cr3t") && !line.contains(TOKEN), "{line}");
    }
}

async fn every_way_of_connecting() {
    let authority = Authority::new(&["localhost"], &["http/1.1"]);
    let acceptor = authority.acceptor();
    let rendezvous = Server::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            // One of the clients does not trust this certificate.
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let mut socket = tokio_tungstenite::accept_async(stream)
                .await
                .expect("an upgrade");
            while let Some(Ok(message)) = socket.next().await {
                let _ = socket.send(message).await;
            }
        }
    })
    .await;
    let body = register_answer("env1").to_string();
    let registry = Server::canned(http_answer("200 OK", "", &body)).await;
    // Answers every request for a tunnel with a demand for credentials.
    let proxy = Server::canned(http_answer("407 Proxy Authentication Required", "", "")).await;

    let ca_file = Some(authority.path());
    let empty = ConnectorEnvironment::empty();
    let trusting = Connector::new(ConnectorConfig {
        ca_file,
        ..config_in(empty)
    })
    .expect("usable");
    let client = client_with(trusting.clone(), &registry.url("http"));
    client
        .register(&environment("env1"), &key(1))
        .await
        .expect("registered");

    let url = format!(
        "wss://localhost:{}/ws?sig=s3cr3t",
        rendezvous.address.port()
    );
    let url = RendezvousUrl::parse(&url).expect("usable");
    let mut socket = trusting
        .websocket(&url, HeaderMap::new())
        .await
        .expect("open");
    let message = Message::binary(&b"ciphertext"[..]);
    socket.send(message).await.expect("sent");
    socket.next().await.expect("open").expect("a message");

    // Untrusted, not a websocket, and behind a proxy: the ways to fail.
    connector()
        .websocket(&url, HeaderMap::new())
        .await
        .expect_err("untrusted");
    let rejected = RendezvousUrl::parse(&format!("{}/?sig=s3cr3t", registry.url("ws")));
    let rejected = rejected.expect("usable");
    connector()
        .websocket(&rejected, HeaderMap::new())
        .await
        .expect_err("rejected");
    let behind = Connector::new(config_in(ConnectorEnvironment {
        all_proxy: Some(format!("http://user:s3cr3t@{}", proxy.address)),
        ..ConnectorEnvironment::empty()
    }))
    .expect("usable");
    behind
        .websocket(&url, HeaderMap::new())
        .await
        .expect_err("407");
    behind
        .websocket(&rejected, HeaderMap::new())
        .await
        .expect_err("407");
    let client = client_with(behind, &registry.url("http"));
    client
        .register(&environment("env1"), &key(1))
        .await
        .expect_err("407");
}
