//! The sandbox context that requests may carry: who asks for which restrictions.
//!
//! Naming on the wire is mixed on purpose: camelCase outside `permissions`, snake_case inside.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use crate::PathUri;

/// A `sandbox` member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxContext {
    /// The policy.
    pub permissions: Permissions,
    /// How a retry after an approval relaxes the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox_override: Option<SandboxOverride>,
    /// Base of dynamic entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathUri>,
    /// Replaces `cwd` and `workspace_roots` for the policy when present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_context: Option<PolicyContext>,
    /// What `project_roots` entries mean.
    #[serde(default)]
    pub workspace_roots: Vec<PathUri>,
    /// The user's home directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_home_dir: Option<PathUri>,
    /// Directories for temporary files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temporary_directories: Option<Vec<PathUri>>,
    /// Of no effect elsewhere than on Windows.
    pub windows_sandbox_level: WindowsSandboxLevel,
    /// Of no effect elsewhere than on Windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows_sandbox_proxy_settings_mode: Option<WindowsSandboxProxySettingsMode>,
    /// Ask for the older Linux mechanism.
    #[serde(default)]
    pub use_legacy_landlock: bool,
}

impl SandboxContext {
    /// Whether a *process* under this context needs anything enforced: files, network, or a
    /// mechanism of another platform. An executor without a sandbox must refuse such a request.
    ///
    /// `disabled` never does. `external` and unrestricted managed contexts do exactly when their
    /// network is restricted, because the network part stays the executor's duty there.
    pub fn needs_enforcement(&self) -> bool {
        let network = match &self.permissions {
            Permissions::Disabled => false,
            Permissions::External { network } | Permissions::Managed { network, .. } => {
                *network == NetworkAccess::Restricted
            }
        };
        network || self.restricts_files()
    }

    /// Whether a *file operation* under this context needs anything enforced: a managed context
    /// that restricts files without write access to the whole disk.
    pub fn restricts_files(&self) -> bool {
        if self.windows_sandbox_level == WindowsSandboxLevel::Mxc {
            return true;
        }
        match &self.permissions {
            Permissions::Managed {
                file_system: FileSystem::Restricted { entries, .. },
                ..
            } => !is_full_disk_write(entries),
            _ => false,
        }
    }
}

/// A `root` write entry with nothing that narrows it.
fn is_full_disk_write(entries: &[Entry]) -> bool {
    entries.iter().all(|entry| entry.access == Access::Write)
        && entries.iter().any(|entry| {
            matches!(
                &entry.path,
                EntryPath::Special {
                    value: SpecialPath {
                        kind: SpecialKind::Root,
                        subpath: None,
                        ..
                    }
                }
            )
        })
}

/// The policy itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Permissions {
    /// The executor enforces files and network.
    Managed {
        /// What files may be touched.
        file_system: FileSystem,
        /// Whether sockets may be used.
        network: NetworkAccess,
    },
    /// Nothing is enforced.
    Disabled,
    /// Something outside isolates the files; the network part remains.
    External {
        /// Whether sockets may be used.
        network: NetworkAccess,
    },
}

/// Whether a command may use the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkAccess {
    /// It may not.
    Restricted,
    /// It may.
    Enabled,
}

/// The file part of a managed policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FileSystem {
    /// Only what the entries allow.
    Restricted {
        /// The rules.
        entries: Vec<Entry>,
        /// How deep deny globs are expanded; absent means without limit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        glob_scan_max_depth: Option<NonZeroUsize>,
    },
    /// Everything.
    Unrestricted,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What the rule is about.
    pub path: EntryPath,
    /// What is allowed there.
    pub access: Access,
    /// What to do when the path does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_path_behavior: Option<MissingPathBehavior>,
}

/// Access that a rule grants or denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    Write,
    /// Nothing; `none` is read as the same.
    #[serde(alias = "none")]
    Deny,
}

/// What to do about a rule whose path is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingPathBehavior {
    /// Leave the rule out.
    Skip,
}

/// What a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EntryPath {
    /// A path and everything below.
    Path {
        /// The path.
        path: PathUri,
    },
    /// Paths that match when the command starts.
    GlobPattern {
        /// The pattern.
        pattern: String,
    },
    /// A place that depends on the request or the host.
    Special {
        /// Which place.
        value: SpecialPath,
    },
}

/// A place that depends on the request or the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialPath {
    /// Which place.
    pub kind: SpecialKind,
    /// Relative path below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subpath: Option<String>,
    /// The name of a place that the sender knows and this version does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Kinds of special places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpecialKind {
    /// `/`.
    Root,
    /// The system directories that every program needs.
    Minimal,
    /// Each workspace root; `current_working_directory` is read as the same.
    #[serde(alias = "current_working_directory")]
    ProjectRoots,
    /// `TMPDIR` of the command.
    Tmpdir,
    /// `/tmp`.
    SlashTmp,
    /// A place that this version does not know.
    Unknown,
}

/// Relaxation of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SandboxOverride {
    /// None.
    NoOverride,
    /// Escalated, with restrictions left.
    EscalatedSandboxWithRestrictions,
    /// Without a sandbox at first.
    BypassSandboxFirstAttempt,
}

/// Replacement bases for a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyContext {
    /// Base of dynamic entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathUri>,
    /// What `project_roots` entries mean.
    #[serde(default)]
    pub workspace_roots: Vec<PathUri>,
}

/// The Windows mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WindowsSandboxLevel {
    /// None.
    Disabled,
    /// Restricted token.
    RestrictedToken,
    /// Elevated process.
    Elevated,
    /// Container.
    Mxc,
}

/// What happens to proxy settings on Windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WindowsSandboxProxySettingsMode {
    /// Adapt them.
    Reconcile,
    /// Leave them.
    Preserve,
}

/// The mechanism that a start reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SandboxType {
    /// No sandbox.
    None,
    /// Linux.
    LinuxSeccomp,
    /// macOS.
    MacosSeatbelt,
    /// Windows.
    WindowsRestrictedToken,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(permissions: &str) -> SandboxContext {
        let text = format!(r#"{{"permissions":{permissions},"windowsSandboxLevel":"disabled"}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn what_needs_enforcement() {
        let root = r#"{"path":{"type":"special","value":{"kind":"root"}},"access":"write"}"#;
        let deny = r#"{"path":{"type":"path","path":"file:///etc"},"access":"none"}"#;
        let managed = |fs: &str, network: &str| {
            format!(r#"{{"type":"managed","file_system":{fs},"network":"{network}"}}"#)
        };
        let restricted =
            |entries: &str| format!(r#"{{"type":"restricted","entries":[{entries}]}}"#);
        let cases = [
            (r#"{"type":"disabled"}"#.to_owned(), false, false),
            (
                r#"{"type":"external","network":"enabled"}"#.to_owned(),
                false,
                false,
            ),
            (
                r#"{"type":"external","network":"restricted"}"#.to_owned(),
                true,
                false,
            ),
            (
                managed(r#"{"type":"unrestricted"}"#, "enabled"),
                false,
                false,
            ),
            (
                managed(r#"{"type":"unrestricted"}"#, "restricted"),
                true,
                false,
            ),
            (managed(&restricted(""), "enabled"), true, true),
            (managed(&restricted(root), "enabled"), false, false),
            (
                managed(&restricted(&format!("{root},{deny}")), "enabled"),
                true,
                true,
            ),
        ];
        for (permissions, process, files) in cases {
            let context = context(&permissions);
            assert_eq!(context.needs_enforcement(), process, "{permissions}");
            assert_eq!(context.restricts_files(), files, "{permissions}");
        }
    }
}
