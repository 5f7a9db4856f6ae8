//! The conformance scenarios, played against our executor.
//!
//! The scenarios are not part of this repository. They are looked for in `CONFORMANCE_DIR`, else
//! in `../shared/conformance` beside the checkout. Without them the report says that they were not
//! played.
//!
//! Our transcripts have to be the reference's, except for those in `tests/conformance/golden`, where
//! the reference has a weakness that we do not share; the README beside them lists each.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cache::{Cache, recreate},
    commands::root,
    system::{System, runtime, stop},
};

/// Plays all scenarios over each transport and returns a line for the report.
///
/// # Errors
///
/// When a transcript is not the expected one.
pub(crate) fn play(cache: &Cache, programs: &Path) -> Result<String> {
    let Some(player) = Player::new(cache, programs)? else {
        return Ok(NOT_PLAYED.to_owned());
    };
    let server = programs.join("exec-server").display().to_string();
    let report = [
        player.play_websocket(programs)?,
        player.play("stdio", &["--stdio", &format!("{server} --listen stdio")])?,
        player.play_through_relay(programs)?,
    ];
    Ok(format!("conformance: {}", report.join("; ")))
}

/// Plays all scenarios against a listener alone and returns a line for the report.
///
/// # Errors
///
/// When a transcript is not the expected one.
pub(crate) fn play_listener(cache: &Cache, programs: &Path) -> Result<String> {
    match Player::new(cache, programs)? {
        Some(player) => player.play_websocket(programs),
        None => Ok(NOT_PLAYED.to_owned()),
    }
}

const NOT_PLAYED: &str = "conformance scenarios NOT PLAYED, they are not on this machine";

/// Plays the scenarios against one server after the other.
#[derive(Clone)]
struct Player {
    python: PathBuf,
    directory: PathBuf,
    golden: PathBuf,
}

impl Player {
    /// Returns a player whose expectations are kept beside `programs`; without scenarios on this
    /// machine there is none.
    fn new(cache: &Cache, programs: &Path) -> Result<Option<Self>> {
        let directory = match std::env::var_os("CONFORMANCE_DIR") {
            Some(directory) => PathBuf::from(directory),
            None => root()?.join("../shared/conformance"),
        };
        if !directory.join("rpcplay").is_file() {
            return Ok(None);
        }
        let golden = programs.join("conformance-golden");
        recreate(&golden)?;
        merge(
            &directory.join("golden"),
            &root()?.join("tests/conformance"),
            &golden,
        )?;
        Ok(Some(Self {
            python: cache.python()?,
            directory,
            golden,
        }))
    }

    fn play_websocket(&self, programs: &Path) -> Result<String> {
        let server = programs.join("exec-server").display().to_string();
        let listen = format!("{server} --listen ws://127.0.0.1:{{port}}");
        self.play("websocket", &["--spawn", &listen])
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.python);
        command
            .arg(self.directory.join("rpcplay"))
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        command
    }

    fn play(&self, name: &str, target: &[&str]) -> Result<String> {
        let output = self
            .command()
            .args(target)
            .arg("--golden")
            .arg(&self.golden)
            .arg(self.directory.join("scenarios"))
            .output()
            .context("failed to start the conformance player")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let results = Results::parse(&text);
        if let Err(error) = results.check() {
            eprintln!("{text}");
            return Err(error.context(format!("over {name}")));
        }
        Ok(format!(
            "{} passed over {name}, {} skipped",
            results.passed.len(),
            results.skipped.len()
        ))
    }

    /// The whole encrypted path: a local websocket in front of the client library.
    fn play_through_relay(&self, programs: &Path) -> Result<String> {
        let home = self.golden.with_file_name("conformance-home");
        recreate(&home)?;
        let home = home.display().to_string();
        let variables = self.server_variables(&home)?;
        runtime()?.block_on(async {
            let mut system = System::start(programs, &variables).await?;
            let (mut proxy, url) = system.proxy(programs).await?;
            let player = self.clone();
            let play = move || player.play("the relay", &["--ws", &url, "--home", &home]);
            let played = tokio::task::spawn_blocking(play).await?;
            stop(&mut proxy).await;
            system.stop().await;
            played
        })
    }

    /// What the player expects a server that it does not start itself to inherit.
    fn server_variables(&self, home: &str) -> Result<Vec<(OsString, OsString)>> {
        let printed = self
            .command()
            .args(["--print-env", "--home", home])
            .output()
            .context("failed to start the conformance player")?;
        // The player prints assignments for a shell, so a shell has to read them.
        let script = format!(
            "export {} && exec env -0",
            String::from_utf8(printed.stdout)?.trim()
        );
        let read = Command::new("sh")
            .args(["-c", &script])
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .output()
            .context("failed to start a shell")?;
        if !(printed.status.success() && read.status.success()) {
            bail!("the conformance player does not say what a server has to inherit");
        }
        let variables = read.stdout.split(|byte| *byte == 0).filter_map(|entry| {
            let at = entry.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (entry.get(..at)?, entry.get(at + 1..)?);
            let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
            Some((text(name), text(value)))
        });
        Ok(variables.filter(|(name, _)| name != "PATH").collect())
    }
}

