//! Weaknesses 10 to 19: what clients could not do, or were not told.

use serde_json::json;

use crate::peer::{Held, Program, script, start, with, write};
use crate::support::DEADLINE;

/// 13: background children of a program that has exited hold `closed` back without limit and cannot
/// be killed.
#[tokio::test]
async fn what_an_exited_program_left_behind_can_be_ended() {
    let program = Program::start(&[]);
    let mut peer = program.connect().await;
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    let held = Held::new(&fifo);
    // One child stays in the group; the other left it, and holds the output open only.
    let text = format!(
        "exec 9>{}; sleep 600 & (exec 9>&-; exec setsid sleep 5) & exit 4",
        fifo.display()
    );
    peer.start(script("p", &text)).await;
    let story = peer.follow("p", |story| story.exit_code.is_some()).await;
    assert_eq!((story.exit_code, story.closed), (Some(4), false));
    let result = peer
        .ok("process/terminate", json!({"processId": "p"}))
        .await;
    assert_eq!(result, json!({"running": false}), "its program had ended");
    peer.collect("p").await;
    held.released().await;
}

/// 15: on a terminal, a script without an interpreter starts and then aborts with the text of an
/// assertion in its output.
#[tokio::test]
async fn a_script_without_interpreter_is_an_error_on_a_terminal_too() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("script");
    std::fs::write(&path, "echo hello\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = Program::start(&[]);
    let mut peer = program.connect().await;
    for tty in [false, true] {
        let params = with(start("p", &[path.to_str().unwrap()]), "tty", tty);
        let refused = peer.err("process/start", params).await;
        assert_eq!(refused, (-32603, "Exec format error (os error 8)".into()));
    }
}

/// 18: writes to a program that has exited or closed its input are accepted and lost.
#[tokio::test]
async fn input_that_nobody_can_read_is_not_accepted() {
    let program = Program::start(&[]);
    let mut peer = program.connect().await;
    let closed = json!({"status": "stdinClosed"});

    let text = "exec </dev/null; echo ready; exec sleep 600";
    peer.start(with(script("closed", text), "pipeStdin", true))
        .await;
    peer.follow("closed", |story| story.text().contains("ready"))
        .await;
    // The kernel tells the executor, which takes a moment.
    let deadline = std::time::Instant::now() + DEADLINE;
    let mut number = 0;
    while peer
        .ok("process/write", write("closed", number, b"x"))
        .await
        != closed
    {
        assert!(std::time::Instant::now() < deadline, "still accepted");
        number += 1;
    }

    for (id, tty) in [("pipe", false), ("tty", true)] {
        let params = with(start(id, &["true"]), "pipeStdin", true);
        peer.start(with(params, "tty", tty)).await;
        peer.collect(id).await;
        let status = peer.ok("process/write", write(id, 1, b"x")).await;
        assert_eq!(status, closed, "{id}");
    }
}
