//! Extensions of the protocol: used when the executor has them, made up for or refused when not.

use super::*;
use crate::{Complete, Existing, FsCall, OnError, Signal, TtySize, download, upload};

/// A client of an executor with these extensions.
async fn extended(extensions: &[&str]) -> (Client, Peer) {
    let (client, peer, _, _) = extended_with_dial(extensions).await;
    (client, peer)
}

async fn extended_with_dial(
    extensions: &[&str],
) -> (Client, Peer, Arc<Script>, mpsc::Receiver<Peer>) {
    let (script, mut connections) = script();
    let client = Client::connect_with(script.clone(), ClientConfig::default());
    let peer = async {
        let mut peer = connections.recv().await.unwrap();
        peer.handshake_with(extensions).await;
        peer
    };
    let (client, peer) = tokio::join!(client, peer);
    (client.unwrap(), peer, script, connections)
}

fn on_terminal() -> Command {
    Command::new(["vi", "x"]).tty(TtySize {
        rows: 50,
        columns: 132,
    })
}

async fn answer_start(peer: &mut Peer) -> Value {
    let (id, params) = peer.expect("process/start").await;
    let result = json!({ "processId": params["processId"], "sandboxType": "none" });
    peer.answer(id, result).await;
    params
}

#[tokio::test(start_paused = true)]
async fn terminal_has_its_size_from_the_start_and_is_resized_by_the_extension() {
    let (client, mut peer) = extended(&["processResize"]).await;
    let (process, params) = tokio::join!(client.start(on_terminal()), answer_start(&mut peer));
    let process = process.unwrap();
    assert_eq!(params["argv"], json!(["vi", "x"]));
    assert_eq!(params["terminal"], json!({ "rows": 50, "cols": 132 }));
    let size = TtySize {
        rows: 10,
        columns: 20,
    };
    let (resized, ()) = tokio::join!(process.control().resize(size), async {
        let (id, params) = peer.expect("process/resize").await;
        let expected = json!({ "processId": process.id(), "rows": 10, "cols": 20 });
        assert_eq!(params, expected);
        peer.answer(id, json!({})).await;
    });
    resized.unwrap();
    // A window that does not know its size cannot be asked for.
    let nothing = TtySize {
        rows: 0,
        columns: 0,
    };
    let (resized, ()) = tokio::join!(process.control().resize(nothing), async {
        let (id, params) = peer.expect("process/resize").await;
        assert_eq!((&params["rows"], &params["cols"]), (&json!(24), &json!(80)));
        peer.answer(id, json!({})).await;
    });
    resized.unwrap();
}

#[tokio::test(start_paused = true)]
async fn terminal_of_an_old_executor_is_sized_by_stty() {
    let (client, mut peer) = extended(&[]).await;
    let (process, params) = tokio::join!(client.start(on_terminal()), answer_start(&mut peer));
    process.unwrap();
    assert!(params.get("terminal").is_none(), "{params}");
    let script = params["argv"][2].as_str().unwrap();
    assert!(script.contains("stty rows"), "{params}");
}

#[tokio::test(start_paused = true)]
async fn signals_go_by_name_and_those_that_may_be_counted_go_once() {
    let (client, mut peer, _script, mut connections) =
        extended_with_dial(&["processSignalGroup"]).await;
    let (process, _) = started(&client, &mut peer, Overflow::ReadBack).await;
    let (sent, ()) = tokio::join!(process.control().signal(Signal::Hup), async {
        let (id, params) = peer.expect("process/signalGroup").await;
        assert_eq!(params["signal"], "HUP");
        peer.answer(id, json!({ "running": true })).await;
    });
    assert!(sent.unwrap());
    let (counted, repeated) = (process.control().clone(), process.control().clone());
    let peer = async {
        peer.expect("process/signalGroup").await;
        peer.expect("process/signalGroup").await;
        drop(peer);
        let mut peer = connections.recv().await.unwrap();
        peer.handshake_with(&["processSignalGroup"]).await;
        let mut signals = Vec::new();
        while signals.is_empty() {
            let message = peer.receive().await;
            if message["method"] == "process/signalGroup" {
                signals.push(message["params"]["signal"].clone());
                let id = message["id"].as_i64().unwrap();
                peer.answer(id, json!({ "running": false })).await;
            }
        }
        (peer, signals)
    };
    let (counted, repeated, (_peer, signals)) = tokio::join!(
        counted.signal(Signal::Usr1),
        repeated.signal(Signal::Term),
        peer
    );
    assert!(
        matches!(counted, Err(Error::OutcomeUnknown { .. })),
        "{counted:?}"
    );
    assert!(!repeated.unwrap());
    assert_eq!(signals, ["TERM"]);
}

