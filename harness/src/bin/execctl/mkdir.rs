//! `execctl mkdir`.

use harness::Recursion;

use crate::{
    args::{Global, Mkdir},
    exit::Failure,
    session,
    target::{Target, common_environment},
};

/// Runs the subcommand.
pub(crate) async fn mkdir(global: &Global, args: Mkdir) -> Result<u8, Failure> {
    let operands: Vec<_> = args
        .paths
        .paths
        .iter()
        .map(|path| Target::remote(path))
        .collect();
    let environment = common_environment(operands.iter().map(|(environment, _)| environment))?;
    session::within(global, environment.as_deref(), async |client| {
        let parents = if args.parents {
            Recursion::Recursive
        } else {
            Recursion::Single
        };
        for (_, path) in &operands {
            let uri = client.resolve(path)?;
            let made = client.filesystem().create_directory(&uri, parents).await;
            made.map_err(|error| Failure::from(error).context(path))?;
        }
        Ok(0)
    })
    .await
}
