//! What takes too long for every change: many seeds, long scenes, fuzzing.
//!
//! Each part can be run alone, and with less or more time:
//!
//! | part | what | amount |
//! |---|---|---|
//! | `seeds` | two connections on a virtual clock, over links and websockets that fail | `--seeds`, of each kind |
//! | `sim` | the whole on simulated time, with hosts and paths that fail | `--sim-seeds` |
//! | `scenes` | the fault scenes with real processes, long | `--scene-secs` of kills |
//! | `fuzz` | every fuzz target | `--fuzz-secs` for each |

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build,
    cache::{Cache, CargoTool},
    commands::{cargo, on_path, root, succeed},
    packages,
    report::Report,
};

/// What to do and how much of it.
#[derive(Debug)]
struct Plan {
    parts: Vec<String>,
    seeds: u64,
    sim_seeds: u64,
    scene_secs: u64,
    fuzz_secs: u64,
}

impl Plan {
    fn parse(args: &[String]) -> Result<Self> {
        let mut plan = Self {
            parts: Vec::new(),
            seeds: 10_000,
            sim_seeds: 1_000,
            scene_secs: 60,
            fuzz_secs: 600,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let number = match arg.as_str() {
                "--seeds" => &mut plan.seeds,
                "--sim-seeds" => &mut plan.sim_seeds,
                "--scene-secs" => &mut plan.scene_secs,
                "--fuzz-secs" => &mut plan.fuzz_secs,
                part if PARTS.contains(&part) => {
                    plan.parts.push(part.to_owned());
                    continue;
                }
                _ => bail!("`{arg}` is neither an option nor one of the parts {PARTS:?}"),
            };
            *number = args
                .next()
                .and_then(|text| text.parse().ok())
                .with_context(|| format!("{arg} needs a number"))?;
        }
        Ok(plan)
    }

    fn has(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|it| it == part)
    }
}

/// Runs the parts that `args` name, or all of them.
///
/// # Errors
///
/// When the arguments are not understood or the machine cannot be prepared.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let plan = Plan::parse(args)?;
    packages::provide(packages::BUILD)?;
    let mut report = Report::default();
    if plan.has("seeds") {
        report.step("seeds", || seeds(plan.seeds).map(Some));
    }
    if plan.has("sim") {
        report.step("sim", || sim(plan.sim_seeds).map(Some));
    }
    if plan.has("scenes") {
        packages::provide(packages::TEST)?;
        report.step("scenes", || scenes(plan.scene_secs).map(|()| None));
    }
    if plan.has("fuzz") {
        report.step("fuzz", || fuzz(plan.fuzz_secs).map(Some));
    }
    let ran: Vec<_> = PARTS.into_iter().filter(|part| plan.has(part)).collect();
    Ok(report.close(&format!("parts that were run: {}", ran.join(", "))))
}

fn seeds(count: u64) -> Result<String> {
    let mut test = cargo()?;
    test.args(["test", "--quiet", "--release", "-p", "relay-proto", "--lib"])
        .args(["--", "connection::tests::lossy"])
        .env("RELAY_SEEDS", count.to_string());
    succeed(&mut test)?;
    Ok(format!("{count} seeds of each kind"))
}

fn sim(count: u64) -> Result<String> {
    let mut test = cargo()?;
    test.args(["test", "--quiet", "-p", "e2e-tests", "--test", "sim"])
        .env("SIM_SEEDS", count.to_string());
    succeed(&mut test)?;
    Ok(format!("{count} seeds"))
}

/// How long the registry is away in the scenes. A harness tries for longer to get its session back.
const REGISTRY_OUTAGE_SECS: &str = "30";

fn scenes(secs: u64) -> Result<()> {
    let cache = Cache::open()?;
    let nextest = cache.cargo_tool(CargoTool::Nextest)?;
    let mut run = Command::new(nextest);
    run.args(["nextest", "run", "--profile", "long", "--no-fail-fast"])
        .args(["-p", "e2e-tests", "faults::"])
        .current_dir(root()?)
        .env("E2E_BIN_DIR", build::programs()?)
        .env("E2E_CODEX", cache.codex()?)
        .env("E2E_FAULT_SECS", secs.to_string())
        .env("E2E_OUTAGE_SECS", REGISTRY_OUTAGE_SECS);
    succeed(&mut run)
}

/// Runs every target. Stops at the first finding, which the fuzzer has then written down.
fn fuzz(secs: u64) -> Result<String> {
    let directory = root()?.join("fuzz");
    let targets = targets(&directory)?;
    let tool = Cache::open()?.cargo_tool(CargoTool::Fuzz)?;
    if !on_path("rustup") {
        bail!("fuzzing needs rustup and a nightly toolchain");
    }
    for target in &targets {
        let corpus = directory.join("corpus").join(target);
        std::fs::create_dir_all(&corpus).context("failed to make the corpus directory")?;
        eprintln!("xtask: fuzzing {target} for {secs} s");
        let mut run = Command::new("rustup");
        // What the outer cargo has set names another toolchain.
        for name in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN"] {
            run.env_remove(name);
        }
        run.args(["run", "nightly"])
            .arg(&tool)
            .args(["fuzz", "run", target])
            .arg(&corpus)
            .arg(directory.join("seeds").join(target))
            .args(["--", "-timeout=60", "-rss_limit_mb=2048", "-verbosity=0"])
            .arg(format!("-max_total_time={secs}"))
            .current_dir(&directory);
        succeed(&mut run).with_context(|| format!("fuzz target {target}"))?;
    }
    Ok(format!("{secs} s of each of {} targets", targets.len()))
}

/// Names of the fuzz targets: of the files that have them.
fn targets(fuzz: &Path) -> Result<Vec<String>> {
    let directory = fuzz.join("fuzz_targets");
    let mut names: Vec<String> = std::fs::read_dir(&directory)
        .context("failed to list the fuzz targets")?
        .map(|entry| Ok(PathBuf::from(entry?.file_name())))
        .collect::<Result<Vec<_>>>()?
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        .filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

const PARTS: [&str; 4] = ["seeds", "sim", "scenes", "fuzz"];

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(args: &str) -> Result<Plan> {
        let args: Vec<_> = args.split_whitespace().map(str::to_owned).collect();
        Plan::parse(&args)
    }

    #[test]
    fn without_arguments_everything_is_done_in_full() {
        let plan = plan("").unwrap();
        assert!(PARTS.iter().all(|part| plan.has(part)));
        assert!(plan.seeds >= 10_000 && plan.fuzz_secs >= 600);
    }

    #[test]
    fn parts_and_amounts_can_be_chosen() {
        let plan = plan("fuzz --fuzz-secs 5 seeds").unwrap();
        assert!(plan.has("fuzz") && plan.has("seeds") && !plan.has("scenes"));
        assert_eq!(plan.fuzz_secs, 5);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for args in ["--seeds", "--seeds many", "everything"] {
            assert!(plan(args).is_err(), "{args}");
        }
    }

    #[test]
    fn every_target_has_seeds_and_a_binary() {
        let fuzz = root().unwrap().join("fuzz");
        let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
        let targets = targets(&fuzz).unwrap();
        assert!(!targets.is_empty());
        for target in targets {
            assert!(
                manifest.contains(&format!("name = \"{target}\"")),
                "{target}"
            );
            let seeds = fuzz.join("seeds").join(&target);
            assert!(seeds.read_dir().unwrap().next().is_some(), "{target}");
        }
    }
}
