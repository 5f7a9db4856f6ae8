//! A sandbox that the operator sets and that no request gets out of.
//!
//! What a request asks for is met with it, path by path: the stricter of the two counts. A request without
//! a sandbox gets the floor itself.

use std::path::{Path, PathBuf};

use exec_proto::PathUri;
use exec_proto::sandbox::{
    Access as WireAccess, Entry, EntryPath, FileSystem, NetworkAccess, Permissions, SandboxContext,
    SpecialKind, SpecialPath, WindowsSandboxLevel,
};

use super::policy::{Access, METADATA, Policy, Rule, Rules};
use super::refusal::Refusal;

/// What every request may do at most. Without network in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    /// What may be written.
    pub kind: FloorKind,
    /// Where, if anywhere: absolute paths.
    pub roots: Vec<PathBuf>,
}

/// What the floor allows to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FloorKind {
    /// Nothing.
    ReadOnly,
    /// The roots, less their metadata, and directories for temporary files.
    WorkspaceWrite,
}

impl settings::Value for FloorKind {
    fn parse(text: &str) -> Result<Self, String> {
        settings::value::parse_choice(text)
    }

    fn show(&self) -> String {
        settings::value::show_choice(self)
    }
}

/// What every sandbox of an executor is made with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ground {
    /// The executor's own directory for temporary files.
    pub(crate) temporary: Option<PathBuf>,
    /// The least that is enforced.
    pub(crate) floor: Option<Floor>,
    /// Whether whoever reaches this machine's network can make requests to the executor.
    pub(crate) open_listener: bool,
}

impl Floor {
    /// The same as a request would ask for it.
    ///
    /// # Errors
    ///
    /// [`Refusal::Unenforceable`] if a root is no absolute path.
    pub(super) fn context(&self) -> Result<SandboxContext, Refusal> {
        let special = |kind, subpath: Option<&str>, access| Entry {
            path: EntryPath::Special {
                value: SpecialPath {
                    kind,
                    subpath: subpath.map(str::to_owned),
                    path: None,
                },
            },
            access,
            missing_path_behavior: None,
        };
        let mut entries = vec![special(SpecialKind::Root, None, WireAccess::Read)];
        if self.kind == FloorKind::WorkspaceWrite {
            for kind in [
                SpecialKind::ProjectRoots,
                SpecialKind::SlashTmp,
                SpecialKind::Tmpdir,
            ] {
                entries.push(special(kind, None, WireAccess::Write));
            }
            for name in METADATA {
                let roots = SpecialKind::ProjectRoots;
                entries.push(special(roots, Some(name), WireAccess::Read));
            }
        }
        let uri = |path: &PathBuf| {
            PathUri::from_native(path).ok_or_else(|| {
                Refusal::Unenforceable("a root of the sandbox floor is not absolute".to_owned())
            })
        };
        Ok(SandboxContext {
            permissions: Permissions::Managed {
                file_system: FileSystem::Restricted {
                    entries,
                    glob_scan_max_depth: None,
                },
                network: NetworkAccess::Restricted,
            },
            workspace_roots: self.roots.iter().map(uri).collect::<Result<_, _>>()?,
            cwd: PathUri::from_native(Path::new("/")),
            policy_context: None,
            windows_sandbox_level: WindowsSandboxLevel::Disabled,
            windows_sandbox_proxy_settings_mode: None,
            use_legacy_landlock: false,
            sandbox_override: None,
            temporary_directories: None,
            user_home_dir: None,
        })
    }
}

/// The stricter of two policies, for every path. `None` is no policy.
pub(super) fn meet(one: Option<Policy>, other: Option<Policy>) -> Option<Policy> {
    let (one, other) = match (one, other) {
        (Some(one), Some(other)) => (one, other),
        (one, other) => return one.or(other),
    };
    let network = match (one.network, other.network) {
        (NetworkAccess::Enabled, NetworkAccess::Enabled) => NetworkAccess::Enabled,
        _ => NetworkAccess::Restricted,
    };
    let files = match (one.files, other.files) {
        (Some(one), Some(other)) => Some(meet_rules(one, other)),
        (one, other) => one.or(other),
    };
    Some(Policy { files, network })
}

fn meet_rules(one: Rules, other: Rules) -> Rules {
    let mut met = Rules::default();
    // Between the paths that either has a rule for, nothing changes.
    for (path, rule) in one.by_path.iter().chain(&other.by_path) {
        let access = stricter(one.access(path), other.access(path));
        let rule = Rule {
            access,
            ..rule.clone()
        };
        met.by_path.insert(path.clone(), rule);
    }
    met.links = one.links;
    met.links.extend(other.links);
    met
}

