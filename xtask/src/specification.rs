//! Whether the tests that `SPECIFICATION.md` and `docs/threat-model.md` name exist.
//!
//! What they assert is not looked at: the table and the test are changed together or a review finds
//! out.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Everything that is named and does not exist, one line each.
///
/// # Errors
///
/// When the sources cannot be read.
pub(crate) fn findings(root: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
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
                if !exists(root, &enforcer)? {
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

fn exists(root: &Path, enforcer: &Enforcer) -> Result<bool> {
    match enforcer {
        Enforcer::File(path) => Ok(root.join(path).is_file()),
        Enforcer::Command(command) => {
            let main = std::fs::read_to_string(root.join("xtask/src/main.rs"))?;
            let name = command.split_whitespace().nth(2).unwrap_or_default();
            Ok(main.contains(&format!("Some(\"{name}\")")))
        }
        Enforcer::Test { package, name } => {
            let directory = match package.as_str() {
                "e2e-tests" => "tests",
                package => package,
            };
            has_test(&root.join(directory), name)
        }
    }
}

/// Whether a file below `directory` has a test of this name.
fn has_test(directory: &Path, name: &str) -> Result<bool> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Ok(false);
    };
    for entry in entries {
        let path = entry?.path();
        let found = if path.is_dir() {
            has_test(&path, name)?
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            is_test_in(&std::fs::read_to_string(&path)?, name)
        } else {
            false
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A function of this name with an attribute that makes it a test, and with none that leaves it out.
fn is_test_in(source: &str, name: &str) -> bool {
    let head = format!("fn {name}(");
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(at, line)| {
        let before = lines.get(..at).unwrap_or_default().iter().rev();
        let attributes: Vec<_> = before
            .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
            .collect();
        let has = |part: &str| attributes.iter().any(|attribute| attribute.contains(part));
        line.contains(&head) && (has("[test]") || has("::test")) && !has("#[ignore")
    })
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
        assert!(is_test_in(source, "a") && is_test_in(source, "b"));
        for name in ["c", "d", "e"] {
            assert!(!is_test_in(source, name), "{name}");
        }
    }

    #[test]
    fn what_does_not_exist_is_found() {
        let root = crate::commands::root().unwrap();
        for row in [
            "| x | 1 | `agent: no_test_has_this_name` |",
            "| x | 1 | `no/such/file.rs` |",
            "| x | 1 | `cargo xtask no-such-command` |",
        ] {
            for enforcer in named(row) {
                assert!(!exists(&root, &enforcer).unwrap(), "{row}");
            }
        }
    }
}
