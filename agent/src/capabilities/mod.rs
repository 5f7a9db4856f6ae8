//! Discovery of plugins and skills: `capabilityRoots/discoverV1` below roots that the peer names,
//! `capabilities/discoverV2` where this host keeps them.
//!
//! - [`root`] searches one directory and collects files as they are. V1 is that and nothing more.
//! - [`installed`] knows the places of V2 and describes what it finds there.
//! - [`skill`] and [`yaml`] read the descriptions that skills give of themselves.
//!
//! Nothing found here is executed or trusted: contents are passed on or read for names and descriptions.
//! What cannot be read makes a warning, never a failed request.

mod installed;
mod limits;
mod root;
mod skill;
mod yaml;

use std::path::PathBuf;

use exec_proto::PathUri;
use exec_proto::capabilities as wire;
use exec_proto::rpc::RpcError;
use exec_proto::sandbox::SandboxContext;
use futures_util::StreamExt as _;

use crate::environment::ExecutorEnvironment;
use crate::fs::{BlockingPool, FsError, native};
use installed::Places;
use root::{Contents, discover};

/// Answers `capabilityRoots/discoverV1`.
pub(crate) async fn discover_v1(
    pool: &BlockingPool,
    params: wire::DiscoverV1Params,
) -> Result<wire::DiscoverV1Result, RpcError> {
    if params.roots.len() > limits::ROOTS {
        let text = format!(
            "capability root discovery accepts at most {} roots",
            limits::ROOTS
        );
        return Err(RpcError::invalid_request(text));
    }
    // In the order of the request, which also decides what is left out of an answer that gets too large.
    let mut found = futures_util::stream::iter(params.roots)
        .map(|root| async {
            let path = admit(&root);
            let uri = root.path.clone();
            let contents = match path {
                Ok(path) => {
                    pool.run(move |cancelled| discover(&path, &uri, cancelled))
                        .await
                }
                Err(err) => Err(err),
            };
            (root, contents)
        })
        .buffered(limits::ROOTS_AT_ONCE);
    let mut roots = Vec::new();
    let mut bytes = 0;
    while let Some((root, contents)) = found.next().await {
        let contents = match contents {
            Ok(contents) if bytes + contents.json_bytes() > limits::ANSWER_BYTES => Err(format!(
                "capability discovery exceeds {} bytes",
                limits::ANSWER_BYTES
            )),
            Ok(contents) => {
                bytes += contents.json_bytes();
                Ok(contents)
            }
            Err(err) => Err(root_error(&root.path, err)),
        };
        roots.push(root_result(root, contents));
    }
    Ok(wire::DiscoverV1Result { roots })
}

/// Answers `capabilities/discoverV2`.
///
/// The working directory is only checked: projects' own skills are not part of the answer.
pub(crate) async fn discover_v2(
    pool: &BlockingPool,
    environment: &ExecutorEnvironment,
    params: wire::DiscoverV2Params,
) -> Result<wire::DiscoverV2Result, RpcError> {
    if let Some(sandbox) = &params.sandbox {
        if sandbox.cwd.is_none() {
            return Err(RpcError::invalid_params("missing field `cwd`"));
        }
        if sandbox.restricts_files() {
            return Err(FsError::Sandbox.into());
        }
    }
    let places = Places {
        codex_home: environment.codex_home(),
        home: environment.home_dir().map(std::path::Path::to_path_buf),
    };
    Ok(pool
        .run(move |cancelled| installed::describe(&places, cancelled))
        .await?)
}

fn admit(root: &wire::RootParams) -> Result<PathBuf, FsError> {
    if root
        .sandbox
        .as_ref()
        .is_some_and(SandboxContext::restricts_files)
    {
        return Err(FsError::Sandbox);
    }
    native(&root.path)
}

fn root_error(path: &PathUri, err: FsError) -> String {
    match err {
        FsError::NotADirectory => format!("capability root {path} is not a directory"),
        err => format!("failed to inspect capability root {path}: {err}"),
    }
}

fn root_result(root: wire::RootParams, contents: Result<Contents, String>) -> wire::RootResult {
    let (contents, error) = match contents {
        Ok(contents) => (contents, None),
        Err(error) => (Contents::default(), Some(error)),
    };
    wire::RootResult {
        id: root.id,
        path: root.path,
        plugin: contents.plugin.map(|plugin| plugin.files),
        skills: contents.skills,
        namespace_manifests: contents.namespaces,
        warnings: contents.warnings,
        error,
    }
}

#[cfg(test)]
mod tests;
