//! The extensions of `fs/*`, through the seam: names, shapes and codes.

use exec_proto::PathUri;

use super::*;

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn uri(&self, name: &str) -> String {
        let root = self.0.path().canonicalize().unwrap();
        PathUri::from_native(&root.join(name)).unwrap().to_string()
    }

    fn text(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.0.path().join(name)).ok()
    }
}

#[tokio::test]
async fn files_are_appended_to_renamed_and_synced() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let s = Scratch::new();
    for offset in [0, 2] {
        let params = json!({"path": s.uri("f"), "dataBase64": "aGk="});
        let answer = client.ok("fs/append", params).await;
        assert_eq!(answer, json!({"offset": offset}));
    }
    let sync = json!({"path": s.uri("f")});
    assert_eq!(client.ok("fs/sync", sync).await, json!({}));
    let rename = json!({"sourcePath": s.uri("f"), "destinationPath": s.uri("g")});
    let answer = client.ok("fs/rename", rename.clone()).await;
    assert_eq!(answer, json!({}));
    assert_eq!((s.text("f"), s.text("g")), (None, Some("hihi".into())));
    let (code, _) = client.err("fs/rename", rename).await;
    assert_eq!(code, -32004);

    let open = json!({"handleId": "h", "path": s.uri("f"), "mode": "replace"});
    client.ok("fs/open", open).await;
    let keep = json!({"sourcePath": s.uri("g"), "destinationPath": s.uri("f"), "replace": false});
    let (code, text) = client.err("fs/rename", keep).await;
    assert_eq!(
        (code, text.ends_with("(os error 17)")),
        (-32603, true),
        "{text}"
    );
    assert_eq!(
        client.ok("fs/sync", json!({"handleId": "h"})).await,
        json!({})
    );
    let batch = json!({"calls": [{"method": "fs/readFile", "params": {"path": s.uri("g")}}]});
    let answer = client.ok("fs/batch", batch).await;
    assert_eq!(
        answer,
        json!({"results": [{"result": {"dataBase64": "aGloaQ=="}}]})
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_code() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let s = Scratch::new();
    let one = "fs/sync requires exactly one of handleId and path";
    let cases = [
        ("fs/sync", json!({}), -32602, one),
        (
            "fs/sync",
            json!({"handleId": "h", "path": s.uri("f")}),
            -32602,
            one,
        ),
        (
            "fs/sync",
            json!({"handleId": "h"}),
            -32004,
            "unknown file handle `h`",
        ),
        (
            "fs/append",
            json!({"path": s.uri("f"), "dataBase64": "!!!!"}),
            -32602,
            "Invalid symbol 33, offset 0.",
        ),
        (
            "fs/rename",
            json!({"sourcePath": s.uri("f")}),
            -32602,
            "missing field `destinationPath`",
        ),
        ("fs/batch", json!({}), -32602, "missing field `calls`"),
    ];
    for (method, params, code, text) in cases {
        let err = client.err(method, params).await;
        assert_eq!(err, (code, text.to_owned()), "{method}");
    }
    assert_eq!(s.text("f"), None);
}

#[tokio::test]
async fn sandboxes_are_refused_and_not_ignored() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let s = Scratch::new();
    std::fs::write(s.0.path().join("f"), "").unwrap();
    let sandbox = json!({
        "permissions": {"type": "managed", "network": "enabled",
            "file_system": {"type": "restricted", "entries": []}},
        "windowsSandboxLevel": "disabled",
    });
    for (method, params) in [
        (
            "fs/append",
            json!({"path": s.uri("f"), "dataBase64": "aGk="}),
        ),
        (
            "fs/rename",
            json!({"sourcePath": s.uri("f"), "destinationPath": s.uri("g")}),
        ),
        ("fs/sync", json!({"path": s.uri("f")})),
    ] {
        let (code, text) = client
            .err(method, with(params, "sandbox", sandbox.clone()))
            .await;
        // The program of these tests is not the executor, so no sandbox can be set up with it.
        let reason = "filesystem sandbox cannot be enforced on this executor: ";
        assert!(
            code == -32600 && text.starts_with(reason),
            "{method}: {text}"
        );
    }
    assert_eq!(s.text("f").as_deref(), Some(""));
}
