//! A child's environment: what is inherited, dropped, set and laid over, in this order.
//!
//! ```text
//! 1 inherit      all that is not withheld | core names | nothing
//! 2 default excludes   *KEY* *SECRET* *TOKEN*, unless switched off
//! 3 exclude      globs
//! 4 set          beats the excludes
//! 5 includeOnly  globs, if any; removes entries of set, too
//! 6 env          the request's overlay; beats everything above
//! 7 restricted   names that no child may have, wherever they came from
//! 8 metadata     CODEX_THREAD_ID, CODEX_TOOL_CALL_ID
//! ```
//!
//! Without a policy the start is empty and 6 to 8 apply. Names are compared without case.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::str::Chars;

use exec_proto::process::{EnvInherit, EnvPolicy, Metadata};

use super::{ExecutorEnvironment, Variables};

const CORE: [&str; 11] = [
    "PATH", "SHELL", "TMPDIR", "TEMP", "TMP", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME",
    "USER",
];

const DEFAULT_EXCLUDES: [&str; 3] = ["*KEY*", "*SECRET*", "*TOKEN*"];

/// Never passed to a child, whatever the case.
const RESTRICTED: [&str; 5] = [
    "CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN",
    "NODE_REPL_AUTH_TOKEN",
    "OPENAI_FEDERATION_RULE_ID",
    "OPENAI_IDENTITY_TOKEN_FILE",
    "OPENAI_WORKLOAD_IDENTITY_CONTEXT",
];

/// Never passed to a child, in exactly this case.
const RESTRICTED_EXACT: &str = "CODEX_EXEC_SERVER_EXIT_ON_STDIN_CLOSE";

pub(super) fn is_restricted(name: &OsStr) -> bool {
    name == RESTRICTED_EXACT
        || RESTRICTED
            .iter()
            .any(|other| name.eq_ignore_ascii_case(other))
}

impl ExecutorEnvironment {
    /// The environment of a child.
    pub(crate) fn child_variables(
        &self,
        policy: Option<&EnvPolicy>,
        overlay: &BTreeMap<String, String>,
        metadata: Option<&Metadata>,
    ) -> Variables {
        let start = match policy.map(|policy| policy.inherit) {
            Some(EnvInherit::All) => self.inheritable().clone(),
            Some(EnvInherit::Core) => {
                let is_core =
                    |name: &OsStr| CORE.iter().any(|core| name.eq_ignore_ascii_case(core));
                let core = self.variables().iter().filter(|(name, _)| is_core(name));
                core.map(|(name, value)| (name.clone(), value.clone()))
                    .collect()
            }
            Some(EnvInherit::None) | None => Variables::new(),
        };
        derive(start, policy, overlay, metadata)
    }
}

/// Steps 2 to 8, from a given start.
pub(crate) fn derive(
    mut child: Variables,
    policy: Option<&EnvPolicy>,
    overlay: &BTreeMap<String, String>,
    metadata: Option<&Metadata>,
) -> Variables {
    let pairs = |map: &BTreeMap<String, String>| -> Variables {
        map.iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    };
    if let Some(policy) = policy {
        let defaults: &[&str] = if policy.ignore_default_excludes {
            &[]
        } else {
            &DEFAULT_EXCLUDES
        };
        child.retain(|name, _| !matches_any(defaults, name) && !matches_any(&policy.exclude, name));
        child.extend(pairs(&policy.set));
        if !policy.include_only.is_empty() {
            child.retain(|name, _| matches_any(&policy.include_only, name));
        }
    }
    child.extend(pairs(overlay));
    child.retain(|name, _| !is_restricted(name));
    if let Some(metadata) = metadata {
        let thread = metadata.thread_id.map(|id| id.hyphenated().to_string());
        let call = metadata.tool_call_id.clone();
        for (name, value) in [("CODEX_THREAD_ID", thread), ("CODEX_TOOL_CALL_ID", call)] {
            if let Some(value) = value.filter(|value| !value.contains('\0')) {
                child.insert(name.into(), value.into());
            }
        }
    }
    child
}

pub(super) fn matches_any<S: AsRef<str>>(globs: &[S], name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    globs.iter().any(|glob| glob_matches(glob.as_ref(), &name))
}

/// Whether `glob` matches the whole `name`. `*` and `?` are special, nothing else is.
///
/// Cost: at most the product of the lengths; a mismatch only ever goes back to the last `*`. No
/// allocation: this is done for every variable and every pattern.
fn glob_matches(glob: &str, name: &str) -> bool {
    let (mut wanted, mut found) = (glob.chars(), name.chars());
    // What follows the last `*`, and where in the name that was tried last.
    let mut retry: Option<(Chars<'_>, Chars<'_>)> = None;
    loop {
        let (mut wanted_rest, mut found_rest) = (wanted.clone(), found.clone());
        let Some(letter) = found_rest.next() else {
            break;
        };
        match wanted_rest.next() {
            Some('*') => {
                retry = Some((wanted_rest.clone(), found.clone()));
                wanted = wanted_rest;
            }
            Some(other) if other == '?' || other.eq_ignore_ascii_case(&letter) => {
                (wanted, found) = (wanted_rest, found_rest);
            }
            _ => match &mut retry {
                Some((after_star, tried)) => {
                    tried.next();
                    (wanted, found) = (after_star.clone(), tried.clone());
                }
                None => return false,
            },
        }
    }
    wanted.all(|rest| rest == '*') && !glob.is_empty()
}

#[cfg(test)]
mod tests;
