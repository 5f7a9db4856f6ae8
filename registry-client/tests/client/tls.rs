//! Private certificate authorities, by every way to name one, for calls and websockets.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use http::HeaderMap;
use registry_client::{
    ConnectError, Connector, ConnectorConfig, ConnectorConfigError, ConnectorEnvironment,
    Registration, RegistryError, RendezvousUrl, WebSocket,
};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::support::{
    Authority, Server, answer_each, chain, client_with, config_in, environment, http_answer, key,
    register_answer,
};

/// A registry, and a rendezvous that prefers HTTP/2; both under one authority.
struct World {
    registry: Server,
    rendezvous: Server,
    /// The protocol that each websocket connection agreed on.
    protocols: Arc<Mutex<Vec<String>>>,
}

impl World {
    async fn start(authority: &Authority, http2: &Authority) -> Self {
        let acceptor = authority.acceptor();
        let registry = Server::start(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let body = register_answer("env1").to_string();
                    answer_each(&mut stream, http_answer("200 OK", "", &body).as_bytes()).await;
                }
            }
        })
        .await;
        let protocols = Arc::new(Mutex::new(Vec::new()));
        let (acceptor, record) = (http2.acceptor(), Arc::clone(&protocols));
        let rendezvous = Server::start(move |stream| {
            let (acceptor, record) = (acceptor.clone(), Arc::clone(&record));
            async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let protocol = stream.get_ref().1.alpn_protocol().unwrap_or_default();
                let protocol = String::from_utf8_lossy(protocol).into_owned();
                record.lock().expect("not poisoned").push(protocol);
                let mut socket = tokio_tungstenite::accept_async(stream)
                    .await
                    .expect("an upgrade");
                while let Some(Ok(message)) = socket.next().await {
                    let _ = socket.send(message).await;
                }
            }
        })
        .await;
        Self {
            registry,
            rendezvous,
            protocols,
        }
    }

    async fn register(&self, connector: &Connector) -> Result<Registration, RegistryError> {
        let base = format!("https://localhost:{}", self.registry.address.port());
        let client = client_with(connector.clone(), &base);
        client.register(&environment("env1"), &key(1)).await
    }

    async fn open(&self, connector: &Connector) -> Result<WebSocket, ConnectError> {
        let url = format!(
            "wss://localhost:{}/?sig=s3cr3t",
            self.rendezvous.address.port()
        );
        let url = RendezvousUrl::parse(&url).expect("usable");
        connector.websocket(&url, HeaderMap::new()).await
    }

    async fn works(&self, connector: &Connector) {
        self.register(connector).await.expect("registered");
        let mut socket = self.open(connector).await.expect("open");
        let message = Message::Binary(Bytes::from(vec![7; 200_000]));
        socket.send(message.clone()).await.expect("sent");
        assert_eq!(
            socket.next().await.expect("open").expect("a message"),
            message
        );
    }

    async fn is_untrusted(&self, connector: &Connector) {
        let error = self.register(connector).await.expect_err("untrusted");
        let text = chain(&error);
        assert_eq!(
            (error.reason(), error.is_retryable()),
            ("untrusted_certificate", false),
            "{text}"
        );
        let host = format!("localhost:{}", self.registry.address.port());
        assert!(
            text.contains(&format!("certificate of {host} is not trusted")),
            "{text}"
        );
        assert!(text.contains("CODEX_CA_CERTIFICATE"), "{text}");

        let error = self.open(connector).await.expect_err("untrusted");
        let text = chain(&error);
        assert_eq!(
            (error.reason(), error.is_retryable()),
            ("untrusted_certificate", false),
            "{text}"
        );
        assert!(!text.contains("s3cr3t"), "{text}");
    }
}

fn connector(ca_file: Option<&Path>, variables: ConnectorEnvironment) -> Connector {
    let ca_file = ca_file.map(Path::to_owned);
    Connector::new(ConnectorConfig {
        ca_file,
        ..config_in(variables)
    })
    .expect("usable")
}

fn authorities() -> (Authority, Authority) {
    (
        Authority::new(&["localhost"], &["http/1.1"]),
        Authority::new(&["localhost"], &["h2", "http/1.1"]),
    )
}

/// Writes a bundle of both authorities, with a comment between them as bundles have.
fn bundle(directory: &Path, authorities: &(Authority, Authority)) -> PathBuf {
    let read = |authority: &Authority| std::fs::read_to_string(authority.path()).expect("readable");
    let text = format!(
        "# one\n{}\n# two\n{}",
        read(&authorities.0),
        read(&authorities.1)
    );
    let path = directory.join("bundle.pem");
    std::fs::write(&path, text).expect("written");
    path
}

