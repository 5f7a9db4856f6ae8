//! Everything that has to hold before a change goes in.
//!
//! All steps run even after one has failed, as far as they can; the end says which failed and
//! what could not be looked at. Any failure makes the whole run fail.

use std::{
    io::Write as _,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build,
    cache::{Cache, CargoTool},
    commands::{cargo, succeed},
    conformance, counts, deny,
    nextest::Runner,
    packages, packaging, readme,
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
    packages::provide(packages::COUNTS)?;
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
            "--features",
            "counts/bench",
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
    report.step("instructions", || counts::check().map(Some));
    report.step("doc tests", || {
        succeed(cargo()?.args(["test", "--quiet", "--workspace", "--doc"])).map(|()| None)
    });
    let mut counts = None;
    match &programs {
        Some(programs) => {
            let runner = Runner {
                nextest: &nextest,
                programs,
                codex: &codex,
            };
            report.step("demo", || {
                demo()?;
                readme::try_it().map(|()| None)
            });
            report.step("conformance", || {
                conformance::play(&cache, programs).map(Some)
            });
            report.step("tests", || {
                let filter = format!("not {}", packaging::TESTS);
                runner.run(&filter, &[], &mut counts).map(|()| None)
            });
            report.step("packaging", || packaging::check(&cache, &runner).map(Some));
        }
        None => report.fail("conformance, tests and packaging, which need the build"),
    }
    Ok(report.close(counts.as_deref().unwrap_or("no tests were run")))
}

/// Builds what people install, and tries it.
///
/// # Errors
///
/// When the machine cannot be prepared, or something does not work.
pub(crate) fn packaging_alone() -> Result<ExitCode> {
    packages::provide(packages::BUILD)?;
    packages::provide(packages::TEST)?;
    let cache = Cache::open()?;
    let runner = Runner {
        nextest: &cache.cargo_tool(CargoTool::Nextest)?,
        programs: &build::programs()?,
        codex: &cache.codex()?,
    };
    eprintln!("{}", packaging::check(&cache, &runner)?);
    Ok(ExitCode::SUCCESS)
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
