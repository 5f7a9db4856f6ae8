//! `execctl cat`.

use harness::Client;

use crate::{
    args::{Global, Paths},
    exit::Failure,
    session,
    sink::{Out, Sink},
    target::{Target, common_environment},
};

/// Runs the subcommand.
pub(crate) async fn cat(global: &Global, args: Paths) -> Result<u8, Failure> {
    let operands: Vec<_> = args.paths.iter().map(|path| Target::remote(path)).collect();
    let environment = common_environment(operands.iter().map(|(environment, _)| environment))?;
    session::within(global, environment.as_deref(), async |client| {
        Sink::with(async |sink| {
            for (_, path) in &operands {
                copy(client, path, sink).await?;
            }
            Ok(0)
        })
        .await
    })
    .await
}

async fn copy(client: &Client, path: &str, sink: &Sink) -> Result<(), Failure> {
    let failed = |error| Failure::from(error).context(path);
    let path = client.resolve(path)?;
    let mut reader = client.filesystem().open(&path).await.map_err(failed)?;
    while let Some(block) = reader.next_block().await.map_err(failed)? {
        sink.write(Out::Results, block).await;
    }
    Ok(())
}