#[tokio::test(start_paused = true)]
async fn old_executor_knows_interrupt_and_kill_only() {
    let (client, mut peer) = extended(&[]).await;
    let (process, _) = started(&client, &mut peer, Overflow::ReadBack).await;
    let control = process.control();
    assert!(matches!(
        control.signal(Signal::Term).await,
        Err(Error::Unsupported(_))
    ));
    let (sent, ()) = tokio::join!(control.signal(Signal::Int), async {
        let (id, params) = peer.expect("process/signal").await;
        assert_eq!(params["signal"], "interrupt");
        peer.answer(id, json!({})).await;
    });
    assert!(sent.unwrap());
    let (sent, ()) = tokio::join!(control.signal(Signal::Kill), async {
        let (id, params) = peer.expect("process/terminate").await;
        assert_eq!(params, json!({ "processId": process.id() }));
        peer.answer(id, json!({ "running": true })).await;
    });
    assert!(sent.unwrap());
    assert!(matches!(
        client.processes().await,
        Err(Error::Unsupported(_))
    ));
    assert!(matches!(
        client.close_session().await,
        Err(Error::Unsupported(_))
    ));
    let minute = Duration::from_secs(60);
    assert!(matches!(
        client.keep(minute).await,
        Err(Error::Unsupported(_))
    ));
    let (fs, file) = (client.filesystem(), path("file:///f"));
    for refused in [
        fs.rename(&file, &file, Existing::Keep).await,
        fs.append(&file, "x").await.map(drop),
        fs.sync(&file).await,
    ] {
        assert!(matches!(refused, Err(Error::Unsupported(_))), "{refused:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn termination_gives_the_time_that_was_asked_for() {
    let (client, mut peer) = extended(&["processTerminateGrace"]).await;
    let (process, _) = started(&client, &mut peer, Overflow::ReadBack).await;
    let grace = Duration::from_millis(1500);
    let (running, ()) = tokio::join!(process.control().terminate_within(grace), async {
        let (id, params) = peer.expect("process/terminate").await;
        assert_eq!(params["graceMs"], 1500);
        peer.answer(id, json!({ "running": true })).await;
    });
    assert!(running.unwrap());
    let long = process.control().terminate_within(Duration::from_secs(601));
    assert!(matches!(long.await, Err(Error::Limit { .. })));
}

#[tokio::test(start_paused = true)]
async fn processes_are_listed_page_by_page_and_a_circle_is_an_error() {
    let (client, mut peer) = extended(&["processList"]).await;
    let listed = |id: &str| {
        json!({
            "processId": id, "program": "sh", "state": "running", "exitCode": null,
            "tty": false, "startedAtMs": 5, "nextSeq": 1,
        })
    };
    let (processes, ()) = tokio::join!(client.processes(), async {
        let (id, _) = peer.expect("process/list").await;
        peer.answer(id, json!({ "processes": [listed("a")], "next": "a" }))
            .await;
        let (id, params) = peer.expect("process/list").await;
        assert_eq!(params["after"], "a");
        peer.answer(id, json!({ "processes": [listed("b")] })).await;
    });
    let ids: Vec<_> = processes
        .unwrap()
        .into_iter()
        .map(|p| p.process_id)
        .collect();
    assert_eq!(ids, ["a", "b"]);
    let (processes, ()) = tokio::join!(client.processes(), async {
        for _ in 0..2 {
            let (id, _) = peer.expect("process/list").await;
            peer.answer(id, json!({ "processes": [], "next": "a" }))
                .await;
        }
    });
    assert!(matches!(processes, Err(Error::Protocol(_))));
}

#[tokio::test(start_paused = true)]
async fn session_is_ended_once_even_when_the_answer_is_lost() {
    let (client, mut peer, _script, mut connections) = extended_with_dial(&["sessionClose"]).await;
    let (ended, ()) = tokio::join!(client.close_session(), async {
        peer.expect("session/close").await;
        drop(peer);
        let mut peer = connections.recv().await.unwrap();
        let (id, _) = peer.expect("initialize").await;
        peer.refuse(id, -32600, "unknown session id").await;
    });
    ended.unwrap();
    assert!(matches!(
        client.status().await,
        Err(Error::SessionLost(_) | Error::Closed)
    ));
}

/// Takes over a session as a program of its own does.
async fn reattached(extensions: &[&str]) -> (Client, Peer) {
    let (script, mut connections) = script();
    let client = Client::resume_with(script, ClientConfig::default(), SESSION);
    let peer = async {
        let mut peer = connections.recv().await.unwrap();
        assert_eq!(peer.handshake_with(extensions).await, SESSION);
        peer
    };
    let (client, peer) = tokio::join!(client, peer);
    (client.unwrap(), peer)
}

#[tokio::test(start_paused = true)]
async fn attached_process_replays_what_is_retained_then_follows() {
    let (client, mut peer) = reattached(&[]).await;
    let (process, ()) = tokio::join!(client.attach("1", false, Overflow::Block), async {
        let (id, params) = peer.expect("process/read").await;
        assert_eq!(
            (&params["processId"], &params["afterSeq"]),
            (&json!("1"), &json!(0))
        );
        // An event may overtake the page that has it too.
        peer.output("1", 4, "d").await;
        peer.answer(id, page(&[(3, "c"), (4, "d")], 5, None, false))
            .await;
    });
    let mut process = process.unwrap();
    let lost = process.next_event().await.unwrap();
    assert!(
        matches!(lost, Err(Error::OutputLost { first: 1, last: 2 })),
        "{lost:?}"
    );
    assert_eq!(next(&mut process).await, out("c"));
    assert_eq!(next(&mut process).await, out("d"));
    // The writes of the earlier client have small numbers for names.
    let (written, name) = tokio::join!(process.control().write("hi"), async {
        let (id, params) = peer.expect("process/write").await;
        peer.answer(id, json!({ "status": "accepted" })).await;
        params["writeId"].as_str().unwrap().to_owned()
    });
    written.unwrap();
    assert!(name.len() > 30, "{name}");
    peer.exited("1", 5, 6).await;
    peer.closed("1", 6).await;
    assert_eq!(process.wait().await.unwrap().code, 6);
}

#[tokio::test(start_paused = true)]
async fn unknown_sessions_and_processes_are_told_apart() {
    let (client, mut peer) = reattached(&[]).await;
    let (process, ()) = tokio::join!(client.attach("2", false, Overflow::Block), async {
        let (id, _) = peer.expect("process/read").await;
        peer.refuse(id, -32600, "unknown process id 2").await;
    });
    assert!(matches!(process, Err(Error::ProcessGone)));

    let (script, mut connections) = script();
    let resumed = Client::resume_with(script, ClientConfig::default(), "gone");
    let (resumed, ()) = tokio::join!(resumed, async {
        let mut peer = connections.recv().await.unwrap();
        let (id, _) = peer.expect("initialize").await;
        peer.refuse(id, -32600, "unknown session id gone").await;
    });
    assert!(matches!(resumed, Err(Error::SessionUnknown)), "{resumed:?}");
}

/// An executor's files in memory, behind requests or batches of them. Counts requests.
struct Files {
    peer: Peer,
    files: std::collections::BTreeMap<String, (Vec<u8>, i64)>,
    requests: Vec<String>,
}

impl Files {
    fn new(peer: Peer) -> Self {
        Self {
            peer,
            files: std::collections::BTreeMap::new(),
            requests: Vec::new(),
        }
    }

    /// Serves until the client is done.
    async fn serve(mut self) -> Self {
        while let Some(bytes) = self.peer.from_client.recv().await {
            let message: Value = serde_json::from_slice(&bytes).unwrap();
            let method = message["method"].as_str().unwrap();
            self.requests.push(method.to_owned());
            let answer = match method {
                "fs/batch" => {
                    let calls = message["params"]["calls"].as_array().unwrap();
                    let results = calls
                        .iter()
                        .map(|call| self.one(call["method"].as_str().unwrap(), &call["params"]));
                    let results: Vec<Value> = results.collect();
                    json!({ "result": { "results": results } })
                }
                method => self.one(method, &message["params"]),
            };
            let mut answer = answer;
            answer["id"] = message["id"].clone();
            self.peer.send(answer).await;
        }
        self
    }

    fn one(&mut self, method: &str, params: &Value) -> Value {
        let path = params["path"].as_str().unwrap().to_owned();
        let not_found = json!({ "error": { "code": -32004, "message": "not found" } });
        match method {
            "fs/createDirectory" => json!({ "result": {} }),
            "fs/writeFile" => {
                let contents = params["dataBase64"].as_str().unwrap();
                let contents = exec_proto::base64::decode(contents).unwrap().to_vec();
                self.files.insert(path, (contents, i64::MAX));
                json!({ "result": {} })
            }
            "fs/getMetadata" => match self.files.get(&path) {
                None if path == "file:///d" => metadata(true, 0, 5),
                None => not_found,
                Some((contents, modified)) => metadata(false, contents.len(), *modified),
            },
            "fs/readDirectory" => {
                let names = self.files.keys().map(|path| {
                    let name = path.rsplit_once('/').unwrap().1;
                    json!({ "fileName": name, "isDirectory": false, "isFile": true })
                });
                json!({ "result": { "entries": names.collect::<Vec<_>>() } })
            }
            "fs/readFile" => match self.files.get(&path) {
                // As if it did not fit into the batch with others.
                Some((contents, _))
                    if contents == b"alone"
                        && !self.requests.ends_with(&["fs/readFile".into()]) =>
                {
                    json!({ "error": { "code": -32600, "message": "make this call alone" } })
                }
                Some((contents, _)) => {
                    json!({ "result": { "dataBase64": exec_proto::base64::encode(contents) } })
                }
                None => not_found,
            },
            other => panic!("unexpected {other}"),
        }
    }
}

fn metadata(is_directory: bool, size: usize, modified: i64) -> Value {
    json!({ "result": {
        "isDirectory": is_directory, "isFile": !is_directory, "isSymlink": false,
        "size": size, "createdAtMs": 0, "modifiedAtMs": modified,
    } })
}

const FILES: usize = 1000;

fn local_files() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..FILES {
        std::fs::write(
            directory.path().join(format!("f{number}")),
            number.to_string(),
        )
        .unwrap();
    }
    directory
}

#[tokio::test]
async fn many_small_files_are_uploaded_in_few_requests_or_side_by_side() {
    let local = local_files();
    for (extensions, most) in [(&["fsBatch"][..], FILES / 100), (&[], 2 * FILES)] {
        let (client, peer) = extended(extensions).await;
        let serving = tokio::spawn(Files::new(peer).serve());
        let (fs, target) = (client.filesystem(), path("file:///d"));
        let mut moved = 0;
        let mut report = |event: crate::CopyEvent<'_>| {
            if let crate::CopyEvent::Bytes(bytes) = event {
                moved += bytes;
            }
        };
        let copied = upload(local.path(), &fs, &target, Complete::Copy, &mut report);
        let copied = copied.await.unwrap();
        assert_eq!((copied.files, copied.directories), (FILES as u64, 1));
        assert_eq!(copied.bytes, moved);
        drop(fs);
        client.close().await;
        let served = serving.await.unwrap();
        assert_eq!(served.files.len(), FILES);
        assert_eq!(served.files["file:///d/f123"].0, b"123");
        let requests = served.requests.len();
        assert!(requests <= most, "{requests} requests");
    }
}

