//! Bulk messages: asked for where the executor has them, and never seen by one that has not.

use exec_proto::rpc::{self, Form, Message};
use exec_proto::{fs, process};

use super::*;
use crate::Bulk;

/// More than is worth a place of its own.
const SIZE: usize = 10_000;

impl Peer {
    /// Answers `initialize` with or without the flag, and returns the parameters of `initialized`.
    async fn open(&mut self, has_bulk: bool) -> Value {
        let (id, _) = self.expect("initialize").await;
        let info = json!({
            "shell": { "name": "sh", "path": "/bin/sh" },
            "capabilities": { "fileWriteStreaming": true, "rpcBulk": has_bulk },
        });
        self.answer(id, json!({ "sessionId": SESSION, "environmentInfo": info }))
            .await;
        self.expect("initialized").await.1
    }

    /// The next request: its id, its parameters, and whether it is a bulk message.
    async fn request<T: serde::de::DeserializeOwned>(&mut self, method: &str) -> (i64, T, bool) {
        let bytes = self.from_client.recv().await.expect("a connection");
        let is_bulk = bytes.first() == Some(&rpc::bulk::MARKER);
        let message = rpc::decode(&bytes, Form::Bulk).unwrap();
        let Message::Request {
            id: rpc::RequestId::Integer(id),
            method: called,
            params,
            ..
        } = message
        else {
            panic!("a request");
        };
        assert_eq!(called, method);
        (id, params.decode().unwrap(), is_bulk)
    }
}

async fn connected(bulk: Bulk, has_bulk: bool) -> (Client, Peer, Value, mpsc::Receiver<Peer>) {
    let (script, mut connections) = script();
    let config = ClientConfig {
        bulk,
        ..ClientConfig::default()
    };
    let client = Client::connect_with(script, config);
    let peer = async {
        let mut peer = connections.recv().await.unwrap();
        let params = peer.open(has_bulk).await;
        (peer, params)
    };
    let (client, (peer, params)) = tokio::join!(client, peer);
    (client.unwrap(), peer, params, connections)
}

/// Writes a file; says whether that was a bulk message.
async fn write(client: &Client, peer: &mut Peer) -> bool {
    let (client, file) = (client.filesystem(), path("file:///f"));
    let contents = vec![b'x'; SIZE];
    let (written, is_bulk) = tokio::join!(client.write(&file, &contents), async {
        let (id, params, is_bulk) = peer.request::<fs::WriteFileParams>(fs::WRITE_FILE).await;
        assert_eq!(params.data_base64.decode().unwrap(), contents);
        peer.answer(id, json!({})).await;
        is_bulk
    });
    written.unwrap();
    is_bulk
}

#[tokio::test(start_paused = true)]
async fn old_executor_is_sent_no_bulk_message() {
    let (client, mut peer, params, _) = connected(Bulk::WherePossible, false).await;
    assert_eq!(params, json!({}));
    assert!(!write(&client, &mut peer).await);
    // Nor would one of its own be taken for a message.
    let answer = rpc::encode_response(&1.into(), &output_of(vec![0; SIZE]), Form::Bulk).unwrap();
    peer.to_client.send(answer).await.unwrap();
    assert!(peer.from_client.recv().await.is_none(), "given up");
}

#[tokio::test(start_paused = true)]
async fn client_can_do_without_bulk_messages() {
    let (client, mut peer, params, _) = connected(Bulk::Never, true).await;
    assert_eq!(params, json!({}));
    assert!(!write(&client, &mut peer).await);
}

#[tokio::test(start_paused = true)]
async fn bulk_messages_are_agreed_on_anew_after_a_reconnect() {
    let (client, mut peer, params, mut connections) = connected(Bulk::WherePossible, true).await;
    assert_eq!(params, json!({ "bulk": {} }));
    assert!(write(&client, &mut peer).await);
    drop(peer);
    // By an older program, for example.
    let mut peer = connections.recv().await.unwrap();
    assert_eq!(peer.open(false).await, json!({}));
    assert!(!write(&client, &mut peer).await);
    drop(peer);
    let mut peer = connections.recv().await.unwrap();
    assert_eq!(peer.open(true).await, json!({ "bulk": {} }));
    assert!(write(&client, &mut peer).await);
}

fn output_of(chunk: Vec<u8>) -> process::OutputNotification {
    process::OutputNotification {
        process_id: "p".into(),
        seq: 1,
        stream: process::Stream::Stdout,
        chunk: chunk.into(),
    }
}

#[tokio::test(start_paused = true)]
async fn output_in_bulk_messages_arrives_in_order_with_the_rest() {
    let (client, mut peer, _, _) = connected(Bulk::WherePossible, true).await;
    let command = Command::new(["x"]);
    let (process, id) = tokio::join!(client.start(command), peer.start());
    let mut process = process.unwrap();
    for (seq, form) in [(1, Form::Bulk), (2, Form::Json), (3, Form::Bulk)] {
        let output = process::OutputNotification {
            process_id: id.clone(),
            seq,
            ..output_of(vec![u8::try_from(seq).unwrap(); SIZE])
        };
        let message = rpc::encode_notification(process::OUTPUT, &output, form).unwrap();
        assert_eq!(
            message.first() == Some(&rpc::bulk::MARKER),
            form == Form::Bulk
        );
        peer.to_client.send(message).await.unwrap();
    }
    for seq in 1..=3 {
        let event = process.next_event().await.unwrap().unwrap();
        let ProcessEvent::Output { chunk, .. } = event else {
            panic!("{event:?}");
        };
        assert_eq!(chunk, vec![seq; SIZE]);
    }
}

#[tokio::test(start_paused = true)]
async fn malformed_bulk_message_loses_the_connection_and_nothing_else() {
    let (client, mut peer, _, mut connections) = connected(Bulk::WherePossible, true).await;
    let malformed = Bytes::from_static(b"\xb1\0\0\0\xff\0\0\0\x01{}");
    peer.to_client.send(malformed).await.unwrap();
    assert!(peer.from_client.recv().await.is_none());
    let mut peer = connections.recv().await.unwrap();
    peer.open(true).await;
    assert!(write(&client, &mut peer).await);
}
