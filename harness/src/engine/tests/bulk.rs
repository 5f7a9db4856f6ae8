//! Bulk messages: asked for where the executor has them, and never seen by one that has not.

use exec_proto::rpc::{self, Form, Message};
use exec_proto::{fs, process};

use super::*;
use crate::{Bulk, Complete, CopyEvent, download, upload};

/// More than is worth a place of its own.
const SIZE: usize = 10_000;

/// Of an executor that can do everything.
const BOTH: &[&str] = &["rpcBulk", "rpcBulkZstd"];

impl Peer {
    /// Answers `initialize` with these flags, and returns the parameters of `initialized`.
    async fn open(&mut self, flags: &[&str]) -> Value {
        let mut capabilities = json!({ "fileWriteStreaming": true });
        for flag in flags {
            capabilities[flag] = json!(true);
        }
        self.open_with(capabilities).await
    }

    async fn open_with(&mut self, capabilities: Value) -> Value {
        let (id, _) = self.expect("initialize").await;
        let info = json!({
            "shell": { "name": "sh", "path": "/bin/sh" },
            "capabilities": capabilities,
        });
        self.answer(id, json!({ "sessionId": SESSION, "environmentInfo": info }))
            .await;
        self.expect("initialized").await.1
    }

    /// The next request: its id, its parameters, and whether it is a bulk message.
    async fn request<T: serde::de::DeserializeOwned>(&mut self, method: &str) -> (i64, T, bool) {
        let bytes = self.from_client.recv().await.expect("a connection");
        let is_bulk = bytes.first() == Some(&rpc::bulk::MARKER);
        let message = rpc::decode(&bytes, Form::Compressed).unwrap();
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

async fn connected(bulk: Bulk, flags: &[&str]) -> (Client, Peer, Value, mpsc::Receiver<Peer>) {
    let mut capabilities = json!({ "fileWriteStreaming": true });
    for flag in flags {
        capabilities[flag] = json!(true);
    }
    connected_with(bulk, capabilities).await
}

async fn connected_with(
    bulk: Bulk,
    capabilities: Value,
) -> (Client, Peer, Value, mpsc::Receiver<Peer>) {
    let (script, mut connections) = script();
    let config = ClientConfig {
        bulk,
        ..ClientConfig::default()
    };
    let client = Client::connect_with(script, config);
    let peer = async {
        let mut peer = connections.recv().await.unwrap();
        let params = peer.open_with(capabilities).await;
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
    let (client, mut peer, params, _) = connected(Bulk::WherePossible, &[]).await;
    assert_eq!(params, json!({}));
    assert!(!write(&client, &mut peer).await);
    // Nor would one of its own be taken for a message.
    let answer = rpc::encode_response(&1.into(), &output_of(vec![0; SIZE]), Form::Bulk).unwrap();
    peer.to_client.send(answer).await.unwrap();
    assert!(peer.from_client.recv().await.is_none(), "given up");
}

#[tokio::test(start_paused = true)]
async fn client_can_do_without_bulk_messages() {
    let (client, mut peer, params, _) = connected(Bulk::Never, BOTH).await;
    assert_eq!(params, json!({}));
    assert!(!write(&client, &mut peer).await);
}

#[tokio::test(start_paused = true)]
async fn compression_is_asked_for_where_it_is_wanted_and_the_executor_can() {
    let cases: [(&[&str], Value, bool); 3] = [
        (BOTH, json!({ "bulk": { "zstd": true } }), true),
        (&["rpcBulk"], json!({ "bulk": {} }), false),
        (&["rpcBulkZstd"], json!({}), false),
    ];
    for (flags, expected, is_compressed) in cases {
        let (client, mut peer, params, _) = connected(Bulk::Compressed, flags).await;
        assert_eq!(params, expected);
        let (client, file) = (client.filesystem(), path("file:///f"));
        let contents = vec![b'x'; SIZE];
        let (written, ()) = tokio::join!(client.write(&file, &contents), async {
            let bytes = peer.from_client.recv().await.expect("a connection");
            assert_eq!(bytes.len() < SIZE, is_compressed, "{flags:?}");
            let Ok(Message::Request {
                id: rpc::RequestId::Integer(id),
                params,
                ..
            }) = rpc::decode(&bytes, Form::Compressed)
            else {
                panic!("a request");
            };
            let params: fs::WriteFileParams = params.decode().unwrap();
            assert_eq!(params.data_base64.decode().unwrap(), contents);
            peer.answer(id, json!({})).await;
        });
        written.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn bulk_messages_are_agreed_on_anew_after_a_reconnect() {
    let (client, mut peer, params, mut connections) = connected(Bulk::WherePossible, BOTH).await;
    assert_eq!(params, json!({ "bulk": {} }));
    assert!(write(&client, &mut peer).await);
    drop(peer);
    // By an older program, for example.
    let mut peer = connections.recv().await.unwrap();
    assert_eq!(peer.open(&[]).await, json!({}));
    assert!(!write(&client, &mut peer).await);
    drop(peer);
    let mut peer = connections.recv().await.unwrap();
    assert_eq!(peer.open(BOTH).await, json!({ "bulk": {} }));
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
    let (client, mut peer, _, _) = connected(Bulk::WherePossible, BOTH).await;
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
    let (client, mut peer, _, mut connections) = connected(Bulk::WherePossible, BOTH).await;
    let malformed = Bytes::from_static(b"\xb1\0\0\0\xff\0\0\0\x01{}");
    peer.to_client.send(malformed).await.unwrap();
    assert!(peer.from_client.recv().await.is_none());
    let mut peer = connections.recv().await.unwrap();
    peer.open(BOTH).await;
    assert!(write(&client, &mut peer).await);
}

/// Files of which each is worth a place of its own.
const NAMES: [&str; 3] = ["a", "b", "c"];

#[tokio::test]
async fn contents_of_small_files_travel_beside_the_text_both_ways() {
    let flags = json!({ "rpcBulk": true, "fsBatch": true, "fsBatchBulk": true });
    let (client, mut peer, _, _) = connected_with(Bulk::WherePossible, flags).await;
    let (fs, remote) = (client.filesystem(), path("file:///d"));
    let mut report = |_: CopyEvent<'_>| {};
    let local = tempfile::tempdir().unwrap();
    for name in NAMES {
        std::fs::write(local.path().join(name), vec![b'x'; SIZE]).unwrap();
    }
    let done = json!({ "result": {} });
    let (copied, ()) = tokio::join!(
        upload(local.path(), &fs, &remote, Complete::Copy, &mut report),
        async {
            let (id, params, is_bulk) = peer.request::<fs::BatchParams>(fs::BATCH).await;
            assert!(is_bulk);
            let [directory, files @ ..] = params.calls.as_slice() else {
                panic!("no calls");
            };
            assert_eq!(directory.method, fs::CREATE_DIRECTORY);
            assert_eq!(files.len(), NAMES.len());
            for (file, name) in files.iter().zip(NAMES) {
                let written: fs::WriteFileParams = file.params.decode().unwrap();
                assert_eq!(written.path, path(&format!("file:///d/{name}")));
                assert_eq!(written.data_base64.decode().unwrap(), vec![b'x'; SIZE]);
            }
            let results = vec![done; params.calls.len()];
            peer.answer(id, json!({ "results": results })).await;
        }
    );
    assert_eq!(copied.unwrap().bytes, 3 * SIZE as u64);

    let to = tempfile::tempdir().unwrap();
    let (copied, ()) = tokio::join!(
        download(&fs, &remote, to.path(), Complete::Copy, &mut report),
        async {
            answer_looks(&mut peer).await;
            let (id, params, _) = peer.request::<fs::BatchParams>(fs::BATCH).await;
            assert!(params.bulk_results);
            let contents = fs::ReadFileResult {
                data_base64: vec![b'y'; SIZE].into(),
            };
            let results = vec![fs::BatchOutcome::Result(contents); params.calls.len()];
            let result = fs::BatchResult { results };
            let answer = rpc::encode_response(&id.into(), &result, Form::Bulk).unwrap();
            assert_eq!(answer.first(), Some(&rpc::bulk::MARKER));
            peer.to_client.send(answer).await.unwrap();
        }
    );
    assert_eq!(copied.unwrap().bytes, 3 * SIZE as u64);
    for name in NAMES {
        assert_eq!(
            std::fs::read(to.path().join(name)).unwrap(),
            vec![b'y'; SIZE]
        );
    }
}

#[tokio::test]
async fn old_executor_is_not_asked_for_contents_beside_the_text() {
    let flags = json!({ "rpcBulk": true, "fsBatch": true });
    let (client, mut peer, _, _) = connected_with(Bulk::WherePossible, flags).await;
    let (fs, remote) = (client.filesystem(), path("file:///d"));
    let mut report = |_: CopyEvent<'_>| {};
    let to = tempfile::tempdir().unwrap();
    let (copied, ()) = tokio::join!(
        download(&fs, &remote, to.path(), Complete::Copy, &mut report),
        async {
            answer_looks(&mut peer).await;
            let (id, params) = peer.expect(fs::BATCH).await;
            assert_eq!(params.get("bulkResults"), None);
            let result = json!({ "result": { "dataBase64": "eQ==" } });
            peer.answer(id, json!({ "results": vec![result; NAMES.len()] }))
                .await;
        }
    );
    assert_eq!(copied.unwrap().bytes, 3);
}

/// Answers everything that comes before the contents of [`NAMES`].
async fn answer_looks(peer: &mut Peer) {
    let look = |is_directory: bool| {
        json!({
            "isDirectory": is_directory, "isFile": !is_directory, "isSymlink": false,
            "size": SIZE, "createdAtMs": 0, "modifiedAtMs": 5,
        })
    };
    let (id, _) = peer.expect(fs::GET_METADATA).await;
    peer.answer(id, look(true)).await;
    let (id, _) = peer.expect(fs::READ_DIRECTORY).await;
    let entry = |name| json!({ "fileName": name, "isDirectory": false, "isFile": true });
    peer.answer(id, json!({ "entries": NAMES.map(entry) }))
        .await;
    let (id, params) = peer.expect(fs::BATCH).await;
    assert_eq!(params["calls"].as_array().unwrap().len(), NAMES.len());
    let results = vec![json!({ "result": look(false) }); NAMES.len()];
    peer.answer(id, json!({ "results": results })).await;
}
