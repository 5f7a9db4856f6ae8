//! `environmentConfig/read`: selected parts of the configuration files on the executor.

use serde::{Deserialize, Serialize};

use crate::PathUri;

/// Request: read the layers.
pub const READ: &str = "environmentConfig/read";

/// Parameters of `environmentConfig/read`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigReadParams {
    /// Where the project is; need not exist.
    pub cwd: PathUri,
    /// Key paths to select from configuration files.
    pub config_paths: Vec<Vec<String>>,
    /// Key paths to select from requirements files.
    pub requirements_paths: Vec<Vec<String>>,
}

/// Result of `environmentConfig/read`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigReadResult {
    /// The user's home directory.
    pub user_home_dir: Option<PathUri>,
    /// `$CODEX_HOME`, or its default below the home directory.
    pub codex_home_dir: PathUri,
    /// The host's name.
    pub hostname: Option<String>,
    /// Layers of configuration files.
    pub config: LayerStack,
    /// Layers of requirements files.
    pub requirements: LayerStack,
}

/// Layers from lowest to highest precedence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerStack {
    /// The layers that have a selected key.
    pub layers: Vec<Layer>,
    /// Where layers from the cloud belong.
    pub cloud_insertion_index: usize,
}

/// The selected keys of one file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// Text for people, such as `user (<file>)`.
    pub source: String,
    /// Base of relative paths in the file.
    pub base_dir: PathUri,
    /// The selected keys as TOML.
    pub toml: String,
}
redacted_debug!(Layer { source, base_dir });
