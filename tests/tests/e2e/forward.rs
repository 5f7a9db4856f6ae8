//! Local ports that lead through an executor: exact bytes, ends, pressure, failures.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use testkit::{
    processes::{Agent, Binary, Child, Cloud, CodexListener, DEADLINE, Execctl, Launch, Listener},
    workspace::Workspace,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

struct Fixture {
    workspace: Workspace,
    cloud: Cloud,
    executor: Child,
}

impl Fixture {
    async fn start() -> Result<Self> {
        let workspace = Workspace::new()?;
        let cloud = Cloud::start().await?;
        let executor = Agent::start(&cloud, &workspace, &[]).await?;
        Ok(Self {
            workspace,
            cloud,
            executor,
        })
    }

    /// Starts `execctl forward` and returns it with the local address of each of `targets`.
    async fn forward(&self, targets: &[SocketAddr]) -> Result<(Child, Vec<SocketAddr>)> {
        let forwards = targets.iter().map(|target| format!("0:{target}"));
        let args = ["forward".to_owned(), "--json".to_owned()]
            .into_iter()
            .chain(forwards);
        let mut child = Execctl::new(&self.cloud).launch()?.args(args).spawn()?;
        let mut listening = Vec::new();
        for target in targets {
            let port = format!("\"port\":{}", target.port());
            let line = child.stdout().wait_for(&port, DEADLINE).await;
            let line = match line {
                Ok(line) => line,
                Err(error) => {
                    child.still_runs()?;
                    return Err(error);
                }
            };
            let line: Value = serde_json::from_str(&line)?;
            assert_eq!(line["type"], "forward", "{line}");
            assert_eq!(line["host"], target.ip().to_string(), "{line}");
            listening.push(line["listen"].as_str().context("an address")?.parse()?);
        }
        Ok((child, listening))
    }
}

async fn target() -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

async fn in_time<T>(what: impl Future<Output = std::io::Result<T>>) -> Result<T> {
    Ok(timeout(DEADLINE, what)
        .await
        .context("it takes too long")??)
}

async fn accept(listener: &TcpListener) -> Result<TcpStream> {
    Ok(in_time(listener.accept()).await?.0)
}

/// Bytes of every value, without a short period.
fn bytes(len: usize, mut state: u64) -> Vec<u8> {
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(len)
    .collect()
}

#[tokio::test]
async fn forwarded_bytes_are_exact_both_ways_at_once_and_ends_pass_alone() -> Result<()> {
    let fixture = Fixture::start().await?;
    let ((first, a), (second, b)) = (target().await?, target().await?);
    let (mut forward, listening) = fixture.forward(&[a, b]).await?;
    let [to_first, to_second] = listening[..] else {
        anyhow::bail!("two forwards")
    };

    let (question, answer) = (bytes(3_000_017, 1), bytes(5_000_011, 2));
    let mut near = in_time(TcpStream::connect(to_first)).await?;
    let mut far = accept(&first).await?;
    let (mut near_in, mut near_out) = near.split();
    let (mut far_in, mut far_out) = far.split();
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    let ask = async {
        near_out.write_all(&question).await?;
        near_out.shutdown().await
    };
    let reply = async {
        // The half that was ended first must not end the other one.
        far_in.read_to_end(&mut asked).await?;
        far_out.write_all(&answer).await?;
        far_out.shutdown().await
    };
    let all = async { tokio::try_join!(ask, reply, near_in.read_to_end(&mut answered)) };
    in_time(all).await?;
    assert!(asked == question, "{} bytes arrived", asked.len());
    assert!(answered == answer, "{} bytes came back", answered.len());

    // The other side may speak first, end first, and still be spoken to.
    let mut near = in_time(TcpStream::connect(to_second)).await?;
    let mut far = accept(&second).await?;
    in_time(far.write_all(b"220 hello\r\n")).await?;
    in_time(far.shutdown()).await?;
    let mut greeting = Vec::new();
    in_time(near.read_to_end(&mut greeting)).await?;
    assert_eq!(greeting, b"220 hello\r\n");
    in_time(near.write_all(b"late")).await?;
    in_time(near.shutdown()).await?;
    let mut late = Vec::new();
    in_time(far.read_to_end(&mut late)).await?;
    assert_eq!(late, b"late");

    forward.signal(Signal::INT)?;
    assert_eq!(forward.ended(DEADLINE).await?.code(), Some(0));
    forward.never_panicked()?;
    fixture.executor.never_panicked()
}

