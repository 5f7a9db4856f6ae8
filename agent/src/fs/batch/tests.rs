use exec_proto::PathUri;
use exec_proto::rpc::{Form, Message, bulk, decode, encode_response};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::rpc::Outbox;

struct Scratch {
    dir: TempDir,
    connection: FsConnection,
}

impl Scratch {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            connection: FsConnection::new(Outbox::detached().0),
        }
    }

    fn uri(&self, name: &str) -> String {
        let root = self.dir.path().canonicalize().unwrap();
        PathUri::from_native(&root.join(name)).unwrap().to_string()
    }

    fn write(&self, name: &str, size: usize) {
        std::fs::write(self.dir.path().join(name), vec![b'x'; size]).unwrap();
    }

    async fn batch(&self, batch: Value) -> Result<Vec<Value>, RpcError> {
        // As from the wire: raw parameters exist only in text.
        let batch = serde_json::from_str(&batch.to_string()).unwrap();
        let result = self.connection.batch(batch).await?;
        let Value::Object(mut members) = serde_json::to_value(&result).unwrap() else {
            panic!("not an object");
        };
        Ok(serde_json::from_value(members.remove("results").unwrap()).unwrap())
    }
}

fn call(method: &str, params: Value) -> Value {
    json!({"method": method, "params": params})
}

#[tokio::test]
async fn calls_are_made_in_order_and_each_has_its_own_outcome() {
    let s = Scratch::new();
    let (dir, file, moved) = (s.uri("d"), s.uri("d/f"), s.uri("d/g"));
    let results = s
        .batch(json!({"calls": [
            call("fs/createDirectory", json!({"path": dir})),
            call("fs/writeFile", json!({"path": file, "dataBase64": "aGk="})),
            call("fs/sync", json!({"path": file})),
            call("fs/rename", json!({"sourcePath": file, "destinationPath": moved})),
            call("fs/sync", json!({"path": dir})),
            call("fs/readFile", json!({"path": file})),
            call("fs/readFile", json!({"path": moved})),
            call("fs/getMetadata", json!({"path": moved})),
            call("fs/readDirectory", json!({"path": dir})),
            call("fs/canonicalize", json!({"path": dir})),
            call("fs/remove", json!({"path": dir})),
            call("fs/getMetadata", json!({"path": dir})),
        ]}))
        .await
        .unwrap();
    for done in [0, 1, 2, 3, 4, 10] {
        assert_eq!(results[done], json!({"result": {}}), "call {done}");
    }
    assert_eq!(results[5]["error"]["code"], -32004);
    assert_eq!(results[6], json!({"result": {"dataBase64": "aGk="}}));
    assert_eq!(results[7]["result"]["size"], 2);
    assert_eq!(results[8]["result"]["entries"][0]["fileName"], "g");
    assert_eq!(results[9], json!({"result": {"path": dir}}));
    assert_eq!(results[11]["error"]["code"], -32004);
}

#[tokio::test]
async fn calls_after_a_failure_are_not_begun_if_so_asked() {
    let s = Scratch::new();
    let calls = json!([
        call("fs/readDirectory", json!({"path": s.uri("")})),
        call("fs/readFile", json!({"path": s.uri("none")})),
        call("fs/createDirectory", json!({"path": s.uri("d")})),
    ]);
    let results = s
        .batch(json!({"calls": calls, "stopOnError": true}))
        .await
        .unwrap();
    assert_eq!(results[0], json!({"result": {"entries": []}}));
    assert_eq!(results[1]["error"]["code"], -32004);
    let not_begun = json!({"error": {"code": -32800, "message": "not begun: call 1 failed"}});
    assert_eq!(results[2], not_begun);
    assert!(!s.dir.path().join("d").exists());
    s.batch(json!({"calls": calls})).await.unwrap();
    assert!(s.dir.path().join("d").exists());
}

