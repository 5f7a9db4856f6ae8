//! `execctl rm`.

use harness::{Missing, Recursion};

use crate::{
    args::{Global, Rm},
    exit::Failure,
    session,
    target::{Target, common_environment},
};

/// Runs the subcommand.
pub(crate) async fn rm(global: &Global, args: Rm) -> Result<u8, Failure> {
    let operands: Vec<_> = args
        .paths
        .paths
        .iter()
        .map(|path| Target::remote(path))
        .collect();
    let environment = common_environment(operands.iter().map(|(environment, _)| environment))?;
    session::within(global, environment.as_deref(), async |client| {
        let fs = client.filesystem();
        let contents = if args.recursive {
            Recursion::Recursive
        } else {
            Recursion::Single
        };
        let missing = if args.force {
            Missing::Succeeds
        } else {
            Missing::Fails
        };
        for (_, path) in &operands {
            let failed = |error| Failure::from(error).context(path);
            let uri = client.resolve(path)?;
            if uri.as_str().trim_end_matches('/') == "file:" {
                return Err(Failure::usage("refusing to remove the root directory"));
            }
            if !args.recursive {
                // The executor removes empty directories; `rm` does not.
                match fs.metadata(&uri).await {
                    Ok(metadata) if metadata.is_directory && !metadata.is_symlink => {
                        return Err(Failure::other(format!(
                            "{path}: is a directory: use --recursive"
                        )));
                    }
                    // A link to nothing looks absent, but can be removed.
                    Ok(_) | Err(_) => {}
                }
            }
            fs.remove(&uri, contents, missing).await.map_err(failed)?;
        }
        Ok(0)
    })
    .await
}
