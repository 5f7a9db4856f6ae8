//! The graceful end: what is refused, what goes on, and in which order the rest ends.

use super::*;

use exec_proto::rpc::code::SHUTTING_DOWN;

/// Long enough that a test which waits for it fails.
const LONG: Duration = Duration::from_secs(600);

fn drain(sessions: &Arc<Sessions>, grace: Duration) -> JoinHandle<()> {
    let sessions = Arc::clone(sessions);
    tokio::spawn(async move { sessions.drain(grace).await })
}

/// Waits until the end has begun, which it does before its first wait.
async fn begun(sessions: &Arc<Sessions>) {
    while !sessions.is_draining() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn nothing_to_wait_for_takes_no_time_and_ends_connections() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    client.start("p", &["true"]).await;
    assert_eq!(client.collect("p").await.exit_code, Some(0));
    tokio::time::timeout(DEADLINE, drain(&sessions, LONG))
        .await
        .expect("it waited for nothing")
        .unwrap();
    assert_eq!(client.recv().await, None);
}

#[tokio::test]
async fn what_runs_goes_on_and_what_is_new_is_refused() {
    let sessions = sessions();
    let (mut client, id) = Client::open(&sessions).await;
    client.start("p", &["cat"]).await;
    // Input makes it end, so that nothing depends on how fast it is.
    let start_piped = with(start("q", &["cat"]), "pipeStdin", true);
    client.ok("process/start", start_piped).await;
    client.collect("p").await;
    let end = drain(&sessions, LONG);
    begun(&sessions).await;

    let (code, text) = client.err("process/start", start("r", &["true"])).await;
    assert_eq!(code, SHUTTING_DOWN);
    assert_eq!(
        text,
        "the executor is shutting down and starts no new processes"
    );
    let mut other = Client::connect(&sessions);
    let (code, text) = other
        .err("initialize", json!({"clientName": "other"}))
        .await;
    assert_eq!(code, SHUTTING_DOWN);
    assert_eq!(
        text,
        "the executor is shutting down and takes no new sessions"
    );

    // The session itself can still change its connection.
    client.disconnect().await;
    let mut client = Client::resume(&sessions, &id).await;
    assert!(!end.is_finished());
    client
        .ok("process/write", write("q", "1", "last words"))
        .await;
    client
        .ok("process/closeStdin", json!({"processId": "q"}))
        .await;
    let collected = client.collect("q").await;
    assert_eq!(collected.stdout, "last words");
    assert_eq!(collected.exit_code, Some(0));
    tokio::time::timeout(DEADLINE, end).await.unwrap().unwrap();
    assert_eq!(client.recv().await, None);
}

#[tokio::test]
async fn after_the_grace_period_groups_are_asked_to_end_and_their_output_arrives() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let script = "trap 'echo asked; exit 7' TERM; echo started; while :; do sleep 0.05; done";
    client.start("p", &sh(script)).await;
    client.until("p", "started").await;
    let end = drain(&sessions, Duration::from_millis(1));
    let collected = client.collect("p").await;
    assert_eq!(collected.stdout, "asked\n");
    assert_eq!(collected.exit_code, Some(7));
    tokio::time::timeout(DEADLINE, end).await.unwrap().unwrap();
    assert_eq!(client.recv().await, None);
}

#[tokio::test]
async fn who_does_not_end_when_asked_is_killed_and_its_output_arrives() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let script = "trap 'echo no' TERM; echo started; while :; do sleep 0.05; done";
    client.start("p", &sh(script)).await;
    client.until("p", "started").await;
    let end = drain(&sessions, Duration::ZERO);
    let collected = client.collect("p").await;
    assert_eq!(collected.stdout, "no\n");
    assert_eq!(collected.exit_code, Some(137));
    tokio::time::timeout(DEADLINE, end).await.unwrap().unwrap();
    assert_eq!(client.recv().await, None);
}

#[tokio::test]
async fn detached_sessions_get_the_grace_period_too() {
    let sessions = sessions();
    let (mut client, id) = Client::open(&sessions).await;
    let dir = tempfile::tempdir().unwrap();
    let held = start_with_fifo(&mut client, dir.path(), "sleep 600 & sleep 600").await;
    client.disconnect().await;
    let end = drain(&sessions, LONG);
    begun(&sessions).await;
    let mut client = Client::resume(&sessions, &id).await;
    assert!(!end.is_finished() && !held.is_finished());
    client
        .ok("process/terminate", json!({"processId": "p"}))
        .await;
    tokio::time::timeout(DEADLINE, end).await.unwrap().unwrap();
    tokio::time::timeout(DEADLINE, held).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_shutdown_cuts_the_grace_period_short() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let dir = tempfile::tempdir().unwrap();
    let held = start_with_fifo(&mut client, dir.path(), "trap '' TERM; sleep 600").await;
    let end = drain(&sessions, LONG);
    begun(&sessions).await;
    tokio::time::timeout(DEADLINE, sessions.shutdown())
        .await
        .expect("something was left");
    tokio::time::timeout(DEADLINE, held).await.unwrap().unwrap();
    tokio::time::timeout(DEADLINE, end).await.unwrap().unwrap();
}
