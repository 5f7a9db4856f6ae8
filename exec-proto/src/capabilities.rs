//! Discovery of plugins and skills: below given roots (V1), or where the executor keeps them (V2).

use serde::{Deserialize, Serialize};

use crate::PathUri;
use crate::sandbox::SandboxContext;

/// Request: plugin and skill files below given roots.
pub const DISCOVER_V1: &str = "capabilityRoots/discoverV1";
/// Request: plugins and skills installed on the executor.
pub const DISCOVER_V2: &str = "capabilities/discoverV2";

/// Parameters of `capabilityRoots/discoverV1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoverV1Params {
    /// At most 128.
    pub roots: Vec<RootParams>,
}

/// A root to search.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootParams {
    /// Echoed.
    pub id: String,
    /// Where to search.
    pub path: PathUri,
    /// Restrictions for this root.
    #[serde(default)]
    pub sandbox: Option<SandboxContext>,
}

/// Result of `capabilityRoots/discoverV1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoverV1Result {
    /// In the order of the request.
    pub roots: Vec<RootResult>,
}

/// What one root holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RootResult {
    /// Echoed.
    pub id: String,
    /// Echoed.
    pub path: PathUri,
    /// The plugin that the root is.
    pub plugin: Option<PluginFiles>,
    /// Sorted by path.
    pub skills: Vec<SkillFiles>,
    /// Manifests that name the skills below them.
    pub namespace_manifests: Vec<CapabilityFile>,
    /// What was left out.
    pub warnings: Vec<String>,
    /// Why this root failed.
    pub error: Option<String>,
}

/// The files of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginFiles {
    /// `plugin.json`.
    pub manifest: CapabilityFile,
    /// The MCP file that the manifest names, or the default one.
    pub mcp_config: Option<CapabilityFile>,
    /// The apps file that the manifest names.
    pub apps_config: Option<CapabilityFile>,
}

/// The files of a skill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkillFiles {
    /// `SKILL.md`.
    pub instructions: CapabilityFile,
    /// `agents/openai.yaml` beside it.
    pub metadata: Option<CapabilityFile>,
}

/// A file with its text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityFile {
    /// Where it is.
    pub path: PathUri,
    /// UTF-8.
    pub contents: String,
}
redacted_debug!(CapabilityFile { path });

/// Parameters of `capabilities/discoverV2`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoverV2Params {
    /// Need not exist.
    pub cwd: PathUri,
    /// Restrictions; needs a `cwd` of its own.
    #[serde(default)]
    pub sandbox: Option<SandboxContext>,
}

/// Result of `capabilities/discoverV2`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoverV2Result {
    /// Installed plugins.
    pub plugins: Vec<InstalledPlugin>,
    /// Skills that belong to no plugin.
    pub skills: Vec<StandaloneSkill>,
    /// What was left out, in general terms.
    pub warnings: Vec<String>,
}

/// An installed plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstalledPlugin {
    /// `plugin@marketplace`.
    pub id: String,
    /// For people.
    pub display_name: String,
    /// Its id at the marketplace.
    pub remote_plugin_id: Option<String>,
    /// The directory's name.
    pub version: String,
    /// The directory.
    pub root: PathUri,
    /// Its files.
    pub files: PluginFiles,
    /// Its skills.
    pub skills: Vec<Skill>,
}

/// A skill that belongs to no plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StandaloneSkill {
    /// The skill.
    #[serde(flatten)]
    pub skill: Skill,
    /// Where it was found.
    pub discovery_root: DiscoveryRoot,
}

/// A place that is searched for skills.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveryRoot {
    /// `codex-home-skills` or `user-agent-skills`.
    pub id: String,
    /// The directory.
    pub path: PathUri,
}

/// A skill's description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Skill {
    /// Plugin skills are `plugin:skill`.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The same in few words.
    pub short_description: Option<String>,
    /// Its `SKILL.md`.
    pub path: PathUri,
    /// What it needs.
    pub dependencies: Option<SkillDependencies>,
    /// Who may use it.
    pub policy: Option<SkillPolicy>,
}

/// What a skill needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkillDependencies {
    /// Tools.
    pub tools: Vec<SkillTool>,
}

/// A tool that a skill needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SkillTool {
    /// Kind of tool.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name.
    pub value: String,
    /// What it is for.
    pub description: Option<String>,
    /// How to talk to it.
    pub transport: Option<String>,
    /// How to start it.
    pub command: Option<String>,
    /// Where it is.
    pub url: Option<String>,
    /// Port of the login callback.
    pub oauth_callback_port: Option<u16>,
}

/// Who may use a skill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SkillPolicy {
    /// Whether it may be used without being named.
    pub allow_implicit_invocation: Option<bool>,
    /// Products that may use it.
    pub products: Vec<String>,
}
