//! A registry and a rendezvous that misbehave one step after the other.

use std::{
    io,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::StreamExt as _;
use registry_client::{
    Connector, ConnectorConfig, ConnectorEnvironment, Credential, RegistryUrl, StaticBearer,
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_tungstenite::tungstenite::{
    Message,
    handshake::server::{ErrorResponse, Request, Response},
};
use tracing::Level;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _};
use wiremock::{Mock, MockServer, Respond, ResponseTemplate, matchers};

use super::*;
use crate::rpc::Transport;

const TOKEN: &str = "t0ken-s3cr3t";
const DEADLINE: Duration = Duration::from_secs(20);
const FAST: BackoffConfig = BackoffConfig {
    min_delay: Duration::from_millis(5),
    max_delay: Duration::from_millis(20),
    ..BACKOFF
};

struct Nothing;

impl Serve for Nothing {
    async fn serve(self: Arc<Self>, _: Transport, _: CancellationToken) {}
}

/// The log of this thread, line by line.
struct Log {
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
    _guard: tracing::subscriber::DefaultGuard,
}

#[derive(Clone)]
struct LogWriter(mpsc::Sender<String>);

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.try_send(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn start() -> Self {
        let (sender, lines) = mpsc::channel(1000);
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(move || LogWriter(sender.clone()));
        let subscriber = tracing_subscriber::registry()
            .with(layer)
            .with(Targets::new().with_target("agent", Level::TRACE));
        Self {
            lines,
            seen: Vec::new(),
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    /// Waits for a line that contains `text`.
    async fn line(&mut self, text: &str) -> String {
        loop {
            let line = tokio::time::timeout(DEADLINE, self.lines.recv()).await;
            let Ok(Some(line)) = line else {
                panic!("no line with {text:?} in:\n{}", self.seen.concat());
            };
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }
}

/// Gives its answers in order, the last one for ever.
struct InOrder(Vec<ResponseTemplate>, AtomicUsize);

impl Respond for InOrder {
    fn respond(&self, _: &wiremock::Request) -> ResponseTemplate {
        let index = self.1.fetch_add(1, Ordering::SeqCst).min(self.0.len() - 1);
        self.0[index].clone()
    }
}

fn registration(number: u32, url: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(serde_json::json!({
        "environment_id": "env1", "security_profile": "noise_hybrid_ik_v1",
        "executor_registration_id": format!("reg-{number}"), "url": url,
    }))
}

async fn registry(
    listener: Option<std::net::TcpListener>,
    answers: Vec<ResponseTemplate>,
) -> MockServer {
    let server = match listener {
        Some(listener) => MockServer::builder().listener(listener).start().await,
        None => MockServer::start().await,
    };
    Mock::given(matchers::method("POST"))
        .and(matchers::path("/cloud/environment/env1/register"))
        .and(matchers::header(
            "authorization",
            format!("Bearer {TOKEN}").as_str(),
        ))
        .respond_with(InOrder(answers, AtomicUsize::new(0)))
        .mount(&server)
        .await;
    server
}

async fn register_calls(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

/// What the rendezvous does with one websocket request.
#[derive(Clone, Copy)]
enum Play {
    Reject(u16),
    CloseAtOnce,
    Keep,
}

/// Plays `plays` one after the other and reports the path and query of each request.
async fn rendezvous(plays: Vec<Play>) -> (String, mpsc::Receiver<String>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("ws://{}", listener.local_addr().unwrap());
    let (requests, receiver) = mpsc::channel(100);
    let task = tokio::spawn(async move {
        for play in plays {
            let (tcp, _) = listener.accept().await.unwrap();
            let seen = Mutex::new(None);
            #[expect(clippy::result_large_err, reason = "the library defines the callback")]
            let check = |request: &Request, response: Response| {
                let id = request.headers()["x-request-id"].to_str().unwrap();
                assert!(id.starts_with("req_") && id.len() == 36, "{id}");
                assert!(!request.headers().contains_key("authorization"));
                *seen.lock().unwrap() = Some(request.uri().to_string());
                match play {
                    Play::Reject(status) => {
                        let mut rejection = ErrorResponse::new(None);
                        *rejection.status_mut() = http::StatusCode::from_u16(status).unwrap();
                        Err(rejection)
                    }
                    Play::CloseAtOnce | Play::Keep => Ok(response),
                }
            };
            let socket = tokio_tungstenite::accept_hdr_async(tcp, check).await;
            let uri = seen.lock().unwrap().take().unwrap();
            requests.send(uri).await.unwrap();
            if let Ok(mut socket) = socket {
                if matches!(play, Play::CloseAtOnce) {
                    let _ = socket.close(None).await;
                }
                while let Some(Ok(message)) = socket.next().await {
                    assert!(!matches!(message, Message::Text(_)));
                }
            }
        }
    });
    (base, receiver, task)
}

fn supervisor(base: &str) -> (Supervisor<Nothing>, CancellationToken) {
    supervisor_with(base, FAST)
}

fn supervisor_with(base: &str, backoff: BackoffConfig) -> (Supervisor<Nothing>, CancellationToken) {
    let connector = Connector::new(ConnectorConfig {
        environment: ConnectorEnvironment::empty(),
        ..ConnectorConfig::default()
    })
    .unwrap();
    let credential = StaticBearer::new(Credential::bearer(TOKEN).unwrap());
    let registry = RegistryClient::new(
        connector,
        RegistryUrl::parse(base).unwrap(),
        Arc::new(credential),
    );
    let supervisor = Supervisor::new(
        registry,
        EnvironmentId::new("env1").unwrap(),
        Arc::new(crate::random::identity().unwrap()),
        Arc::new(Nothing),
        backoff,
        [7; 32],
    );
    (supervisor, CancellationToken::new())
}

async fn next(requests: &mut mpsc::Receiver<String>) -> String {
    tokio::time::timeout(DEADLINE, requests.recv())
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn every_kind_of_registry_trouble_is_survived_and_explained() {
    let mut log = Log::start();
    let (rendezvous, mut requests, _task) = rendezvous(vec![Play::Keep]).await;
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);

    let (supervisor, cancel) = supervisor(&format!("http://{address}"));
    let running = tokio::spawn(supervisor.run(cancel.clone()));
    let refused = log.line("cannot register").await;
    assert!(refused.contains("Connection refused"), "{refused}");
    assert!(
        refused.contains("check that it runs and can be reached"),
        "{refused}"
    );

    let code = |code: &str| serde_json::json!({"error": {"code": code, "message": "text of the registry"}});
    let answers = vec![
        ResponseTemplate::new(401).set_body_json(code("bad_token")),
        ResponseTemplate::new(404).set_body_json(code("environment_not_found")),
        ResponseTemplate::new(500).set_body_string("oops"),
        ResponseTemplate::new(307).insert_header("location", "https://elsewhere"),
        ResponseTemplate::new(200).set_body_string("not json"),
        registration(1, ""),
        registration(2, "http://host/?sig=s3cr3t"),
        registration(3, &format!("{rendezvous}/ws?sig=s3cr3t")),
    ];
    let listener = std::net::TcpListener::bind(address).unwrap();
    let server = registry(Some(listener), answers).await;
    for (text, advice) in [
        (
            "(401 Unauthorized): text of the registry",
            "the token is wrong, expired",
        ),
        (
            "(404 Not Found, environment_not_found): text of the registry",
            "create the environment",
        ),
        ("(500 Internal Server Error)", "a problem of its own"),
        ("(307 Temporary Redirect)", "give the registry's final URL"),
        ("unusable answer to register", "check that the registry URL"),
        ("rendezvous url is blank", "correct its configuration"),
        (
            "rendezvous url has scheme http",
            "correct its configuration",
        ),
    ] {
        let line = log.line("cannot register").await;
        assert!(line.contains(text) && line.contains(advice), "{line}");
        assert!(
            line.contains("WARN") && line.contains("next_try_secs"),
            "{line}"
        );
    }
    let registered = log.line("registered").await;
    assert!(
        registered.contains("INFO") && registered.contains("reg-3"),
        "{registered}"
    );
    log.line("connected, online").await;
    assert_eq!(next(&mut requests).await, "/ws?sig=s3cr3t");
    assert_eq!(register_calls(&server).await, 8);
    assert!(!running.is_finished());

    cancel.cancel();
    tokio::time::timeout(DEADLINE, running)
        .await
        .unwrap()
        .unwrap();
    let all = log.seen.concat();
    assert!(!all.contains("s3cr3t"), "{all}");
}

#[tokio::test]
async fn a_rejected_url_is_replaced_and_other_failures_keep_it() {
    let mut log = Log::start();
    let (rendezvous, mut requests, _task) = rendezvous(vec![
        Play::Reject(403),
        Play::Reject(503),
        Play::CloseAtOnce,
        Play::Keep,
    ])
    .await;
    let server = registry(
        None,
        vec![
            registration(1, &format!("{rendezvous}/one?sig=s3cr3t")),
            registration(2, &format!("{rendezvous}/two?sig=s3cr3t")),
        ],
    )
    .await;
    let (supervisor, cancel) = supervisor(&server.uri());
    let running = tokio::spawn(supervisor.run(cancel.clone()));

    assert_eq!(next(&mut requests).await, "/one?sig=s3cr3t");
    let rejected = log.line("cannot connect").await;
    assert!(
        rejected.contains("status 403") && rejected.contains("registering again"),
        "{rejected}"
    );
    assert!(rejected.contains("request=\"req_"), "{rejected}");
    assert_eq!(next(&mut requests).await, "/two?sig=s3cr3t");
    let unavailable = log.line("cannot connect").await;
    assert!(
        unavailable.contains("status 503") && unavailable.contains("next_try_secs"),
        "{unavailable}"
    );
    assert_eq!(next(&mut requests).await, "/two?sig=s3cr3t");
    log.line("connected, online").await;
    let lost = log.line("disconnected").await;
    assert!(lost.contains("reason=\"peer_close\""), "{lost}");
    log.line("connecting again").await;
    assert_eq!(next(&mut requests).await, "/two?sig=s3cr3t");
    log.line("connected, online").await;
    assert_eq!(register_calls(&server).await, 2);

    cancel.cancel();
    tokio::time::timeout(DEADLINE, running)
        .await
        .unwrap()
        .unwrap();
    let all = log.seen.concat();
    assert!(!all.contains("s3cr3t"), "{all}");
}

#[tokio::test]
async fn a_rendezvous_that_stays_away_is_asked_for_anew() {
    let mut log = Log::start();
    let (rendezvous, mut requests, _task) = rendezvous(vec![Play::Keep]).await;
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let server = registry(
        None,
        vec![
            registration(1, &format!("ws://{gone}/")),
            registration(2, &format!("{rendezvous}/new")),
        ],
    )
    .await;
    let (supervisor, cancel) = supervisor(&server.uri());
    let running = tokio::spawn(supervisor.run(cancel.clone()));
    let refused = log.line("cannot connect").await;
    assert!(refused.contains("Connection refused"), "{refused}");
    assert_eq!(next(&mut requests).await, "/new");
    log.line("connected, online").await;
    assert_eq!(register_calls(&server).await, 2);
    cancel.cancel();
    tokio::time::timeout(DEADLINE, running)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn the_wait_that_a_registry_asks_for_is_kept() {
    let mut log = Log::start();
    let server = registry(
        None,
        vec![ResponseTemplate::new(503).insert_header("retry-after", "100")],
    )
    .await;
    let (supervisor, cancel) = supervisor(&server.uri());
    let running = tokio::spawn(supervisor.run(cancel.clone()));
    let line = log.line("cannot register").await;
    assert!(line.contains("next_try_secs=100"), "{line}");
    // Waiting does not hold up the end.
    cancel.cancel();
    tokio::time::timeout(DEADLINE, running)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(register_calls(&server).await, 1);
}

#[tokio::test]
async fn a_stable_connection_that_is_lost_is_not_waited_for() {
    let (rendezvous, mut requests, _task) = rendezvous(vec![Play::CloseAtOnce, Play::Keep]).await;
    let server = registry(None, vec![registration(1, &format!("{rendezvous}/"))]).await;
    // With these delays the second request comes long after the deadline, unless it comes at once.
    let patient = BackoffConfig {
        min_delay: 6 * DEADLINE,
        max_delay: 6 * DEADLINE,
        stable_after: Duration::ZERO,
        ..BACKOFF
    };
    let (supervisor, cancel) = supervisor_with(&server.uri(), patient);
    let running = tokio::spawn(supervisor.run(cancel.clone()));
    for _ in 0..2 {
        next(&mut requests).await;
    }
    cancel.cancel();
    tokio::time::timeout(DEADLINE, running)
        .await
        .unwrap()
        .unwrap();
}