#[tokio::test]
async fn many_small_files_are_downloaded_in_few_requests_and_what_does_not_fit_alone() {
    let (client, peer) = extended(&["fsBatch"]).await;
    let mut files = Files::new(peer);
    for number in 0..FILES {
        let name = format!("file:///d/f{number}");
        files
            .files
            .insert(name, (number.to_string().into_bytes(), 5));
    }
    files
        .files
        .insert("file:///d/big".into(), (b"alone".to_vec(), 5));
    let serving = tokio::spawn(files.serve());
    let to = tempfile::tempdir().unwrap();
    let (fs, source) = (client.filesystem(), path("file:///d"));
    let copied = download(&fs, &source, to.path(), Complete::Copy, &mut |_| {}).await;
    assert_eq!(copied.unwrap().files, FILES as u64 + 1);
    assert_eq!(std::fs::read(to.path().join("f999")).unwrap(), b"999");
    assert_eq!(std::fs::read(to.path().join("big")).unwrap(), b"alone");
    // What was downloaded is newer than the originals, which are of 1970.
    let again = download(&fs, &source, to.path(), Complete::Skip, &mut |_| {}).await;
    let again = again.unwrap();
    assert_eq!((again.files, again.unchanged), (0, FILES as u64 + 1));
    drop(fs);
    client.close().await;
    let requests = serving.await.unwrap().requests;
    assert!(requests.len() <= FILES / 50, "{}", requests.len());
}

