//! Weaknesses 20 to 26, as far as they show on the wire. The others are tested beside the code.

use serde_json::json;

use crate::peer::{Program, uri};

/// 25: an answer with a large file is a frame that a peer with the reference's own limits refuses, and
/// a larger file makes a message that no peer can take.
#[tokio::test]
async fn a_file_is_never_answered_with_more_than_a_peer_can_take() {
    const LARGEST: u64 = (48 << 20) - (64 << 10);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let file = std::fs::File::create(&path).unwrap();
    let program = Program::start(&[]);
    // Takes frames up to 16 MiB and messages up to 64 MiB.
    let mut peer = program.connect().await;

    file.set_len(LARGEST).unwrap();
    let answer = peer.ok("fs/readFile", json!({"path": uri(&path)})).await;
    let encoded = answer["dataBase64"].as_str().unwrap();
    assert_eq!(encoded.len() as u64, LARGEST.div_ceil(3) * 4);

    file.set_len(LARGEST + 1).unwrap();
    let (code, text) = peer.err("fs/readFile", json!({"path": uri(&path)})).await;
    assert_eq!(code, -32600, "{text}");
    peer.ok("environment/status", json!(null)).await;
}
