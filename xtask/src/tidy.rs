//! Checks on the sources that no compiler makes.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::Result;

use crate::{
    commands::{cargo, output, root},
    generated, links, quotes, readme, specification,
};

/// Runs all checks and prints what they found.
///
/// # Errors
///
/// When the sources cannot be read.
pub(crate) fn run() -> Result<ExitCode> {
    let findings = findings()?;
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    Ok(if findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Everything that is wrong, one line each.
///
/// # Errors
///
/// When the sources cannot be read.
pub(crate) fn findings() -> Result<Vec<String>> {
    let mut findings = Vec::new();
    let root = root()?;
    let files = output(
        Command::new("git")
            .args(["ls-files", "-z"])
            .current_dir(&root),
    )?;
    let files: Vec<&str> = files
        .split('\0')
        // Listed but deleted in the working tree: nothing to read.
        .filter(|file| !file.is_empty() && root.join(file).exists())
        .collect();
    for file in &files {
        let path = root.join(file);
        // Binary files have nothing to read.
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        findings.extend(file_findings(Path::new(file), &text));
    }
    findings.extend(links::findings(&root, &files)?);
    findings.extend(quotes::findings(&root, &files)?);
    findings.extend(readme::findings(&root)?);
    findings.extend(specification::findings(&root)?);
    findings.extend(generated::findings(&root));
    let tree = output(
        cargo()?
            .args(["tree", "--package", "server", "--edges", "normal"])
            .args(["--prefix", "none", "--format", "{p}\t{f}", "--no-dedupe"]),
    )?;
    findings.extend(server_findings(&tree));
    Ok(findings)
}

fn file_findings(file: &Path, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let extension = file
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    let lines = text.lines().count();
    if extension == "rs" && lines >= LONGEST_FILE_LINES {
        findings.push(format!(
            "{}: {lines} lines, the limit is {LONGEST_FILE_LINES}: split by idea",
            file.display()
        ));
    }
    if ["rs", "toml", "sh", "md", "yml", "yaml"].contains(&extension) {
        for (index, line) in text.lines().enumerate() {
            if let Some(marker) = marker_in(line) {
                findings.push(format!(
                    "{}:{}: {marker} is not a plan",
                    file.display(),
                    index + 1
                ));
            }
        }
    }
    findings
}

/// A marker that stands alone in `line`; part of a longer word, such as a template of `mktemp`, it
/// is none.
fn marker_in(line: &str) -> Option<String> {
    let mut words = line.split(|c: char| !c.is_alphanumeric());
    words
        .find(|word| MARKERS.iter().any(|halves| halves.concat() == *word))
        .map(str::to_owned)
}

/// `tree` has lines of package, tab, features.
fn server_findings(tree: &str) -> Vec<String> {
    let mut findings = BTreeSet::new();
    let mut relay_proto = false;
    for line in tree.lines() {
        let (package, features) = line.split_once('\t').unwrap_or((line, ""));
        let name = package.split_whitespace().next().unwrap_or_default();
        if FORBIDDEN_IN_SERVER.contains(&name) {
            findings.insert(format!(
                "server links {name}: the rendezvous must not be able to decrypt"
            ));
        }
        if name == "relay-proto" {
            relay_proto = true;
            if features.split(',').any(|feature| feature == "noise") {
                findings.insert("server builds relay-proto with the feature noise".to_owned());
            }
        }
    }
    if !relay_proto {
        findings.insert("server does not link relay-proto: this check looks at nothing".to_owned());
    }
    findings.into_iter().collect()
}

/// Longer files hold more than one idea.
const LONGEST_FILE_LINES: usize = 800;

/// Written in two parts, so that this file has none of them.
const MARKERS: &[[&str; 2]] = &[["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["HA", "CK"]];

/// Whoever links one of these could take part in a handshake.
const FORBIDDEN_IN_SERVER: &[&str] = &[
    "clatter",
    "libcrux-ml-kem",
    "relay-driver",
    "harness",
    "agent",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_tidy() {
        assert_eq!(findings().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn long_file_is_found() {
        let text = "line\n".repeat(LONGEST_FILE_LINES);
        assert_eq!(file_findings(Path::new("a/long.rs"), &text).len(), 1);
        assert_eq!(file_findings(Path::new("a/short.rs"), &text[5..]).len(), 0);
        assert_eq!(file_findings(Path::new("a/long.txt"), &text).len(), 0);
    }

    #[test]
    fn marker_is_found_with_its_line() {
        let text = format!("fine\n// {}: later\n", MARKERS[0].concat());
        let found = file_findings(Path::new("a.rs"), &text);
        assert_eq!(
            found,
            [format!("a.rs:2: {} is not a plan", MARKERS[0].concat())]
        );
    }

    #[test]
    fn server_with_ciphers_is_found() {
        let tree =
            "server v0.1.0 (/x)\t\nrelay-proto v0.1.0 (/y)\tdefault,noise\nclatter v2.3.0\tstd\n";
        assert_eq!(server_findings(tree).len(), 2);
        assert_eq!(server_findings("relay-proto v0.1.0 (/y)\t\n").len(), 0);
        assert_eq!(server_findings("tokio v1\t\n").len(), 1);
    }
}