#[tokio::test]
async fn resumed_upload_leaves_out_what_is_complete_and_copies_the_rest() {
    let local = local_files();
    let (client, peer) = extended(&["fsBatch"]).await;
    let mut files = Files::new(peer);
    let there = |text: &str, modified| (text.as_bytes().to_vec(), modified);
    files
        .files
        .insert("file:///d/f10".into(), there("10", i64::MAX));
    files
        .files
        .insert("file:///d/f11".into(), there("1", i64::MAX));
    files.files.insert("file:///d/f12".into(), there("xx", 1));
    let serving = tokio::spawn(files.serve());
    let (fs, target) = (client.filesystem(), path("file:///d"));
    let mut unchanged = Vec::new();
    let mut report = |event: crate::CopyEvent<'_>| {
        if let crate::CopyEvent::Unchanged { source, .. } = event {
            unchanged.push(source.to_owned());
        }
    };
    let copied = upload(local.path(), &fs, &target, Complete::Skip, &mut report);
    let copied = copied.await.unwrap();
    assert_eq!((copied.files, copied.unchanged), (FILES as u64 - 1, 1));
    assert!(
        unchanged.len() == 1 && unchanged[0].ends_with("/f10"),
        "{unchanged:?}"
    );
    drop(fs);
    client.close().await;
    let served = serving.await.unwrap();
    assert_eq!(served.files["file:///d/f11"].0, b"11");
    assert_eq!(served.files["file:///d/f12"].0, b"12");
}

#[tokio::test(start_paused = true)]
async fn calls_after_one_that_failed_are_not_begun_without_batches_either() {
    let (client, mut peer) = extended(&[]).await;
    let (fs, file) = (client.filesystem(), path("file:///f"));
    let calls = vec![
        FsCall::write(&file, b"1"),
        FsCall::write(&file, b"2"),
        FsCall::write(&file, b"3"),
    ];
    let (outcomes, ()) = tokio::join!(fs.batch(calls, OnError::Stop), async {
        let (id, _) = peer.expect("fs/writeFile").await;
        peer.answer(id, json!({})).await;
        let (id, _) = peer.expect("fs/writeFile").await;
        peer.refuse(id, -32603, "disk full").await;
    });
    let codes: Vec<_> = outcomes
        .unwrap()
        .into_iter()
        .map(|o| o.done().err().map(|e| e.to_string()))
        .collect();
    assert_eq!(codes[0], None);
    assert_eq!(codes[1].as_deref(), Some("fs/writeFile: disk full"));
    assert!(
        codes[2].as_ref().unwrap().contains("not begun"),
        "{codes:?}"
    );
}
