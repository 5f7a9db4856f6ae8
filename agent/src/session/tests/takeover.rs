//! A harness that comes back before its old stream has ended, and streams that nobody uses.

use relay_driver::Path;
use relay_proto::ids::StreamId;
use relay_proto::keys::PublicKey;
use tokio::sync::watch;

use super::*;

fn key() -> PublicKey {
    crate::random::identity().unwrap().public_key().clone()
}

fn relay(key: &PublicKey) -> PeerLabel {
    PeerLabel::Relay {
        stream: StreamId::new("s").unwrap(),
        key: key.clone(),
    }
}

fn resume(id: &str) -> Value {
    json!({"clientName": "x", "resumeSessionId": id})
}

fn attached(id: &str) -> (i64, String) {
    (
        -32010,
        format!("session {id} is already attached to another connection"),
    )
}

async fn open_as(sessions: &Arc<Sessions>, peer: PeerLabel) -> (Client, String) {
    let mut client = Client::connect_as(sessions, peer);
    let result = client.ok("initialize", json!({"clientName": "x"})).await;
    client.notify("initialized").await;
    (client, result["sessionId"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn harness_takes_its_session_from_its_own_lingering_stream() {
    let sessions = sessions();
    let key = key();
    let (mut old, id) = open_as(&sessions, relay(&key)).await;
    let params = with(start("p", &["cat"]), "pipeStdin", true);
    old.ok("process/start", params).await;
    // A request that waits must not keep the old connection.
    old.send("process/read", json!({"processId": "p", "waitMs": 60_000}))
        .await;

    let mut new = Client::connect_as(&sessions, relay(&key));
    let result = new.ok("initialize", resume(&id)).await;
    assert_eq!(result["sessionId"], id);
    new.notify("initialized").await;
    tokio::time::timeout(DEADLINE, old.served)
        .await
        .expect("the old connection goes on")
        .unwrap();
    assert_eq!(old.from_server.recv().await, None);

    new.ok("process/write", write("p", "1", "hello")).await;
    assert_eq!(new.until("p", "hello").await.stdout, "hello");
}

#[tokio::test]
async fn another_harness_cannot_take_a_session_nor_disturb_it() {
    let sessions = sessions();
    let (mut holder, id) = open_as(&sessions, relay(&key())).await;
    for peer in [relay(&key()), PeerLabel::Stdio] {
        let mut other = Client::connect_as(&sessions, peer);
        assert_eq!(other.err("initialize", resume(&id)).await, attached(&id));
    }
    holder.ok("environment/status", json!(null)).await;
}

#[tokio::test]
async fn another_harness_may_take_a_session_whose_stream_has_no_path() {
    let sessions = sessions();
    let (path, seen) = watch::channel(Path::Live);
    let mut holder = Client::connect_stream(&sessions, relay(&key()), seen);
    let result = holder.ok("initialize", json!({"clientName": "x"})).await;
    let id = result["sessionId"].as_str().unwrap().to_owned();
    holder.notify("initialized").await;
    for live in [true, false, true] {
        path.send_replace(if live { Path::Live } else { Path::Lost });
        if live {
            let mut other = Client::connect_as(&sessions, relay(&key()));
            assert_eq!(other.err("initialize", resume(&id)).await, attached(&id));
        }
    }
    path.send_replace(Path::Lost);
    let mut other = Client::connect_as(&sessions, relay(&key()));
    other.ok("initialize", resume(&id)).await;
    other.notify("initialized").await;
    // When the stream comes back it is over, which its harness can tell from silence.
    tokio::time::timeout(DEADLINE, holder.served)
        .await
        .expect("the old connection goes on")
        .unwrap();
    other.ok("environment/status", json!(null)).await;
}

#[tokio::test]
async fn connections_without_a_key_do_not_count_as_the_same_harness() {
    let sessions = sessions();
    let (mut holder, id) = Client::open(&sessions).await;
    for peer in [PeerLabel::Stdio, relay(&key())] {
        let mut other = Client::connect_as(&sessions, peer);
        assert_eq!(other.err("initialize", resume(&id)).await, attached(&id));
    }
    holder.ok("environment/status", json!(null)).await;
}

#[tokio::test]
async fn the_last_of_many_attempts_has_the_session() {
    let sessions = sessions();
    let key = key();
    let (mut holder, id) = open_as(&sessions, relay(&key)).await;
    for _ in 0..20 {
        let mut next = Client::connect_as(&sessions, relay(&key));
        next.ok("initialize", resume(&id)).await;
        next.notify("initialized").await;
        holder.served.await.unwrap();
        holder = next;
    }
    holder.ok("environment/status", json!(null)).await;
    assert_eq!(sessions.session_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn silent_stream_is_ended_and_its_session_expires() {
    let sessions = sessions();
    let (client, id) = open_as(&sessions, relay(&key())).await;
    let start = tokio::time::Instant::now();
    client.served.await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(30 * 60));

    // The harness was only quiet: it is back at once.
    let (to_server, from_server) = (client.to_server, client.from_server);
    let again = Client::resume(&sessions, &id).await;
    drop((to_server, from_server));
    again.disconnect().await;
    tokio::time::sleep(Duration::from_secs(81)).await;
    assert_eq!(sessions.session_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn messages_keep_a_stream_and_direct_connections_may_be_silent() {
    let sessions = sessions();
    let (mut client, _) = open_as(&sessions, relay(&key())).await;
    let (mut direct, _) = Client::open(&sessions).await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(20 * 60)).await;
        client.ok("environment/status", json!(null)).await;
    }
    direct.ok("environment/status", json!(null)).await;
    assert!(!client.served.is_finished() && !direct.served.is_finished());
}
