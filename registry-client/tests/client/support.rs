//! Fixtures: keys, clients, certificates, and small servers that each own their tasks.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use registry_client::{
    Connector, ConnectorConfig, ConnectorEnvironment, Credential, RegistryClient, RegistryUrl,
    StaticBearer,
};
use relay_proto::ids::EnvironmentId;
use relay_proto::keys::PublicKey;
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// The credential of every test client; no error and no `Debug` output may hold it.
pub(crate) const TOKEN: &str = "tok-s3cr3t";

pub(crate) fn key(byte: u8) -> PublicKey {
    PublicKey::from_parts(&[byte; 32], &[byte; 1184]).expect("right lengths")
}

pub(crate) fn environment(id: &str) -> EnvironmentId {
    EnvironmentId::new(id).expect("not blank")
}

/// Returns a connector that sees no variable of the test's own process.
pub(crate) fn connector() -> Connector {
    connector_in(ConnectorEnvironment::empty())
}

pub(crate) fn connector_in(environment: ConnectorEnvironment) -> Connector {
    Connector::new(config_in(environment)).expect("usable configuration")
}

pub(crate) fn config_in(environment: ConnectorEnvironment) -> ConnectorConfig {
    ConnectorConfig {
        environment,
        ..ConnectorConfig::default()
    }
}

pub(crate) fn client(base: &str) -> RegistryClient {
    client_with(connector(), base)
}

pub(crate) fn client_with(connector: Connector, base: &str) -> RegistryClient {
    let credential = Credential::bearer(TOKEN).expect("usable");
    let base = RegistryUrl::parse(base).expect("usable");
    RegistryClient::new(connector, base, Arc::new(StaticBearer::new(credential)))
}

pub(crate) fn register_answer(environment: &str) -> Value {
    json!({
        "environment_id": environment,
        "security_profile": "noise_hybrid_ik_v1",
        "executor_registration_id": "reg-1",
        "url": format!("wss://host/ws/{environment}?role=environment&sig=s3cr3t"),
    })
}

/// Returns the error with all its sources, as a program would print it, and its `Debug` form.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = format!("{error:?}\n{error}");
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// A TCP server that runs one handler per connection, and all of them until it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start<H, F>(handler: H) -> Self
    where
        H: Fn(TcpStream) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut handlers = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                handlers.spawn(handler(stream));
            }
        });
        Self {
            address,
            connections,
            _tasks: tasks,
        }
    }

    /// Answers each request head with fixed bytes and keeps the connection open.
    pub(crate) async fn canned(answer: impl Into<Vec<u8>>) -> Self {
        let answer = Arc::new(answer.into());
        Self::start(move |mut stream| {
            let answer = Arc::clone(&answer);
            async move {
                answer_each(&mut stream, &answer).await;
            }
        })
        .await
    }

    /// How many connections have been accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address)
    }
}

/// Answers requests until the peer ends the connection.
pub(crate) async fn answer_each(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), answer: &[u8]) {
    while !read_request(stream).await.is_empty() {
        if stream.write_all(answer).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// Reads the head of a request and the body that its length announces; empty at the end.
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let head = read_head(stream).await;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, length)| length.trim().parse().expect("a number"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.expect("a whole body");
    head
}

/// Reads up to and with the blank line, byte by byte so that nothing behind it is taken.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return String::new(),
        }
    }
    String::from_utf8(head).expect("ascii")
}

/// Returns a complete HTTP answer.
pub(crate) fn http_answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

/// A private certificate authority with one server certificate.
pub(crate) struct Authority {
    directory: TempDir,
    server: Arc<rustls::ServerConfig>,
}

impl Authority {
    /// Issues a certificate for `hosts`, for a server that prefers the protocols in this order.
    pub(crate) fn new(hosts: &[&str], alpn: &[&str]) -> Self {
        registry_client::install_crypto_provider();
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("key");
        let root = params.self_signed(&key).expect("self-signed");
        let issuer = Issuer::new(params, key);

        let server_key = KeyPair::generate().expect("key");
        let leaf = CertificateParams::new(
            hosts
                .iter()
                .map(|host| (*host).to_owned())
                .collect::<Vec<_>>(),
        )
        .expect("host names")
        .signed_by(&server_key, &issuer)
        .expect("signed");

        let directory = tempfile::tempdir().expect("temporary directory");
        std::fs::write(directory.path().join("ca.pem"), root.pem()).expect("written");
        let private = PrivateKeyDer::try_from(server_key.serialize_der()).expect("pkcs8");
        let mut server = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], private)
            .expect("a certificate and its key");
        server.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self {
            directory,
            server: Arc::new(server),
        }
    }

    /// The bundle to trust.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// The directory that holds the bundle.
    pub(crate) fn directory(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.server))
    }
}

/// Long enough for anything on loopback, short enough for a test that fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
