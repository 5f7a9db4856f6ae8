//! Who may reach what, and how it is told.

use super::*;

/// The members of a notice that depend on the decision.
fn told(notice: &Value) -> [&str; 4] {
    assert_eq!(notice["method"], "network/policyDecision");
    ["scope", "decision", "source", "reason"].map(|name| notice["params"][name].as_str().unwrap())
}

const BASELINE: [&str; 3] = ["domain", "deny", "baseline_policy"];

#[tokio::test]
async fn refusals_follow_the_order_of_the_rules() {
    let allow = |host: &str| json!({"domains": {host: "allow"}});
    for (settings, host, reason) in [
        (allow("a.com"), "example.com", "not_allowed"),
        (json!({}), "example.com", "not_allowed"),
        (allow("*.b.com"), "b.com", "not_allowed"),
        (allow("a.com"), "127.0.0.1:1", "not_allowed_local"),
        (allow("a.com"), "localhost", "not_allowed_local"),
        (allow("a.com"), "[::1]:1", "not_allowed_local"),
        (
            allow("loopback.example"),
            "loopback.example",
            "not_allowed_local",
        ),
        (
            allow("private.example"),
            "private.example",
            "not_allowed_local",
        ),
        (allow("mixed.example"), "mixed.example", "not_allowed_local"),
        (allow("link.example"), "link.example", "not_allowed_local"),
        (
            allow("unknown.example"),
            "unknown.example",
            "not_allowed_local",
        ),
        (allow("*"), "127.0.0.1", "not_allowed_local"),
        (allow("*"), "localhost", "not_allowed_local"),
        (allow("*"), "10.0.0.1", "not_allowed_local"),
        (allow("*"), "169.254.169.254", "not_allowed_local"),
        (allow("*"), "0x7f000001", "not_allowed_local"),
        (allow("*"), "[::ffff:127.0.0.1]", "not_allowed_local"),
        (allow("*"), "2130706433", "not_allowed_local"),
        (allow("127.0.0.1"), "127.0.0.2", "not_allowed_local"),
    ] {
        let mut bench = Bench::new(settings.clone(), false).await;
        let reply = bench.get(host).await;
        assert_eq!(reply.status, 403, "{settings} {host}");
        assert!(reply.head.contains("x-proxy-error: blocked-by-allowlist"));
        let body = reply.json();
        assert_eq!(body["reason"], reason, "{settings} {host}");
        assert_eq!(body["decision"], "deny");
        let notice = bench.client.next().await;
        assert_eq!(told(&notice), [BASELINE.as_slice(), &[reason]].concat()[..]);
        assert!(bench.client.nothing_came(), "one notice for one request");
    }
    for (settings, host) in [
        (
            json!({"domains": {"evil.example": "deny", "*": "allow"}}),
            "evil.example",
        ),
        (
            json!({"domains": {"evil.example": "deny", "*": "allow"}}),
            "EVIL.example.",
        ),
        (
            json!({"domains": {"**.evil.example": "deny", "*": "allow"}}),
            "x.evil.example",
        ),
        (
            json!({"domains": {"127.0.0.1": "deny"}, "allowLocalBinding": true}),
            "127.1",
        ),
    ] {
        let bench = Bench::new(settings, true).await;
        let reply = bench.get(host).await;
        assert!(reply.head.contains("x-proxy-error: blocked-by-denylist"));
        assert_eq!(reply.json()["reason"], "denied", "{host}");
        assert_eq!(
            bench.names.lookups(),
            0,
            "nothing is looked up for what is denied"
        );
    }
}

