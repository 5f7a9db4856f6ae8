//! Programs that outlive the `execctl` that started them, terminals, and signals by name.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    process::Signal,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use serde_json::Value;
use testkit::{
    processes::{Agent, Cloud, CodexExecutor, DEADLINE, Execctl},
    workspace::Workspace,
};

/// A fixture with our executor.
async fn ours() -> Result<(Workspace, Cloud, testkit::processes::Child, Execctl)> {
    let workspace = Workspace::new()?;
    let cloud = Cloud::start().await?;
    let executor = Agent::start(&cloud, &workspace, &[]).await?;
    let execctl = Execctl::new(&cloud);
    Ok((workspace, cloud, executor, execctl))
}

/// Starts `script` detached and returns its handle.
async fn detached(execctl: &Execctl, flags: &[&str], script: &str) -> Result<String> {
    let args = ["run", "--detach"].iter().chain(flags);
    let run = execctl.run(args.chain(&["--", "sh", "-c", script])).await?;
    assert_eq!(run.code(), Some(0), "{}", run.stderr);
    let handle = String::from_utf8(run.stdout)?;
    assert_eq!(handle.lines().count(), 1, "{handle}");
    Ok(handle.trim().to_owned())
}

/// The one program that `ps` shows.
async fn listed(execctl: &Execctl, handle: &str) -> Result<Value> {
    let ps = execctl.run(["ps", "--json", handle]).await?;
    assert_eq!(ps.code(), Some(0), "{}", ps.stderr);
    Ok(serde_json::from_slice(&ps.stdout)?)
}

#[tokio::test]
async fn detached_program_is_found_again() -> Result<()> {
    let (workspace, _cloud, executor, execctl) = ours().await?;
    let script = "echo before; while [ ! -e go ]; do sleep 0.02; done; read x; echo got $x; exit 6";
    let handle = detached(&execctl, &["-i"], script).await?;
    let process = listed(&execctl, &handle).await?;
    assert_eq!(
        (&process["state"], &process["program"]),
        (&"running".into(), &"sh".into())
    );
    std::fs::write(workspace.path().join("go"), "")?;
    let attach = execctl.run_with_input(["attach", &handle], b"it\n").await?;
    assert_eq!(String::from_utf8_lossy(&attach.stdout), "before\ngot it\n");
    assert_eq!((attach.code(), &*attach.stderr), (Some(6), ""));
    // The session went with the program that was seen to end.
    let again = execctl.run(["attach", &handle]).await?;
    assert_eq!(again.code(), Some(1));
    assert!(
        again.stderr.contains("does not know the session"),
        "{}",
        again.stderr
    );
    executor.never_panicked()
}

#[tokio::test]
async fn attached_execctl_that_is_ended_leaves_the_program_and_kill_ends_it() -> Result<()> {
    let (_workspace, _cloud, executor, execctl) = ours().await?;
    let script = "trap 'echo bye; exit 9' TERM; trap 'echo usr1' USR1; echo up; \
                  while :; do sleep 0.02; done";
    let handle = detached(&execctl, &[], script).await?;
    let mut attach = execctl.launch()?.args(["attach", &handle]).spawn()?;
    attach.stdout().wait_for("up", DEADLINE).await?;
    // A session has one connection at a time.
    let refused = ["--connect-timeout-secs", "0", "kill", &handle];
    let refused = execctl.run(refused).await?;
    assert_eq!(
        refused.stderr,
        "execctl: somebody is attached to the program: leave there first\n"
    );
    attach.signal(Signal::TERM)?;
    assert_eq!(attach.ended(DEADLINE).await?.code(), Some(143));
    assert_eq!(listed(&execctl, &handle).await?["state"], "running");

    let signalled = execctl.run(["kill", "-s", "SIGUSR1", &handle]).await?;
    assert_eq!(signalled.code(), Some(0), "{}", signalled.stderr);
    let mut attach = execctl.launch()?.args(["attach", &handle]).spawn()?;
    attach.stdout().wait_for("usr1", DEADLINE).await?;
    attach.signal(Signal::HUP)?;
    assert_eq!(attach.ended(DEADLINE).await?.code(), Some(129));

    let killed = execctl.run(["kill", &handle]).await?;
    assert_eq!(killed.code(), Some(0), "{}", killed.stderr);
    let attach = execctl.run(["attach", &handle]).await?;
    assert_eq!(String::from_utf8_lossy(&attach.stdout), "up\nusr1\nbye\n");
    assert_eq!(attach.code(), Some(9));
    executor.never_panicked()
}

