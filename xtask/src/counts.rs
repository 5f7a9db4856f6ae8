//! Instructions of the parts of the protocols, held against those that were written down.
//!
//! A time says little on a machine that does other things too; how many instructions a part takes is
//! the same every time. The crate `counts` runs the parts under callgrind, which pretends to be the
//! same processor wherever it runs, so that code which looks for features of the processor finds the
//! same ones. What remains is the C library, whose functions are part of the work.
//!
//! Not responsible for what the parts do: see `bench` in their crates.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build::target_directory,
    cache::recreate,
    commands::{cargo, output, root, succeed},
    packages,
};

/// Counts, and compares or writes down.
///
/// # Errors
///
/// When nothing can be counted, or a part takes another number of instructions than expected.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    match args {
        [] => eprintln!("{}", check()?),
        [update] if update == "--update" => {
            let counts = count()?;
            std::fs::write(root()?.join(EXPECTED), counts.text())?;
            eprintln!("{EXPECTED}: {} parts", counts.parts.len());
        }
        _ => bail!("counts takes no arguments, or --update"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Counts and compares; returns a line for the report.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn check() -> Result<String> {
    let expected = std::fs::read_to_string(root()?.join(EXPECTED))
        .with_context(|| format!("failed to read {EXPECTED}"))?;
    let expected = Counts::parse(&expected)?;
    let counts = count()?;
    let tolerance = Tolerance::between(&expected.machine, &counts.machine);
    let findings = compare(&expected.parts, &counts.parts, tolerance);
    if !findings.is_empty() {
        bail!(
            "{}\nif that is as it should be: cargo xtask counts --update",
            findings.join("\n")
        );
    }
    Ok(match tolerance {
        Tolerance::Exact => format!(
            "instructions: {} parts as expected, to {PERCENT} %",
            expected.parts.len()
        ),
        Tolerance::Coarse => format!(
            "instructions: {} parts at most twice as expected, no closer, because that was on {} \
             and this is {}",
            expected.parts.len(),
            expected.machine,
            counts.machine
        ),
    })
}

/// How many instructions the parts took, and where.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    machine: String,
    parts: BTreeMap<String, u64>,
}

impl Counts {
    fn text(&self) -> String {
        let mut text = format!(
            "# Instructions that each part takes; written by `cargo xtask counts --update`.\n\
             {MACHINE}{}\n",
            self.machine
        );
        let width = self.parts.keys().map(String::len).max().unwrap_or(0);
        for (name, count) in &self.parts {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name:width$} {count:>10}");
        }
        text
    }

    fn parse(text: &str) -> Result<Self> {
        let mut machine = None;
        let mut parts = BTreeMap::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix(MACHINE) {
                machine = Some(name.to_owned());
            } else if !line.starts_with('#') {
                let (name, count) = line
                    .rsplit_once(' ')
                    .with_context(|| format!("{EXPECTED}: `{line}`"))?;
                parts.insert(name.trim_end().to_owned(), count.parse()?);
            }
        }
        if parts.is_empty() {
            bail!("{EXPECTED} has no parts: nothing would be compared");
        }
        Ok(Self {
            machine: machine.with_context(|| format!("{EXPECTED} names no machine"))?,
            parts,
        })
    }
}

/// How far a count may be from what is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tolerance {
    /// The same tool and the same C library.
    Exact,
    /// Others: copies and allocations of theirs may take another number of instructions.
    Coarse,
}

impl Tolerance {
    fn between(expected: &str, here: &str) -> Self {
        if expected == here {
            Self::Exact
        } else {
            Self::Coarse
        }
    }

    fn allows(self, expected: u64, counted: u64) -> bool {
        match self {
            Self::Exact => counted.abs_diff(expected) * 100 <= expected * PERCENT,
            Self::Coarse => counted <= expected * 2,
        }
    }
}

/// What is not as expected, one line each.
fn compare(
    expected: &BTreeMap<String, u64>,
    counted: &BTreeMap<String, u64>,
    tolerance: Tolerance,
) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, &expected) in expected {
        match counted.get(name) {
            None => findings.push(format!("{name} is expected and does not exist")),
            Some(&counted) if !tolerance.allows(expected, counted) => {
                let per_mille = counted * 1000 / expected.max(1);
                findings.push(format!(
                    "{name} takes {counted} instructions, expected {expected}: {}.{} %",
                    per_mille / 10,
                    per_mille % 10
                ));
            }
            Some(_) => {}
        }
    }
    let unknown = counted.keys().filter(|name| !expected.contains_key(*name));
    findings.extend(unknown.map(|name| format!("{name} is not in {EXPECTED}")));
    findings
}

