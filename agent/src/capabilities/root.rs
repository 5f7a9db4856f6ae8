//! What one directory holds: the files of a plugin, skills, and the manifests that give skills their
//! namespace.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use exec_proto::PathUri;
use exec_proto::capabilities::{CapabilityFile, PluginFiles, SkillFiles};
use serde_json::{Map, Value};

use super::limits::{DEPTH, DIRECTORIES, ENTRIES, FILE_BYTES, ROOT_BYTES};
use crate::fs::{Cancelled, FsError, Links, WalkOptions, Walked, open_to_read, read_to_end, walk};

/// What was found below a root.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// The plugin that the root itself is.
    pub(crate) plugin: Option<Plugin>,
    /// Sorted by path.
    pub(crate) skills: Vec<SkillFiles>,
    /// The root's own manifest or the nearest above it, then those below, sorted by path.
    pub(crate) namespaces: Vec<CapabilityFile>,
    /// What was left out.
    pub(crate) warnings: Vec<String>,
}

/// A plugin's files, and what its manifest says about them.
#[derive(Debug)]
pub(crate) struct Plugin {
    /// As they are.
    pub(crate) files: PluginFiles,
    /// The manifest, if it is a JSON object.
    pub(crate) manifest: Option<Map<String, Value>>,
    /// Whether the manifest names a file that could not be read.
    pub(crate) lacks_declared_file: bool,
}

impl Contents {
    /// What the contents of the files take in a JSON answer.
    pub(crate) fn json_bytes(&self) -> usize {
        let plugin = self.plugin.as_ref().map(|plugin| &plugin.files);
        json_bytes(plugin, &self.skills, &self.namespaces)
    }
}

/// What the contents of files take in a JSON answer.
pub(crate) fn json_bytes(
    plugin: Option<&PluginFiles>,
    skills: &[SkillFiles],
    namespaces: &[CapabilityFile],
) -> usize {
    let plugin = plugin.into_iter().flat_map(|files| {
        [
            Some(&files.manifest),
            files.mcp_config.as_ref(),
            files.apps_config.as_ref(),
        ]
    });
    let skills = skills
        .iter()
        .flat_map(|skill| [Some(&skill.instructions), skill.metadata.as_ref()]);
    let files = plugin.chain(skills).chain(namespaces.iter().map(Some));
    files
        .flatten()
        .map(|file| escaped_bytes(&file.contents) + file.path.as_str().len())
        .sum()
}

/// Searches the directory `root`, which the peer knows as `uri`.
///
/// # Errors
///
/// [`FsError::NotADirectory`], or whatever the operating system says about the root. What goes wrong below
/// it becomes a warning.
pub(crate) fn discover(
    root: &Path,
    uri: &PathUri,
    cancelled: &Cancelled,
) -> Result<Contents, FsError> {
    if !std::fs::metadata(root)?.is_dir() {
        return Err(FsError::NotADirectory);
    }
    let mut reader = Reader {
        left: ROOT_BYTES,
        uri,
        warnings: Vec::new(),
    };
    let own = reader.manifest_in(root);
    let mut namespaces: Vec<_> = match &own {
        Some(own) => vec![own.clone()],
        // Trouble with files above the root is no concern of the root.
        None => {
            let mut above = Reader {
                left: ROOT_BYTES,
                uri,
                warnings: Vec::new(),
            };
            root.ancestors()
                .skip(1)
                .find_map(|parent| above.manifest_in(parent))
                .into_iter()
                .collect()
        }
    };
    let plugin = own.map(|manifest| reader.plugin(root, manifest));
    let walked = walk(root, SEARCH, cancelled)?;
    let mut skills = Vec::new();
    for path in skill_paths(&walked) {
        cancelled.check()?;
        let Some(instructions) = reader.read(path) else {
            continue;
        };
        let metadata = path
            .parent()
            .and_then(|dir| reader.read(&dir.join(METADATA)));
        skills.push(SkillFiles {
            instructions,
            metadata,
        });
    }
    for directory in plugin_directories(&walked, root) {
        cancelled.check()?;
        namespaces.extend(reader.manifest_in(directory));
    }
    let mut warnings = reader.warnings;
    for failed in &walked.errors {
        warnings.push(format!(
            "failed to search {}: {}",
            failed.uri, failed.message
        ));
    }
    if walked.truncated {
        warnings.push(format!("capability root {uri} was not searched completely"));
    }
    Ok(Contents {
        plugin,
        skills,
        namespaces,
        warnings,
    })
}

/// Reads files within the limits of one root.
struct Reader<'a> {
    /// Bytes that may still be read.
    left: usize,
    uri: &'a PathUri,
    warnings: Vec<String>,
}

