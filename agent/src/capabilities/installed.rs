//! Where this host keeps plugins and skills, and what they are.
//!
//! ```text
//! <codex home>/plugins/cache/<marketplace>/<plugin>/<version>/   one version of each plugin
//! <codex home>/skills/                                           skills, those of the system included
//! <home>/.agents/skills/                                         skills
//! ```

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use exec_proto::PathUri;
use exec_proto::capabilities::{
    CapabilityFile, DiscoverV2Result, DiscoveryRoot, InstalledPlugin, Skill, StandaloneSkill,
};
use rustix::fs::FileType;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::limits::{ANSWER_BYTES, PLUGINS};
use super::root::{Contents, MCP_SERVERS, discover};
use super::skill;
use crate::fs::{Cancelled, FsError, read_directory};

/// The directories that everything else is in.
///
/// Paths as bytes, to survive the way to a process in a sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Places {
    /// Plugins and skills of Codex.
    #[serde(with = "crate::sandbox::raw::optional")]
    pub(crate) codex_home: Option<PathBuf>,
    /// The user's home directory.
    #[serde(with = "crate::sandbox::raw::optional")]
    pub(crate) home: Option<PathBuf>,
}

/// Describes everything that is installed.
pub(crate) fn describe(
    places: &Places,
    cancelled: &Cancelled,
) -> Result<DiscoverV2Result, FsError> {
    let mut found = Found::default();
    match &places.codex_home {
        Some(home) => {
            found.plugins(&home.join("plugins/cache"), cancelled)?;
            found.skills("codex-home-skills", &home.join("skills"), cancelled)?;
        }
        None => found.warn(LOCATION),
    }
    match &places.home {
        Some(home) => found.skills("user-agent-skills", &home.join(".agents/skills"), cancelled)?,
        None => found.warn(LOCATION),
    }
    Ok(found.result)
}

#[derive(Default)]
struct Found {
    result: DiscoverV2Result,
    /// What the contents in the answer take so far.
    json_bytes: usize,
}

impl Found {
    /// Details stay here: they would tell about files that the peer did not ask for.
    fn warn(&mut self, warning: &str) {
        self.result.warnings.push(warning.to_owned());
    }

    /// Describes the plugins in a cache.
    fn plugins(&mut self, cache: &Path, cancelled: &Cancelled) -> Result<(), FsError> {
        for marketplace in self.directories(cache, is_plain, cancelled)? {
            let marketplace_path = cache.join(&marketplace);
            for name in self.directories(&marketplace_path, is_plain, cancelled)? {
                let versions = marketplace_path.join(&name);
                let installed = self.directories(&versions, is_version, cancelled)?;
                let Some(version) = installed.into_iter().max_by(|a, b| compare(a, b)) else {
                    continue;
                };
                if self.result.plugins.len() == PLUGINS {
                    self.warn(METADATA);
                    return Ok(());
                }
                let root = versions.join(&version);
                let id = format!("{name}@{marketplace}");
                self.plugin(id, version, &root, cancelled)?;
            }
        }
        Ok(())
    }

    fn plugin(
        &mut self,
        id: String,
        version: String,
        path: &Path,
        cancelled: &Cancelled,
    ) -> Result<(), FsError> {
        let Some((root, contents)) = self.contents(path, cancelled)? else {
            return Ok(());
        };
        let names = Namespaces::new(&contents);
        let Some(plugin) = contents.plugin else {
            self.warn(METADATA);
            return Ok(());
        };
        let Some(manifest) = plugin.manifest else {
            self.warn(METADATA);
            return Ok(());
        };
        let (skills, complete) = describe_all(&contents.skills, &names);
        if plugin.lacks_declared_file || !contents.warnings.is_empty() || !complete {
            self.warn(METADATA);
        }
        let mut files = plugin.files;
        if let Some(servers @ Value::Object(_)) = manifest.get(MCP_SERVERS) {
            let contents = servers.to_string();
            files.mcp_config = Some(CapabilityFile {
                path: files.manifest.path.clone(),
                contents,
            });
        }
        let name = manifest_name(&manifest).unwrap_or_else(|| version.clone());
        let display_name = manifest
            .get("interface")
            .and_then(|interface| interface.get("displayName"))
            .and_then(Value::as_str)
            .filter(|name| !name.trim().is_empty())
            .map_or(name, str::to_owned);
        self.result.plugins.push(InstalledPlugin {
            id,
            display_name,
            remote_plugin_id: None,
            version,
            root,
            files,
            skills,
        });
        Ok(())
    }

    /// Describes the skills below a directory, if it exists.
    fn skills(&mut self, id: &str, path: &Path, cancelled: &Cancelled) -> Result<(), FsError> {
        let Some((root, contents)) = self.contents(path, cancelled)? else {
            return Ok(());
        };
        let names = Namespaces::new(&contents);
        let (skills, complete) = describe_all(&contents.skills, &names);
        if !contents.warnings.is_empty() || !complete {
            self.warn(METADATA);
        }
        let discovery_root = DiscoveryRoot {
            id: id.to_owned(),
            path: root,
        };
        let standalone = |skill| StandaloneSkill {
            skill,
            discovery_root: discovery_root.clone(),
        };
        self.result
            .skills
            .extend(skills.into_iter().map(standalone));
        Ok(())
    }

