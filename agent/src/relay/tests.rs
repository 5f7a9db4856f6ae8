//! A real harness end, a socket in memory, and a registry that answers validate calls.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use registry_client::{
    Connector, ConnectorConfig, ConnectorEnvironment, Credential, RegistryUrl, StaticBearer,
};
use relay_driver::{OpenFailure, OpenRequest, Stream};
use relay_proto::{CloseReason, ids::StreamId, keys::PublicKey};
use tokio::{io::DuplexStream, task::JoinHandle};
use tokio_tungstenite::tungstenite::protocol::Role;
use wiremock::{Mock, MockServer, Respond, ResponseTemplate, matchers};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

/// Sends every message back and remembers the peers.
#[derive(Default)]
struct Echo(Mutex<Vec<PeerLabel>>);

impl Serve for Echo {
    async fn serve(self: Arc<Self>, mut transport: Transport, _: CancellationToken) {
        self.0.lock().unwrap().push(transport.peer.clone());
        while let Some(message) = transport.incoming.recv().await {
            if transport.outgoing.send(message).await.is_err() {
                return;
            }
        }
    }
}

struct InOrder(Vec<ResponseTemplate>, AtomicUsize);

impl Respond for InOrder {
    fn respond(&self, _: &wiremock::Request) -> ResponseTemplate {
        self.0[self.1.fetch_add(1, Ordering::SeqCst).min(self.0.len() - 1)].clone()
    }
}

struct Rig {
    server: MockServer,
    echo: Arc<Echo>,
    cancel: CancellationToken,
    executor: JoinHandle<DisconnectReason>,
    harness: JoinHandle<DisconnectReason>,
    opened: Result<Stream, OpenFailure>,
    /// The harness's.
    key: PublicKey,
}

/// Attaches an executor and lets one harness knock; the registry gives `verdicts` in order.
async fn knock(verdicts: Vec<ResponseTemplate>) -> Rig {
    let server = MockServer::start().await;
    Mock::given(matchers::method("POST"))
        .and(matchers::path("/cloud/environment/env1/validate"))
        .and(matchers::header("x-codex-noise-stream-id", "stream-1"))
        .and(matchers::body_partial_json(serde_json::json!({
            "executor_registration_id": "reg-1", "harness_key_authorization": "let me in"})))
        .respond_with(InOrder(verdicts, AtomicUsize::new(0)))
        .mount(&server)
        .await;
    let connector = Connector::new(ConnectorConfig {
        environment: ConnectorEnvironment::empty(),
        ..ConnectorConfig::default()
    })
    .unwrap();
    let credential = StaticBearer::new(Credential::bearer("token").unwrap());
    let registry = RegistryClient::new(
        connector,
        RegistryUrl::parse(&server.uri()).unwrap(),
        Arc::new(credential),
    );
    let environment = EnvironmentId::new("env1").unwrap();
    let registration = RegistrationId::new("reg-1").unwrap();
    let identity = Arc::new(crate::random::identity().unwrap());
    let echo = Arc::new(Echo::default());
    let cancel = CancellationToken::new();
    let (near, far) = sockets().await;
    let attachment = Attachment {
        registry,
        identity: Arc::clone(&identity),
        environment: environment.clone(),
        registration: registration.clone(),
        sessions: Arc::clone(&echo),
    };
    let served = cancel.clone();
    let executor = tokio::spawn(async move {
        let mut streams = Streams::default();
        let reason = streams.serve(attachment, near, served).await;
        streams.end().await;
        reason
    });
    let harness_identity = Arc::new(crate::random::identity().unwrap());
    let key = harness_identity.public_key().clone();
    let connection = Connection::harness(
        ConnectionConfig::default(),
        harness_identity,
        environment,
        registration,
        crate::random::seed(),
        Instant::now().into_std(),
    );
    let request = OpenRequest {
        stream: StreamId::new("stream-1").unwrap(),
        executor_key: identity.public_key().clone(),
        authorization: "let me in".to_owned(),
    };
    let (driver, opening) =
        relay_driver::harness(far, connection, request, CancellationToken::new());
    let harness = tokio::spawn(driver.run());
    let opened = timeout(DEADLINE, opening.opened()).await.unwrap();
    Rig {
        server,
        echo,
        cancel,
        executor,
        harness,
        opened,
        key,
    }
}

async fn sockets() -> (WebSocketStream<DuplexStream>, WebSocketStream<DuplexStream>) {
    let (near, far) = tokio::io::duplex(1 << 20);
    let config = Some(relay_driver::websocket_config());
    (
        WebSocketStream::from_raw_socket(near, Role::Client, config).await,
        WebSocketStream::from_raw_socket(far, Role::Server, config).await,
    )
}

fn valid(valid: bool) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(serde_json::json!({ "valid": valid }))
}

async fn calls(rig: &Rig) -> usize {
    rig.server.received_requests().await.unwrap().len()
}

#[tokio::test]
async fn an_approved_harness_is_served_until_shutdown() {
    let mut rig = knock(vec![valid(true)]).await;
    let mut stream = rig.opened.unwrap();
    stream
        .outgoing
        .send(Bytes::from_static(b"{\"hello\":1}"))
        .await
        .unwrap();
    let echoed = timeout(DEADLINE, stream.incoming.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(echoed, "{\"hello\":1}");
    let peer = PeerLabel::Relay {
        stream: StreamId::new("stream-1").unwrap(),
        key: rig.key.clone(),
    };
    assert_eq!(*rig.echo.0.lock().unwrap(), [peer]);

    rig.cancel.cancel();
    let reason = timeout(DEADLINE, &mut rig.executor).await.unwrap().unwrap();
    assert_eq!(reason, DisconnectReason::LocalShutdown);
    // The harness is told, rather than left to find out.
    assert!(
        timeout(DEADLINE, stream.incoming.recv())
            .await
            .unwrap()
            .is_none()
    );
    timeout(DEADLINE, rig.harness).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_refused_harness_gets_a_reset() {
    let rig = knock(vec![valid(false)]).await;
    assert_eq!(calls(&rig).await, 1);
    assert!(rig.echo.0.lock().unwrap().is_empty());
    assert!(
        matches!(rig.opened, Err(OpenFailure::Closed(_))),
        "{:?}",
        rig.opened
    );
    // The harness leaves after that; the executor's connection ends with it and not before.
    let reason = timeout(DEADLINE, rig.executor).await.unwrap().unwrap();
    assert_eq!(reason, DisconnectReason::PeerClose);
}

#[tokio::test]
async fn a_rejected_executor_credential_is_told_to_the_harness() {
    let rig = knock(vec![ResponseTemplate::new(401)]).await;
    assert!(
        matches!(
            rig.opened,
            Err(OpenFailure::Closed(CloseReason::CredentialsRejected))
        ),
        "{:?}",
        rig.opened
    );
}

#[tokio::test]
async fn trouble_of_the_registry_is_retried_once() {
    let once = knock(vec![ResponseTemplate::new(503), valid(true)]).await;
    assert_eq!(calls(&once).await, 2);
    assert!(once.opened.is_ok());

    let twice = knock(vec![
        ResponseTemplate::new(500),
        ResponseTemplate::new(500),
        valid(true),
    ])
    .await;
    assert_eq!(calls(&twice).await, 2);
    assert!(twice.opened.is_err());

    let refused = knock(vec![ResponseTemplate::new(404), valid(true)]).await;
    assert_eq!(calls(&refused).await, 1);
    assert!(refused.opened.is_err());
}
