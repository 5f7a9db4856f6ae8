use std::os::unix::fs::symlink;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

struct Scratch {
    dir: TempDir,
    connection: FsConnection,
    messages: tokio::sync::mpsc::Receiver<bytes::Bytes>,
}

impl Scratch {
    fn new() -> Self {
        let (outbox, messages) = Outbox::detached();
        let dir = tempfile::tempdir().unwrap();
        Self {
            dir,
            connection: FsConnection::new(outbox),
            messages,
        }
    }

    fn uri(&self, name: &str) -> String {
        let root = self.dir.path().canonicalize().unwrap();
        PathUri::from_native(&root.join(name)).unwrap().to_string()
    }

    fn put(&self, name: &str, content: &str) {
        std::fs::write(self.dir.path().join(name), content).unwrap();
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    /// The next notification.
    async fn notification(&mut self) -> Value {
        let next = tokio::time::timeout(Duration::from_secs(5), self.messages.recv());
        serde_json::from_slice(&next.await.expect("a notification").unwrap()).unwrap()
    }
}

fn params<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T, RpcError>) -> (i64, String) {
    let err = result.unwrap_err();
    (err.code, err.message)
}

#[tokio::test]
async fn files_are_written_read_copied_and_removed() {
    let s = Scratch::new();
    let (c, path) = (&s.connection, s.uri("f"));
    c.write_file(params(json!({"path": path, "dataBase64": "aGk="})))
        .await
        .unwrap();
    let read = c.read_file(params(json!({"path": path}))).await.unwrap();
    assert_eq!(read.data_base64.as_ref(), b"hi");
    let copy = json!({"sourcePath": path, "destinationPath": s.uri("g"), "recursive": false});
    c.copy(params(copy)).await.unwrap();
    assert_eq!(s.text("g"), "hi");
    c.remove(params(json!({"path": path}))).await.unwrap();
    assert_eq!(
        code(c.read_file(params(json!({"path": path}))).await).0,
        -32004
    );
    let bad = c
        .write_file(params(json!({"path": path, "dataBase64": "!!!!"})))
        .await;
    let text = "fs/writeFile requires valid base64 dataBase64: Invalid symbol 33, offset 0.";
    assert_eq!(code(bad), (-32600, text.to_owned()));
}

#[tokio::test]
async fn a_slash_at_the_end_of_a_path_does_not_matter() {
    let s = Scratch::new();
    s.put("f", "x");
    let found = s
        .connection
        .get_metadata(params(json!({"path": s.uri("f") + "/"})))
        .await
        .unwrap();
    assert!(found.is_file);
}

#[tokio::test]
async fn foreign_paths_and_sandboxes_that_cannot_be_enforced_are_refused() {
    let s = Scratch::new();
    let c = &s.connection;
    for uri in ["file:///C:/a.txt", "file://server/share"] {
        let expected = (-32600, format!("'{uri}' is invalid on 'linux'"));
        assert_eq!(
            code(c.read_file(params(json!({"path": uri}))).await),
            expected
        );
    }
    s.put("f", "x");
    let sandbox = json!({
        "permissions": {
            "type": "managed",
            "file_system": {"type": "restricted", "entries": []},
            "network": "restricted",
        },
        "windowsSandboxLevel": "disabled",
    });
    let refused = (
        -32600,
        "filesystem sandbox cannot be enforced on this executor".to_owned(),
    );
    let path = s.uri("f");
    let p = json!({"path": path, "sandbox": sandbox});
    assert_eq!(code(c.read_file(params(p.clone())).await), refused);
    assert_eq!(code(c.remove(params(p.clone())).await), refused);
    assert_eq!(code(c.get_metadata(params(p.clone())).await), refused);
    let open = json!({"path": path, "sandbox": sandbox, "handleId": "h", "mode": "replace"});
    assert_eq!(code(c.open(params(open)).await), refused);
    assert_eq!(s.text("f"), "x");
    let disabled = json!({"permissions": {"type": "disabled"}, "windowsSandboxLevel": "disabled"});
    c.read_file(params(json!({"path": path, "sandbox": disabled})))
        .await
        .unwrap();
}

#[tokio::test]
async fn names_that_are_not_unicode_come_with_their_path() {
    use std::os::unix::ffi::OsStrExt as _;
    let s = Scratch::new();
    s.put("plain", "");
    let strange = std::ffi::OsStr::from_bytes(b"\xff\n");
    std::fs::write(s.dir.path().join(strange), "strange").unwrap();
    let c = &s.connection;
    let list = c
        .read_directory(params(json!({"path": s.uri("")})))
        .await
        .unwrap();
    let path = |name| {
        list.entries
            .iter()
            .find(|entry| entry.file_name == name)
            .unwrap()
            .path
            .clone()
    };
    assert_eq!(path("plain"), None);
    let strange = path("\u{fffd}\n").unwrap();
    assert!(strange.as_str().ends_with("/%FF%0A"));
    let read = c
        .read_file(params(json!({"path": strange.as_str()})))
        .await
        .unwrap();
    assert_eq!(read.data_base64.as_ref(), b"strange");
}

