//! Weakness 40. The others of the sandbox are tested in the program that is about it.

use serde_json::{Value, json};

use crate::peer::{Program, script, uri, with};

/// Everything may be read and nothing written, without network.
fn read_only() -> Value {
    let root = json!({"path": {"type": "special", "value": {"kind": "root"}}, "access": "read"});
    json!({
        "permissions": {
            "type": "managed", "network": "restricted",
            "file_system": {"type": "restricted", "entries": [root]},
        },
        "windowsSandboxLevel": "disabled",
    })
}

/// 40: the launcher crashes with exit code 101 upon the legacy option, and when managed networking is
/// to be enforced without a proxy, instead of an error of `process/start`.
#[tokio::test]
async fn no_option_of_the_sandbox_makes_its_launcher_crash() {
    let program = Program::start(&[]);
    let mut peer = program.connect().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");

    let legacy = with(read_only(), "useLegacyLandlock", true);
    let text = format!("echo begun; echo x > {} || exit 3", file.display());
    peer.start(with(script("legacy", &text), "sandbox", legacy.clone()))
        .await;
    let story = peer.collect("legacy").await;
    assert_eq!(story.exit_code, Some(3), "{}", story.text());
    // Output and errors are two streams.
    assert!(story.text().contains("begun\n"), "{}", story.text());
    let path = format!("{}/file", uri(directory.path()).as_str().unwrap());
    let write = json!({"path": path, "dataBase64": "", "sandbox": legacy});
    let refused = peer.err("fs/writeFile", write).await;
    assert_eq!(
        refused,
        (-32603, "Read-only file system (os error 30)".to_owned())
    );
    assert!(!file.exists());

    let managed = with(script("managed", "echo begun"), "sandbox", read_only());
    let managed = with(managed, "enforceManagedNetwork", true);
    let (code, text) = peer.err("process/start", managed).await;
    assert_eq!(code, -32602, "{text}");
}
