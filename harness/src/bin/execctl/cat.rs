//! `execctl cat`.

use tokio::io::AsyncWriteExt;

use crate::{
    args::{Global, Paths},
    exit::Failure,
    session,
    target::{Target, common_environment},
};

/// Runs the subcommand.
pub(crate) async fn cat(global: &Global, args: Paths) -> Result<u8, Failure> {
    let operands: Vec<_> = args.paths.iter().map(|path| Target::remote(path)).collect();
    let environment = common_environment(operands.iter().map(|(environment, _)| environment))?;
    session::within(global, environment.as_deref(), async |client| {
        let mut stdout = tokio::io::stdout();
        for (_, path) in &operands {
            let failed = |error| Failure::from(error).context(path);
            let mut reader = client
                .filesystem()
                .open(&client.resolve(path)?)
                .await
                .map_err(failed)?;
            while let Some(block) = reader.next_block().await.map_err(failed)? {
                let written = async {
                    stdout.write_all(&block).await?;
                    stdout.flush().await
                };
                written.await.map_err(|error| Failure::write(&error))?;
            }
        }
        Ok(0)
    })
    .await
}
