//! The second layer under the mounts: Landlock, as far as the kernel has it.
//!
//! It repeats the plan in coarse form (writing only below writable mounts), so that a mistake in the
//! mounts is not an open door, and adds what mounts cannot: no TCP without network, no sockets in the
//! abstract namespace of others, no signals to processes outside.

use std::path::Path;

use exec_proto::sandbox::NetworkAccess;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, Scope,
};

/// Confines the calling thread and its future children. What the kernel does not know is left out.
///
/// `writable`: where files may be written, by path as the thread sees it; `None` if files are not
/// confined.
///
/// # Errors
///
/// If the kernel has Landlock and refuses.
pub(crate) fn restrict<'a>(
    network: NetworkAccess,
    writable: Option<impl IntoIterator<Item = &'a Path>>,
) -> Result<(), RulesetError> {
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
    if writable.is_some() {
        ruleset = ruleset
            .handle_access(AccessFs::from_all(NEWEST))?
            .scope(Scope::AbstractUnixSocket)?
            .scope(Scope::Signal)?;
    }
    if network == NetworkAccess::Restricted {
        ruleset = ruleset.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?;
    }
    let mut ruleset = ruleset.create()?;
    if let Some(writable) = writable {
        let read = AccessFs::from_read(NEWEST);
        ruleset = allow(ruleset, Path::new("/"), read)?;
        let all = AccessFs::from_all(NEWEST);
        for path in writable.into_iter().chain([Path::new("/dev")]) {
            ruleset = allow(ruleset, path, all)?;
        }
    }
    // The status says how much of it the kernel knows; all of it is a second layer.
    ruleset.restrict_self()?;
    Ok(())
}

/// Skips places that cannot be opened: less access.
fn allow(
    ruleset: RulesetCreated,
    path: &Path,
    access: landlock::BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(place) = PathFd::new(path) else {
        return Ok(ruleset);
    };
    let access = if path.is_dir() {
        access
    } else {
        access & AccessFs::from_file(NEWEST)
    };
    ruleset.add_rule(PathBeneath::new(place, access))
}

/// What this code was written against. Newer kernels know more, and older ones less.
const NEWEST: ABI = ABI::V6;
