//! Sorts numbers on a remote executor.

use std::{env::var, io::Write as _};

use harness::{Client, Command, ConnectOptions, ProcessEvent, Recursion, Stdin};

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let (registry, environment) = (var("EXECCTL_REGISTRY")?, var("EXECCTL_ENVIRONMENT")?);
    let options = ConnectOptions::with_token(&registry, &environment, &var("EXECCTL_TOKEN")?)?;
    let client = Client::connect(options).await?;
    let outcome = sort(&client).await;
    client.close_session().await?; // Ends what still runs there.
    outcome
}

async fn sort(client: &Client) -> Outcome {
    let at = |name: &str| client.resolve(&format!("orchestrator/{name}"));
    let fs = client.filesystem();
    fs.create_directory(&at("")?, Recursion::Recursive).await?;
    fs.write(&at("three")?, b"3\n").await?;

    let script = "sort -n - three > sorted; wc -l < sorted; exit 7";
    let command = Command::new(["sh", "-c", script]).cwd(at("")?);
    let mut process = client.start(command.stdin(Stdin::Piped)).await?;
    process.control().write("10\n2\n").await?;
    process.control().close_stdin().await?;
    let (mut stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
    while let Some(event) = process.next_event().await {
        match event? {
            ProcessEvent::Output { chunk, .. } => stdout.write_all(&chunk)?,
            ProcessEvent::Exited(status) => writeln!(stderr, "exit code {}", status.code)?,
            _ => {}
        }
    }
    Ok(stdout.write_all(&fs.read(&at("sorted")?).await?)?)
}
