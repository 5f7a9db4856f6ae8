//! Timing whole scenes, with programs as they are released.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    build::{self, Profile},
    cache::Cache,
    commands::{cargo, root},
    packages,
};

/// Builds everything with optimizations and runs the benchmarks with `args`.
///
/// # Errors
///
/// When something cannot be built or fetched, or a scene fails.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    packages::provide(packages::BUILD)?;
    let versus = args
        .iter()
        .any(|arg| arg == "--vs" || arg.starts_with("--vs="));
    if versus {
        packages::provide(packages::BENCH)?;
    }
    let programs = build::programs_of(Profile::Release)?;
    let mut bench = cargo()?;
    bench
        .args(["run", "--quiet", "--release", "-p", "benches", "--"])
        .args(args)
        .current_dir(root()?)
        .env("E2E_BIN_DIR", programs);
    if versus {
        bench.env("E2E_CODEX", Cache::open()?.codex()?);
    }
    let status = bench.status()?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
