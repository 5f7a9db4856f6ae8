//! Managed networks: nothing leads out but the ways that were given.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::thread;

use serde_json::{Value, json};

use crate::client::{Client, Finished, for_each_user, with_network};

/// A server on the host that answers each connection with what it was sent.
fn echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap());
        }
    });
    port
}

/// Reads a head and sends it back as a body.
fn answer(mut stream: impl std::io::Read + std::io::Write) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    let length = head.len();
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
    );
    let _ = stream.write_all(&head);
}

fn proxy(changes: Value) -> Value {
    let mut proxy = json!({
        "enabled": true, "enableSocks5": true, "enableSocks5Udp": true,
        "allowUpstreamProxy": true, "dangerouslyAllowAllUnixSockets": false, "mode": "full",
        "allowLocalBinding": false,
    });
    for (name, value) in changes.as_object().unwrap() {
        proxy[name] = value.clone();
    }
    json!({"proxy": proxy})
}

/// The start of the other side with one thing to do, in an enforced managed network.
fn start(client: &Client, what: &str, sandbox: Value, network_proxy: Value) -> Value {
    let program = client.probe();
    let argv = [
        program.to_str().unwrap(),
        "--ignored",
        "--exact",
        "network::inside",
        "--nocapture",
    ];
    let mut params = client.start(&argv, sandbox);
    params["env"]["PROBE"] = what.into();
    params["enforceManagedNetwork"] = true.into();
    params["networkProxy"] = network_proxy;
    params
}

/// What the other side found.
fn found(finished: &Finished) -> String {
    let line = finished
        .output
        .lines()
        .find_map(|line| line.split_once("found="));
    let (_, text) = line.unwrap_or_else(|| panic!("{finished:?}"));
    text.to_owned()
}

fn try_inside(client: &mut Client, what: &str, sandbox: &Value, network_proxy: &Value) -> String {
    let params = start(client, what, sandbox.clone(), network_proxy.clone());
    let finished = client.run(params);
    assert!(!finished.denied, "{what}: {finished:?}");
    found(&finished)
}

fn disabled() -> Value {
    json!({"permissions": {"type": "disabled"}, "windowsSandboxLevel": "disabled"})
}

#[test]
fn nothing_but_the_proxy_leads_out() {
    let port = echo();
    let local = proxy(json!({"domains": {"127.0.0.1": "allow"}}));
    for_each_user(|client| {
        let contexts = [
            with_network(client.place.read_only()),
            client.place.workspace_write(&[]),
            disabled(),
            json!({"permissions": {"type": "external", "network": "enabled"},
                "windowsSandboxLevel": "disabled"}),
        ];
        for sandbox in contexts {
            let mut inside = |what: &str| try_inside(client, what, &sandbox, &local);
            let get = format!("GET / HTTP/1.1 Host: 127.0.0.1:{port}");
            assert_eq!(
                inside(&format!("http 127.0.0.1:{port}")),
                format!("200 {get}")
            );
            assert_eq!(
                inside(&format!("socks 127.0.0.1:{port}")),
                "200 GET / HTTP/1.1"
            );
            assert!(inside("http example.com").starts_with("403"), "{sandbox}");
            let refused = rustix::io::Errno::CONNREFUSED.raw_os_error().to_string();
            assert_eq!(inside(&format!("connect 127.0.0.1:{port}")), refused);
            let unreachable = rustix::io::Errno::NETUNREACH.raw_os_error().to_string();
            assert_eq!(inside("connect 192.0.2.1:80"), unreachable);
            assert_eq!(inside("datagram 192.0.2.1:53"), unreachable);
            assert_eq!(inside("interfaces"), "lo");
            assert_eq!(inside("local"), "hello");
            let refused = rustix::io::Errno::PERM.raw_os_error().to_string();
            assert_eq!(inside("unix-socket"), refused);
            assert_eq!(inside("unix-pair"), "0");
            assert_eq!(inside("unix-datagrams"), refused);
            assert_eq!(inside("netlink"), refused);
        }
        let params = start(client, "local", disabled(), local.clone());
        let started = client.ok("process/start", params.clone());
        assert_eq!(started["sandboxType"], "linuxSeccomp");
        client.finish(&params["processId"]);
    });
}

#[test]
fn without_enforcement_the_proxy_is_an_offer() {
    let port = echo();
    let local = proxy(json!({"domains": {"127.0.0.1": "allow"}}));
    for_each_user(|client| {
        for sandbox in [Value::Null, with_network(client.place.read_only())] {
            for what in [
                format!("http 127.0.0.1:{port}"),
                format!("direct 127.0.0.1:{port}"),
            ] {
                let mut params = start(client, &what, sandbox.clone(), local.clone());
                params["enforceManagedNetwork"] = false.into();
                let finished = client.run(params);
                assert!(found(&finished).starts_with("200 "), "{what} {finished:?}");
            }
        }
    });
}