#[tokio::test]
async fn a_private_authority_can_be_named_in_every_way() {
    let authorities = authorities();
    let directory = tempfile::tempdir().expect("temporary directory");
    let bundle = bundle(directory.path(), &authorities);
    let world = World::start(&authorities.0, &authorities.1).await;
    let none = ConnectorEnvironment::empty;

    let added = ConnectorEnvironment {
        codex_ca_certificate: Some(bundle.clone()),
        ..none()
    };
    let replaced = ConnectorEnvironment {
        ssl_cert_file: Some(bundle.clone()),
        ..none()
    };
    let directories = ConnectorEnvironment {
        ssl_cert_dir: Some(
            std::env::join_paths([authorities.0.directory(), authorities.1.directory()])
                .expect("no separator in a name"),
        ),
        ..none()
    };
    // One authority replaces those of the system, the other is added.
    let mixed = ConnectorEnvironment {
        ssl_cert_file: Some(authorities.0.path()),
        codex_ca_certificate: Some(authorities.1.path()),
        ..none()
    };
    for connector in [
        connector(Some(&bundle), none()),
        connector(None, added),
        connector(None, replaced),
        connector(None, directories),
        connector(None, mixed),
    ] {
        world.works(&connector).await;
    }
    // A websocket cannot be opened over HTTP/2, which this rendezvous prefers.
    let protocols = world.protocols.lock().expect("not poisoned").clone();
    assert_eq!(protocols, ["http/1.1"; 5]);
}

#[tokio::test]
async fn an_unknown_authority_is_a_clear_error() {
    let authorities = authorities();
    let world = World::start(&authorities.0, &authorities.1).await;
    world
        .is_untrusted(&connector(None, ConnectorEnvironment::empty()))
        .await;
    let other = Authority::new(&["localhost"], &["http/1.1"]);
    world
        .is_untrusted(&connector(
            Some(&other.path()),
            ConnectorEnvironment::empty(),
        ))
        .await;
}

#[tokio::test]
async fn a_certificate_for_another_host_is_not_trusted() {
    let authorities = (
        Authority::new(&["other"], &["http/1.1"]),
        Authority::new(&["other"], &[]),
    );
    let directory = tempfile::tempdir().expect("temporary directory");
    let bundle = bundle(directory.path(), &authorities);
    let world = World::start(&authorities.0, &authorities.1).await;
    world
        .is_untrusted(&connector(Some(&bundle), ConnectorEnvironment::empty()))
        .await;
}

#[tokio::test]
async fn a_server_without_tls_is_a_tls_error() {
    let plain = Server::start(|mut stream| async move {
        let answer = http_answer("400 Bad Request", "", "");
        stream.write_all(answer.as_bytes()).await.expect("written");
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let client = client_with(
        connector(None, ConnectorEnvironment::empty()),
        &plain.url("https"),
    );
    let error = client
        .register(&environment("env1"), &key(1))
        .await
        .expect_err("no tls");
    assert_eq!(
        (error.reason(), error.is_retryable()),
        ("tls", true),
        "{}",
        chain(&error)
    );
}

#[test]
fn unusable_certificate_files_are_errors_that_name_their_origin() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let missing = directory.path().join("missing");
    let empty = file("empty", "no certificate in here\n");
    let broken = file(
        "broken",
        "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
    );
    let other = file(
        "other",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let none = ConnectorEnvironment::empty;
    for (path, expected) in [
        (&missing, "failed to read certificate authorities from "),
        (&empty, "no certificate found in the file from "),
        (&broken, "a certificate from "),
        (&other, "a certificate from "),
    ] {
        let path = || Some(path.clone());
        for (config, origin) in [
            (
                ConnectorConfig {
                    ca_file: path(),
                    ..config_in(none())
                },
                "the ca file option",
            ),
            (
                config_in(ConnectorEnvironment {
                    codex_ca_certificate: path(),
                    ..none()
                }),
                "CODEX_CA_CERTIFICATE",
            ),
            (
                config_in(ConnectorEnvironment {
                    ssl_cert_file: path(),
                    ..none()
                }),
                "SSL_CERT_FILE",
            ),
        ] {
            let error = Connector::new(config).expect_err("unusable");
            let text = error.to_string();
            assert!(text.contains(&format!("{expected}{origin}")), "{text}");
            assert!(
                !text.contains(&*directory.path().to_string_lossy()),
                "{text}"
            );
        }
    }
    let missing = Some(missing.into_os_string());
    let config = config_in(ConnectorEnvironment {
        ssl_cert_dir: missing,
        ..none()
    });
    let error = Connector::new(config).expect_err("no directory");
    assert!(matches!(
        error,
        ConnectorConfigError::CertificateFile {
            origin: "SSL_CERT_DIR",
            ..
        }
    ));
}

#[test]
fn a_directory_without_certificates_trusts_nobody_and_is_no_error() {
    let directory = tempfile::tempdir().expect("temporary directory");
    std::fs::write(directory.path().join("README"), "nothing here").expect("written");
    let config = config_in(ConnectorEnvironment {
        ssl_cert_dir: Some(directory.path().as_os_str().to_owned()),
        ..ConnectorEnvironment::empty()
    });
    Connector::new(config).expect("usable");
}
