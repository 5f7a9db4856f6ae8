//! `environmentConfig/read`: selected keys of the configuration files on this host.
//!
//! A peer that configures itself asks for the keys it knows; nothing else of the files leaves the host.
//! [`layers`] finds and reads the files, [`select`] picks keys out of one of them. This module does not
//! interpret any key but those that decide which files count: `projects` and `project_root_markers`.

mod layers;
mod select;

use std::path::{Path, PathBuf};

use exec_proto::PathUri;
use exec_proto::config as wire;
use exec_proto::rpc::RpcError;

use crate::environment::ExecutorEnvironment;
use crate::fs::{BlockingPool, FsError, native};
use layers::{ConfigError, Places};

/// Answers `environmentConfig/read`.
pub(crate) async fn read(
    pool: &BlockingPool,
    environment: &ExecutorEnvironment,
    params: wire::ConfigReadParams,
) -> Result<wire::ConfigReadResult, RpcError> {
    let cwd = check(&params).map_err(RpcError::invalid_params)?;
    let failed = |err: &dyn std::fmt::Display| {
        RpcError::internal(format!("failed to load executor-local config: {err}"))
    };
    let codex_home = environment
        .codex_home()
        .ok_or_else(|| failed(&ConfigError::NoHome))?;
    let base = uri(&codex_home).ok_or_else(|| failed(&ConfigError::NoHome))?;
    let places = Places {
        codex_home,
        system: PathBuf::from(layers::SYSTEM_DIRECTORY),
    };
    let load = pool.run(move |_| {
        let load = || -> Result<_, ConfigError> {
            let config = layers::config(&places, &cwd, &params.config_paths)?;
            let requirements = layers::requirements(&places, &params.requirements_paths)?;
            Ok((config, requirements))
        };
        Ok(load())
    });
    let (config, requirements) = load.await?.map_err(|err| failed(&err))?;
    let hostname = rustix::system::uname()
        .nodename()
        .to_str()
        .map(str::to_owned)
        .ok();
    Ok(wire::ConfigReadResult {
        user_home_dir: environment.home_dir().and_then(uri),
        codex_home_dir: base,
        hostname: hostname.filter(|name| !name.is_empty()),
        config,
        requirements,
    })
}

/// Refuses parameters that select nothing, and gives the native working directory.
fn check(params: &wire::ConfigReadParams) -> Result<PathBuf, String> {
    let mut paths = params
        .config_paths
        .iter()
        .chain(&params.requirements_paths)
        .peekable();
    if paths.peek().is_none() {
        return Err("at least one config or requirements path is required".to_owned());
    }
    if paths.any(Vec::is_empty) {
        return Err("TOML paths must contain at least one key segment".to_owned());
    }
    native(&params.cwd).map_err(|err: FsError| err.to_string())
}

fn uri(path: &Path) -> Option<PathUri> {
    PathUri::from_native(path)
}

#[cfg(test)]
mod tests;
