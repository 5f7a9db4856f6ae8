//! What a program may reach, and questions of the executor about it.

use super::*;
use crate::{Network, NetworkDecider, NetworkDecision, NetworkRequest};

/// A client that decides like that, of an executor that can limit networks.
async fn deciding(decider: NetworkDecider) -> (Client, Peer, mpsc::Receiver<Peer>) {
    let (script, mut connections) = script();
    let config = ClientConfig {
        network: decider,
        ..ClientConfig::default()
    };
    let client = Client::connect_with(script, config);
    let peer = async {
        let mut peer = connections.recv().await.unwrap();
        peer.handshake_with(&["networkProxyLaunch"]).await;
        peer
    };
    let (client, peer) = tokio::join!(client, peer);
    (client.unwrap(), peer, connections)
}

async fn ask(peer: &Peer, id: i64, host: &str) {
    let request = json!({ "protocol": "https_connect", "host": host, "port": 443 });
    let params = json!({ "processId": "p", "request": request });
    peer.send(json!({ "id": id, "method": "network/policyRequest", "params": params }))
        .await;
}

#[tokio::test(start_paused = true)]
async fn questions_are_denied_unless_somebody_decides() {
    let (_client, mut peer, _connections) = deciding(NetworkDecider::default()).await;
    ask(&peer, 1, "a.com").await;
    let reason = "not allowed by the client";
    let decision = json!({ "type": "deny", "reason": reason });
    let expected = json!({ "id": 1, "result": { "decision": decision } });
    assert_eq!(peer.receive().await, expected);
    peer.send(json!({ "id": 2, "method": "network/policyRequest", "params": {} }))
        .await;
    assert_eq!(peer.receive().await["error"]["code"], -32602);
}

#[tokio::test(start_paused = true)]
async fn decisions_may_take_their_time_and_come_in_any_order() {
    let decide = |request: NetworkRequest| async move {
        assert_eq!((request.process_id.as_str(), request.port), ("p", 443));
        match request.host.as_str() {
            "slow.com" => {
                tokio::time::sleep(Duration::from_secs(20)).await;
                NetworkDecision::AllowOnce
            }
            "session.com" => NetworkDecision::AllowForSession,
            _ => NetworkDecision::Deny("no".into()),
        }
    };
    let (client, mut peer, _connections) = deciding(NetworkDecider::new(decide)).await;
    ask(&peer, 1, "slow.com").await;
    ask(&peer, 2, "session.com").await;
    let allowed = json!({ "decision": { "type": "allow", "scope": "session" } });
    assert_eq!(peer.receive().await, json!({ "id": 2, "result": allowed }));
    // Others are served meanwhile.
    let (process, _) = started(&client, &mut peer, Overflow::ReadBack).await;
    drop(process);
    let once = json!({ "decision": { "type": "allow" } });
    assert_eq!(peer.receive().await, json!({ "id": 1, "result": once }));
}

#[tokio::test(start_paused = true)]
async fn questions_end_with_their_connection() {
    let alive = Arc::new(());
    let held = alive.clone();
    let decide = move |_| {
        let held = held.clone();
        async move {
            let _held = held;
            std::future::pending().await
        }
    };
    let (client, mut peer, mut connections) = deciding(NetworkDecider::new(decide)).await;
    let other = |id: i64| json!({ "id": id, "method": "network/unheardOf" });
    ask(&peer, 1, "a.com").await;
    peer.send(other(4)).await;
    assert_eq!(peer.receive().await["id"], 4);
    // Of the test, of the function, and of the decision.
    assert_eq!(Arc::strong_count(&alive), 3);
    drop(peer);
    let mut peer = resumed(&mut connections).await;
    peer.send(other(5)).await;
    assert_eq!(peer.receive().await["id"], 5);
    assert_eq!(Arc::strong_count(&alive), 2);
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn limits_of_a_network_are_enforced_or_refused() {
    let network = || {
        Network::only(["*.example.com", "127.0.0.1"])
            .deny(["bad.example.com"])
            .ask(Duration::from_secs(30))
    };
    let (client, mut peer, _connections) = deciding(NetworkDecider::default()).await;
    let start = async {
        let (id, params) = peer.expect("process/start").await;
        let result = json!({ "processId": params["processId"], "sandboxType": "linuxSeccomp" });
        peer.answer(id, result).await;
        params
    };
    let command = Command::new(["program"]).network(network());
    let (process, params) = tokio::join!(client.start(command), start);
    process.unwrap();
    assert_eq!(params["enforceManagedNetwork"], true);
    assert_eq!(
        params["sandbox"]["permissions"],
        json!({ "type": "disabled" })
    );
    let proxy = &params["networkProxy"];
    assert_eq!(proxy["policyDecisionTimeoutMs"], 30_000);
    let domains = json!({
        "*.example.com": "allow", "127.0.0.1": "allow", "bad.example.com": "deny",
    });
    assert_eq!(proxy["proxy"]["domains"], domains);
    assert_eq!(proxy["proxy"]["mode"], "full");

    let (client, _peer, _script, _connections) = connected().await;
    let refused = client
        .start(Command::new(["program"]).network(network()))
        .await;
    assert!(matches!(refused, Err(Error::Unsupported(_))), "{refused:?}");
}