#[tokio::test]
async fn answers_and_notices_have_the_members_of_the_protocol() {
    let mut bench = Bench::new(json!({"domains": {"a.com": "allow"}}), false).await;
    let reply = bench.get("Example.com:8080").await;
    assert_eq!(
        reply.body,
        "{\"status\":\"blocked\",\"host\":\"example.com\",\"reason\":\"not_allowed\",\
         \"decision\":\"deny\",\"source\":\"baseline_policy\",\"protocol\":\"http\",\
         \"port\":8080,\"message\":\"Domain not in allowlist.\"}"
    );
    assert!(reply.head.contains("content-type: application/json"));
    let mut params = bench.client.next().await["params"].take();
    assert!(params["client"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(params["timestamp"].as_str().unwrap().ends_with('Z'));
    params["client"] = Value::Null;
    params["timestamp"] = Value::Null;
    let expected = json!({
        "processId": "p", "timestamp": null, "scope": "domain", "decision": "deny",
        "source": "baseline_policy", "reason": "not_allowed", "protocol": "http",
        "host": "example.com", "port": 8080, "method": "GET", "client": null,
        "policyOverride": false,
    });
    assert_eq!(params, expected);

    let reply = bench.tunnel("example.com:443").await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (403, "Domain not in allowlist.")
    );
    assert!(reply.head.contains("content-type: text/plain"));
    let params = &bench.client.next().await["params"];
    assert_eq!(params["protocol"], "https_connect");
    assert_eq!(params["method"], "CONNECT");

    assert_eq!(bench.socks(1, "example.com", 80).await.1, 2);
    let params = &bench.client.next().await["params"];
    assert_eq!(params["protocol"], "socks5_tcp");
    assert_eq!(params.get("method"), None);
}

#[tokio::test]
async fn limited_mode_lets_reading_requests_through() {
    let (port, _requests) =
        server("\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let host = format!("127.0.0.1:{port}");
    let settings = json!({"domains": {"127.0.0.1": "allow"}, "mode": "limited"});
    let mut bench = Bench::new(settings, false).await;
    let allowed = ["domain", "allow", "baseline_policy", "allow"];
    let guarded = |reason| ["non_domain", "deny", "mode_guard", reason];
    for method in ["GET", "HEAD", "OPTIONS"] {
        assert_eq!(bench.request(method, &host).await.status, 200, "{method}");
        assert_eq!(told(&bench.client.next().await), allowed);
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "get"] {
        let reply = bench.request(method, &host).await;
        assert_eq!(reply.json()["reason"], "method_not_allowed", "{method}");
        assert!(
            reply
                .head
                .contains("x-proxy-error: blocked-by-method-policy")
        );
        assert_eq!(told(&bench.client.next().await), allowed);
        assert_eq!(
            told(&bench.client.next().await),
            guarded("method_not_allowed")
        );
    }
    let reply = bench.tunnel(&host).await;
    assert_eq!(reply.body, "MITM required for limited HTTPS.");
    assert_eq!(told(&bench.client.next().await), allowed);
    assert_eq!(told(&bench.client.next().await), guarded("mitm_required"));
    assert_eq!(bench.socks(1, "127.0.0.1", port).await.1, 2);
    assert_eq!(
        told(&bench.client.next().await),
        guarded("method_not_allowed")
    );
    assert_eq!(bench.socks(1, "127.0.0.1", 443).await.1, 2);
    assert_eq!(told(&bench.client.next().await), allowed);
    assert_eq!(told(&bench.client.next().await), guarded("mitm_required"));
}

#[tokio::test]
async fn explicit_and_local_hosts_are_reached() {
    let (port, _requests) =
        server("\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    for (settings, host) in [
        (json!({"domains": {"127.0.0.1": "allow"}}), "127.0.0.1"),
        (json!({"domains": {"127.0.0.1": "allow"}}), "0x7f000001"),
        (json!({"domains": {"localhost": "allow"}}), "localhost"),
        (
            json!({"domains": {"*": "allow"}, "allowLocalBinding": true}),
            "127.0.0.1",
        ),
        (
            json!({"domains": {"*": "allow"}, "allowLocalBinding": true}),
            "loopback.example",
        ),
    ] {
        let mut bench = Bench::new(settings.clone(), false).await;
        let reply = bench.get(&format!("{host}:{port}")).await;
        assert_eq!(
            (reply.status, reply.body.as_str()),
            (200, "ok"),
            "{settings} {host}"
        );
        let notice = bench.client.next().await;
        assert_eq!(
            told(&notice),
            ["domain", "allow", "baseline_policy", "allow"]
        );
        let (mut stream, code) = bench.socks(1, host, port).await;
        assert_eq!(code, 0, "{settings} {host}");
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        assert!(Reply::read(&mut stream).await.body == "ok");
    }
}

#[tokio::test]
async fn unix_sockets_of_the_host_are_not_reached_by_a_proxy_that_others_can_use() {
    let settings = json!({"domains": {"localhost": "allow"}, "unixSockets": {"/run/s": "allow"}});
    let mut bench = Bench::new(settings, false).await;
    let request = "GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\nX-Unix-Socket: /run/s\r\n\
                   Connection: close\r\n\r\n";
    let reply = bench.send(request).await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (501, "unix sockets unsupported")
    );
    let notice = bench.client.next().await;
    let expected = [
        "non_domain",
        "deny",
        "proxy_state",
        "unix_socket_unsupported",
    ];
    assert_eq!(told(&notice), expected);
}

#[tokio::test]
async fn names_are_looked_up_once_and_never_before_they_are_allowed() {
    let mut bench = Bench::new(json!({"domains": {"loopback.example": "allow"}}), true).await;
    bench.get("loopback.example").await;
    assert_eq!(bench.names.lookups(), 1);
    bench.client.next().await;
    let asked = get(bench.http, "mixed.example");
    let answer = async {
        let question = bench.client.next().await;
        assert_eq!(bench.names.lookups(), 1, "nobody has allowed it yet");
        bench.client.answer(&question, json!({"type": "allow"}));
    };
    let (reply, ()) = tokio::join!(asked, answer);
    assert_eq!(reply.json()["reason"], "not_allowed_local");
    assert_eq!(bench.names.lookups(), 2);
}
