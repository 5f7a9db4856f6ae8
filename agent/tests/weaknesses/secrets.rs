//! Weaknesses 33 to 36, as far as they show on the wire. The others are tested beside the code.

use serde_json::{Value, json};

use crate::peer::{Program, script, with};
use crate::support::exec_server;

const SECRET: &str = "s3cr3t-0123456789";

/// A sandbox with an open network could otherwise ask for a command without one.
#[tokio::test]
async fn a_command_with_network_cannot_reach_an_open_listener() {
    let program = Program::spawn(exec_server(&crate::peer::LISTEN));
    let mut peer = program.connect().await;
    let root = json!({"type": "special", "value": {"kind": "root"}});
    let files = json!({"type": "restricted", "entries": [{"path": root, "access": "read"}]});
    let sandbox = json!({"permissions": {"type": "managed", "network": "enabled", "file_system": files},
        "windowsSandboxLevel": "disabled"});
    let params = with(script("p", "true"), "sandbox", sandbox);
    let (code, text) = peer.err("process/start", params).await;
    assert!(code == -32602 && text.contains("--ws-auth"), "{text}");
}

/// 34: what is kept from children and headers is read from the files of `/proc`.
#[tokio::test]
async fn no_way_leads_to_the_environment_of_the_executor() {
    let mut command = exec_server(&crate::peer::LISTEN);
    command
        .env("CODEX_API_KEY", SECRET)
        .env("ORDINARY", "ordinary");
    let program = Program::spawn(command);
    let pid = program.executor.id();
    let mut peer = program.connect().await;
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(format!("/proc/{pid}/environ"), &link).unwrap();
    let path = |path: &str| json!({"path": format!("file://{path}")});

    let paths = [
        "/proc/self/environ".to_owned(),
        "/proc/thread-self/environ".to_owned(),
        format!("/proc/{pid}/environ"),
        format!("/proc/{pid}/task/{pid}/environ"),
        format!("/proc/{pid}/root/proc/{pid}/environ"),
        link.display().to_string(),
    ];
    let copy = dir.path().join("copy");
    for name in &paths {
        for follow in [true, false] {
            let params = with(path(name), "followSymlinks", follow);
            let refused = peer.err("fs/readFile", params).await;
            assert!(!refused.1.contains("ordinary"), "{name}");
        }
        let params = with(path(name), "handleId", "h");
        peer.err("fs/open", params).await;
        let params = json!({
            "sourcePath": format!("file://{name}"), "recursive": false,
            "destinationPath": format!("file://{}", copy.display()),
        });
        // A link is copied as a link.
        let copied = peer.call("fs/copy", params).await;
        assert!(copied.is_err() || copy.is_symlink(), "{name}");
        let _ = std::fs::remove_file(&copy);
    }

    // Commands run as the same user, and may well be root.
    let find = format!("env; cat /proc/{pid}/environ | tr '\\0' '\\n'");
    let policy = json!({"inherit": "all", "ignoreDefaultExcludes": true, "exclude": [], "set": {}, "includeOnly": []});
    peer.start(with(script("p", &find), "envPolicy", policy))
        .await;
    let found = peer.collect("p").await.text();
    assert!(found.contains("ORDINARY=ordinary"), "{found}");
    assert!(!found.contains(SECRET), "{found}");
    let header = json!({"name": "x", "value": "", "valueEnvVar": "CODEX_API_KEY"});
    let params: Value = json!({"method": "GET", "url": "http://127.0.0.1:1/", "requestId": "r", "headers": [header]});
    let (code, text) = peer.err("http/request", params).await;
    assert_eq!(code, -32602, "{text}");
}
