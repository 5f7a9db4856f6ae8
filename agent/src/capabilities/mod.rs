//! Discovery of plugins and skills: `capabilityRoots/discoverV1` below roots that the peer names,
//! `capabilities/discoverV2` where this host keeps them.
//!
//! - [`root`] searches one directory and collects files as they are. V1 is that and nothing more.
//! - [`installed`] knows the places of V2 and describes what it finds there.
//! - [`skill`] and [`yaml`] read the descriptions that skills give of themselves.
//!
//! A request with a sandbox is served by a process that is in it, which calls the same functions.
//! Nothing found here is executed or trusted: contents are passed on or read for names and descriptions.
//! What cannot be read makes a warning, never a failed request.

mod installed;
mod limits;
mod root;
mod skill;
mod yaml;

use exec_proto::PathUri;
use exec_proto::capabilities as wire;
use exec_proto::rpc::RpcError;
use futures_util::StreamExt as _;

use crate::environment::ExecutorEnvironment;
use crate::fs::{FsConnection, FsError, native};
pub(crate) use installed::Places;
use root::{Contents, discover};

/// Answers `capabilityRoots/discoverV1`.
pub(crate) async fn discover_v1(
    files: &FsConnection,
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
            let found = search(files, root.clone()).await;
            (root, found)
        })
        .buffered(limits::ROOTS_AT_ONCE);
    let mut roots = Vec::new();
    let mut bytes = 0;
    while let Some((root, found)) = found.next().await {
        let found = match found {
            Ok(found) if bytes + json_bytes(&found) > limits::ANSWER_BYTES => Err(format!(
                "capability discovery exceeds {} bytes",
                limits::ANSWER_BYTES
            )),
            Ok(found) => {
                bytes += json_bytes(&found);
                Ok(found)
            }
            Err(err) => Err(root_error(&root.path, err)),
        };
        roots.push(found.unwrap_or_else(|error| root_result(root, Err(error))));
    }
    Ok(wire::DiscoverV1Result { roots })
}

/// Answers `capabilities/discoverV2`.
///
/// The working directory is only checked: projects' own skills are not part of the answer.
pub(crate) async fn discover_v2(
    files: &FsConnection,
    environment: &ExecutorEnvironment,
    params: wire::DiscoverV2Params,
) -> Result<wire::DiscoverV2Result, RpcError> {
    let sandbox = params.sandbox.as_ref();
    if sandbox.is_some_and(|sandbox| sandbox.cwd.is_none()) {
        return Err(RpcError::invalid_params("missing field `cwd`"));
    }
    let places = Places {
        codex_home: environment.codex_home(),
        home: environment.home_dir().map(std::path::Path::to_path_buf),
    };
    // What the sandbox hides is not there, so it is no reason for a warning.
    match files.worker(params.sandbox).await? {
        Some(worker) => worker.call(wire::DISCOVER_V2, &places).await,
        None => describe(files, places).await,
    }
}

/// Describes what is in known places, without any sandbox but the process's own.
pub(crate) async fn describe(
    files: &FsConnection,
    places: Places,
) -> Result<wire::DiscoverV2Result, RpcError> {
    let describe = move |cancelled: &_| installed::describe(&places, cancelled);
    Ok(files.pool().run(describe).await?)
}

/// Searches one root, in its sandbox if it has one.
async fn search(
    files: &FsConnection,
    mut root: wire::RootParams,
) -> Result<wire::RootResult, FsError> {
    let worker = files.worker(root.sandbox.take()).await;
    if let Some(worker) = worker.map_err(FsError::Confined)? {
        let params = wire::DiscoverV1Params { roots: vec![root] };
        let found = worker.call(wire::DISCOVER_V1, &params).await;
        let found: wire::DiscoverV1Result = found.map_err(FsError::Confined)?;
        let result = found.roots.into_iter().next();
        return result.ok_or_else(|| FsError::Confined(RpcError::internal("no answer")));
    }
    let path = native(&root.path)?;
    let uri = root.path.clone();
    let discover = move |cancelled: &_| discover(&path, &uri, cancelled);
    let contents = files.pool().run(discover).await?;
    Ok(root_result(root, Ok(contents)))
}

/// What the contents of the files take in the answer.
fn json_bytes(result: &wire::RootResult) -> usize {
    root::json_bytes(
        result.plugin.as_ref(),
        &result.skills,
        &result.namespace_manifests,
    )
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