    /// Searches a directory. `None`, with a warning unless it does not exist, if that is not possible.
    fn contents(
        &mut self,
        path: &Path,
        cancelled: &Cancelled,
    ) -> Result<Option<(PathUri, Contents)>, FsError> {
        let Some(root) = PathUri::from_native(path) else {
            self.warn(LOCATION);
            return Ok(None);
        };
        let contents = match discover(path, &root, cancelled) {
            Ok(contents) => contents,
            Err(FsError::Cancelled) => return Err(FsError::Cancelled),
            Err(err) => {
                if !err.is_absent() {
                    self.warn(LOCATION);
                }
                return Ok(None);
            }
        };
        self.json_bytes = self.json_bytes.saturating_add(contents.json_bytes());
        if self.json_bytes > ANSWER_BYTES {
            self.warn(METADATA);
            return Ok(None);
        }
        Ok(Some((root, contents)))
    }

    /// The directories in a directory whose names fit, sorted.
    fn directories(
        &mut self,
        path: &Path,
        fits: fn(&str) -> bool,
        cancelled: &Cancelled,
    ) -> Result<Vec<String>, FsError> {
        let entries = match read_directory(path, cancelled) {
            Ok(entries) => entries,
            Err(FsError::Cancelled) => return Err(FsError::Cancelled),
            Err(err) => {
                if !err.is_absent() {
                    self.warn(LOCATION);
                }
                return Ok(Vec::new());
            }
        };
        let mut names: Vec<_> = entries
            .into_iter()
            .filter(|entry| entry.kind == FileType::Directory)
            .filter_map(|entry| entry.name.into_string().ok())
            .filter(|name| fits(name))
            .collect();
        names.sort_unstable();
        Ok(names)
    }
}

/// Names of plugins by the directories that their skills are in.
struct Namespaces(Vec<(PathBuf, String)>);

impl Namespaces {
    fn new(contents: &Contents) -> Self {
        let name = |manifest: &CapabilityFile| {
            let path = manifest.path.to_native().ok()?;
            let directory = path.parent()?.parent()?.to_path_buf();
            let Ok(Value::Object(object)) = serde_json::from_str(&manifest.contents) else {
                return None;
            };
            let own = directory
                .file_name()
                .and_then(|name| name.to_str())
                .map(str::to_owned);
            let name = manifest_name(&object).or(own)?;
            Some((directory, name))
        };
        Self(contents.namespaces.iter().filter_map(name).collect())
    }

    /// The name of the innermost plugin around a path.
    fn of(&self, path: &Path) -> Option<&str> {
        let around = self
            .0
            .iter()
            .filter(|(directory, _)| path.starts_with(directory));
        around
            .max_by_key(|(directory, _)| directory.as_os_str().len())
            .map(|(_, name)| name.as_str())
    }
}

/// The skills that describe themselves, and whether all do.
fn describe_all(
    files: &[exec_proto::capabilities::SkillFiles],
    names: &Namespaces,
) -> (Vec<Skill>, bool) {
    let describe = |files: &exec_proto::capabilities::SkillFiles| {
        let path = files.instructions.path.to_native().ok()?;
        skill::describe(files, names.of(&path))
    };
    let skills: Vec<_> = files.iter().filter_map(describe).collect();
    let complete = skills.len() == files.len();
    (skills, complete)
}

fn manifest_name(manifest: &Map<String, Value>) -> Option<String> {
    let name = manifest.get("name")?.as_str()?.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Names of marketplaces and plugins, which become parts of ids.
fn is_plain(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn is_version(name: &str) -> bool {
    !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+'))
}

/// Which version is in use: a local one, else the greatest.
fn compare(a: &str, b: &str) -> Ordering {
    let is_local = |name: &str| name == "local";
    is_local(a)
        .cmp(&is_local(b))
        .then_with(|| match (Version::parse(a), Version::parse(b)) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.cmp(b),
        })
}

/// A semantic version, ordered by precedence and then by build.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version<'a> {
    numbers: [u64; 3],
    is_release: bool,
    pre: Vec<Identifier<'a>>,
    build: &'a str,
}

/// Part of a pre-release; numbers come before words.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identifier<'a> {
    Number(u64),
    Word(&'a str),
}

impl<'a> Version<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (text, build) = text.split_once('+').unwrap_or((text, ""));
        let (core, pre) = match text.split_once('-') {
            Some((core, pre)) => (core, Some(pre)),
            None => (text, None),
        };
        let numbers: Vec<u64> = core
            .split('.')
            .map(|part| part.parse().ok())
            .collect::<Option<_>>()?;
        let identifier = |part: &'a str| match part.parse() {
            Ok(number) => Identifier::Number(number),
            Err(_) => Identifier::Word(part),
        };
        Some(Self {
            numbers: numbers.try_into().ok()?,
            is_release: pre.is_none(),
            pre: pre
                .map(|pre| pre.split('.').map(identifier).collect())
                .unwrap_or_default(),
            build,
        })
    }
}

const METADATA: &str = "some capability metadata could not be loaded; discovery may be incomplete";
const LOCATION: &str =
    "some capability locations could not be resolved; discovery may be incomplete";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_in_use_is_the_local_or_the_greatest() {
        let table = [
            (["1.0.0", "1.0.0-beta"], "1.0.0"),
            (["2.0.0", "10.0.0"], "10.0.0"),
            (["1.0.0-2", "1.0.0-10"], "1.0.0-10"),
            (["1.0.0+1", "1.0.0"], "1.0.0+1"),
            (["1.2", "1.10"], "1.2"),
            (["abc", "1.0"], "abc"),
            (["v2", "1.0.0"], "v2"),
            (["2", "10.0.0"], "2"),
            (["local", "zz"], "local"),
        ];
        for (versions, expected) in table {
            let forward = versions.into_iter().max_by(|a, b| compare(a, b)).unwrap();
            let backward = versions
                .into_iter()
                .rev()
                .max_by(|a, b| compare(a, b))
                .unwrap();
            assert_eq!((forward, backward), (expected, expected));
        }
    }
}
