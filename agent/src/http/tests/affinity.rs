//! The affinity rule over real TLS: a proxy that plays every host behind it.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Hosts behind a proxy, with the authority that vouches for them.
struct Network {
    proxy: TcpListener,
    tls: TlsAcceptor,
    authority: tempfile::TempDir,
}

impl Network {
    async fn new(hosts: &[&str]) -> Self {
        registry_client::install_crypto_provider();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = tempfile::tempdir().unwrap();
        let root = params.self_signed(&key).unwrap();
        std::fs::write(authority.path().join("ca.pem"), root.pem()).unwrap();
        let issuer = Issuer::new(params, key);

        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let leaf = CertificateParams::new(names).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], private)
            .unwrap();
        Self {
            proxy: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            tls: TlsAcceptor::from(Arc::new(server)),
            authority,
        }
    }

    fn client(&self) -> Arc<HttpClient> {
        let proxy = format!("http://{}", self.proxy.local_addr().unwrap());
        let config = ConnectorConfig {
            environment: ConnectorEnvironment {
                https_proxy: Some(proxy),
                ssl_cert_file: Some(self.authority.path().join("ca.pem")),
                ..ConnectorEnvironment::empty()
            },
            ..ConnectorConfig::default()
        };
        Arc::new(HttpClient::new(config, HeaderVariables::new(|_| None, [])))
    }

    /// Answers one request, on a connection of its own, and returns its `cookie` headers.
    async fn answer(&self, headers: &str) -> Vec<String> {
        let (mut tcp, _) = self.proxy.accept().await.unwrap();
        head(&mut tcp).await;
        tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let mut tls = self.tls.accept(tcp).await.unwrap();
        let request = head(&mut tls).await;
        let status = if headers.contains("location:") {
            "302 Found"
        } else {
            "200 OK"
        };
        let answer =
            format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n{headers}\r\n");
        tls.write_all(answer.as_bytes()).await.unwrap();
        tls.shutdown().await.unwrap();
        let cookies = request
            .lines()
            .filter_map(|line| line.strip_prefix("cookie: "));
        cookies.map(str::to_owned).collect()
    }
}

async fn head(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn affinity_cookies_come_back_to_their_hosts_and_to_no_other() {
    let network = Network::new(&["chatgpt.com", "example.com"]).await;
    let client = network.client();
    // The rule holds for the process, so for all connections.
    let connect = || HttpConnection::new(Arc::clone(&client), Outbox::detached().0);

    let home = "https://chatgpt.com/a";
    let set = "set-cookie: __cf_bm=1; Path=/\r\nset-cookie: session=mine; Path=/\r\n";
    let http = connect();
    let (reply, cookies) = tokio::join!(http.request(get(home), None), network.answer(set));
    let headers = reply.unwrap().result.headers;
    let told = headers.iter().filter(|header| header.name == "set-cookie");
    assert_eq!((told.count(), cookies), (2, vec![]), "the caller sees all");

    let http = connect();
    let elsewhere = "set-cookie: _cfuvid=2; Path=/\r\nlocation: https://example.com/\r\n";
    let exchange = async {
        let first = network.answer(elsewhere).await;
        (
            first,
            network.answer("set-cookie: __cf_bm=theirs\r\n").await,
        )
    };
    let (reply, (first, second)) = tokio::join!(http.request(get(home), None), exchange);
    reply.unwrap();
    assert_eq!((first, second), (vec!["__cf_bm=1".to_owned()], vec![]));

    let (reply, cookies) = tokio::join!(http.request(get(home), None), network.answer(""));
    reply.unwrap();
    assert_eq!(cookies, ["__cf_bm=1; _cfuvid=2"], "redirects set them too");

    let own = RequestParams {
        headers: vec![with_header("Cookie", "session=mine", None)],
        ..get(home)
    };
    let (reply, cookies) = tokio::join!(http.request(own, None), network.answer(""));
    reply.unwrap();
    assert_eq!(cookies, ["session=mine"], "what was given is sent as it is");
}
