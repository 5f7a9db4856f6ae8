//! Remote mode from the outside: the program against a registry and a rendezvous of the test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rustix::process::Signal;
use support::{DEADLINE, Executor, exec_server};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers};

const OLD: &str = "old-t0ken";
const NEW: &str = "new-t0ken";

/// A rendezvous whose connections the test takes one by one.
struct Rendezvous {
    listener: TcpListener,
    url: String,
}

impl Rendezvous {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "ws://{}/ws?sig=s3cr3t-signature",
            listener.local_addr().unwrap()
        );
        Self { listener, url }
    }

    async fn accept(&self) -> WebSocketStream<TcpStream> {
        let accept = async {
            let (tcp, _) = self.listener.accept().await.unwrap();
            tokio_tungstenite::accept_async(tcp).await.unwrap()
        };
        tokio::time::timeout(DEADLINE, accept).await.unwrap()
    }
}

/// A registry that accepts the new token only.
async fn registry(rendezvous: &Rendezvous) -> MockServer {
    let server = MockServer::start().await;
    let path = || matchers::path("/prefix/cloud/environment/env1/register");
    Mock::given(path())
        .and(matchers::header(
            "authorization",
            format!("Bearer {NEW}").as_str(),
        ))
        .respond_with(ResponseTemplate::new(200).set_body_json(serde_json::json!({
            "environment_id": "env1", "security_profile": "noise_hybrid_ik_v1",
            "executor_registration_id": "reg-1", "url": rendezvous.url,
        })))
        .mount(&server)
        .await;
    Mock::given(path())
        .and(matchers::header(
            "authorization",
            format!("Bearer {OLD}").as_str(),
        ))
        .respond_with(ResponseTemplate::new(401))
        .mount(&server)
        .await;
    server
}

fn arguments(server: &MockServer) -> [String; 4] {
    [
        "--remote".to_owned(),
        format!("{}/prefix/", server.uri()),
        "--environment-id".to_owned(),
        " env1 ".to_owned(),
    ]
}

fn spawn(server: &MockServer, more: &[&str], variables: &[(&str, &str)]) -> Executor {
    let mut command = exec_server(&[]);
    command
        .args(arguments(server))
        .args(more)
        .envs(variables.iter().copied());
    Executor::spawn(command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_is_no_end_and_a_replaced_token_file_is_used() {
    let rendezvous = Rendezvous::start().await;
    let server = registry(&rendezvous).await;
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, format!("{OLD}\n")).unwrap();

    let more = [
        "--token-file",
        token.to_str().unwrap(),
        "--name",
        "machine-7",
    ];
    // The most talkative setting must not show secrets either.
    let mut executor = spawn(&server, &more, &[("RUST_LOG", "trace")]);
    executor.log_line("machine-7");
    let refused = executor.log_line("cannot register");
    assert!(refused.contains("401 Unauthorized"), "{refused}");
    assert!(refused.contains("next_try_secs"), "{refused}");
    assert!(executor.is_running());

    // Replaced the way secret stores do it.
    let fresh = directory.path().join("fresh");
    std::fs::write(&fresh, NEW).unwrap();
    std::fs::rename(&fresh, &token).unwrap();
    executor.log_line("registered");
    let mut socket = rendezvous.accept().await;
    executor.log_line("connected, online");

    socket.close(None).await.unwrap();
    let lost = executor.log_line("disconnected");
    assert!(lost.contains("peer_close"), "{lost}");
    let mut again = rendezvous.accept().await;
    executor.log_line("connected, online");

    executor.signal(Signal::TERM);
    let goodbye = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            match again.next().await {
                Some(Ok(Message::Close(frame))) => return frame,
                Some(Ok(_)) => {}
                other => panic!("no close frame but {other:?}"),
            }
        }
    });
    goodbye.await.unwrap();
    let (code, stdout, log) = executor.finish();
    assert_eq!((code, stdout.as_str()), (Some(0), ""), "{log}");
    for secret in [OLD, NEW, "s3cr3t-signature"] {
        assert!(!log.contains(secret), "{secret} in the log:\n{log}");
    }
    assert!(!log.contains('\u{1b}'), "colors without a terminal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cloud_spellings_and_the_environment_attach_as_well() {
    let rendezvous = Rendezvous::start().await;
    let server = registry(&rendezvous).await;
    let url = format!("{}/prefix", server.uri());

    let mut command = exec_server(&[
        "--cloud",
        "--cloud-base-url",
        &url,
        "--cloud-environment-id",
        "env1",
        "--cloud-name",
        "n",
    ]);
    command
        .env("EXEC_SERVER_TOKEN", NEW)
        .env("CODEX_API_KEY", OLD);
    let mut by_flags = Executor::spawn(command);
    let _socket = rendezvous.accept().await;
    by_flags.log_line("connected, online");

    let mut command = exec_server(&[]);
    command
        .env("EXEC_SERVER_REMOTE_URL", &url)
        .env("EXEC_SERVER_ENVIRONMENT_ID", "env1")
        .env("CODEX_API_KEY", NEW);
    let mut by_environment = Executor::spawn(command);
    let _socket = rendezvous.accept().await;
    by_environment.log_line("connected, online");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bearer_on_standard_input_is_one_line_and_the_rest_is_ignored() {
    let rendezvous = Rendezvous::start().await;
    let server = registry(&rendezvous).await;
    let mut executor = spawn(&server, &["--registration-bearer-stdin"], &[]);
    executor.log_line("waiting for the registration bearer");
    executor.write_stdin(&format!("{NEW}\r\nmore\n"));
    let mut socket = rendezvous.accept().await;
    executor.log_line("connected, online");
    executor.close_stdin();
    // Still attached: it answers a ping.
    socket.send(Message::Ping("x".into())).await.unwrap();
    let pong = tokio::time::timeout(DEADLINE, async {
        while let Some(Ok(message)) = socket.next().await {
            if matches!(message, Message::Pong(_)) {
                return true;
            }
        }
        false
    });
    assert!(pong.await.unwrap());
    assert!(executor.is_running());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_standard_input_ends_it_where_that_is_asked_for() {
    let rendezvous = Rendezvous::start().await;
    let server = registry(&rendezvous).await;
    for (more, variables) in [
        (
            &["--exit-on-stdin-close"][..],
            &[("EXEC_SERVER_TOKEN", NEW)][..],
        ),
        (
            &[],
            &[
                ("EXEC_SERVER_TOKEN", NEW),
                ("EXEC_SERVER_EXIT_ON_STDIN_CLOSE", "true"),
            ],
        ),
    ] {
        let mut executor = spawn(&server, more, variables);
        let _socket = rendezvous.accept().await;
        executor.log_line("connected, online");
        executor.write_stdin("ignored\n");
        executor.close_stdin();
        let (code, _, log) = executor.finish();
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("standard input closed"), "{log}");
    }
}