fn count() -> Result<Counts> {
    packages::provide(packages::COUNTS)?;
    let mut build = cargo()?;
    // With the packages of the programs, so that cargo takes the features that those were built with,
    // and with them what it has compiled; only this program is built.
    build
        .args(["build", "--quiet", "--config"])
        .arg(root()?.join(OPTIMIZED))
        .args(["-p", "agent", "-p", "harness", "-p", "counts"])
        .args(["--features", "counts/bench", "--bin", "counts"])
        // Parts that are compiled by themselves are not optimized together.
        .env("CARGO_INCREMENTAL", "0");
    succeed(&mut build)?;
    let target = target_directory()?;
    let directory = target.join("counts");
    recreate(&directory)?;
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!(
            "--callgrind-out-file={}",
            directory.join("out").display()
        ))
        // From the beginning of this function to its end; each time in a file of its own.
        .args(["--zero-before", "--dump-after"].map(|option| format!("{option}={COUNTED}")))
        .arg(target.join("debug/counts"));
    let names = output(&mut valgrind)?;
    let mut parts = BTreeMap::new();
    for (number, name) in names.lines().enumerate() {
        let file = directory.join(format!("out.{}", number + 1));
        parts.insert(name.to_owned(), total(&file).context(name.to_owned())?);
    }
    if parts.is_empty() || parts.len() != names.lines().count() {
        bail!("no parts, or several of one name");
    }
    Ok(Counts {
        machine: machine()?,
        parts,
    })
}

/// The sum that callgrind has written to a file.
fn total(file: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(file).context("callgrind has not counted it")?;
    let total = text.lines().find_map(|line| line.strip_prefix("summary: "));
    let total = total.context("callgrind gave no sum")?.trim().parse()?;
    if total == 0 {
        bail!("callgrind has counted nothing");
    }
    Ok(total)
}

/// What the counts depend on besides our code.
fn machine() -> Result<String> {
    let tool = output(Command::new("valgrind").arg("--version"))?;
    let library = output(Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
    // Without it the tool pretends to be an older processor.
    let processor = std::fs::read_to_string("/proc/cpuinfo")?;
    let vectors = if processor.split_whitespace().any(|flag| flag == "avx2") {
        "AVX2"
    } else {
        "no AVX2"
    };
    Ok(format!("{}, {}, {vectors}", tool.trim(), library.trim()))
}

/// Beyond what differs from run to run, which is less than one in a thousand.
const PERCENT: u64 = 5;

const EXPECTED: &str = "counts/expected.txt";

const OPTIMIZED: &str = "counts/optimized.toml";

/// The function that runs what is to be counted.
const COUNTED: &str = "counts::counted";

const MACHINE: &str = "# On ";

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
        counts
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    #[test]
    fn what_is_written_down_is_read_again() {
        let counts = Counts {
            machine: "tool 3, library 2, AVX2".to_owned(),
            parts: parts(&[("a/long-name/1", 7), ("b", 1_234_567)]),
        };
        assert_eq!(Counts::parse(&counts.text()).unwrap(), counts);
        assert!(Counts::parse("# On x\n").is_err());
        assert!(Counts::parse("a 1\n").is_err());
        assert!(Counts::parse("# On x\na b\n").is_err());
    }

    #[test]
    fn a_slower_part_is_found_and_so_is_a_faster_one() {
        let expected = parts(&[("a", 1000), ("b", 1000)]);
        for (counted, count_of_findings) in [(1000, 0), (1050, 0), (1051, 1), (950, 0), (949, 1)] {
            let counted = parts(&[("a", counted), ("b", 1000)]);
            let findings = compare(&expected, &counted, Tolerance::Exact);
            assert_eq!(findings.len(), count_of_findings, "{findings:?}");
        }
        let slower = compare(
            &expected,
            &parts(&[("a", 1100), ("b", 1)]),
            Tolerance::Exact,
        );
        assert_eq!(
            slower[0],
            "a takes 1100 instructions, expected 1000: 110.0 %"
        );
    }

    #[test]
    fn elsewhere_only_a_much_slower_part_is_found() {
        let expected = parts(&[("a", 1000)]);
        let tolerance = Tolerance::between("this", "that");
        for (counted, is_found) in [(1, false), (2000, false), (2001, true)] {
            let findings = compare(&expected, &parts(&[("a", counted)]), tolerance);
            assert_eq!(!findings.is_empty(), is_found, "{counted}");
        }
        assert_eq!(Tolerance::between("this", "this"), Tolerance::Exact);
    }

    #[test]
    fn parts_that_come_and_go_are_found() {
        let findings = compare(&parts(&[("a", 1)]), &parts(&[("b", 1)]), Tolerance::Coarse);
        let expected = [
            "a is expected and does not exist".to_owned(),
            format!("b is not in {EXPECTED}"),
        ];
        assert_eq!(findings, expected);
    }
}
