//! One round of everything that `execctl` offers, with exact output and exit codes.
//!
//! The expectations hold for our executor and for the reference alike.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context as _, Result};
use serde_json::Value;
use testkit::{
    processes::{ENVIRONMENT, Execctl, Finished},
    web::EchoServer,
    workspace::{INSTRUCTIONS, Workspace},
};

use crate::turn::PLACE;

/// Goes through all subcommands against the executor behind `execctl`, which runs in `workspace`.
pub(crate) async fn check(workspace: &Workspace, execctl: &Execctl) -> Result<()> {
    programs(execctl).await?;
    input(execctl).await?;
    large_output(execctl).await?;
    copies_of_files(workspace, execctl).await?;
    copies_of_directories(workspace, execctl).await?;
    files(workspace, execctl).await?;
    http(execctl).await?;
    info(workspace, execctl).await
}

/// Asserts everything that a program shows of itself.
fn shows(finished: &Finished, code: i32, stdout: &str, stderr: &str) {
    assert_eq!(finished.stderr, stderr);
    assert_eq!(String::from_utf8_lossy(&finished.stdout), stdout);
    assert_eq!(finished.code(), Some(code));
}

async fn programs(execctl: &Execctl) -> Result<()> {
    let (name, place) = PLACE;
    let script = format!("echo \"out at ${name}\"; echo err >&2; exit 3");
    let run = execctl.run(["run", "--", "sh", "-c", &script]).await?;
    shows(&run, 3, &format!("out at {place}\n"), "err\n");
    for code in [0, 1, 42, 255] {
        let run = execctl
            .run(["run", "--", "sh", "-c", &format!("exit {code}")])
            .await?;
        shows(&run, code, "", "");
    }
    let killed = execctl
        .run(["run", "--", "sh", "-c", "kill -TERM $$"])
        .await?;
    shows(&killed, 143, "", "");
    let absent = execctl.run(["run", "--", "no-such-program"]).await?;
    shows(
        &absent,
        127,
        "",
        "execctl: no-such-program: not found, or its working directory is not\n",
    );
    let variable = execctl.run([
        "run",
        "-e",
        "GREETING=hi there",
        "--",
        "printenv",
        "GREETING",
    ]);
    shows(&variable.await?, 0, "hi there\n", "");
    let directory = execctl.run(["run", "-w", "/", "--", "pwd"]).await?;
    shows(&directory, 0, "/\n", "");
    let terminal = execctl.run([
        "run",
        "--tty",
        "--no-stdin",
        "--",
        "sh",
        "-c",
        "test -t 1; echo $?",
    ]);
    shows(&terminal.await?, 0, "0\r\n", "");
    Ok(())
}

/// Every byte value, more than one pipe buffer, and the end of input, all come through.
async fn input(execctl: &Execctl) -> Result<()> {
    let binary = binary(300_000);
    let echoed = execctl
        .run_with_input(["run", "--", "cat"], &binary)
        .await?;
    assert_eq!(echoed.stderr, "");
    assert!(
        echoed.stdout == binary,
        "{} bytes came back",
        echoed.stdout.len()
    );
    assert_eq!(echoed.code(), Some(0));
    let none = execctl.run(["run", "--", "cat"]).await?;
    shows(&none, 0, "", "");
    Ok(())
}

async fn large_output(execctl: &Execctl) -> Result<()> {
    let script = "seq -w 0 149796 | head -c 1048576";
    let run = execctl.run(["run", "--", "sh", "-c", script]).await?;
    let mut expected = (0..149_797)
        .map(|n| format!("{n:06}\n"))
        .collect::<String>();
    expected.truncate(1 << 20);
    assert_eq!(run.stderr, "");
    assert!(
        run.stdout == expected.as_bytes(),
        "{} bytes came",
        run.stdout.len()
    );
    assert_eq!(run.code(), Some(0));
    Ok(())
}

async fn copies_of_files(workspace: &Workspace, execctl: &Execctl) -> Result<()> {
    let here = tempfile::tempdir()?;
    let (original, back) = (here.path().join("original"), here.path().join("back"));
    // More than one block of a file transfer, and no multiple of one.
    fs::write(&original, binary(3_000_001))?;
    fs::set_permissions(&original, fs::Permissions::from_mode(0o755))?;
    let there = workspace.path().join("uploaded");
    let remote = format!("{ENVIRONMENT}:{}", there.display());
    let up = execctl
        .run(["cp".as_ref(), original.as_os_str(), remote.as_ref()])
        .await?;
    shows(&up, 0, "", "");
    let sums = execctl.run(["run", "--", "sha256sum", "uploaded"]).await?;
    shows(&sums, 0, &format!("{}  uploaded\n", sha256(&original)?), "");
    assert_eq!(fs::metadata(&there)?.permissions().mode() & 0o111, 0o111);

    let down = execctl
        .run(["cp".as_ref(), remote.as_ref(), back.as_os_str()])
        .await?;
    shows(&down, 0, "", "");
    assert_eq!(sha256(&back)?, sha256(&original)?);
    assert_eq!(fs::metadata(&back)?.permissions().mode() & 0o111, 0o111);
    Ok(())
}

