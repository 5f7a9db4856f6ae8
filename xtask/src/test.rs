//! Everything that has to hold before a change goes in.
//!
//! All steps run even after one has failed, as far as they can; the end says which failed and
//! what could not be looked at. Any failure makes the whole run fail.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build,
    cache::{Cache, CargoTool},
    commands::{cargo, succeed},
    conformance, deny, packages,
    report::Report,
    tidy,
};

/// Runs all steps.
///
/// # Errors
///
/// When the machine cannot be prepared.
pub(crate) fn run() -> Result<ExitCode> {
    packages::provide(packages::BUILD)?;
    packages::provide(packages::TEST)?;
    let cache = Cache::open()?;
    let codex = cache.codex()?;
    let nextest = cache.cargo_tool(CargoTool::Nextest)?;
    let deny = cache.cargo_tool(CargoTool::Deny)?;

    let mut report = Report::default();
    report.step("format", || {
        succeed(cargo()?.args(["fmt", "--all", "--", "--check"])).map(|()| None)
    });
    report.step("tidy", || match tidy::findings()?.as_slice() {
        [] => Ok(None),
        findings => bail!("{}", findings.join("\n")),
    });
    report.step("clippy", || {
        let arguments = [
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        succeed(cargo()?.args(arguments)).map(|()| None)
    });
    report.step("rustdoc", || {
        let mut doc = cargo()?;
        // With private items: the readers are those who change the code, and module docs link to them.
        doc.env(
            "RUSTDOCFLAGS",
            "-D warnings -A rustdoc::private_intra_doc_links",
        );
        succeed(doc.args([
            "doc",
            "--quiet",
            "--workspace",
            "--no-deps",
            "--document-private-items",
        ]))
        .map(|()| None)
    });
    report.step("dependencies", || {
        deny::check(&deny).map(|advisories| Some(advisories.describe().to_owned()))
    });
    let mut programs = None;
    report.step("build", || {
        programs = Some(build::programs()?);
        Ok(None)
    });
    report.step("doc tests", || {
        succeed(cargo()?.args(["test", "--quiet", "--workspace", "--doc"])).map(|()| None)
    });
    let mut counts = None;
    match &programs {
        Some(programs) => {
            report.step("demo", || demo().map(|()| None));
            report.step("conformance", || {
                conformance::play(&cache, programs).map(Some)
            });
            report.step("tests", || {
                tests(&nextest, programs, &codex, &mut counts).map(|()| None)
            });
        }
        None => report.fail("conformance and tests, which need the build"),
    }
    Ok(report.close(counts.as_deref().unwrap_or("no tests were run")))
}

/// Runs a command through `up`, as a newcomer would: its output and nothing else comes out, and its
/// exit code.
fn demo() -> Result<()> {
    let mut up = Command::new(std::env::current_exe()?);
    up.args([
        "up",
        "--",
        "sh",
        "-c",
        "cat; echo \"and $#\"; exit 7",
        "sh",
        "one",
        "two",
    ]);
    let mut child = up.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    stdin.write_all(b"line\n")?;
    drop(stdin);
    let output = child.wait_with_output()?;
    if output.stdout != b"line\nand 2\n" {
        bail!("it printed `{}`", String::from_utf8_lossy(&output.stdout));
    }
    if output.status.code() != Some(7) {
        bail!("it ended with {}", output.status);
    }
    Ok(())
}

/// Runs unit, end-to-end and interop tests; `counts` gets the runner's own summary.
fn tests(nextest: &Path, programs: &Path, codex: &Path, counts: &mut Option<String>) -> Result<()> {
    let mut command = Command::new(nextest);
    command
        .args([
            "nextest",
            "run",
            "--workspace",
            "--no-fail-fast",
            "--color",
            "never",
            // What failed stands at the end, not between a thousand lines of what passed.
            "--status-level",
            "slow",
            "--final-status-level",
            "fail",
            "--failure-output",
            "final",
        ])
        .current_dir(crate::commands::root()?)
        .env("E2E_BIN_DIR", programs)
        .env("E2E_CODEX", codex)
        // An error says what was being done; the frames of the runtime would bury that.
        .env("RUST_LIB_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("failed to start the test runner")?;
    let pipe = child.stderr.take().context("stderr is piped")?;
    for line in BufReader::new(pipe).lines() {
        let line = line?;
        eprintln!("{line}");
        if line.trim_start().starts_with("Summary [") {
            *counts = line
                .split_once("] ")
                .map(|(_, counts)| counts.trim().to_owned());
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("the test runner ended with {status}");
    }
    if counts.is_none() {
        bail!("the test runner gave no summary");
    }
    Ok(())
}
