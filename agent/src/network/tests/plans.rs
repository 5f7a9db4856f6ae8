//! What requests may ask for.

use super::*;

fn refused(request: Value, changes: Value) -> String {
    let err = Plan::new(&start(request, changes)).unwrap_err();
    assert_eq!(err.code, exec_proto::rpc::code::INVALID_PARAMS);
    err.message
}

fn disabled() -> Value {
    json!({"permissions": {"type": "disabled"}, "windowsSandboxLevel": "disabled"})
}

#[test]
fn what_has_no_meaning_is_refused() {
    let config = "invalid network proxy config: ";
    for (changes, text) in [
        (
            json!({"enabled": false}),
            "executor-local network proxy launch requires an enabled proxy",
        ),
        (
            json!({"domains": {"*": "deny"}}),
            "invalid value for network.denied_domains: * (allowed exact hosts or scoped wildcards \
             like *.example.com or **.example.com)",
        ),
        (json!({"domains": {"": "allow"}}), "domain pattern is empty"),
        (json!({"reviewDomains": [""]}), "domain pattern is empty"),
        (
            json!({"domains": {"a b": "none"}}),
            "unsupported domain pattern syntax: a b",
        ),
        (
            json!({"unixSockets": {"/a": "allow", "rel": "allow"}}),
            "invalid network.allow_unix_sockets[1]: expected a NUL-free absolute path for Linux, \
             got \"rel\"",
        ),
    ] {
        let message = refused(json!({"proxy": proxy(changes.clone())}), json!({}));
        assert_eq!(message, format!("{config}{text}"), "{changes}");
    }
    let many: serde_json::Map<_, _> = (0..5000)
        .map(|n| (format!("{n}.com"), json!("allow")))
        .collect();
    let message = refused(json!({"proxy": proxy(json!({"domains": many}))}), json!({}));
    assert_eq!(message, format!("{config}more than 4096 domain patterns"));
}

#[test]
fn what_cannot_be_enforced_is_refused() {
    let plain = json!({"proxy": proxy(json!({}))});
    let message = refused(plain, json!({"enforceManagedNetwork": true}));
    assert!(message.contains("it requires a sandbox"), "{message}");
    let masking = json!({"proxy": proxy(json!({"credentialMasking": true}))});
    for argv in [
        json!(["bash", "-c", "x"]),
        json!(["bash", "-lc", "x"]),
        json!(["x"]),
    ] {
        let message = refused(masking.clone(), json!({"argv": argv}));
        assert_eq!(
            message,
            "credential masking is not available on this executor"
        );
    }
    let enforced = json!({"enforceManagedNetwork": true, "sandbox": disabled()});
    let sockets = json!({"proxy": proxy(json!({"unixSockets": {"/s": "deny"},
        "dangerouslyAllowAllUnixSockets": true}))});
    let message = refused(sockets, enforced);
    assert!(
        message.starts_with("unixSockets cannot deny anything"),
        "{message}"
    );
    let ports: Vec<u16> = (1..=65).collect();
    let foreign = json!({"enforceManagedNetwork": true, "sandbox": disabled(),
        "managedNetwork": {"loopbackPorts": ports}});
    assert!(refused(json!(null), foreign).contains("at most 64"));
}

#[test]
fn callbacks_need_a_time_and_a_short_id() {
    let request =
        |millis: u64| json!({"proxy": proxy(json!({})), "policyDecisionTimeoutMs": millis});
    let message = refused(request(0), json!({}));
    assert_eq!(
        message,
        "network policy decision callback timeout must be nonzero"
    );
    for id in [String::new(), "x".repeat(257)] {
        let message = refused(request(1), json!({"processId": id}));
        assert_eq!(
            message,
            "callback-enabled process ID must be non-empty and at most 256 bytes"
        );
    }
    for id in ["x".to_owned(), "x".repeat(256)] {
        let plan = Plan::new(&start(request(u64::MAX), json!({"processId": id})));
        assert!(plan.unwrap().is_some());
    }
    // Without questions an id may be anything.
    let quiet = json!({"proxy": proxy(json!({}))});
    assert!(
        Plan::new(&start(quiet, json!({"processId": ""})))
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_request_without_any_of_it_has_no_plan() {
    let plain = start(
        json!(null),
        json!({"managedNetwork": {"loopbackPorts": [1]}}),
    );
    assert_eq!(Plan::new(&plain), Ok(None));
}

#[test]
fn ports_of_others_are_those_that_were_listed() {
    let variables: Variables = [("HTTP_PROXY".into(), "http://127.0.0.1:3128".into())].into();
    let ports = |managed: Value, variables: &Variables| {
        let changes = json!({"enforceManagedNetwork": true, "sandbox": disabled(),
            "managedNetwork": managed});
        let plan = Plan::new(&start(json!(null), changes)).unwrap().unwrap();
        plan.foreign_ports(variables).map_err(|err| err.message)
    };
    assert_eq!(ports(json!(null), &variables), Ok(vec![3128]));
    let listed = json!({"loopbackPorts": [9, 3128, 9, 0]});
    assert_eq!(ports(listed, &variables), Ok(vec![9, 3128]));
    assert_eq!(
        ports(json!({"loopbackPorts": [9]}), &variables).unwrap_err(),
        "proxy endpoint is outside the managed sandbox context"
    );
    assert_eq!(
        ports(json!(null), &Variables::new()).unwrap_err(),
        "managed proxy mode requires proxy environment variables"
    );
}
