//! Proxies: with credentials, without, dead, refusing, and passed by.

use std::net::SocketAddr;
use std::process::Command;

use futures_util::{SinkExt, StreamExt};
use http::HeaderMap;
use registry_client::{
    ConnectError, Connector, ConnectorConfig, ConnectorEnvironment, Registration, RegistryError,
    RendezvousUrl, TransportError, WebSocket,
};
use testkit::forward_proxy::{CREDENTIALS, ForwardProxy, Way};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use url::Url;

use crate::support::{
    Authority, PATIENCE, Server, answer_each, chain, client_with, connector, connector_in,
    environment, http_answer, key, register_answer,
};

/// A registry and a rendezvous, with or without TLS, and a proxy that knows them by name.
struct World {
    authority: Option<Authority>,
    registry: Server,
    rendezvous: Server,
    proxy: ForwardProxy,
}

impl World {
    async fn start(authority: Option<Authority>) -> Self {
        let registry = Part::Registry.start(authority.as_ref()).await;
        let rendezvous = Part::Rendezvous.start(authority.as_ref()).await;
        let proxy = ForwardProxy::start().await.expect("loopback");
        for port in [80, 443] {
            proxy.lead(format!("registry.test:{port}"), Way::To(registry.address));
            proxy.lead(
                format!("rendezvous.test:{port}"),
                Way::To(rendezvous.address),
            );
        }
        Self {
            authority,
            registry,
            rendezvous,
            proxy,
        }
    }

    fn variables(&self, credentials: &str) -> ConnectorEnvironment {
        ConnectorEnvironment {
            https_proxy: Some(self.proxy.url_with(credentials)),
            http_proxy: Some(self.proxy.url_with(credentials)),
            ..ConnectorEnvironment::empty()
        }
    }

    fn connector(&self, variables: ConnectorEnvironment) -> Connector {
        let ca_file = self.authority.as_ref().map(Authority::path);
        let config = ConnectorConfig {
            ca_file,
            environment: variables,
            ..ConnectorConfig::default()
        };
        Connector::new(config).expect("usable configuration")
    }

    async fn register(&self, connector: &Connector) -> Result<Registration, RegistryError> {
        let tls = if self.authority.is_some() { "s" } else { "" };
        let client = client_with(connector.clone(), &format!("http{tls}://registry.test"));
        client.register(&environment("env1"), &key(1)).await
    }

    async fn open(&self, connector: &Connector) -> Result<WebSocket, ConnectError> {
        let tls = if self.authority.is_some() { "s" } else { "" };
        let url = format!("ws{tls}://rendezvous.test/ws/env1?role=environment&sig=s3cr3t");
        let url = RendezvousUrl::parse(&url).expect("usable");
        connector.websocket(&url, HeaderMap::new()).await
    }

    fn tls() -> Option<Authority> {
        Some(Authority::new(
            &["registry.test", "rendezvous.test"],
            &["http/1.1"],
        ))
    }
}

#[derive(Clone, Copy)]
enum Part {
    Registry,
    Rendezvous,
}

