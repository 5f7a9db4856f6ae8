//! A client like Codex 0.169, which knows no extension: what it sees is what it saw before, except for
//! more flags in the capabilities.

use super::*;

/// Names of the members of an object, sorted.
fn members(value: &Value) -> Vec<&str> {
    let mut names: Vec<_> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names
}

/// The flags of the reference.
const FLAGS: [&str; 15] = [
    "capabilityDiscoverySandbox",
    "capabilityDiscoveryV2",
    "credentialMasking",
    "credentialMaskingCustomProviders",
    "environmentConfigRead",
    "fileWriteStreaming",
    "fsWatchMissing",
    "httpHeaderEnvVars",
    "linuxApprovedRootWritePreservesRestrictions",
    "linuxRootWritePreservesDevices",
    "networkProxyLaunch",
    "networkProxyReviewDomains",
    "sandboxedFileStreaming",
    "shellSnapshotV2",
    "windowsMxc",
];

/// The flags of this project.
const MORE_FLAGS: [&str; 20] = [
    "fsAppend",
    "fsBatch",
    "fsBatchBulk",
    "fsRename",
    "fsSync",
    "fsUnwatchMissing",
    "httpCancel",
    "httpRequestBodyStream",
    "tcpStreams",
    "processList",
    "processReadEvicted",
    "processResize",
    "processSignalGroup",
    "processStdinClose",
    "processTerminateGrace",
    "requestCancel",
    "rpcBulk",
    "rpcBulkZstd",
    "sessionClose",
    "sessionKeep",
];

#[tokio::test]
async fn only_more_flags_are_new_in_the_handshake() {
    let sessions = sessions();
    let mut client = Client::connect_as(&sessions, websocket());
    let result = client
        .ok("initialize", json!({"clientName": "codex-environment"}))
        .await;
    assert_eq!(members(&result), ["environmentInfo", "sessionId"]);
    let flags = &result["environmentInfo"]["capabilities"];
    let mut expected = [FLAGS.as_slice(), MORE_FLAGS.as_slice()].concat();
    expected.sort_unstable();
    assert_eq!(members(flags), expected);
    for flag in MORE_FLAGS {
        assert_eq!(flags[flag], true, "{flag}");
    }
    client.notify("initialized").await;
    let info = client.ok("environment/info", json!(null)).await;
    assert_eq!(info, result["environmentInfo"]);
}

#[tokio::test]
async fn results_and_events_have_the_members_they_had() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let result = client
        .ok("process/start", start("p", &sh("echo out; exit 3")))
        .await;
    assert_eq!(result, json!({"processId": "p", "sandboxType": "none"}));
    for (method, names) in [
        (
            "process/output",
            vec!["chunk", "processId", "seq", "stream"],
        ),
        (
            "process/exited",
            vec!["exitCode", "processId", "sandboxDenied", "seq"],
        ),
        ("process/closed", vec!["processId", "seq"]),
    ] {
        let event = client.next_notification().await;
        assert_eq!(event["method"], method);
        assert_eq!(members(&event["params"]), names);
    }
    let params = json!({"processId": "p", "afterSeq": 0, "maxBytes": null, "waitMs": 0});
    let expected = json!({
        "chunks": [{"seq": 1, "stream": "stdout", "chunk": "b3V0Cg=="}],
        "nextSeq": 4, "exited": true, "exitCode": 3, "closed": true, "failure": null,
        "sandboxDenied": false,
    });
    assert_eq!(client.ok("process/read", params).await, expected);
}

#[tokio::test]
async fn terminals_are_as_they_were() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let script = "stty size; echo \"[$TERM]\"";
    for (id, terminal) in [("absent", None), ("null", Some(Value::Null))] {
        let mut params = with(start(id, &sh(script)), "tty", true);
        if let Some(terminal) = terminal {
            params = with(params, "terminal", terminal);
        }
        client.ok("process/start", params).await;
        assert_eq!(client.collect(id).await.pty, "24 80\r\n[]\r\n");
    }
}

#[tokio::test]
async fn terminate_kills_at_once() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let script = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.02; done";
    for (id, params) in [
        ("absent", json!({"processId": "absent"})),
        ("null", json!({"processId": "null", "graceMs": null})),
        ("zero", json!({"processId": "zero", "graceMs": 0})),
    ] {
        client.start(id, &sh(script)).await;
        client.until(id, "ready").await;
        client.ok("process/terminate", params).await;
        let rest = client.collect(id).await;
        assert_eq!((rest.stdout.as_str(), rest.exit_code), ("", Some(137)));
    }
}

#[tokio::test]
async fn texts_of_unknown_variants_are_the_same() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let err = client
        .err(
            "process/signal",
            json!({"processId": "p", "signal": "TERM"}),
        )
        .await;
    assert_eq!(
        err,
        (
            -32602,
            "unknown variant `TERM`, expected `interrupt`".into()
        )
    );
    let params = json!({"handleId": "h", "path": "file:///tmp/x", "mode": "append"});
    let err = client.err("fs/open", params).await;
    let text = "unknown variant `append`, expected `read` or `replace`";
    assert_eq!(err, (-32602, text.into()));
}

#[tokio::test]
async fn notification_of_an_extension_closes_the_connection_as_any_unknown_one() {
    let sessions = sessions();
    let (mut client, id) = Client::open(&sessions).await;
    client.notify("session/close").await;
    assert_eq!(client.recv().await, None);
    let _resumed = Client::resume(&sessions, &id).await;
}