#[tokio::test]
async fn output_that_is_gone_is_told_and_the_newest_is_shown() -> Result<()> {
    let (_workspace, _cloud, executor, execctl) = ours().await?;
    let handle = detached(&execctl, &[], "head -c 3000000 /dev/zero; echo; echo end").await?;
    let wait =
        async || Ok::<_, anyhow::Error>(listed(&execctl, &handle).await?["state"] == "closed");
    while !wait().await? {}
    let attach = execctl.run(["attach", &handle]).await?;
    assert!(
        attach.stderr.contains("keeps only the newest 1 MiB"),
        "{}",
        attach.stderr
    );
    assert!(attach.stdout.ends_with(b"\0\nend\n"));
    assert!(attach.stdout.len() <= 1 << 20, "{}", attach.stdout.len());
    assert_eq!(attach.code(), Some(0));
    executor.never_panicked()
}

#[tokio::test]
async fn detached_program_of_the_reference_is_found_again_within_its_time() -> Result<()> {
    let workspace = Workspace::new()?;
    let cloud = Cloud::start().await?;
    let _executor = CodexExecutor::start(&cloud, &workspace, &[]).await?;
    let execctl = Execctl::new(&cloud);
    let script = "echo before; while [ ! -e go ]; do sleep 0.02; done; echo after; exit 6";
    let run = execctl.run(["run", "-d", "--", "sh", "-c", script]).await?;
    assert!(run.stderr.contains("80 s"), "{}", run.stderr);
    let handle = String::from_utf8(run.stdout)?.trim().to_owned();
    let ps = execctl.run(["ps", &handle]).await?;
    assert!(
        ps.stderr.contains("does not support listing processes"),
        "{}",
        ps.stderr
    );
    std::fs::write(workspace.path().join("go"), "")?;
    let attach = execctl.run(["attach", &handle]).await?;
    assert_eq!(String::from_utf8_lossy(&attach.stdout), "before\nafter\n");
    assert_eq!(attach.code(), Some(6), "{}", attach.stderr);
    Ok(())
}

#[tokio::test]
async fn run_passes_signals_on_by_name() -> Result<()> {
    let (_workspace, _cloud, executor, execctl) = ours().await?;
    let script = "for s in HUP QUIT USR1 USR2 TERM; do trap \"echo got $s\" $s; done; echo up; \
                  while :; do sleep 0.02; done";
    for (signal, name) in [
        (Signal::HUP, "HUP"),
        (Signal::QUIT, "QUIT"),
        (Signal::TERM, "TERM"),
    ] {
        let launch = execctl.launch()?.args(["run", "--", "sh", "-c", script]);
        let mut run = launch.spawn()?;
        run.stdout().wait_for("up", DEADLINE).await?;
        for (user, name) in [(Signal::USR1, "USR1"), (Signal::USR2, "USR2")] {
            run.signal(user)?;
            run.stdout()
                .wait_for(&format!("got {name}"), DEADLINE)
                .await?;
        }
        run.signal(signal)?;
        run.stdout()
            .wait_for(&format!("got {name}"), DEADLINE)
            .await?;
        // Whoever asks twice means it.
        run.signal(signal)?;
        assert_eq!(run.ended(DEADLINE).await?.code(), Some(137), "{name}");
    }
    executor.never_panicked()
}

/// A terminal of this size: the end that a person looks at, and the program's.
fn terminal(rows: u16, cols: u16) -> Result<(File, File)> {
    let outer = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&outer)?;
    unlockpt(&outer)?;
    resize(&outer, rows, cols)?;
    let name = ptsname(&outer, Vec::new())?;
    let inner = File::options()
        .read(true)
        .write(true)
        .open(name.to_str()?)?;
    Ok((File::from(outer), inner))
}

fn resize(outer: &OwnedFd, rows: u16, cols: u16) -> Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(outer, size)?)
}