#[test]
fn a_proxy_of_others_is_reached_by_its_port() {
    let (port, other) = (echo(), echo());
    for_each_user(|client| {
        let sandbox = client.place.read_only();
        let mut inside = |what: &str, managed: Value| {
            let mut params = start(client, what, sandbox.clone(), Value::Null);
            params["env"]["HTTP_PROXY"] = format!("http://127.0.0.1:{port}").into();
            params["managedNetwork"] = managed;
            let answer = client.call("process/start", params.clone());
            answer.map(|_| found(&client.finish(&params["processId"])))
        };
        let through = "200 GET http://a.example/ HTTP/1.1 Host: a.example";
        assert_eq!(inside("http a.example", Value::Null).unwrap(), through);
        let refused = rustix::io::Errno::CONNREFUSED.raw_os_error().to_string();
        let connect = format!("connect 127.0.0.1:{other}");
        assert_eq!(inside(&connect, Value::Null).unwrap(), refused);
        let listed = json!({"loopbackPorts": [port, other]});
        assert_eq!(inside("http a.example", listed.clone()).unwrap(), through);
        assert_eq!(inside(&connect, listed).unwrap(), "0");
        let (code, text) = inside(&connect, json!({"loopbackPorts": [other]})).unwrap_err();
        assert_eq!(code, -32602);
        assert_eq!(
            text,
            "proxy endpoint is outside the managed sandbox context"
        );
    });
}

#[test]
fn what_cannot_be_enforced_does_not_run() {
    for_each_user(|client| {
        let sandbox = client.place.read_only();
        for (sandbox, request, text) in [
            (Value::Null, proxy(json!({})), "requires a sandbox"),
            (Value::Null, Value::Null, "requires a sandbox"),
            (
                sandbox.clone(),
                Value::Null,
                "requires proxy environment variables",
            ),
            (
                sandbox.clone(),
                proxy(json!({"credentialMasking": true})),
                "credential masking",
            ),
            (
                sandbox,
                proxy(json!({"enabled": false})),
                "an enabled proxy",
            ),
        ] {
            let params = start(client, "local", sandbox, request);
            let (code, message) = client.call("process/start", params).unwrap_err();
            assert!(code == -32602 && message.contains(text), "{message}");
        }
    });
}

#[test]
fn the_client_is_asked_and_told() {
    for_each_user(|client| {
        let sandbox = client.place.read_only();
        let mut asking = proxy(json!({}));
        asking["policyDecisionTimeoutMs"] = 20_000.into();
        let answer = try_inside(client, "http a.example", &sandbox, &asking);
        assert!(answer.starts_with("403 "), "{answer}");
        let methods: Vec<_> = client
            .network
            .iter()
            .map(|event| &event["method"])
            .collect();
        assert_eq!(methods, ["network/policyRequest", "network/policyDecision"]);
        let notice = &client.network[1]["params"];
        assert_eq!(
            (&notice["reason"], &notice["source"]),
            (&json!("no"), &json!("decider"))
        );
        client.network.clear();
        // Allowed, but there is no such name: an answer for the session is not asked for again.
        client.decision = json!({"type": "allow", "scope": "session"});
        for _ in 0..2 {
            let answer = try_inside(client, "http name.invalid", &sandbox, &asking);
            assert!(answer.contains("not_allowed_local"), "{answer}");
        }
        let questions = client.network.iter();
        let questions = questions.filter(|event| event["method"] == "network/policyRequest");
        assert_eq!(questions.count(), 1);
    });
}

#[test]
fn unix_sockets_follow_their_rules() {
    for_each_user(|client| {
        let (inside, beside) = (client.place.path("w/s"), client.place.path("o/s"));
        for path in [&inside, &beside] {
            let listener = UnixListener::bind(path).unwrap();
            rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(0o777)).unwrap();
            thread::spawn(move || {
                for stream in listener.incoming() {
                    answer(stream.unwrap());
                }
            });
        }
        let sandbox = client.place.workspace_write(&[]);
        let rules = |rule: &str| proxy(json!({"unixSockets": {client.place.text("w/s"): rule}}));
        let (allowed, denied) = (rules("allow"), rules("deny"));
        let socket = format!("header {}", client.place.text("w/s"));
        let answer = try_inside(client, &socket, &sandbox, &allowed);
        assert_eq!(answer, "200 GET / HTTP/1.1 Host: localhost");
        let answer = try_inside(client, &socket, &sandbox, &denied);
        assert!(answer.contains("unix_socket_denied"), "{answer}");
        let other = format!("header {}", client.place.text("o/s"));
        let answer = try_inside(client, &other, &sandbox, &allowed);
        assert!(answer.contains("unix_socket_not_allowed"), "{answer}");
        // The command puts a link to another socket where the allowed one was.
        let swap = format!(
            "swap {} {}",
            client.place.text("o/s"),
            client.place.text("w/s")
        );
        assert_eq!(
            try_inside(client, &swap, &sandbox, &allowed),
            "502 upstream failure"
        );
        let all = proxy(json!({"dangerouslyAllowAllUnixSockets": true}));
        assert_eq!(try_inside(client, "unix-socket", &sandbox, &all), "0");
    });
}

