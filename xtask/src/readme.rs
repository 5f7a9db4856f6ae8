//! What `README.md` says: that the test command runs each command that starts with cargo, that no
//! crate is left out, and that its numbers are promised.
//!
//! The commands of our programs are run by the end-to-end test `readme`.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{build, commands::output, quotes};

/// Commands of the document that nothing runs, crates that it leaves out, and numbers that
/// `SPECIFICATION.md` does not have.
///
/// # Errors
///
/// When a document cannot be read.
pub(crate) fn findings(root: &Path) -> Result<Vec<String>> {
    let read = |name: &str| {
        std::fs::read_to_string(root.join(name)).with_context(|| format!("failed to read {name}"))
    };
    let (text, specification) = (read("README.md")?, read("SPECIFICATION.md")?);
    let mut findings = Vec::new();
    let (written, run) = (commands(&text), commands_that_are_run());
    if written != run {
        findings.push(format!(
            "README.md has the commands {written:?}, and the test command runs {run:?}"
        ));
    }
    for name in crates_left_out(&text, &read("Cargo.toml")?) {
        findings.push(format!("README.md does not say what the crate {name} is"));
    }
    let quantities = quantities(&text);
    if quantities.is_empty() {
        findings.push("README.md promises no numbers: this check looks at nothing".to_owned());
    }
    for quantity in quantities {
        if !specification.contains(&quantity) {
            findings.push(format!(
                "README.md promises {quantity}, which is not in SPECIFICATION.md"
            ));
        }
    }
    Ok(findings)
}

/// Members of the workspace that the table of crates lacks.
fn crates_left_out<'a>(text: &str, manifest: &'a str) -> Vec<&'a str> {
    let (_, members) = manifest.split_once("members = [").unwrap_or_default();
    let (members, _) = members.split_once(']').unwrap_or_default();
    let (_, table) = text.split_once("| crate | what |").unwrap_or_default();
    let names = members.split('"').skip(1).step_by(2);
    names
        .filter(|name| !table.contains(&format!("`{name}`")))
        .collect()
}

/// Numbers with their units in the tables of guarantees.
fn quantities(text: &str) -> Vec<String> {
    let (_, section) = text
        .split_once("## Guarantees and limits")
        .unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with('|'));
    let words: Vec<&str> = rows
        .flat_map(|row| row.split([' ', ';', '|']))
        .map(|word| word.trim_end_matches(','))
        .collect();
    words
        .windows(2)
        .filter(|pair| {
            UNITS.contains(&pair[1]) && pair[0].starts_with(|c: char| c.is_ascii_digit())
        })
        .map(|pair| pair.join(" "))
        .collect()
}

/// In the order of the document.
fn commands_that_are_run() -> Vec<String> {
    let xtask = |arguments: &[&str]| format!("cargo run -q -p xtask -- {}", arguments.join(" "));
    // The programs are built without optimizations for tests, else with the same arguments.
    let builds = build::BUILDS.map(|what| format!("cargo build --release {}", what.join(" ")));
    // The last of the three is what runs this check.
    let mut commands = vec![xtask(&ONE_COMMAND), xtask(&STAY), xtask(&["test"])];
    commands.extend(builds);
    commands
}

/// The lines of shell that start with cargo.
fn commands(text: &str) -> Vec<String> {
    quotes::blocks(text)
        .into_iter()
        .filter(|block| block.language == "sh")
        .flat_map(|block| block.content.lines())
        .map(|line| line.split(" #").next().unwrap_or_default().trim())
        .filter(|line| line.starts_with("cargo "))
        .map(str::to_owned)
        .collect()
}

/// Runs the first commands of the document as a newcomer would: the one, and then the other with
/// what it says to paste.
///
/// # Errors
///
/// When one of them does not do what the document says.
pub(crate) fn try_it() -> Result<()> {
    let expected = output(Command::new("uname").arg("-a"))?;
    let us = std::env::current_exe()?;
    let printed = output(Command::new(&us).args(ONE_COMMAND))?;
    ensure!(printed == expected, "`up -- uname -a` printed `{printed}`");

    let mut up = Command::new(&us)
        .args(STAY)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let pasted = paste(&mut up);
    // Whatever happened: nothing of it stays. That it has ended already shows in its status.
    drop(output(
        Command::new("kill").args(["-INT", &up.id().to_string()]),
    ));
    let status = up.wait()?;
    let printed = pasted?;
    ensure!(printed == expected, "what `up` says printed `{printed}`");
    ensure!(status.success(), "`up` ended with {status}");
    Ok(())
}

/// Has a shell do what `up` says, and returns what it prints.
fn paste(up: &mut Child) -> Result<String> {
    let pipe = up.stdout.take().context("stdout is piped")?;
    let (mut exports, mut command) = (String::new(), None);
    for line in BufReader::new(pipe).lines() {
        let line = line?;
        match (line.as_str(), &command) {
            // The last line; the one before it, for the Codex CLI, is tried by the tests of that.
            ("codex", Some(command)) => {
                let script = format!("{exports}{command}");
                return output(Command::new("sh").args(["-c", &script]));
            }
            (line, _) if line.starts_with("export ") => {
                exports.push_str(line);
                exports.push('\n');
            }
            (line, _) if line.ends_with(" run -- uname -a") => command = Some(line.to_owned()),
            _ => {}
        }
    }
    bail!("`up` ended, or did not say what to paste:\n{exports}")
}

const ONE_COMMAND: [&str; 4] = ["up", "--", "uname", "-a"];
const STAY: [&str; 1] = ["up"];
const UNITS: &[&str] = &["bytes", "KiB", "MiB", "ms", "s"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commands_of_cargo_in_shell_are_looked_at() {
        let text = "`cargo x`\n```sh\ncargo a -- b   # why\nexecctl\n```\n```toml\ncargo d\n```\n";
        assert_eq!(commands(text), ["cargo a -- b"]);
    }

    #[test]
    fn crates_without_a_row_are_found() {
        let manifest = "members = [\n  \"a\",\n  \"b-c\",\n]\nother = [\"d\"]";
        let table = "`b-c`\n| crate | what |\n|---|---|\n| `a` | |\n";
        assert_eq!(crates_left_out(table, manifest), ["b-c"]);
        assert_eq!(crates_left_out("", manifest), ["a", "b-c"]);
    }

    #[test]
    fn numbers_are_found_with_their_units() {
        let text = "3 s\n## Guarantees and limits\n| a | within 5 s, 1,024 bytes; 64 MiB |\n7 s\n";
        assert_eq!(quantities(text), ["5 s", "1,024 bytes", "64 MiB"]);
        assert!(quantities("no table").is_empty());
    }
}