/// Puts the expected transcripts together: the reference's, ours in their place where there are some.
fn merge(reference: &Path, own: &Path, merged: &Path) -> Result<()> {
    let names = |directory: &Path| -> Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(directory)
            .with_context(|| format!("failed to list {}", directory.display()))?;
        let paths = entries.map(|entry| Ok(entry?.path()));
        let paths: Vec<PathBuf> = paths.collect::<Result<_>>()?;
        Ok(paths
            .into_iter()
            .filter(|path| path.extension() == Some(OsStr::new("json")))
            .collect())
    };
    for path in names(reference)? {
        std::fs::copy(&path, merged.join(path.file_name().unwrap_or_default()))?;
    }
    let list = std::fs::read_to_string(own.join("README.md"))?;
    for path in names(&own.join("golden"))? {
        let name = path.file_name().unwrap_or_default();
        let (replaced, name) = (merged.join(name), name.display());
        if !list.contains(&format!("`{name}`")) {
            bail!("tests/conformance/README.md does not say why there is a golden {name}");
        }
        let replacement = std::fs::read(&path)?;
        if std::fs::read(&replaced).is_ok_and(|before| before == replacement) {
            bail!("remove tests/conformance/golden/{name}: it is the reference's");
        }
        std::fs::write(replaced, replacement)?;
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Results {
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
    skipped: BTreeSet<String>,
    /// Whether the player got to its closing line.
    complete: bool,
}

impl Results {
    fn parse(text: &str) -> Self {
        let mut results = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("ok"), Some(name)) => drop(results.passed.insert(name.to_owned())),
                (Some("DIFF"), Some(name)) => drop(results.failed.insert(name.to_owned())),
                (Some("skip"), Some(name)) => drop(results.skipped.insert(name.to_owned())),
                (Some(_), Some("passed,")) => results.complete = true,
                _ => {}
            }
        }
        results
    }

    fn check(&self) -> Result<()> {
        if !self.complete || self.passed.is_empty() {
            bail!("the conformance player did not finish");
        }
        if !self.failed.is_empty() {
            let failed: Vec<_> = self.failed.iter().cloned().collect();
            bail!("conformance scenarios fail: {}", failed.join(", "));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "ok a-one\nDIFF b-two\n  - want\n  + got\nskip c-three (slow)\n\n1 skipped\n1 passed, 1 failed\n";

    #[test]
    fn failure_is_an_error() {
        let error = Results::parse(OUTPUT).check().unwrap_err();
        assert_eq!(error.to_string(), "conformance scenarios fail: b-two");
        let passed = OUTPUT.replace("DIFF", "ok");
        assert!(Results::parse(&passed).check().is_ok());
    }

    #[test]
    fn output_without_a_closing_line_is_an_error() {
        assert!(Results::parse("ok a-one\n").check().is_err());
    }

    /// A directory with the reference's golden `a` and ours of the same name, and the list of ours.
    fn merged(name: &str, own: &str, list: &str) -> Result<String> {
        let root = std::env::temp_dir().join(format!("goldens-{}-{name}", std::process::id()));
        let (reference, merged) = (root.join("reference"), root.join("merged"));
        for directory in [&reference, &merged, &root.join("golden")] {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(reference.join("a.json"), "1")?;
        std::fs::write(reference.join("b.json"), "2")?;
        std::fs::write(root.join("golden/a.json"), own)?;
        std::fs::write(root.join("README.md"), list)?;
        let result = merge(&reference, &root, &merged);
        let text = ["a.json", "b.json"].map(|name| std::fs::read_to_string(merged.join(name)));
        std::fs::remove_dir_all(&root)?;
        result?;
        let [a, b] = text;
        Ok(a? + &b?)
    }

    #[test]
    fn our_golden_takes_the_place_of_the_reference() {
        assert_eq!(merged("taken", "3", "| `a.json` | 7 |").unwrap(), "32");
    }

    #[test]
    fn golden_without_a_reason_or_a_difference_is_an_error() {
        assert!(merged("reason", "3", "").is_err());
        assert!(merged("difference", "1", "| `a.json` | 7 |").is_err());
    }
}
