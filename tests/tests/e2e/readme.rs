//! Every command of our programs in `README.md`, run as it stands there, in its order.
//!
//! Different are only the directories, that ports are free ones, and that another host is this one.
//! What starts with cargo is run by `cargo run -p xtask -- test` itself.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use testkit::{
    model::{Call, Script, ScriptedModel},
    processes::{Binary, Child, CodexClient, DEADLINE, Finished, Launch, Route, locate},
    workspace::Workspace,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// The commands in the blocks of shell, without comments.
fn commands() -> Result<Vec<String>> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(readme)?;
    let lines = e2e_tests::blocks(&text, "sh")
        .flat_map(str::lines)
        .map(|line| line.split(" #").next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

/// The terminals of a reader, who has one for what stays and one for all that ends.
struct Reader {
    workspace: Workspace,
    programs: PathBuf,
    /// What was exported or assigned so far.
    variables: String,
    /// Where the registry is instead of where the document says.
    registry: Option<String>,
    staying: Vec<Child>,
}

impl Reader {
    fn shell(&self, line: &str) -> Result<Launch> {
        let path = std::env::var("PATH")?;
        let launch = Launch::program("sh", Path::new("/bin/sh"))?;
        Ok(launch
            .env("PATH", format!("{}:{path}", self.programs.display()))
            .current_dir(self.workspace.path())
            .args(["-c", &format!("{}{line}", self.variables)]))
    }

    /// Runs a line to its end.
    async fn run(&self, line: &str, input: &[u8]) -> Result<Finished> {
        self.shell(line)?.finish(input, DEADLINE).await
    }

    /// Runs a line that has to succeed and returns what it prints.
    async fn output(&self, line: &str) -> Result<String> {
        let finished = self.run(line, b"").await?;
        ensure!(finished.status.success(), "{}", finished.stderr);
        Ok(String::from_utf8(finished.stdout)?)
    }

    /// Starts a line that stays.
    fn start(&self, line: &str) -> Result<Child> {
        // No shell stays beside it: signals have to reach the program.
        self.shell(&format!("exec env {line}"))?.spawn()
    }

    /// Does what one line says, and checks that it did what it says.
    async fn follow(&mut self, line: &str) -> Result<()> {
        let line = match &self.registry {
            Some(registry) => line.replace("http://127.0.0.1:7700", registry),
            None => line.to_owned(),
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["cargo", ..] => {}
            // Here they are somewhere else.
            ["export", r#"PATH="$PWD/target/release:$PATH""#] => {}
            ["export", ..] => {
                self.variables.push_str(&line);
                self.variables.push('\n');
            }
            ["exec-cloud", "serve", ..] => {
                let cloud = self.start(&line.replace("127.0.0.1:7700", "127.0.0.1:0"))?;
                let listening = cloud.stdout().wait_for("listening on ", DEADLINE).await?;
                let url = listening.split_whitespace().next_back();
                self.registry = Some(url.context("no address")?.to_owned());
                self.staying.push(cloud);
            }
            [_, "exec-server", ..] => {
                let executor = self.start(&line)?;
                let online = executor.stderr().wait_for("online", DEADLINE).await;
                online.with_context(|| executor.stderr().text())?;
                self.staying.push(executor);
            }
            ["execctl", "forward", forward] => {
                self.forward(&line, forward).await?;
            }
            ["execctl", "shell"] => {
                let shell = self.run(&line, b"echo $((6*7)).\nexit 5\n").await?;
                assert_eq!(shell.code(), Some(5), "{}", shell.stderr);
                assert!(String::from_utf8_lossy(&shell.stdout).contains("42."));
            }
            ["execctl", "cp", _, to] => {
                assert_eq!(self.output(&line).await?, "");
                let copy = std::fs::read(self.workspace.path().join(to))?;
                assert_eq!(copy, std::fs::read("/etc/os-release")?);
            }
            ["execctl", "attach", _] => assert_eq!(self.output(&line).await?, "done\n"),
            ["execctl", "run", ..] => {
                let host = self.output("hostname").await?;
                assert_eq!(self.output(&line).await?, format!("hello from {host}"));
            }
            ["codex"] => self.codex().await?,
            [first, ..] => {
                let (name, _) = first.split_once("=$(").context("nothing runs it")?;
                let print = format!("{line}\nprintf %s \"${name}\"");
                let value = self.output(&print).await?;
                ensure!(!value.is_empty() && !value.contains('\''), "{value}");
                self.variables.push_str(&format!("{name}='{value}'\n"));
            }
            [] => bail!("an empty line"),
        }
        Ok(())
    }

    /// The database of the document is a server of ours.
    async fn forward(&self, line: &str, forward: &str) -> Result<()> {
        let database = TcpListener::bind("127.0.0.1:0").await?;
        let here = format!("0:{}", database.local_addr()?);
        let child = self.start(&line.replace(forward, &here))?;
        let said = child.stdout().wait_for(" -> ", DEADLINE).await;
        let said = said.with_context(|| child.stderr().text())?;
        let (address, _) = said.split_once(" -> ").context("no address")?;
        let exchange = async {
            let mut near = TcpStream::connect(address.trim()).await?;
            let (mut far, _) = database.accept().await?;
            near.write_all(b"select").await?;
            near.shutdown().await?;
            let mut asked = Vec::new();
            far.read_to_end(&mut asked).await?;
            assert_eq!(asked, b"select");
            Ok(())
        };
        timeout(DEADLINE, exchange).await.context("too long")?
    }

    /// One turn with the three variables that were exported.
    async fn codex(&self) -> Result<()> {
        let prefix = "CODEX_EXEC_SERVER_NOISE_";
        let value = async |name: &str| self.output(&format!("printenv {prefix}{name}")).await;
        assert_eq!(self.variables.matches(prefix).count(), 3);
        let route = Route::Relay {
            registry: value("REGISTRY_URL").await?.trim().to_owned(),
            environment: value("ENVIRONMENT_ID").await?.trim().to_owned(),
            token: value("AUTH_TOKEN").await?.trim().to_owned(),
        };
        let script = Script::new().call(Call::exec("there", "touch was-there"));
        let model = ScriptedModel::start(script).await?;
        let turn = CodexClient::turn(&model, &self.workspace, &route).await?;
        model.finished().with_context(|| turn.finished.stderr)?;
        ensure!(self.workspace.path().join("was-there").exists());
        Ok(())
    }
}

#[tokio::test]
async fn commands_of_the_readme_do_what_it_says() -> Result<()> {
    let cloud = locate(Binary::ExecCloud)?;
    let mut reader = Reader {
        workspace: Workspace::new()?,
        programs: cloud.parent().context("no directory")?.to_owned(),
        variables: String::new(),
        registry: None,
        staying: Vec::new(),
    };
    let commands = commands()?;
    ensure!(commands.len() > 12, "only {commands:?} were found");
    for line in commands {
        reader.follow(&line).await.context(line)?;
    }
    for child in &mut reader.staying {
        child.still_runs()?;
        child.never_panicked()?;
    }
    Ok(())
}