fn stricter(one: Access, other: Access) -> Access {
    let rank = |access: Access| match access {
        Access::Hidden => 0,
        Access::Deny => 1,
        Access::Read => 2,
        Access::Write => 3,
    };
    if rank(one) <= rank(other) { one } else { other }
}

/// Whether a path can be a root of the floor.
pub(crate) fn is_possible_root(path: &Path) -> bool {
    path.is_absolute() && path.parent().is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::policy::{Purpose, evaluate};
    use super::super::testing::{Names, context, entry};
    use super::*;

    fn policy_of(context: &SandboxContext) -> Option<Policy> {
        let purpose = Purpose::Command(Path::new("/w"));
        evaluate(context, purpose, None, &Names::workspace()).unwrap()
    }

    fn floor(kind: FloorKind) -> Option<Policy> {
        let roots = vec![PathBuf::from("/w")];
        policy_of(&Floor { kind, roots }.context().unwrap())
    }

    fn asked(entries: &[&str]) -> Option<Policy> {
        policy_of(&serde_json::from_value(context(entries)).unwrap())
    }

    #[test]
    fn no_request_gets_below_the_floor() {
        let everything: SandboxContext = serde_json::from_value(serde_json::json!({
            "permissions": {"type": "disabled"}, "windowsSandboxLevel": "disabled",
        }))
        .unwrap();
        for (asked, kind, path, expected) in [
            (None, FloorKind::WorkspaceWrite, "/o/x", Access::Read),
            (None, FloorKind::WorkspaceWrite, "/w/x", Access::Write),
            (None, FloorKind::WorkspaceWrite, "/w/.git/x", Access::Read),
            (None, FloorKind::ReadOnly, "/w/x", Access::Read),
            (
                policy_of(&everything),
                FloorKind::ReadOnly,
                "/w/x",
                Access::Read,
            ),
            (
                asked(&["write root", "deny /w/private"]),
                FloorKind::WorkspaceWrite,
                "/o/x",
                Access::Read,
            ),
            (
                asked(&["write root", "deny /w/private"]),
                FloorKind::WorkspaceWrite,
                "/w/x",
                Access::Write,
            ),
            (
                asked(&["write root", "deny /w/private"]),
                FloorKind::WorkspaceWrite,
                "/w/private/x",
                Access::Deny,
            ),
            (
                asked(&["read root", "write project_roots/.git"]),
                FloorKind::WorkspaceWrite,
                "/w/.git/x",
                Access::Read,
            ),
            (
                asked(&["read project_roots"]),
                FloorKind::WorkspaceWrite,
                "/o/x",
                Access::Hidden,
            ),
        ] {
            let met = meet(asked, floor(kind)).unwrap();
            assert_eq!(met.network, NetworkAccess::Restricted);
            assert_eq!(
                met.files.unwrap().access(Path::new(path)),
                expected,
                "{path}"
            );
        }
    }

    const PLACES: [&str; 8] = [
        "/",
        "/w",
        "/w/sub",
        "/w/sub/deep",
        "/w/private",
        "/o",
        "/w/.git",
        "/usr",
    ];

    proptest! {
        #[test]
        fn what_is_met_allows_what_both_allow_and_nothing_else(
            one in proptest::collection::vec((0..3usize, 0..PLACES.len()), 0..6),
            other in proptest::collection::vec((0..3usize, 0..PLACES.len()), 0..6),
        ) {
            let policy = |list: &[(usize, usize)]| {
                let entries: Vec<Value> = list
                    .iter()
                    .map(|(access, place)| {
                        let access = ["read", "write", "deny"][*access];
                        entry(&format!("{access} {}", PLACES[*place]))
                    })
                    .collect();
                let mut context = context(&["read root", "deny /o/none"]);
                let all = &mut context["permissions"]["file_system"]["entries"];
                all.as_array_mut().unwrap().extend(entries);
                policy_of(&serde_json::from_value(context).unwrap()).unwrap()
            };
            let (one, other) = (policy(&one), policy(&other));
            let met = meet(Some(one.clone()), Some(other.clone())).unwrap().files.unwrap();
            let (one, other) = (one.files.unwrap(), other.files.unwrap());
            for place in PLACES {
                for path in [Path::new(place).to_owned(), Path::new(place).join("x")] {
                    let expected = stricter(one.access(&path), other.access(&path));
                    prop_assert_eq!(met.access(&path), expected, "{}", path.display());
                }
            }
        }
    }
}
