//! `execctl stat`.

use serde_json::json;

use crate::{
    args::{Global, Paths},
    exit::Failure,
    output::{Printer, time},
    session,
    target::{Target, common_environment},
};

/// Runs the subcommand.
pub(crate) async fn stat(global: &Global, args: Paths, printer: Printer) -> Result<u8, Failure> {
    let operands: Vec<_> = args.paths.iter().map(|path| Target::remote(path)).collect();
    let environment = common_environment(operands.iter().map(|(environment, _)| environment))?;
    session::within(global, environment.as_deref(), async |client| {
        for (_, path) in &operands {
            let uri = client.resolve(path)?;
            let metadata = client.filesystem().metadata(&uri).await;
            let metadata = metadata.map_err(|error| Failure::from(error).context(path))?;
            let kind = match (metadata.is_directory, metadata.is_file) {
                (true, _) => "directory",
                (false, true) => "file",
                (false, false) => "other",
            };
            let link = if metadata.is_symlink {
                " (through a symbolic link)"
            } else {
                ""
            };
            let text = format!(
                "{path}: {kind}{link}, {} bytes, changed {} UTC",
                metadata.size,
                time(metadata.modified_at_ms)
            );
            let object = json!({
                "type": "stat", "path": path, "uri": uri.as_str(), "kind": kind,
                "is_symlink": metadata.is_symlink, "size": metadata.size,
                "created_at_ms": metadata.created_at_ms, "modified_at_ms": metadata.modified_at_ms,
            });
            printer.result(&object, &text)?;
        }
        Ok(0)
    })
    .await
}
