//! Which configuration files there are, and in which order they apply.
//!
//! From lowest to highest precedence: the system's file, the user's file, the `.codex/config.toml` of each
//! directory from the project's root down to the working directory, and the system's managed file. A
//! project's file counts only if the user has declared its directory, or the project's root, trusted.

use std::path::{Path, PathBuf};

use exec_proto::PathUri;
use exec_proto::config::{Layer, LayerStack};
use toml_edit::{DocumentMut, Item};

use super::select::select;
use crate::fs::{FsError, Links, open_to_read, read_to_end};

/// Directories that hold configuration files.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The user's.
    pub(crate) codex_home: PathBuf,
    /// The system's.
    pub(crate) system: PathBuf,
}

/// A configuration file that exists and cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The user has no home directory and no other place is configured.
    #[error("no home directory")]
    NoHome,
    /// It cannot be read.
    #[error("{}: {source}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: FsError,
    },
    /// It is too large.
    #[error("{}: file exceeds the {CONFIG_BYTES}-byte limit", .0.display())]
    TooLarge(PathBuf),
    /// It is not TOML.
    #[error("{}:{line}:{column}: {detail}", file.display())]
    Parse {
        /// Which.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What the parser says.
        detail: String,
    },
}

/// The layers of `config.toml` files for a project at `cwd`, which need not exist.
pub(crate) fn config(
    places: &Places,
    cwd: &Path,
    keys: &[Vec<String>],
) -> Result<LayerStack, ConfigError> {
    let mut stack = LayerStack::default();
    let add = |stack: &mut LayerStack, label: &str, file: &Path, document: &DocumentMut| {
        let source = format!("{label} ({})", file.display());
        stack.layers.extend(layer(source, file, document, keys));
    };
    let system_file = places.system.join("config.toml");
    let system = load(&system_file)?;
    if let Some(system) = &system {
        add(&mut stack, "system", &system_file, system);
    }
    // What an administrator has set goes below the cloud's layers, what the user has set above.
    stack.cloud_insertion_index = stack.layers.len();
    let user_file = places.codex_home.join("config.toml");
    let user = load(&user_file)?;
    if let Some(user) = &user {
        add(&mut stack, "user", &user_file, user);
        for directory in trusted_directories(user, system.as_ref(), cwd) {
            let folder = directory.join(".codex");
            if folder == places.codex_home {
                continue;
            }
            let file = folder.join("config.toml");
            if let Some(mut project) = load(&file)? {
                for key in NOT_FOR_PROJECTS {
                    project.remove(key);
                }
                add(&mut stack, "project", &file, &project);
            }
        }
    }
    let managed_file = places.system.join("managed_config.toml");
    if let Some(managed) = load(&managed_file)? {
        add(
            &mut stack,
            "legacy managed_config.toml",
            &managed_file,
            &managed,
        );
    }
    Ok(stack)
}

/// The layers of `requirements.toml` files. The cloud's come above all of this host.
pub(crate) fn requirements(
    places: &Places,
    keys: &[Vec<String>],
) -> Result<LayerStack, ConfigError> {
    let mut stack = LayerStack::default();
    let file = places.system.join("requirements.toml");
    if let Some(document) = load(&file)? {
        stack
            .layers
            .extend(layer(file.display().to_string(), &file, &document, keys));
    }
    stack.cloud_insertion_index = stack.layers.len();
    Ok(stack)
}

fn layer(
    source: String,
    file: &Path,
    document: &DocumentMut,
    keys: &[Vec<String>],
) -> Option<Layer> {
    let toml = select(document, keys)?;
    let base_dir = PathUri::from_native(file.parent()?)?;
    Some(Layer {
        source,
        base_dir,
        toml,
    })
}

/// The directories from the project's root to `cwd` whose configuration the user trusts.
fn trusted_directories(
    user: &DocumentMut,
    system: Option<&DocumentMut>,
    cwd: &Path,
) -> Vec<PathBuf> {
    let markers = user
        .get(ROOT_MARKERS)
        .or_else(|| system.and_then(|system| system.get(ROOT_MARKERS)))
        .and_then(Item::as_array)
        .map_or_else(
            || vec![".git".to_owned()],
            |markers| {
                markers
                    .iter()
                    .filter_map(|name| name.as_str().map(str::to_owned))
                    .collect()
            },
        );
    let is_root = |directory: &&Path| markers.iter().any(|marker| directory.join(marker).exists());
    let root = cwd.ancestors().find(is_root).unwrap_or(cwd);
    let mut directories: Vec<_> = cwd
        .ancestors()
        .take_while(|directory| directory.starts_with(root))
        .collect();
    directories.reverse();
    let of_root = trust(user, root);
    directories
        .into_iter()
        .filter(|directory| trust(user, directory).or(of_root) == Some(true))
        .map(Path::to_path_buf)
        .collect()
}

/// What the user has said about a directory, by its path or by its path without links.
fn trust(user: &DocumentMut, directory: &Path) -> Option<bool> {
    let projects = user.get("projects")?.as_table_like()?;
    let level = |path: &Path| -> Option<bool> {
        let level = projects
            .get(path.to_str()?)?
            .as_table_like()?
            .get("trust_level")?;
        Some(level.as_str() == Some("trusted"))
    };
    level(directory).or_else(|| level(&directory.canonicalize().ok()?))
}

/// Reads and parses a file. `None` if it does not exist.
fn load(file: &Path) -> Result<Option<DocumentMut>, ConfigError> {
    let failed = |source| ConfigError::Read {
        file: file.to_path_buf(),
        source,
    };
    let (opened, stat) = match open_to_read(file, Links::Follow) {
        Ok(opened) => opened,
        Err(err) if err.is_absent() => return Ok(None),
        Err(err) => return Err(failed(err)),
    };
    let bytes = match read_to_end(&opened, &stat, CONFIG_BYTES) {
        Err(FsError::TooLarge) => return Err(ConfigError::TooLarge(file.to_path_buf())),
        read => read.map_err(failed)?,
    };
    let place = |offset: usize, detail: String| {
        let before = String::from_utf8_lossy(bytes.get(..offset).unwrap_or(&bytes)).into_owned();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before
            .get(line_start..)
            .map_or(0, |line| line.chars().count())
            + 1;
        ConfigError::Parse {
            file: file.to_path_buf(),
            line,
            column,
            detail,
        }
    };
    let text = std::str::from_utf8(&bytes)
        .map_err(|err| place(err.valid_up_to(), "not UTF-8".to_owned()))?;
    let document = text.parse::<DocumentMut>().map_err(|err| {
        let offset = err.span().map_or(0, |span| span.start);
        place(offset, err.message().trim_end().to_owned())
    })?;
    Ok(Some(document))
}

/// Where the system's files are.
pub(crate) const SYSTEM_DIRECTORY: &str = "/etc/codex";

/// Largest configuration file that is read.
const CONFIG_BYTES: u64 = 4 * 1024 * 1024;

/// The key that tells by which names a project's root is recognized.
const ROOT_MARKERS: &str = "project_root_markers";

/// Keys that a project may not set for whoever works in it: where requests and telemetry go, and what is
/// run as a side effect.
const NOT_FOR_PROJECTS: [&str; 10] = [
    "openai_base_url",
    "chatgpt_base_url",
    "apps_mcp_product_sku",
    "model_provider",
    "model_providers",
    "notify",
    "profile",
    "profiles",
    "experimental_realtime_ws_base_url",
    "otel",
];