impl Reader<'_> {
    /// A file's text. Nothing without a warning if there is no such file.
    fn read(&mut self, path: &Path) -> Option<CapabilityFile> {
        let uri = PathUri::from_native(path)?;
        let read = open_to_read(path, Links::Follow)
            .and_then(|(file, stat)| read_to_end(&file, &stat, FILE_BYTES));
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(err) if err.is_absent() || matches!(err, FsError::NotAFile(_)) => return None,
            Err(FsError::TooLarge) => {
                let text = format!("capability file {uri} exceeds the {FILE_BYTES}-byte limit");
                return self.warn(text);
            }
            Err(err) => return self.warn(format!("failed to read capability file {uri}: {err}")),
        };
        let contents = match std::str::from_utf8(&bytes) {
            Ok(text) => text.to_owned(),
            Err(err) => return self.warn(format!("capability file {uri} is not UTF-8: {err}")),
        };
        let Some(left) = self.left.checked_sub(contents.len()) else {
            self.left = 0;
            let root = self.uri;
            return self.warn(format!(
                "capability root {root} exceeds the {ROOT_BYTES}-byte limit"
            ));
        };
        self.left = left;
        Some(CapabilityFile {
            path: uri,
            contents,
        })
    }

    fn warn<T>(&mut self, warning: String) -> Option<T> {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
        None
    }

    /// The first manifest of a plugin directory that can be read.
    fn manifest_in(&mut self, directory: &Path) -> Option<CapabilityFile> {
        MANIFESTS
            .iter()
            .find_map(|name| self.read(&directory.join(name)))
    }

    /// The other files of a plugin.
    fn plugin(&mut self, root: &Path, manifest: CapabilityFile) -> Plugin {
        let object = match serde_json::from_str(&manifest.contents) {
            Ok(Value::Object(object)) => Some(object),
            _ => None,
        };
        let declared = |key: &str| object.as_ref().and_then(|object| object.get(key));
        let mut lacks_declared_file = false;
        let mut file = |reader: &mut Self, key: &str, default: &str| match declared(key) {
            Some(Value::String(path)) => {
                let file = match below(path) {
                    Ok(path) => reader.read(&root.join(path)),
                    Err(why) => reader.warn(format!("ignoring {key} in {}: {why}", manifest.path)),
                };
                lacks_declared_file |= file.is_none();
                file
            }
            // Servers may stand in the manifest itself.
            Some(Value::Object(_)) if key == MCP_SERVERS => None,
            _ => reader.read(&root.join(default)),
        };
        let mcp_config = file(self, MCP_SERVERS, ".mcp.json");
        let apps_config = file(self, "apps", ".app.json");
        let files = PluginFiles {
            manifest,
            mcp_config,
            apps_config,
        };
        Plugin {
            files,
            manifest: object,
            lacks_declared_file,
        }
    }
}

/// A path that a manifest declares, if it stays below the root.
fn below(declared: &str) -> Result<&Path, &'static str> {
    let Some(path) = declared.strip_prefix("./") else {
        return Err("path must start with `./`");
    };
    let path = Path::new(path);
    let mut components = path.components().peekable();
    let stays = components.peek().is_some()
        && components.all(|component| matches!(component, Component::Normal(_)));
    if stays {
        Ok(path)
    } else {
        Err("path must remain below the capability root")
    }
}

fn skill_paths(walked: &Walked) -> Vec<&PathBuf> {
    let files = walked.entries.iter().filter(|found| !found.is_directory);
    let mut paths: Vec<_> = files
        .filter(|found| found.path.file_name().is_some_and(|name| name == SKILL))
        .map(|found| &found.path)
        .collect();
    paths.sort_unstable();
    paths
}

/// Directories below the root that have a manifest.
fn plugin_directories<'a>(
    walked: &'a Walked,
    root: &Path,
) -> impl Iterator<Item = &'a Path> + use<'a> {
    let mut directories = BTreeMap::new();
    for found in walked.entries.iter().filter(|found| !found.is_directory) {
        let directory = found.path.parent().and_then(Path::parent);
        if let Some(directory) = directory
            && directory != root
            && MANIFESTS
                .iter()
                .any(|name| directory.join(name) == found.path)
        {
            directories.insert(directory, ());
        }
    }
    directories.into_keys()
}

/// Bytes of a text between the quotes of a JSON string.
fn escaped_bytes(text: &str) -> usize {
    let escapes = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(escapes).sum()
}

/// The member of a manifest that declares MCP servers.
pub(crate) const MCP_SERVERS: &str = "mcpServers";

const SKILL: &str = "SKILL.md";
const METADATA: &str = "agents/openai.yaml";

/// In the order in which they count.
const MANIFESTS: [&str; 3] = [
    ".codex-plugin/plugin.json",
    ".claude-plugin/plugin.json",
    ".cursor-plugin/plugin.json",
];

const SEARCH: WalkOptions = WalkOptions {
    max_depth: DEPTH,
    max_directories: DIRECTORIES,
    max_entries: ENTRIES,
    follow_directory_links: true,
    prune_hidden: false,
};