async fn copies_of_directories(workspace: &Workspace, execctl: &Execctl) -> Result<()> {
    let here = tempfile::tempdir()?;
    let (original, back) = (here.path().join("tree"), here.path().join("back"));
    fs::create_dir_all(original.join("deep/er"))?;
    fs::create_dir(original.join("hollow"))?;
    fs::write(original.join("top"), b"top\n")?;
    fs::write(original.join("empty"), b"")?;
    fs::write(original.join("deep/er/white space"), binary(70_000))?;
    let remote = format!(":{}", workspace.path().join("tree").display());
    let up = execctl
        .run(["cp".as_ref(), original.as_os_str(), remote.as_ref()])
        .await?;
    shows(&up, 0, "", "");
    assert_eq!(tree(&workspace.path().join("tree"))?, tree(&original)?);
    let down = execctl
        .run(["cp".as_ref(), remote.as_ref(), back.as_os_str()])
        .await?;
    shows(&down, 0, "", "");
    assert_eq!(tree(&back)?, tree(&original)?);
    Ok(())
}

async fn files(workspace: &Workspace, execctl: &Execctl) -> Result<()> {
    let at = |name: &str| workspace.path().join(name).display().to_string();
    let made = execctl
        .run(["mkdir", "--parents", &at("made/by/us")])
        .await?;
    shows(&made, 0, "", "");
    fs::write(at("made/file"), "hello\n")?;
    fs::write(at("made/.hidden"), "")?;
    shows(
        &execctl.run(["ls", &at("made")]).await?,
        0,
        "by/\nfile\n",
        "",
    );
    shows(
        &execctl.run(["ls", "--all", &at("made")]).await?,
        0,
        ".hidden\nby/\nfile\n",
        "",
    );
    let cat = execctl
        .run(["cat", &at("AGENTS.md"), &at("made/file")])
        .await?;
    shows(&cat, 0, &format!("{INSTRUCTIONS}hello\n"), "");

    let stat = execctl.run(["stat", "--json", &at("made/file")]).await?;
    assert_eq!((stat.stderr.as_str(), stat.code()), ("", Some(0)));
    let stat: Value = serde_json::from_slice(&stat.stdout)?;
    assert_eq!(
        (&stat["kind"], &stat["size"]),
        (&"file".into(), &6.into()),
        "{stat}"
    );

    let refused = execctl.run(["rm", &at("made")]).await?;
    let line = format!("execctl: {}: is a directory: use --recursive\n", at("made"));
    shows(&refused, 1, "", &line);
    shows(&execctl.run(["rm", &at("made/file")]).await?, 0, "", "");
    shows(
        &execctl.run(["rm", "--recursive", &at("made")]).await?,
        0,
        "",
        "",
    );
    assert!(!workspace.path().join("made").exists());
    shows(
        &execctl.run(["rm", "--force", &at("made")]).await?,
        0,
        "",
        "",
    );
    // What came before the failure is printed.
    let half = execctl.run(["cat", &at("AGENTS.md"), &at("made")]).await?;
    assert_eq!(half.code(), Some(1));
    assert_eq!(half.stdout, INSTRUCTIONS.as_bytes());

    let absent = execctl.run(["cat", &at("made")]).await?;
    let line = format!("execctl: {}: ", at("made"));
    assert!(absent.stderr.starts_with(&line), "{}", absent.stderr);
    assert_eq!(absent.stderr.lines().count(), 1, "{}", absent.stderr);
    assert_eq!(absent.code(), Some(1));
    Ok(())
}

async fn http(execctl: &Execctl) -> Result<()> {
    let server = EchoServer::start().await?;
    let page = format!("{}/page?q=1", server.url());
    let got = execctl.run(["http", &page]).await?;
    shows(&got, 0, "GET\n/page?q=1\nnone\n", "");
    let posted = execctl
        .run(["http", "-H", "x-test: yes", "-d", "some data", &page])
        .await?;
    shows(&posted, 0, "POST\n/page?q=1\nyes\nsome data", "");
    let missing = format!("{}/missing", server.url());
    let failed = execctl.run(["http", "--fail", &missing]).await?;
    let note = "execctl: the server answered with status 404\n";
    shows(&failed, 1, "GET\n/missing\nnone\n", note);
    Ok(())
}

async fn info(workspace: &Workspace, execctl: &Execctl) -> Result<()> {
    let info = execctl.run(["info", "--json"]).await?;
    assert_eq!((info.stderr.as_str(), info.code()), ("", Some(0)));
    let info: Value = serde_json::from_slice(&info.stdout).context("info is JSON")?;
    assert_eq!(info["status"], "ready", "{info}");
    assert_eq!(info["platformOs"], "linux", "{info}");
    let directory = format!("file://{}", workspace.path().display());
    assert_eq!(info["cwd"], directory.as_str(), "{info}");
    Ok(())
}

/// Bytes of every value, without a short period.
fn binary(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(len)
    .collect()
}

/// The checksum as the system's own tool computes it.
fn sha256(file: &Path) -> Result<String> {
    let output = std::process::Command::new("sha256sum").arg(file).output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text
        .split_whitespace()
        .next()
        .context("sha256sum printed nothing")?
        .to_owned())
}

/// Relative paths below `root` with the content of files, `None` for directories, sorted.
fn tree(root: &Path) -> Result<Vec<(String, Option<Vec<u8>>)>> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let name = path.strip_prefix(root)?.display().to_string();
            if path.is_dir() {
                directories.push(path);
                found.push((name, None));
            } else {
                found.push((name, Some(fs::read(&path)?)));
            }
        }
    }
    found.sort();
    Ok(found)
}
