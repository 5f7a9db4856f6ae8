//! Bodies of requests that `execctl http` has the executor send.

use std::time::Duration;

use anyhow::{Context as _, Result};
use testkit::{
    processes::{Agent, Cloud, DEADLINE, Execctl},
    workspace::Workspace,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Takes one request; returns its head, and what follows it up to `len` bytes or `end`.
async fn request(server: &TcpListener, len: usize, end: &[u8]) -> Result<(String, Vec<u8>)> {
    let (mut socket, _) = server.accept().await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    let mut body = Vec::new();
    let mut part = vec![0; 1 << 16];
    while body.len() < len && (end.is_empty() || !body.ends_with(end)) {
        let n = socket.read(&mut part).await?;
        anyhow::ensure!(n > 0, "the body ends after {} bytes", body.len());
        body.extend_from_slice(&part[..n]);
    }
    answer(&mut socket).await?;
    Ok((String::from_utf8(head)?, body))
}

async fn answer(socket: &mut TcpStream) -> Result<()> {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\ntaken";
    Ok(socket.write_all(answer).await?)
}

/// What a chunked body says.
fn unchunked(mut body: &[u8]) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n");
        let end = end.context("a size")?;
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end])?, 16)?;
        body = &body[end + 2..];
        if size == 0 {
            return Ok(whole);
        }
        whole.extend_from_slice(&body[..size]);
        body = &body[size + 2..];
    }
}

#[tokio::test]
async fn body_of_a_file_or_a_pipe_reaches_the_server_whole() -> Result<()> {
    let workspace = Workspace::new()?;
    let cloud = Cloud::start().await?;
    let executor = Agent::start(&cloud, &workspace, &[]).await?;
    let execctl = Execctl::new(&cloud);
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", server.local_addr()?);
    let sent: Vec<u8> = (0..3_000_017_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    let here = tempfile::tempdir()?;
    let file = here.path().join("body");
    std::fs::write(&file, &sent)?;
    let data = format!("@{}", file.display());

    // A file has a length, which some servers insist on.
    let args = ["http", "-X", "PUT", "--data-binary", &data, &url];
    let (run, asked) = tokio::join!(
        execctl.run(args),
        timeout(DEADLINE, request(&server, sent.len(), b""))
    );
    let (run, (head, body)) = (run?, asked.context("nothing comes")??);
    assert_eq!((run.code(), &*run.stderr), (Some(0), ""));
    assert_eq!(run.stdout, b"taken");
    assert!(head.starts_with("PUT / "), "{head}");
    assert!(head.contains("content-length: 3000017\r\n"), "{head}");
    assert!(body == sent, "{} bytes came", body.len());

    // A pipe has none, and may be empty.
    for sent in [&sent[..2_000_000], &[]] {
        let args = ["http", "-d", "@-", &url];
        let (run, asked) = tokio::join!(
            execctl.run_with_input(args, sent),
            timeout(DEADLINE, request(&server, usize::MAX, b"0\r\n\r\n"))
        );
        let (run, (head, body)) = (run?, asked.context("nothing comes")??);
        assert_eq!((run.code(), &*run.stderr), (Some(0), ""));
        assert!(head.starts_with("POST / "), "{head}");
        assert!(unchunked(&body)? == sent, "{} bytes came", body.len());
    }
    executor.never_panicked()
}

#[tokio::test]
async fn server_that_answers_early_or_takes_no_more_is_heard() -> Result<()> {
    let workspace = Workspace::new()?;
    let cloud = Cloud::start().await?;
    let executor = Agent::start(&cloud, &workspace, &[]).await?;
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", server.local_addr()?);
    // Endless input, of which the server wants nothing.
    let mut launch = Execctl::new(&cloud)
        .launch()?
        .args(["http", "-d", "@/dev/zero", &url])
        .into_command();
    let child = launch
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    let serve = async {
        let (mut socket, _) = server.accept().await?;
        socket.read_exact(&mut [0; 100]).await?;
        answer(&mut socket).await?;
        anyhow::Ok(socket)
    };
    let (output, socket) = tokio::join!(
        timeout(DEADLINE + Duration::from_secs(10), child.wait_with_output()),
        serve
    );
    let output = output.context("execctl goes on for ever")??;
    let _socket = socket?;
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(
        (output.status.code(), &*output.stdout),
        (Some(0), &b"taken"[..])
    );
    executor.never_panicked()
}
