//! A gateway on this host, its client, and what it reaches.

mod decisions;
mod forwarding;
mod plans;
mod questions;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use exec_proto::process::StartParams;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::gateway::{Opening, Surroundings};
use super::resolve::Names;
use super::{Plan, Questions};
use crate::environment::Variables;
use crate::rpc::Outbox;
use crate::session::Attachment;

/// Longest wait for any one thing.
const DEADLINE: Duration = Duration::from_secs(30);

/// Names that the tests know.
#[derive(Debug, Default)]
struct Table {
    names: HashMap<&'static str, Vec<IpAddr>>,
    lookups: AtomicUsize,
}

impl Table {
    fn known() -> Arc<Self> {
        let names = [
            ("public.example", &["93.184.216.34"] as &[&str]),
            ("private.example", &["10.0.0.1"]),
            ("loopback.example", &["127.0.0.1"]),
            ("mixed.example", &["93.184.216.34", "::ffff:10.0.0.1"]),
            ("link.example", &["fe80::1"]),
        ];
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(Self {
            names: names.map(|(name, texts)| (name, parse(texts))).into(),
            lookups: AtomicUsize::new(0),
        })
    }

    fn lookups(&self) -> usize {
        self.lookups.load(Ordering::Relaxed)
    }
}

impl Names for Table {
    fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        let found = self.names.get(name);
        found.cloned().ok_or(io::ErrorKind::NotFound.into())
    }
}

/// A running gateway.
struct Bench {
    http: u16,
    socks: u16,
    names: Arc<Table>,
    client: Client,
    _gateway: AbortOnDropHandle<()>,
}

/// The client's end of the session's connection.
struct Client {
    outbox: Outbox,
    messages: mpsc::Receiver<Bytes>,
}

impl Client {
    fn attached() -> (Self, Arc<Attachment>) {
        let (outbox, messages) = Outbox::detached();
        let attachment = Arc::new(Attachment::default());
        attachment.attach(outbox.clone());
        (Self { outbox, messages }, attachment)
    }

    async fn next(&mut self) -> Value {
        let message = tokio::time::timeout(DEADLINE, self.messages.recv()).await;
        let message = message.expect("no message").expect("no connection");
        serde_json::from_slice(&message).unwrap()
    }

    fn nothing_came(&mut self) -> bool {
        self.messages.try_recv().is_err()
    }

    /// Answers a question; returns whether it was known.
    fn answer(&self, question: &Value, decision: Value) -> bool {
        let result = serde_json::value::to_raw_value(&json!({"decision": decision})).unwrap();
        let id = question["id"].as_i64().unwrap();
        self.outbox.answered(&id.into(), Ok(result.into()))
    }
}

/// Settings with some members changed.
fn proxy(changes: Value) -> Value {
    let mut proxy = json!({
        "enabled": true, "enableSocks5": true, "enableSocks5Udp": true,
        "allowUpstreamProxy": true, "dangerouslyAllowAllUnixSockets": false, "mode": "full",
        "allowLocalBinding": false,
    });
    for (name, value) in changes.as_object().unwrap() {
        proxy[name] = value.clone();
    }
    proxy
}

/// A start that asks for a proxy, with some of its parameters changed.
fn start(request: Value, changes: Value) -> StartParams {
    let mut params = json!({
        "processId": "p", "argv": ["true"], "cwd": "file:///", "env": {}, "tty": false,
        "networkProxy": request,
    });
    for (name, value) in changes.as_object().unwrap() {
        params[name] = value.clone();
    }
    serde_json::from_value(params).unwrap()
}

impl Bench {
    /// A gateway with those settings changed; with `ask`, the client answers questions.
    async fn new(changes: Value, ask: bool) -> Self {
        let mut request = json!({"proxy": proxy(changes)});
        if ask {
            request["policyDecisionTimeoutMs"] = 60_000.into();
        }
        let plan = Plan::new(&start(request, json!({}))).unwrap().unwrap();
        let (client, attachment) = Client::attached();
        let surroundings = Surroundings {
            questions: Arc::new(Questions::new(Arc::clone(&attachment))),
            attachment,
        };
        let (names, mut variables) = (Table::known(), Variables::new());
        let opening = plan
            .open_with(&mut variables, surroundings, Arc::clone(&names) as _)
            .await;
        let Ok(Opening::Host(gateway)) = opening else {
            panic!("no gateway on the host");
        };
        let port = |name: &str| {
            let url = variables[std::ffi::OsStr::new(name)].to_str().unwrap();
            url.rsplit_once(':').unwrap().1.parse().unwrap()
        };
        Self {
            http: port("HTTP_PROXY"),
            socks: port("ALL_PROXY"),
            names,
            client,
            _gateway: AbortOnDropHandle::new(tokio::spawn(async move {
                gateway.run().await;
            })),
        }
    }

    async fn connect(&self) -> TcpStream {
        let address = (Ipv4Addr::LOCALHOST, self.http);
        TcpStream::connect(address).await.unwrap()
    }

    /// Sends a request on a connection of its own, and reads until the proxy closes it.
    async fn send(&self, request: &str) -> Reply {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        Reply::read(&mut stream).await
    }

    async fn get(&self, host: &str) -> Reply {
        get(self.http, host).await
    }

    async fn request(&self, method: &str, host: &str) -> Reply {
        self.send(&format!(
            "{method} http://{host}/path?query HTTP/1.1\r\nHost: {host}\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n"
        ))
        .await
    }

    async fn tunnel(&self, host: &str) -> Reply {
        self.send(&format!(
            "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        ))
        .await
    }

    /// Asks the SOCKS proxy for a connection; returns it and the reply's code.
    async fn socks(&self, command: u8, host: &str, port: u16) -> (TcpStream, u8) {
        let address = (Ipv4Addr::LOCALHOST, self.socks);
        let mut stream = TcpStream::connect(address).await.unwrap();
        let length = u8::try_from(host.len()).unwrap();
        let request = [
            &[5, 1, 0, 5, command, 0, 3, length],
            host.as_bytes(),
            &port.to_be_bytes(),
        ];
        stream.write_all(&request.concat()).await.unwrap();
        let mut reply = [0; 12];
        let read = stream.read_exact(&mut reply);
        tokio::time::timeout(DEADLINE, read).await.unwrap().unwrap();
        assert_eq!(reply[..3], [5, 0, 5]);
        (stream, reply[3])
    }
}

/// `GET` of an absolute URL through the proxy at that port.
async fn get(port: u16, host: &str) -> Reply {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .unwrap();
    let request =
        format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    Reply::read(&mut stream).await
}

/// What the proxy answered.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    async fn read(stream: &mut TcpStream) -> Self {
        let mut all = Vec::new();
        let read = stream.read_to_end(&mut all);
        tokio::time::timeout(DEADLINE, read).await.unwrap().unwrap();
        let text = String::from_utf8(all).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Self {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A server that takes one connection after another, reads until `until`, and writes `answer`.
/// What it read comes out of the channel.
async fn server(until: &'static str, answer: &'static str) -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, requests) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut all = Vec::new();
            while !all.ends_with(until.as_bytes()) {
                match stream.read_u8().await {
                    Ok(byte) => all.push(byte),
                    Err(_) => break,
                }
            }
            let _ = stream.write_all(answer.as_bytes()).await;
            let text = String::from_utf8_lossy(&all).into_owned();
            if sender.send(text).await.is_err() {
                return;
            }
        }
    });
    (port, requests)
}