#[tokio::test]
async fn what_does_not_belong_into_a_batch_fails_alone() {
    let s = Scratch::new();
    let sandbox = json!({
        "permissions": {"type": "managed", "network": "enabled",
            "file_system": {"type": "restricted", "entries": []}},
        "windowsSandboxLevel": "disabled",
    });
    let results = s
        .batch(json!({"calls": [
            call("fs/open", json!({"handleId": "h", "path": s.uri("f")})),
            call("fs/batch", json!({"calls": []})),
            call("process/start", json!({})),
            call("fs/sync", json!({"handleId": "h"})),
            call("fs/readFile", json!({})),
            json!({"method": "fs/readFile"}),
            call("fs/createDirectory", json!({"path": s.uri("d"), "sandbox": sandbox})),
            call("fs/writeFile", json!({"path": s.uri("f"), "dataBase64": "!!!!"})),
        ]}))
        .await
        .unwrap();
    let errors: Vec<_> = results
        .iter()
        .map(|result| {
            let error = &result["error"];
            (
                error["code"].as_i64().unwrap(),
                error["message"].as_str().unwrap(),
            )
        })
        .collect();
    let base64 = "fs/writeFile requires valid base64 dataBase64: Invalid symbol 33, offset 0.";
    let expected = [
        (-32601, "fs/batch does not accept `fs/open`"),
        (-32601, "fs/batch does not accept `fs/batch`"),
        (-32601, "fs/batch does not accept `process/start`"),
        (-32602, "fs/sync of a handle cannot be part of fs/batch"),
        (-32602, "missing field `path`"),
        (-32602, "invalid type: null, expected struct ReadFileParams"),
        (
            -32600,
            "filesystem sandbox cannot be enforced on this executor",
        ),
        (-32600, base64),
    ];
    assert_eq!(errors, expected);
    assert_eq!(std::fs::read_dir(s.dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn number_of_calls_is_bounded() {
    let s = Scratch::new();
    let calls = |count: usize| {
        let calls = vec![call("fs/canonicalize", json!({"path": "file:///"})); count];
        json!({"calls": calls})
    };
    assert_eq!(s.batch(calls(0)).await.unwrap().len(), 0);
    assert_eq!(
        s.batch(calls(MAX_BATCH_CALLS)).await.unwrap().len(),
        MAX_BATCH_CALLS
    );
    let error = s.batch(calls(MAX_BATCH_CALLS + 1)).await.unwrap_err();
    let expected = RpcError::invalid_params("fs/batch accepts at most 256 calls");
    assert_eq!(error, expected);
}

#[tokio::test]
async fn results_are_bounded_together_and_changes_are_made_even_then() {
    let s = Scratch::new();
    // Base64 makes four bytes of three: exactly the limit with the envelope.
    let fits = (MAX_BATCH_RESULT_BYTES - READ_FILE_ENVELOPE) / 4 * 3;
    s.write("fits", fits);
    s.write("larger", fits + 1);
    s.write("small", 10);
    let read = |name: &str| call("fs/readFile", json!({"path": s.uri(name)}));
    let results = s
        .batch(json!({"calls": [
            read("larger"),
            read("small"),
            read("fits"),
            read("small"),
            call("fs/createDirectory", json!({"path": s.uri("d")})),
        ]}))
        .await
        .unwrap();
    let full = "results of fs/batch exceed limit of 2097152 bytes; make this call alone";
    assert_eq!(
        results[0]["error"],
        json!({"code": -32600, "message": full})
    );
    assert!(results[1].get("result").is_some());
    assert_eq!(results[2]["error"]["message"], full, "some room is taken");
    assert!(results[3].get("result").is_some());
    assert_eq!(results[4], json!({"result": {}}));

    let results = s
        .batch(json!({"calls": [
            read("fits"),
            call("fs/getMetadata", json!({"path": s.uri("fits")})),
            call("fs/remove", json!({"path": s.uri("d")})),
        ]}))
        .await
        .unwrap();
    let data = results[0]["result"]["dataBase64"].as_str().unwrap();
    assert_eq!(data.len(), fits / 3 * 4);
    assert_eq!(results[1]["error"]["message"], full);
    assert_eq!(results[2], json!({"result": {}}));
    assert!(!s.dir.path().join("d").exists());
}

#[tokio::test]
async fn contents_in_results_stand_beside_the_text_for_those_who_ask() {
    let s = Scratch::new();
    s.write("large", 5000);
    s.write("small", 5);
    let read = |name: &str| call("fs/readFile", json!({"path": s.uri(name)}));
    let calls = json!([read("large"), read("none"), read("small"), read("large")]);
    for asked in [true, false] {
        let batch = json!({"calls": calls, "bulkResults": asked});
        let batch = serde_json::from_str(&batch.to_string()).unwrap();
        let result = s.connection.batch(batch).await.unwrap();
        for form in [Form::Bulk, Form::Json] {
            let message = encode_response(&1.into(), &result, form).unwrap();
            let beside = form == Form::Bulk && asked;
            assert_eq!(message.first() == Some(&bulk::MARKER), beside);
            assert_eq!(message.len() < 12_000, beside, "{} bytes", message.len());
            let Message::Response { result, .. } = decode(&message, form).unwrap() else {
                panic!("not an answer");
            };
            let result: BatchResult = result.decode().unwrap();
            let read = |index: usize| match result.results[index].decode().unwrap() {
                Ok(wire::ReadFileResult { data_base64 }) => Ok(data_base64),
                Err(error) => Err(error.code),
            };
            assert_eq!(read(0).unwrap(), vec![b'x'; 5000]);
            assert_eq!(read(1), Err(-32004));
            assert_eq!(read(2).unwrap(), vec![b'x'; 5]);
            assert_eq!(read(3).unwrap(), vec![b'x'; 5000]);
        }
    }
}

#[tokio::test]
async fn contents_count_as_they_are_when_they_stand_beside_the_text() {
    let s = Scratch::new();
    let fits = MAX_BATCH_RESULT_BYTES - READ_FILE_ENVELOPE;
    s.write("fits", fits);
    s.write("larger", fits + 1);
    let read = |name: &str| call("fs/readFile", json!({"path": s.uri(name)}));
    let calls = json!([read("larger"), read("fits"), read("fits")]);
    let results = s.batch(json!({"calls": calls, "bulkResults": true}));
    let results = results.await.unwrap();
    assert_eq!(results[0]["error"]["code"], -32600);
    let data = results[1]["result"]["dataBase64"].as_str().unwrap();
    assert_eq!(data.len(), fits.div_ceil(3) * 4);
    assert_eq!(results[2]["error"]["code"], -32600);
}

#[tokio::test]
async fn calls_see_what_the_ones_before_them_did_to_directories() {
    let s = Scratch::new();
    let write = |name: &str, text: &str| {
        let data = exec_proto::base64::encode(text.as_bytes());
        call(
            "fs/writeFile",
            json!({"path": s.uri(name), "dataBase64": data}),
        )
    };
    let read = |name: &str| call("fs/readFile", json!({"path": s.uri(name)}));
    let made = |name: &str| call("fs/createDirectory", json!({"path": s.uri(name)}));
    let results = s
        .batch(json!({"calls": [
            made("d"),
            write("d/f", "1"),
            call("fs/rename", json!({"sourcePath": s.uri("d"), "destinationPath": s.uri("e")})),
            made("d"),
            write("d/f", "2"),
            read("d/f"),
            read("e/f"),
            call("fs/remove", json!({"path": s.uri("d")})),
            write("d/f", "3"),
            read("d/f"),
        ]}))
        .await
        .unwrap();
    for done in [0, 1, 2, 3, 4, 7] {
        assert_eq!(results[done], json!({"result": {}}), "call {done}");
    }
    assert_eq!(results[5], json!({"result": {"dataBase64": "Mg=="}}));
    assert_eq!(results[6], json!({"result": {"dataBase64": "MQ=="}}));
    for gone in [8, 9] {
        assert_eq!(results[gone]["error"]["code"], -32004, "call {gone}");
    }
}
