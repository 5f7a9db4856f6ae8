//! Commands and files in the documents: the programs know their options.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::processes::{Binary, DEADLINE, Launch};

use super::{list, python, repository};

/// The content of all blocks of `language` in the documents.
fn blocks(language: &str) -> Result<Vec<String>> {
    let mut files = vec![repository("README.md")];
    for entry in std::fs::read_dir(repository("docs"))? {
        files.push(entry?.path());
    }
    let mut blocks = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        blocks.extend(e2e_tests::blocks(&text, language).map(str::to_owned));
    }
    Ok(blocks)
}

/// Whether `program` knows its options; nothing is done with them.
async fn is_known(program: Binary, arguments: &[String]) -> Result<()> {
    // What follows one of these is for somebody else, or in its place.
    let ends = ["--", "explain"];
    let arguments = arguments
        .iter()
        .take_while(|argument| !ends.contains(&argument.as_str()));
    let launch = Launch::new(program)?.args(arguments).arg("--help");
    let finished = launch.finish(b"", DEADLINE).await?;
    ensure!(finished.status.success(), "{}", finished.stderr);
    Ok(())
}

fn program(name: &str) -> Option<Binary> {
    let ours = [Binary::ExecCloud, Binary::ExecServer, Binary::Execctl];
    ours.into_iter().find(|binary| binary.name() == name)
}

#[tokio::test]
async fn commands_have_options_that_exist() -> Result<()> {
    // Lines that go on, and `name=$(COMMAND)`, are put into the form of a plain command.
    let script = r#"
import json, re, shlex, sys
lines = sys.stdin.read().replace('\\\n', ' ').splitlines()
lines = [re.sub(r'^\w+="?\$\((.*?)\)"?', r'\1', line) for line in lines]
print(json.dumps([shlex.split(line, comments=True) for line in lines]))
"#;
    let mut checked = 0;
    for block in blocks("sh")? {
        let commands: Vec<Vec<String>> = serde_json::from_str(&python(&["-c", script], &block)?)?;
        for words in commands {
            let words: Vec<_> = words
                .into_iter()
                .skip_while(|word| word.contains('='))
                .collect();
            let Some((binary, arguments)) = words
                .split_first()
                .and_then(|(name, arguments)| Some((program(name)?, arguments)))
            else {
                continue;
            };
            is_known(binary, arguments)
                .await
                .with_context(|| words.join(" "))?;
            checked += 1;
        }
    }
    ensure!(checked > 12, "only {checked} commands were found");
    Ok(())
}

/// What is written in TOML is either the list of environments for the reference client, which starts our
/// program, or settings of the server.
#[tokio::test]
async fn files_start_programs_with_options_that_exist_or_hold_settings_that_do() -> Result<()> {
    let script = "import json, sys, tomllib; print(json.dumps(tomllib.loads(sys.stdin.read())))";
    let (mut programs, mut settings) = (0, 0);
    for block in blocks("toml")? {
        let file: Value = serde_json::from_str(&python(&["-c", script], &block)?)?;
        if file.get("environments").is_none() {
            has_settings_that_exist(&block).await?;
            settings += 1;
            continue;
        }
        let environments = list(&file["environments"]);
        ensure!(
            environments
                .iter()
                .any(|environment| environment["id"] == file["default"])
        );
        assert_eq!(file["include_local"], false);
        for environment in environments {
            let name = environment["program"].as_str().context("no program")?;
            let arguments = list(&environment["args"]).iter().filter_map(Value::as_str);
            let arguments: Vec<_> = arguments.map(str::to_owned).collect();
            is_known(program(name).context("whose program is it?")?, &arguments).await?;
            programs += 1;
        }
    }
    ensure!(programs > 0 && settings > 0, "{programs} and {settings}");
    Ok(())
}

/// Whether the server takes these settings.
async fn has_settings_that_exist(text: &str) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), text)?;
    let launch = Launch::new(Binary::ExecCloud)?
        .args(["serve", "--check-config", "--config"])
        .arg(file.path());
    let finished = launch.finish(b"", DEADLINE).await?;
    ensure!(finished.status.success(), "{}\n{text}", finished.stderr);
    Ok(())
}
