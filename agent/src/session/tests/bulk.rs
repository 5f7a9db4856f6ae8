//! Bulk messages: sent to those who asked for them, and understood from them.

use exec_proto::rpc::{self, Draft, Form, Message};
use exec_proto::{fs, process};
use relay_proto::limits;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;

/// More than is worth a place of its own.
const SIZE: usize = 100_000;

/// A client that has asked for bulk messages.
struct Bulk(Client, Form);

impl Bulk {
    async fn open(sessions: &Arc<Sessions>) -> Self {
        Self::open_with(sessions, Form::Bulk).await
    }

    async fn open_with(sessions: &Arc<Sessions>, form: Form) -> Self {
        let mut client = Client::connect_as(sessions, websocket());
        let result = client.ok("initialize", json!({"clientName": "test"})).await;
        let flags = &result["environmentInfo"]["capabilities"];
        assert_eq!(flags["rpcBulk"], true);
        assert_eq!(flags["rpcBulkZstd"], true);
        let terms = match form {
            Form::Compressed => r#"{"zstd":true}"#,
            _ => "{}",
        };
        client
            .raw(&format!(
                r#"{{"method":"initialized","params":{{"bulk":{terms}}}}}"#
            ))
            .await;
        Self(client, form)
    }

    /// The next message, and whether it was a bulk message.
    async fn next(&mut self) -> (Message, bool) {
        let message = tokio::time::timeout(DEADLINE, self.0.from_server.recv());
        let message = message.await.expect("no message before the deadline");
        let message = message.expect("the server closed the connection");
        let is_bulk = message.first() == Some(&rpc::bulk::MARKER);
        (rpc::decode(&message, self.1).unwrap(), is_bulk)
    }

    /// Makes a request, in the form that is right for it, and says what the form of the answer was.
    async fn call<R: DeserializeOwned>(
        &mut self,
        method: &str,
        params: &impl Serialize,
    ) -> (R, bool) {
        let draft = Draft::new(params).unwrap();
        let request = rpc::encode_call(&1.into(), method, &draft, None, self.1).unwrap();
        self.0.to_server.send(request).await.unwrap();
        loop {
            match self.next().await {
                (Message::Response { result, .. }, is_bulk) => {
                    return (result.decode().unwrap(), is_bulk);
                }
                (Message::Error { error, .. }, _) => panic!("{method}: {error}"),
                (Message::Notification { .. } | Message::Request { .. }, _) => {}
            }
        }
    }

    /// Follows a process until it has said as much, and says whether all of it was in bulk messages
    /// where that is worth it.
    async fn output(&mut self, mut missing: usize) -> (Vec<u8>, bool) {
        let (mut output, mut all_bulk) = (Vec::new(), true);
        while missing > 0 {
            let (Message::Notification { method, params }, is_bulk) = self.next().await else {
                continue;
            };
            assert_eq!(method, process::OUTPUT);
            let params: process::OutputNotification = params.decode().unwrap();
            all_bulk &= is_bulk == (params.chunk.len() >= 256);
            missing -= params.chunk.len();
            output.extend_from_slice(&params.chunk);
        }
        (output, all_bulk)
    }
}

fn contents() -> Bytes {
    (0..=255).cycle().take(SIZE).collect()
}