#[test]
fn the_proxy_ends_with_its_process() {
    for_each_user(|client| {
        let local = proxy(json!({}));
        let mut params = start(client, "port", Value::Null, local);
        params["enforceManagedNetwork"] = false.into();
        let finished = client.run(params);
        let port: u16 = found(&finished).parse().unwrap();
        // The last event may be a little earlier than the end of the listener.
        let deadline = std::time::Instant::now() + crate::support::DEADLINE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            assert!(std::time::Instant::now() < deadline, "still there");
            thread::yield_now();
        }
    });
}

/// The other side: not a test of its own.
#[test]
#[ignore = "runs inside a sandbox that another test makes"]
fn inside() {
    let what = std::env::var("PROBE").unwrap();
    let (what, argument) = what.split_once(' ').unwrap_or((&what, ""));
    let errno = |result: std::io::Result<()>| match result {
        Ok(()) => "0".to_owned(),
        Err(err) => err.raw_os_error().unwrap().to_string(),
    };
    use rustix::net::{AddressFamily, SocketType, socket, socketpair};
    let none = rustix::net::SocketFlags::empty();
    let found = match what {
        "http" => request(
            proxy_stream("HTTP_PROXY"),
            &format!("http://{argument}/"),
            argument,
            "",
        ),
        "header" => {
            let header = format!("X-Unix-Socket: {argument}\r\n");
            request(
                proxy_stream("HTTP_PROXY"),
                "http://localhost/",
                "localhost",
                &header,
            )
        }
        "swap" => {
            let (target, link) = argument.split_once(' ').unwrap();
            std::fs::remove_file(link).unwrap();
            std::os::unix::fs::symlink(target, link).unwrap();
            let header = format!("X-Unix-Socket: {link}\r\n");
            request(
                proxy_stream("HTTP_PROXY"),
                "http://localhost/",
                "localhost",
                &header,
            )
        }
        "socks" => {
            let mut stream = proxy_stream("ALL_PROXY");
            let (host, port) = argument.split_once(':').unwrap();
            let port: u16 = port.parse().unwrap();
            let length = u8::try_from(host.len()).unwrap();
            let greeting = [
                &[5, 1, 0, 5, 1, 0, 3, length],
                host.as_bytes(),
                &port.to_be_bytes(),
            ];
            stream.write_all(&greeting.concat()).unwrap();
            stream.read_exact(&mut [0; 12]).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            summary(stream)
        }
        "direct" => request(TcpStream::connect(argument).unwrap(), "/", argument, ""),
        "connect" => errno(TcpStream::connect(argument).map(drop)),
        "datagram" => {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            errno(socket.send_to(b"x", argument).map(drop))
        }
        "interfaces" => {
            let text = std::fs::read_to_string("/proc/net/dev").unwrap();
            let names = text.lines().skip(2).filter_map(|line| line.split_once(':'));
            names
                .map(|(name, _)| name.trim())
                .collect::<Vec<_>>()
                .join(" ")
        }
        "local" => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut far, _) = listener.accept().unwrap();
            near.write_all(b"hello").unwrap();
            let mut text = [0; 5];
            far.read_exact(&mut text).unwrap();
            String::from_utf8(text.to_vec()).unwrap()
        }
        "port" => proxy_address("HTTP_PROXY")
            .rsplit_once(':')
            .unwrap()
            .1
            .to_owned(),
        "unix-socket" => errno(
            socket(AddressFamily::UNIX, SocketType::STREAM, None)
                .map(drop)
                .map_err(Into::into),
        ),
        "unix-pair" => errno(
            socketpair(AddressFamily::UNIX, SocketType::STREAM, none, None)
                .map(drop)
                .map_err(Into::into),
        ),
        "unix-datagrams" => errno(
            socketpair(AddressFamily::UNIX, SocketType::DGRAM, none, None)
                .map(drop)
                .map_err(Into::into),
        ),
        "netlink" => errno(
            socket(AddressFamily::NETLINK, SocketType::RAW, None)
                .map(drop)
                .map_err(Into::into),
        ),
        other => panic!("{other}"),
    };
    println!("\nfound={found}");
}

fn proxy_address(name: &str) -> String {
    let url = std::env::var(name).unwrap();
    url.split_once("://").unwrap().1.to_owned()
}

fn proxy_stream(name: &str) -> TcpStream {
    TcpStream::connect(proxy_address(name)).unwrap()
}

fn request(mut stream: TcpStream, target: &str, host: &str, header: &str) -> String {
    let text =
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{header}Connection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).unwrap();
    summary(stream)
}

/// The status and the body of an answer, in one line, without what every request has.
fn summary(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap();
    let body: Vec<_> = body.lines().filter(|line| !line.is_empty()).collect();
    let body = body.join(" ").replace(" Connection: close", "");
    format!("{status} {body}")
}