/// Reads from a terminal until `part` came.
async fn shown(mut outer: File, part: &'static str) -> Result<File> {
    let read = tokio::task::spawn_blocking(move || {
        let (mut all, mut piece) = (String::new(), [0; 4096]);
        while !all.contains(part) {
            let n = outer.read(&mut piece).with_context(|| all.clone())?;
            ensure!(n > 0, "the terminal ended after {all:?}");
            all.push_str(&String::from_utf8_lossy(&piece[..n]));
        }
        Ok(outer)
    });
    tokio::time::timeout(DEADLINE, read)
        .await
        .with_context(|| format!("{part:?} was not shown"))??
}

async fn shell_follows_the_window(execctl: &Execctl) -> Result<()> {
    let (mut outer, inner) = terminal(33, 111)?;
    let mut command = execctl.launch()?.into_command();
    let mut shell = command
        .arg("shell")
        .stdin(Stdio::from(inner.try_clone()?))
        .stdout(Stdio::from(inner.try_clone()?))
        .stderr(Stdio::from(inner))
        .spawn()?;
    drop(command);
    outer.write_all(b"echo size $(stty size) .\n")?;
    let outer = shown(outer, "size 33 111 .").await?;
    let outer = OwnedFd::from(outer);
    resize(&outer, 44, 99)?;
    // No controlling terminal, so the kernel tells nobody.
    let pid = shell.id().context("the shell has ended")?;
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("no pid")?;
    rustix::process::kill_process(pid, Signal::WINCH)?;
    let mut outer = File::from(outer);
    outer.write_all(
        b"until [ \"$(stty size)\" = '44 99' ]; do sleep 0.02; done; echo now $((40+4)) .\n",
    )?;
    let mut outer = shown(outer, "now 44 .").await?;
    outer.write_all(b"exit 5\n")?;
    let ended = tokio::time::timeout(DEADLINE, shell.wait()).await??;
    assert_eq!(ended.code(), Some(5));
    Ok(())
}

#[tokio::test]
async fn shell_follows_the_window_with_our_executor() -> Result<()> {
    let (_workspace, _cloud, executor, execctl) = ours().await?;
    shell_follows_the_window(&execctl).await?;
    executor.never_panicked()
}

#[tokio::test]
async fn shell_follows_the_window_with_the_reference_executor() -> Result<()> {
    let workspace = Workspace::new()?;
    let cloud = Cloud::start().await?;
    let _executor = CodexExecutor::start(&cloud, &workspace, &[]).await?;
    shell_follows_the_window(&Execctl::new(&cloud)).await
}

#[tokio::test]
async fn interrupted_copy_is_continued_and_leaves_nothing_half_done() -> Result<()> {
    let (workspace, _cloud, executor, execctl) = ours().await?;
    let here = tempfile::tempdir()?;
    for number in 0..300 {
        std::fs::write(
            here.path().join(format!("small{number}")),
            number.to_string(),
        )?;
    }
    let large = vec![7; 3_000_001];
    std::fs::write(here.path().join("large"), &large)?;
    let from = format!("{}/.", here.path().display());
    let there = workspace.path().join("there");
    let to = format!(":{}", there.display());
    let copy = async || -> Result<Value> {
        let copied = execctl
            .run(["cp", "--json", "--resume", &from, &to])
            .await?;
        assert_eq!(copied.code(), Some(0), "{}", copied.stderr);
        Ok(serde_json::from_slice(&copied.stdout)?)
    };
    let first = copy().await?;
    assert_eq!(
        (&first["files"], &first["unchanged"]),
        (&301.into(), &0.into())
    );
    assert!(first["bytes_per_second"].as_u64() > Some(0), "{first}");
    std::fs::remove_file(there.join("large"))?;
    std::fs::write(there.join("small7"), "")?;
    let second = copy().await?;
    assert_eq!(
        (&second["files"], &second["unchanged"]),
        (&2.into(), &299.into())
    );
    assert!(std::fs::read(there.join("large"))? == large);
    assert_eq!(std::fs::read(there.join("small7"))?, b"7");
    assert_eq!(
        std::fs::read_dir(&there)?.count(),
        301,
        "something was left behind"
    );
    executor.never_panicked()
}