#[tokio::test]
async fn client_that_asks_for_no_bulk_messages_gets_none() {
    let sessions = sessions();
    for params in ["{}", r#"{"bulk":null}"#, r#"{"bulk":7}"#, "[]"] {
        let mut client = Client::connect_as(&sessions, websocket());
        client.ok("initialize", json!({"clientName": ""})).await;
        client
            .raw(&format!(r#"{{"method":"initialized","params":{params}}}"#))
            .await;
        // Every message is parsed as JSON here.
        client
            .start("p", &["head", "-c", "100000", "/dev/zero"])
            .await;
        let collected = client.collect("p").await;
        assert_eq!(collected.stdout.len(), SIZE, "{params}");
        let bulk = b"\xb1\0\0\0\x02\0\0\0\x01{}\0\0\0\0\x01\0\0\0\x01x";
        client.to_server.send(bulk[..].into()).await.unwrap();
        let answer = client.recv().await.unwrap();
        assert_eq!(answer["id"], -1, "{answer}");
        let text = answer["error"]["message"].as_str().unwrap();
        assert!(text.contains("expected value at line 1 column 1"), "{text}");
    }
}

#[tokio::test]
async fn bulk_messages_are_not_offered_on_standard_input() {
    let sessions = sessions();
    let mut client = Client::connect_as(&sessions, PeerLabel::Stdio);
    let result = client.ok("initialize", json!({"clientName": ""})).await;
    let flags = &result["environmentInfo"]["capabilities"];
    assert_eq!(flags["rpcBulk"], false);
    assert_eq!(flags["rpcBulkZstd"], false);
    // And not sent to somebody who asks all the same.
    client
        .raw(r#"{"method":"initialized","params":{"bulk":{"zstd":true}}}"#)
        .await;
    client
        .start("p", &["head", "-c", "100000", "/dev/zero"])
        .await;
    assert_eq!(client.collect("p").await.stdout.len(), SIZE);
}

/// A file that is written by one client and read by one that has agreed on that form; returns the
/// length of the message with the contents, which have to be as they were.
async fn length_of_answer(sessions: &Arc<Sessions>, form: Form) -> usize {
    let mut client = Bulk::open_with(sessions, form).await;
    let directory = tempfile::tempdir().unwrap();
    let path = exec_proto::PathUri::from_native(&directory.path().join("f")).unwrap();
    let write = fs::WriteFileParams {
        path: path.clone(),
        data_base64: contents().into(),
        follow_symlinks: None,
        sandbox: None,
    };
    let _: (exec_proto::Empty, _) = client.call(fs::WRITE_FILE, &write).await;
    let read = json!({ "path": path });
    let draft = Draft::new(&read).unwrap();
    let request = rpc::encode_call(&2.into(), fs::READ_FILE, &draft, None, form).unwrap();
    client.0.to_server.send(request).await.unwrap();
    let answer = tokio::time::timeout(DEADLINE, client.0.from_server.recv());
    let answer = answer.await.unwrap().unwrap();
    let Ok(Message::Response { result, .. }) = rpc::decode(&answer, form) else {
        panic!("a response");
    };
    let file: fs::ReadFileResult = result.decode().unwrap();
    assert_eq!(file.data_base64, contents());
    answer.len()
}

#[tokio::test]
async fn payloads_are_compressed_for_those_who_ask_and_no_others() {
    let sessions = sessions();
    assert!(length_of_answer(&sessions, Form::Bulk).await >= SIZE);
    assert!(length_of_answer(&sessions, Form::Compressed).await < SIZE / 10);
}

#[tokio::test]
async fn what_decompresses_wrongly_is_answered_and_the_connection_goes_on() {
    let sessions = sessions();
    let mut client = Bulk::open_with(&sessions, Form::Compressed).await;
    let bulk = b"\xb1\0\0\0\x02\0\0\0\x01{}\x01\0\0\0\x01\0\x10\0\0x";
    client.0.to_server.send(bulk[..].into()).await.unwrap();
    let (Message::Error { error, .. }, _) = client.next().await else {
        panic!("an error");
    };
    assert!(
        error.message.ends_with("does not give 1048576 bytes"),
        "{}",
        error.message
    );
    client
        .0
        .start("p", &["head", "-c", "100000", "/dev/zero"])
        .await;
    assert_eq!(client.output(SIZE).await.0, vec![0; SIZE]);
}

#[tokio::test]
async fn payloads_travel_beside_the_text_both_ways() {
    let sessions = sessions();
    let mut client = Bulk::open(&sessions).await;
    let directory = tempfile::tempdir().unwrap();
    let path = exec_proto::PathUri::from_native(&directory.path().join("f")).unwrap();
    let contents = contents();

    let write = fs::WriteFileParams {
        path: path.clone(),
        data_base64: contents.clone().into(),
        follow_symlinks: None,
        sandbox: None,
    };
    let _: (exec_proto::Empty, _) = client.call(fs::WRITE_FILE, &write).await;
    let read = json!({"path": path});
    let (read, is_bulk): (fs::ReadFileResult, _) = client.call(fs::READ_FILE, &read).await;
    assert!(is_bulk);
    assert_eq!(read.data_base64, contents);

    let open = json!({"handleId": "h", "path": path, "mode": "replace"});
    let _: (fs::OpenResult, _) = client.call(fs::OPEN, &open).await;
    let block = fs::WriteBlockParams {
        handle_id: "h".into(),
        offset: 10,
        chunk: contents.clone(),
    };
    let _: (exec_proto::Empty, _) = client.call(fs::WRITE_BLOCK, &block).await;
    let close = json!({"handleId": "h"});
    let _: (exec_proto::Empty, _) = client.call(fs::CLOSE, &close).await;
    let open = json!({"handleId": "h", "path": path});
    let _: (fs::OpenResult, _) = client.call(fs::OPEN, &open).await;
    let block = json!({"handleId": "h", "offset": 10, "len": SIZE});
    let (block, is_bulk): (fs::ReadBlockResult, _) = client.call(fs::READ_BLOCK, &block).await;
    assert!(is_bulk);
    assert_eq!(block.chunk, contents);

    let cat = with(start("p", &["cat"]), "pipeStdin", true);
    let _: (process::StartResult, _) = client.call(process::START, &cat).await;
    let write = process::WriteParams {
        process_id: "p".into(),
        chunk: contents.clone(),
        write_id: "1".into(),
    };
    // The answer and the output come in any order.
    let draft = Draft::new(&write).unwrap();
    let request = rpc::encode_call(&2.into(), process::WRITE, &draft, None, Form::Bulk).unwrap();
    assert_eq!(request.first(), Some(&rpc::bulk::MARKER));
    client.0.to_server.send(request).await.unwrap();
    let (output, all_bulk) = client.output(SIZE).await;
    assert!(all_bulk);
    assert_eq!(output, contents);
    let read = json!({"processId": "p"});
    let (read, is_bulk): (process::ReadResult, _) = client.call(process::READ, &read).await;
    assert!(is_bulk);
    let chunks: Vec<u8> = read.chunks.iter().flat_map(|it| it.chunk.clone()).collect();
    assert_eq!(chunks, contents);
}

#[tokio::test]
async fn event_of_much_output_fits_into_one_record() {
    const ROOM: usize = limits::RECORD_PLAINTEXT_BYTES - limits::MESSAGE_PREFIX_BYTES;
    let sessions = sessions();
    for form in [Form::Json, Form::Bulk] {
        let mut client = match form {
            Form::Json => {
                let mut client = Client::connect_as(&sessions, websocket());
                client.ok("initialize", json!({"clientName": ""})).await;
                client.raw(r#"{"method":"initialized"}"#).await;
                client
            }
            _ => Bulk::open(&sessions).await.0,
        };
        let head = Draft::new(&start("p", &["head", "-c", "20000000", "/dev/zero"])).unwrap();
        let request = rpc::encode_call(&1.into(), process::START, &head, None, form).unwrap();
        client.to_server.send(request).await.unwrap();
        let mut longest = 0;
        loop {
            let message = client.from_server.recv().await.unwrap();
            longest = longest.max(message.len());
            if let Ok(Message::Notification { method, .. }) = rpc::decode(&message, form)
                && method == process::CLOSED
            {
                break;
            }
        }
        assert!(longest <= ROOM, "{form:?}: {longest}");
        assert!(longest > ROOM / 2, "{form:?}: {longest}");
    }
}

#[tokio::test]
async fn malformed_bulk_message_is_answered_and_the_connection_goes_on() {
    let sessions = sessions();
    let mut client = Bulk::open(&sessions).await;
    let malformed = Bytes::from_static(b"\xb1\0\0\0\xff\0\0\0\x01{}");
    client.0.to_server.send(malformed).await.unwrap();
    let (Message::Error { id, error }, _) = client.next().await else {
        panic!("an error");
    };
    assert_eq!((id, error.code), (rpc::UNPARSABLE_ID, -32600));
    assert!(
        error.message.ends_with("bulk message ends within its text"),
        "{}",
        error.message
    );
    let text =
        r#"{"id":3,"method":"process/write","params":{"processId":"p","writeId":"1","chunk":4}}"#;
    let mut stray = vec![
        rpc::bulk::MARKER,
        0,
        0,
        0,
        u8::try_from(text.len()).unwrap(),
    ];
    stray.extend([0, 0, 0, 1]);
    stray.extend(text.bytes());
    stray.extend([0, 0, 0, 0, 1, 0, 0, 0, 1, b'x']);
    client.0.to_server.send(stray.into()).await.unwrap();
    let (Message::Error { id, error }, _) = client.next().await else {
        panic!("an error");
    };
    assert_eq!((id, error.code), (3.into(), -32602));
    assert_eq!(error.message, "the payload does not exist");
    let status = client.call::<Value>("environment/status", &json!({})).await;
    assert_eq!(status, (json!({"status": "ready"}), false));
}