impl Part {
    async fn start(self, authority: Option<&Authority>) -> Server {
        let acceptor = authority.map(Authority::acceptor);
        Server::start(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                match acceptor {
                    // A handshake that the client gives up is part of some tests.
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            self.serve(stream).await;
                        }
                    }
                    None => self.serve(stream).await,
                }
            }
        })
        .await
    }

    async fn serve(self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        match self {
            Self::Registry => {
                let body = register_answer("env1").to_string();
                answer_each(&mut stream, http_answer("200 OK", "", &body).as_bytes()).await;
            }
            Self::Rendezvous => {
                let mut socket = tokio_tungstenite::accept_async(stream)
                    .await
                    .expect("an upgrade");
                while let Some(Ok(message)) = socket.next().await {
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

async fn echo(mut socket: WebSocket) {
    let message = Message::Binary(Bytes::from(vec![7; 200_000]));
    socket.send(message.clone()).await.expect("sent");
    assert_eq!(
        socket.next().await.expect("open").expect("a message"),
        message
    );
}

#[tokio::test]
async fn tls_destinations_are_tunneled_with_the_credentials_of_the_proxy_url() {
    let world = World::start(World::tls()).await;
    let connector = world.connector(world.variables(CREDENTIALS));
    let registration = world.register(&connector).await.expect("registered");
    assert_eq!(registration.registration.as_str(), "reg-1");
    echo(world.open(&connector).await.expect("open")).await;
    assert_eq!(
        world.proxy.requests(),
        [
            "CONNECT registry.test:443 HTTP/1.1",
            "CONNECT rendezvous.test:443 HTTP/1.1"
        ]
    );
}

#[tokio::test]
async fn documents_are_fetched_through_the_proxy() {
    for (authority, asked) in [
        (World::tls(), "CONNECT registry.test:443 HTTP/1.1"),
        (None, "GET http://registry.test/keys HTTP/1.1"),
    ] {
        let tls = if authority.is_some() { "s" } else { "" };
        let world = World::start(authority).await;
        let url = Url::parse(&format!("http{tls}://registry.test/keys")).expect("a url");
        let connector = world.connector(world.variables(CREDENTIALS));
        let fetched = connector.fetch(&url, 10_000, PATIENCE).await;
        assert!(!fetched.expect("fetched").is_empty());
        let refused = world.connector(world.variables("user:wrong@"));
        refused
            .fetch(&url, 10_000, PATIENCE)
            .await
            .expect_err("wrong password");
        assert_eq!(world.proxy.requests()[0], asked);
    }
}

#[tokio::test]
async fn plain_calls_are_forwarded_and_plain_websockets_tunneled() {
    let world = World::start(None).await;
    let connector = world.connector(world.variables(CREDENTIALS));
    world.register(&connector).await.expect("registered");
    echo(world.open(&connector).await.expect("open")).await;
    assert_eq!(
        world.proxy.requests(),
        [
            "POST http://registry.test/cloud/environment/env1/register HTTP/1.1",
            "CONNECT rendezvous.test:80 HTTP/1.1"
        ]
    );
}

#[tokio::test]
async fn all_proxy_applies_to_both_schemes() {
    for authority in [World::tls(), None] {
        let world = World::start(authority).await;
        let connector = world.connector(ConnectorEnvironment {
            all_proxy: Some(world.proxy.url()),
            ..ConnectorEnvironment::empty()
        });
        world.register(&connector).await.expect("registered");
        echo(world.open(&connector).await.expect("open")).await;
        assert_eq!(world.proxy.requests().len(), 2);
    }
}

#[tokio::test]
async fn socks_proxies_resolve_names_and_get_the_credentials() {
    for authority in [World::tls(), None] {
        let world = World::start(authority).await;
        let (registry, rendezvous) = (world.registry.address, world.rendezvous.address);
        let socks = Server::start(move |stream| socks5(stream, registry, rendezvous)).await;
        for (password, works) in [("pa%20ss", true), ("s3cr3t", false)] {
            let connector = world.connector(ConnectorEnvironment {
                all_proxy: Some(format!("socks5h://user:{password}@{}", socks.address)),
                ..ConnectorEnvironment::empty()
            });
            let registered = world.register(&connector).await;
            let opened = world.open(&connector).await;
            if works {
                registered.expect("registered");
                echo(opened.expect("open")).await;
            } else {
                for text in [
                    chain(&registered.expect_err("wrong password")),
                    chain(&opened.expect_err("wrong password")),
                ] {
                    let proxy = format!("through proxy socks5h://{}", socks.address);
                    assert!(text.contains("failed to connect to r"), "{text}");
                    assert!(text.contains(&proxy), "{text}");
                    assert!(!text.contains("s3cr3t"), "{text}");
                }
            }
        }
        assert_eq!(world.proxy.requests(), [""; 0]);
    }
}

/// One SOCKS 5 connection with user name and password (RFC 1928, RFC 1929), to a host by name.
async fn socks5(mut stream: TcpStream, registry: SocketAddr, rendezvous: SocketAddr) {
    let stream = &mut stream;
    let [_, methods] = read_bytes(stream).await;
    read_vec(stream, methods).await;
    stream.write_all(&[5, 2]).await.expect("written");

    let [_, length] = read_bytes(stream).await;
    let user = read_vec(stream, length).await;
    let [length] = read_bytes(stream).await;
    let password = read_vec(stream, length).await;
    let authorized = user == b"user" && password == b"pa ss";
    stream
        .write_all(&[1, u8::from(!authorized)])
        .await
        .expect("written");
    if !authorized {
        return;
    }

    let [_, command, _, kind, length] = read_bytes(stream).await;
    assert_eq!((command, kind), (1, 3), "connect to a host by name");
    let host = read_vec(stream, length).await;
    let [_, _] = read_bytes(stream).await;
    let address = if host == b"registry.test" {
        registry
    } else {
        rendezvous
    };
    let mut upstream = TcpStream::connect(address)
        .await
        .expect("the target listens");
    stream
        .write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
        .await
        .expect("written");
    let _ = copy_bidirectional(stream, &mut upstream).await;
}

async fn read_bytes<const N: usize>(stream: &mut TcpStream) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await.expect("enough bytes");
    bytes
}

async fn read_vec(stream: &mut TcpStream, length: u8) -> Vec<u8> {
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await.expect("enough bytes");
    bytes
}

#[tokio::test]
async fn missing_and_wrong_proxy_credentials_are_a_clear_error() {
    for authority in [World::tls(), None] {
        let world = World::start(authority).await;
        for credentials in ["", "user:s3cr3t@"] {
            let connector = world.connector(world.variables(credentials));
            let shown = format!("proxy {} refused", world.proxy.url_with(""));
            let error = world.register(&connector).await.expect_err("407");
            let text = chain(&error);
            assert!(text.contains(&shown), "{text}");
            assert!(
                text.contains("registry.test: proxy authorization required"),
                "{text}"
            );
            assert!(!text.contains("s3cr3t"), "{text}");
            assert_eq!(
                (error.reason(), error.is_retryable()),
                ("proxy_credentials", false)
            );

            let error = world.open(&connector).await.expect_err("407");
            let text = chain(&error);
            assert!(text.contains(&shown), "{text}");
            assert!(
                text.contains("rendezvous.test: proxy authorization required"),
                "{text}"
            );
            assert!(!text.contains("s3cr3t"), "{text}");
            assert_eq!(
                (error.reason(), error.is_retryable()),
                ("proxy_credentials", false)
            );
            // A 407 is the proxy's, and no judgement of the signed URL.
            assert!(!error.needs_new_url());
        }
        assert_eq!(
            (world.registry.connections(), world.rendezvous.connections()),
            (0, 0)
        );
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_or_is_dead_is_never_passed_by() {
    for scheme in ["", "s"] {
        let registry = Part::Registry.start(None).await;
        let rendezvous = Part::Rendezvous.start(None).await;
        // Knows no host at all, and answers 403.
        let refusing = ForwardProxy::start().await.expect("loopback");
        // Bound, so that nobody else listens there, and not listening.
        let dead = tokio::net::TcpSocket::new_v4().expect("a socket");
        dead.bind(([127, 0, 0, 1], 0).into()).expect("loopback");
        let address = dead.local_addr().expect("bound");
        let urls = [refusing.url(), format!("http://{CREDENTIALS}{address}")];
        for url in urls {
            let shown = url.replace(CREDENTIALS, "");
            let url = Some(url);
            let connector = connector_in(ConnectorEnvironment {
                https_proxy: url.clone(),
                http_proxy: url,
                ..ConnectorEnvironment::empty()
            });
            let client = client_with(connector.clone(), &registry.url(&format!("http{scheme}")));
            let result = client.register(&environment("env1"), &key(1)).await;
            let error = result.expect_err("no way through");
            assert!(
                matches!(error.reason(), "connect" | "authentication"),
                "{}",
                chain(&error)
            );
            assert_names_proxy(&chain(&error), &shown);

            let url = format!("{}/?sig=s3cr3t", rendezvous.url(&format!("ws{scheme}")));
            let url = RendezvousUrl::parse(&url).expect("usable");
            let error = connector
                .websocket(&url, HeaderMap::new())
                .await
                .expect_err("no way");
            assert_eq!((error.reason(), error.is_retryable()), ("connect", true));
            assert!(!error.needs_new_url());
            assert!(!chain(&error).contains("s3cr3t"), "{}", chain(&error));
            assert_names_proxy(&chain(&error), &shown);
        }
        assert_eq!((registry.connections(), rendezvous.connections()), (0, 0));
    }
}

fn assert_names_proxy(text: &str, shown: &str) {
    assert!(text.contains(shown), "{text}");
    assert!(
        !text.contains("pa%20ss") && !text.contains("pa ss"),
        "{text}"
    );
}

#[tokio::test]
async fn no_proxy_is_obeyed_for_calls_and_websockets() {
    for list in ["127.0.0.1", "example.com, 127.0.0.0/8", "*"] {
        let world = World::start(None).await;
        let connector = world.connector(ConnectorEnvironment {
            no_proxy: Some(list.to_owned()),
            ..world.variables(CREDENTIALS)
        });
        let client = client_with(connector.clone(), &world.registry.url("http"));
        client
            .register(&environment("env1"), &key(1))
            .await
            .expect("registered directly");
        let url = RendezvousUrl::parse(&world.rendezvous.url("ws")).expect("usable");
        echo(
            connector
                .websocket(&url, HeaderMap::new())
                .await
                .expect("open"),
        )
        .await;
        assert_eq!(world.proxy.requests(), [""; 0]);
    }
}

#[test]
fn upper_case_variables_win_and_empty_ones_count_as_absent() {
    let lookup = |pairs: &'static [(&str, &str)]| {
        ConnectorEnvironment::from_lookup(move |name| {
            pairs
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.into())
        })
    };
    let environment = lookup(&[
        ("HTTPS_PROXY", "http://upper"),
        ("https_proxy", "http://lower"),
        ("HTTP_PROXY", ""),
        ("http_proxy", "http://lower"),
        ("all_proxy", "http://user:s3cr3t@all"),
        ("no_proxy", "host"),
        ("SSL_CERT_FILE", ""),
    ]);
    assert_eq!(environment.https_proxy.as_deref(), Some("http://upper"));
    assert_eq!(environment.http_proxy.as_deref(), Some("http://lower"));
    assert_eq!(
        environment.all_proxy.as_deref(),
        Some("http://user:s3cr3t@all")
    );
    assert_eq!(environment.no_proxy.as_deref(), Some("host"));
    assert_eq!(environment.ssl_cert_file, None);
    assert_eq!(lookup(&[]), ConnectorEnvironment::empty());
    let config = ConnectorConfig {
        environment,
        ..ConnectorConfig::default()
    };
    assert!(!format!("{config:?}").contains("s3cr3t"));
    let connector = Connector::new(config).expect("usable configuration");
    assert!(!format!("{connector:?}").contains("s3cr3t"));
}

/// Runs itself in a process of its own, whose proxy variables name a dead proxy.
#[test]
fn the_process_environment_is_read_by_default_and_only_through_the_configuration() {
    const CHILD: &str = "REGISTRY_CLIENT_TEST_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let name =
            "proxy::the_process_environment_is_read_by_default_and_only_through_the_configuration";
        let status = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", name, "--nocapture"])
            .envs([
                (CHILD, "1"),
                ("HTTP_PROXY", "http://127.0.0.1:9"),
                ("NO_PROXY", ""),
            ])
            .env_remove("no_proxy")
            .status()
            .expect("started");
        assert!(status.success());
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let registry = Part::Registry.start(None).await;
        let direct = client_with(connector(), &registry.url("http"));
        direct
            .register(&environment("env1"), &key(1))
            .await
            .expect("registered directly");

        let by_default = Connector::new(ConnectorConfig::default()).expect("usable configuration");
        let proxied = client_with(by_default, &registry.url("http"));
        let error = proxied
            .register(&environment("env1"), &key(1))
            .await
            .expect_err("dead proxy");
        assert!(matches!(
            error,
            RegistryError::Transport(TransportError::Connect { .. })
        ));
        assert_eq!(registry.connections(), 1);
    });
}
