//! `execctl` leaves no session behind, however it ends.

use std::{fs, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use testkit::{
    processes::{Agent, Child, Cloud, DEADLINE, Execctl},
    workspace::Workspace,
};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Counts the sessions that the executor was asked to close.
struct Closings<'a> {
    executor: &'a Child,
    expected: usize,
}

impl Closings<'_> {
    async fn one_more(&mut self, why: &str) -> Result<()> {
        self.expected += 1;
        let log = self.executor.stderr();
        testkit::until(async || log.text().matches(CLOSED).count() >= self.expected)
            .await
            .with_context(|| format!("the session is left behind by {why}"))?;
        let count = log.text().matches(CLOSED).count();
        ensure!(count == self.expected, "{count} sessions closed by {why}");
        Ok(())
    }
}

/// What the executor says in its log.
const CLOSED: &str = "session closed";

#[tokio::test]
async fn session_is_closed_after_success_failure_and_broken_pipe() -> Result<()> {
    let workspace = Workspace::new()?;
    let cloud = Cloud::start().await?;
    let executor = Agent::start(&cloud, &workspace, &[]).await?;
    let execctl = Execctl::new(&cloud);
    let mut closings = Closings {
        executor: &executor,
        expected: 0,
    };
    let here = tempfile::tempdir()?;
    let large = workspace.path().join("large");
    fs::write(&large, vec![b'x'; 8 << 20])?;
    let large = large.display().to_string();
    let (local, missing) = (here.path().join("f"), here.path().join("none"));
    let (local, missing) = (local.display().to_string(), missing.display().to_string());
    let large_there = format!(":{large}");
    let copied = format!(":{}", workspace.path().join("copied").display());
    let nowhere = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let nowhere = format!("http://{nowhere}/");
    for (args, code) in [
        (&["ls", "/"][..], 0),
        (&["ls", "/none"], 1),
        (&["cat", "/dev/null/x"], 1),
        (&["stat", "/"], 0),
        (&["stat", "/none"], 1),
        (&["mkdir", "/"], 1),
        (&["rm", "/none"], 1),
        (&["rm", "/"], 64),
        (&["info"], 0),
        (&["http", &nowhere], 1),
        (&["cp", &large_there, &local], 0),
        (&["cp", &missing, &copied], 1),
        (&["cp", &large_there, &copied], 0),
        (&["run", "--", "true"], 0),
        (&["run", "--", "sh", "-c", "exit 3"], 3),
        (&["run", "--", "no-such-program"], 127),
        (&["run", "-w", "", "--", "true"], 64),
        (&["run", "--detach", "--", "no-such-program"], 127),
    ] {
        let finished = execctl.run(args).await?;
        assert_eq!(finished.code(), Some(code), "{args:?}: {}", finished.stderr);
        closings.one_more(&args.join(" ")).await?;
    }
    // Says something to a reader that has gone, and then nothing for long.
    let late = "echo a; until [ -e gone ]; do sleep 0.05; done; echo b; exec sleep 600";
    for args in [
        &["cat", &large][..],
        &["run", "--", "cat", &large],
        &["run", "--", "sh", "-c", late],
        &["ls", "--json", "/proc/self/fd/../../.."],
    ] {
        let mut command = execctl.launch()?.args(args).into_command();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut stdout = child.stdout.take().context("stdout is piped")?;
        if args[0] != "ls" {
            stdout.read_exact(&mut [0; 1]).await?;
        }
        drop(stdout);
        if args.contains(&late) {
            fs::write(workspace.path().join("gone"), "")?;
        }
        let status = timeout(DEADLINE, child.wait()).await??;
        assert_eq!(status.code(), Some(141), "{args:?}");
        closings.one_more(&args.join(" ")).await?;
    }
    // What was detached is meant to stay.
    let handle = execctl.run(["run", "-d", "--", "sleep", "600"]).await?;
    let handle = String::from_utf8(handle.stdout)?;
    let ps = execctl.run(["ps", "--json", handle.trim()]).await?;
    assert!(String::from_utf8(ps.stdout)?.contains("\"running\""));
    closings.expected -= 1;
    closings.one_more("run --detach and ps").await?;
    executor.never_panicked()
}

#[tokio::test]
async fn session_is_closed_when_a_signal_ends_execctl() -> Result<()> {
    let workspace = Workspace::new()?;
    let cloud = Cloud::start().await?;
    let executor = Agent::start(&cloud, &workspace, &[]).await?;
    let mut closings = Closings {
        executor: &executor,
        expected: 0,
    };
    // A server that never answers.
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", server.local_addr()?);
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let launch = Execctl::new(&cloud).launch()?.args(["http", &url]);
        let mut execctl = launch.spawn()?;
        let mut request = asked(&server).await?;
        execctl.signal(signal)?;
        let ended = execctl.ended(DEADLINE).await?;
        assert_eq!(ended.code(), Some(code), "{}", execctl.stderr().text());
        assert_eq!(execctl.stderr().text(), "");
        closings.one_more("http").await?;
        // Nor does the request go on.
        let mut rest = Vec::new();
        let end = timeout(DEADLINE, request.read_to_end(&mut rest)).await;
        let _ = end.context("the request goes on")?;
    }
    // A program that does not mind is killed with the session.
    let script = "trap '' INT TERM; echo $$ > pid; echo up; while :; do sleep 0.05; done";
    let args = ["run", "--", "sh", "-c", script];
    let mut execctl = Execctl::new(&cloud).launch()?.args(args).spawn()?;
    execctl.stdout().wait_for("up", DEADLINE).await?;
    let pid = fs::read_to_string(workspace.path().join("pid"))?;
    for _ in 0..3 {
        execctl.signal(Signal::INT)?;
        // Signals of one kind that come together are one.
        let status = Execctl::new(&cloud).run(["info"]).await?;
        assert_eq!(status.code(), Some(0), "{}", status.stderr);
        closings.expected += 1;
        if execctl.still_runs().is_err() {
            break;
        }
    }
    execctl.ended(DEADLINE).await?;
    closings.one_more("run").await?;
    let process = format!("/proc/{}", pid.trim());
    testkit::until(async || !fs::exists(&process).unwrap_or(true)).await?;
    executor.never_panicked()
}

/// Waits for a request and reads its head.
async fn asked(server: &TcpListener) -> Result<TcpStream> {
    let read = async {
        let (mut socket, _) = server.accept().await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await?);
        }
        Ok(socket)
    };
    timeout(DEADLINE, read).await.context("nobody asks")?
}