#[tokio::test]
async fn forwarded_connection_that_nobody_reads_stops_its_own_writer_only() -> Result<()> {
    let fixture = Fixture::start().await?;
    let (listener, address) = target().await?;
    let (mut forward, listening) = fixture.forward(&[address]).await?;
    let to = listening[0];
    // One that is not read here, one that is not read there.
    let unread_here = in_time(TcpStream::connect(to)).await?;
    let mut writes_there = accept(&listener).await?;
    let mut writes_here = in_time(TcpStream::connect(to)).await?;
    let unread_there = accept(&listener).await?;
    for stuck in [&mut writes_there, &mut writes_here] {
        let part = vec![b'x'; 1 << 20];
        let mut taken = 0;
        // A write that stands still for a second has met the pressure.
        while let Ok(written) = timeout(Duration::from_secs(1), stuck.write_all(&part)).await {
            written?;
            taken += 1;
            ensure!(taken < 128, "{taken} MiB were taken and nobody reads");
        }
    }
    // Neither holds up a third.
    let mut near = in_time(TcpStream::connect(to)).await?;
    let mut far = accept(&listener).await?;
    let sent = bytes(2_000_000, 3);
    let mut received = Vec::new();
    let send = async {
        near.write_all(&sent).await?;
        near.shutdown().await
    };
    in_time(async { tokio::try_join!(send, far.read_to_end(&mut received)) }).await?;
    assert!(received == sent, "{} bytes arrived", received.len());

    // Who goes away without reading is told to the other side as a failure, not as an end.
    drop(unread_here);
    let mut rest = vec![0; 1 << 16];
    let broken = async {
        loop {
            match writes_there.write_all(&rest).await {
                Ok(()) => {}
                Err(error) => return Ok(error),
            }
        }
    };
    in_time(broken).await?;
    unread_there.set_zero_linger()?;
    drop(unread_there);
    let reset = async {
        loop {
            match writes_here.read(&mut rest).await {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) => return Ok(Some(error.kind())),
            }
        }
    };
    let reset = in_time(reset).await?;
    assert_eq!(reset, Some(std::io::ErrorKind::ConnectionReset));
    forward.still_runs()?;
    fixture.executor.never_panicked()
}

#[tokio::test]
async fn forward_tells_of_refused_connections_and_outlives_its_executor() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    let (listener, address) = target().await?;
    let (closed, nowhere) = target().await?;
    drop(closed);
    let (mut forward, listening) = fixture.forward(&[address, nowhere]).await?;
    let mut near = in_time(TcpStream::connect(listening[1])).await?;
    let reset = in_time(async { Ok(near.read(&mut [0; 1]).await) }).await?;
    let kind = reset.expect_err("an end in order").kind();
    assert_eq!(kind, std::io::ErrorKind::ConnectionReset);
    let line = forward.stdout().wait_for("\"failed\"", DEADLINE).await?;
    assert!(line.contains("refused"), "{line}");

    let mut open = in_time(TcpStream::connect(listening[0])).await?;
    let mut far = accept(&listener).await?;
    // An attempt without an answer would be made again.
    in_time(far.write_all(b"x")).await?;
    in_time(open.read_exact(&mut [0; 1])).await?;
    fixture.executor.never_panicked()?;
    fixture.executor.kill().await?;
    fixture.executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    // What was open is over, and the next connection opens another session.
    let over = in_time(async { Ok(open.read(&mut [0; 1]).await) }).await?;
    assert!(over.is_err(), "{over:?}");
    let mut near = in_time(TcpStream::connect(listening[0])).await?;
    let mut far = accept(&listener).await?;
    in_time(near.write_all(b"again")).await?;
    in_time(near.shutdown()).await?;
    let mut text = String::new();
    in_time(far.read_to_string(&mut text)).await?;
    assert_eq!(text, "again");
    forward.signal(Signal::TERM)?;
    assert_eq!(forward.ended(DEADLINE).await?.code(), Some(0));
    forward.never_panicked()
}

#[tokio::test]
async fn forward_needs_an_executor_that_connects_and_a_port_that_is_free() -> Result<()> {
    let workspace = Workspace::new()?;
    let run = |url: String, forward: String| async move {
        let launch = Launch::new(Binary::Execctl)?.args(["--url", &url, "forward", &forward]);
        launch.finish(b"", DEADLINE).await
    };
    let (_codex, url) = CodexListener::start(&workspace, &[]).await?;
    let refused = run(url, "0:localhost:80".to_owned()).await?;
    assert_eq!(
        refused.stderr,
        "execctl: the executor does not support TCP connections: Codex 0.169 has none, and \
         exec-server --no-tcp switches them off\n"
    );
    assert_eq!((refused.code(), refused.stdout.len()), (Some(1), 0));

    let (_ours, url) = Listener::start(&workspace, &[]).await?;
    let (_taken, address) = target().await?;
    let refused = run(url, format!("{}:localhost:80", address.port())).await?;
    let expected = format!("execctl: failed to listen on {address}: Address already in use");
    assert!(refused.stderr.starts_with(&expected), "{}", refused.stderr);
    assert_eq!(refused.code(), Some(1));
    Ok(())
}
