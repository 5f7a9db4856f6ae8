//! Whether the tests that `SPECIFICATION.md` and `docs/threat-model.md` name exist.
//!
//! What they assert is not looked at: the table and the test are changed together or a review finds
//! out.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Everything that is named and does not exist, one line each.
///
/// # Errors
///
/// When the sources cannot be read.
pub(crate) fn findings(root: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    let mut sources = Sources::new(root);
    for (document, heading) in DOCUMENTS {
        let text = std::fs::read_to_string(root.join(document))
            .with_context(|| format!("failed to read {document}"))?;
        let mut count = 0;
        for row in rows(&text, heading) {
            let named = named(row);
            count += named.len();
            if named.is_empty() {
                findings.push(format!("{document}: nothing enforces `{row}`"));
            }
            for enforcer in named {
                if !sources.have(&enforcer)? {
                    findings.push(format!("{document}: {enforcer:?} does not exist"));
                }
            }
        }
        if count == 0 {
            findings.push(format!(
                "{document} names no tests: this check looks at nothing"
            ));
        }
    }
    Ok(findings)
}

/// The documents, and how the last column of their tables is called.
const DOCUMENTS: [(&str, &str); 2] = [
    ("SPECIFICATION.md", "enforced by"),
    ("docs/threat-model.md", "shown by"),
];

/// What a row says enforces its promise.
#[derive(Debug, PartialEq, Eq)]
enum Enforcer {
    Test { package: String, name: String },
    File(PathBuf),
    Command(String),
}

/// The rows of the tables whose last column is called `heading`, without their heads.
fn rows<'a>(text: &'a str, heading: &str) -> Vec<&'a str> {
    let mut rows = Vec::new();
    let (mut within, mut counts) = (false, false);
    for line in text.lines() {
        if !line.starts_with('|') {
            within = false;
        } else if !within {
            (within, counts) = (true, last_cell(line).trim() == heading);
        } else if counts && !line.starts_with("|---") {
            rows.push(line);
        }
    }
    rows
}

fn last_cell(row: &str) -> &str {
    let row = row.trim_end_matches('|');
    row.rsplit('|').next().unwrap_or_default()
}

/// What the last cell of a row names, in backticks.
fn named(row: &str) -> Vec<Enforcer> {
    last_cell(row)
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|code| match code.split_once(": ") {
            Some((package, name)) => Enforcer::Test {
                package: package.to_owned(),
                name: name.to_owned(),
            },
            None if code.starts_with("cargo xtask ") => Enforcer::Command(code.to_owned()),
            None => Enforcer::File(code.into()),
        })
        .collect()
}

/// What exists; the tests of a crate are looked for once.
struct Sources<'a> {
    root: &'a Path,
    tests: BTreeMap<String, BTreeSet<String>>,
}

impl<'a> Sources<'a> {
    fn new(root: &'a Path) -> Self {
        Self {
            root,
            tests: BTreeMap::new(),
        }
    }

    fn have(&mut self, enforcer: &Enforcer) -> Result<bool> {
        match enforcer {
            Enforcer::File(path) => Ok(self.root.join(path).is_file()),
            Enforcer::Command(command) => {
                let main = std::fs::read_to_string(self.root.join("xtask/src/main.rs"))?;
                let name = command.split_whitespace().nth(2).unwrap_or_default();
                Ok(main.contains(&format!("Some(\"{name}\")")))
            }
            Enforcer::Test { package, name } => {
                if !self.tests.contains_key(package) {
                    let directory = match package.as_str() {
                        "e2e-tests" => "tests",
                        package => package,
                    };
                    let mut tests = BTreeSet::new();
                    collect_tests(&self.root.join(directory), &mut tests)?;
                    self.tests.insert(package.clone(), tests);
                }
                Ok(self
                    .tests
                    .get(package)
                    .is_some_and(|tests| tests.contains(name)))
            }
        }
    }
}

/// Adds the names of all tests in the files below `directory`, if there is one.
fn collect_tests(directory: &Path, tests: &mut BTreeSet<String>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect_tests(&path, tests)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            tests.extend(tests_in(&std::fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

/// Functions with an attribute that makes them tests, and with none that leaves them out.
fn tests_in(source: &str) -> Vec<String> {
    let (mut is_test, mut is_ignored) = (false, false);
    let mut tests = Vec::new();
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[") || line.starts_with("//") {
            is_test |= line.contains("[test]") || line.contains("::test");
            is_ignored |= line.contains("#[ignore");
            continue;
        }
        if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test && !is_ignored) {
            tests.extend(rest.split('(').next().map(str::to_owned));
        }
        (is_test, is_ignored) = (false, false);
    }
    tests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_cell_names_tests_files_and_commands() {
        let row = "| `x: y` | 5 | `agent: a_test`, `a/b.rs`; `cargo xtask nightly seeds` |";
        let expected = [
            Enforcer::Test {
                package: "agent".to_owned(),
                name: "a_test".to_owned(),
            },
            Enforcer::File("a/b.rs".into()),
            Enforcer::Command("cargo xtask nightly seeds".to_owned()),
        ];
        assert_eq!(named(row), expected);
        assert!(named("| promise | 5 | |").is_empty());
    }

    #[test]
    fn rows_are_those_of_tables_with_the_heading() {
        let text = "| a | shown by |\n|---|---|\n| 1 | x |\n\n| b | c |\n|---|---|\n| 2 | y |\n";
        assert_eq!(rows(text, "shown by"), ["| 1 | x |"]);
        assert!(rows(text, "enforced by").is_empty());
    }

    #[test]
    fn only_what_runs_as_a_test_is_one() {
        let source = "#[test]\nfn a() {}\n\n#[tokio::test]\n// Why.\nasync fn b() {}\nfn c() {}\n\
            #[test]\n#[ignore]\nfn d() {}";
        assert_eq!(tests_in(source), ["a", "b"]);
    }

    #[test]
    fn what_does_not_exist_is_found() {
        let root = crate::commands::root().unwrap();
        let mut sources = Sources::new(&root);
        for row in [
            "| x | 1 | `agent: no_test_has_this_name` |",
            "| x | 1 | `no/such/file.rs` |",
            "| x | 1 | `cargo xtask no-such-command` |",
        ] {
            for enforcer in named(row) {
                assert!(!sources.have(&enforcer).unwrap(), "{row}");
            }
        }
    }
}