#[tokio::test]
async fn a_file_that_does_not_fit_into_a_message_is_refused_and_read_in_blocks() {
    let s = Scratch::new();
    let file = std::fs::File::create(s.dir.path().join("big")).unwrap();
    file.set_len(READ_FILE_BYTES + 1).unwrap();
    let c = &s.connection;
    let text = "file is too large to read: limit is 50266112 bytes".to_owned();
    let path = s.uri("big");
    assert_eq!(
        code(c.read_file(params(json!({"path": path}))).await),
        (-32600, text)
    );
    c.open(params(json!({"path": path, "handleId": "h"})))
        .await
        .unwrap();
    let block = json!({"handleId": "h", "offset": READ_FILE_BYTES, "len": 2});
    let read = c.read_block(params(block)).await.unwrap();
    assert_eq!((read.chunk.as_ref(), read.eof), ([0u8].as_slice(), true));
    file.set_len(READ_FILE_BYTES).unwrap();
    let whole = c.read_file(params(json!({"path": path}))).await.unwrap();
    let encoded = exec_proto::base64::encode(&whole.data_base64).len();
    assert!(encoded + 64 * 1024 <= 64 * 1024 * 1024);
}

#[tokio::test]
async fn a_failed_read_ends_the_handle_and_a_wrong_length_does_not() {
    let s = Scratch::new();
    s.put("f", "0123456789");
    let c = &s.connection;
    c.open(params(json!({"path": s.uri("f"), "handleId": "h"})))
        .await
        .unwrap();
    let block = |offset: u64, len: u64| {
        c.read_block(params(
            json!({"handleId": "h", "offset": offset, "len": len}),
        ))
    };
    assert_eq!(code(block(0, 0).await).0, -32600);
    assert!(!block(0, 10).await.unwrap().eof);
    assert_eq!(code(block(u64::MAX, 1).await).0, -32600);
    assert_eq!(
        code(block(0, 1).await),
        (-32004, "unknown file handle `h`".to_owned())
    );
    // The range is looked at before the handle.
    assert_eq!(code(block(0, 0).await).0, -32600);
    let write = c.write_block(params(json!({"handleId": "h", "offset": 0, "chunk": ""})));
    assert_eq!(code(write.await).0, -32600);
    c.close(params(json!({"handleId": "h"}))).await.unwrap();
}

#[tokio::test]
async fn an_id_that_is_taken_is_reported_before_the_file_is_touched() {
    let s = Scratch::new();
    s.put("a", "a");
    s.put("b", "still here");
    let c = &s.connection;
    c.open(params(json!({"path": s.uri("a"), "handleId": "h"})))
        .await
        .unwrap();
    let taken = (-32600, "file handle `h` already exists".to_owned());
    for (name, mode) in [("none", "read"), ("b", "replace")] {
        let open = json!({"path": s.uri(name), "handleId": "h", "mode": mode});
        assert_eq!(code(c.open(params(open)).await), taken);
    }
    assert_eq!(s.text("b"), "still here");
    // An id whose file could not be opened is free again.
    let none = json!({"path": s.uri("none"), "handleId": "i"});
    assert_eq!(code(c.open(params(none)).await).0, -32004);
    c.open(params(json!({"path": s.uri("a"), "handleId": "i"})))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_connection_that_ends_leaves_no_half_written_file() {
    let s = Scratch::new();
    s.put("f", "old");
    s.put("g", "old");
    let c = s.connection;
    let chunk = exec_proto::base64::encode(b"new");
    for (name, handle) in [("f", "1"), ("g", "2")] {
        let root = s.dir.path().canonicalize().unwrap();
        let path = PathUri::from_native(&root.join(name)).unwrap();
        let open = json!({"path": path, "handleId": handle, "mode": "replace"});
        c.open(params(open)).await.unwrap();
        let block = json!({"handleId": handle, "offset": 0, "chunk": chunk});
        c.write_block(params(block)).await.unwrap();
    }
    c.close(params(json!({"handleId": "2"}))).await.unwrap();
    drop(c);
    let read = |name: &str| std::fs::read_to_string(s.dir.path().join(name)).unwrap();
    assert_eq!((read("f"), read("g")), ("old".to_owned(), "new".to_owned()));
}

#[tokio::test]
async fn a_watch_notifies_once_and_gives_way_to_a_later_one() {
    let mut s = Scratch::new();
    let watch = |id: u64, paths: Vec<String>| {
        params::<wire::WatchMissingParams>(json!({"watchId": id, "missing": paths}))
    };
    let (x, y) = (s.uri("x"), s.uri("y"));
    let c = &s.connection;
    assert!(
        c.watch_missing(watch(5, vec![x.clone()]))
            .await
            .unwrap()
            .watching
    );
    assert!(
        c.watch_missing(watch(6, vec![y.clone()]))
            .await
            .unwrap()
            .watching
    );
    // Used ids, too many and too few paths, foreign paths: refused, and the watch stays.
    let foreign = "file:///C:/x".to_owned();
    for (id, paths) in [
        (6, vec![x.clone()]),
        (7, vec![]),
        (8, vec![x.clone(); 65]),
        (8, vec![x.clone()]),
        (9, vec![foreign]),
    ] {
        assert!(
            !c.watch_missing(watch(id, paths)).await.unwrap().watching,
            "{id}"
        );
    }
    s.put("x", "");
    s.put("y", "");
    let expected = json!({"method": "fs/missingChanged", "params": {"watchId": 6}});
    assert_eq!(s.notification().await, expected);
    let z = s.uri("z");
    assert!(
        s.connection
            .watch_missing(watch(10, vec![z]))
            .await
            .unwrap()
            .watching
    );
    symlink("nowhere", s.dir.path().join("z")).unwrap();
    assert_eq!(s.notification().await["params"]["watchId"], 10);
}
