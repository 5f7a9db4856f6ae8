//! The sandbox that a request asks for: what it means, and how the kernel is made to enforce it.
//!
//! ```text
//! SandboxContext --policy--> Rules --steps--> MountPlan --launch--> first --enter--> program
//!                  (pure, over a View)                              processes of the sandbox
//! ```
//!
//! - [`policy`] and [`glob`] say what may be done with which path; [`view`] is all they see of files.
//! - [`floor`] is what the operator demands of every request.
//! - [`steps`] turns that into mounts, still without doing anything.
//! - [`launch`] hands it to a process of our own program, in [`first`], which calls [`enter`],
//!   [`landlock`] and [`seccomp`] (over [`bpf`]) and then executes the client's program. [`failure`] tells of it.
//! - [`template`] makes such processes in little time.
//! - [`command`] does the same for a person at a terminal; [`explain`] is for one who debugs a policy.
//! - [`placeholder`] keeps names free that do not exist; [`journal`] says where, if all else is killed.
//! - [`ways`] makes the only ways out of a network namespace.
//! - [`worker`] serves file requests from inside a sandbox.
//! - [`notices`] tells what the kernel refused; [`denial`] judges whether a program failed because of it.
//!
//! Everything fails closed: whatever cannot be set up as asked is an error, and nothing runs.

mod bpf;
mod calls;
pub mod command;
pub(crate) mod denial;
mod enter;
mod explain;
mod failure;
mod first;
mod floor;
mod glob;
mod journal;
mod landlock;
mod launch;
mod notices;
mod placeholder;
mod policy;
pub(crate) mod raw;
mod refusal;
mod seccomp;
mod steps;
mod sys;
mod template;
#[cfg(test)]
pub(crate) mod testing;
mod view;
mod ways;
mod worker;

use exec_proto::sandbox::{NetworkAccess, Permissions, SandboxContext};
use rustix::process::Signal;

pub(crate) use failure::{Failure, MAX_BYTES as OUTCOME_BYTES, parse as parse_outcome};
pub use first::run_if_first_process;
pub use floor::{Floor, FloorKind};
pub(crate) use floor::{Ground, is_possible_root};
pub(crate) use journal::{Journal, sweep as sweep_names};
pub(crate) use launch::{Confinement, Isolation, Launch, Prepared, Task, variable};
pub(crate) use notices::Told;
pub(crate) use policy::Purpose;
pub(crate) use refusal::Refusal;
pub(crate) use template::Template;
pub(crate) use ways::receive as receive_ways;
pub(crate) use worker::{Answer, Request, frame, receive};

/// What has to be enforced on this host for a request; `None` if nothing. Looks at files, so it may block.
///
/// # Errors
///
/// [`Refusal`] if it cannot be enforced.
pub(crate) fn confinement(
    context: Option<&SandboxContext>,
    purpose: Purpose<'_>,
    ground: &Ground,
) -> Result<Option<Confinement>, Refusal> {
    let host = view::Host;
    let temporary = ground.temporary.as_deref();
    let evaluate = |context| policy::evaluate(context, purpose, temporary, &host);
    let mut policy = context.map(evaluate).transpose()?.flatten();
    if let Some(floor) = &ground.floor {
        policy = floor::meet(policy, evaluate(&floor.context()?)?);
    }
    let Some(policy) = policy else {
        return Ok(None);
    };
    if ground.open_listener && purpose != Purpose::Files && policy.network == NetworkAccess::Enabled
    {
        // It could ask this executor for a command without a sandbox.
        let text = "a command with network access could reach this executor's own listener, which \
            takes requests from everybody on this machine; start it with --ws-auth";
        return Err(Refusal::Unenforceable(text.to_owned()));
    }
    let files = policy
        .files
        .map(|rules| steps::MountPlan::new(&rules, &host))
        .transpose()?;
    Ok(Some(Confinement {
        files,
        network: policy.network,
        isolation: None,
    }))
}

/// What a context asks to enforce on a command whose network is managed: always something.
///
/// # Errors
///
/// As [`confinement`].
pub(crate) fn isolated(
    context: &SandboxContext,
    purpose: Purpose<'_>,
    ground: &Ground,
    isolation: Isolation,
) -> Result<Confinement, Refusal> {
    if ground.floor.is_some() {
        let text = "the operator's sandbox floor leaves commands no network";
        return Err(Refusal::Unenforceable(text.to_owned()));
    }
    let mut context = context.clone();
    // Nothing of the host's network is there, so nothing has to be hidden because of it.
    if let Permissions::Managed { network, .. } | Permissions::External { network } =
        &mut context.permissions
    {
        *network = NetworkAccess::Restricted;
    }
    let files = confinement(Some(&context), purpose, ground)?.and_then(|confined| confined.files);
    Ok(Confinement {
        // A network namespace of its own needs the others, too.
        files: Some(files.unwrap_or_else(steps::MountPlan::unrestricted)),
        network: NetworkAccess::Enabled,
        isolation: Some(isolation),
    })
}

/// What to send to the first process of a sandbox so that the program's group gets `signal`.
///
/// The signals that no process can wait for have others in their place.
pub(crate) fn relayed(signal: Signal) -> Signal {
    match signal {
        Signal::KILL => first::END,
        Signal::STOP => first::PAUSE,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn open_network_needs_a_listener_that_asks_who_is_there() {
        let context = |network: &str| -> SandboxContext {
            let mut context = testing::context(&["read root"]);
            context["permissions"]["network"] = network.into();
            serde_json::from_value(context).unwrap()
        };
        let command = Purpose::Command(Path::new("/"));
        for (network, purpose, open_listener, is_refused) in [
            ("enabled", command, true, true),
            ("enabled", command, false, false),
            ("restricted", command, true, false),
            ("enabled", Purpose::Files, true, false),
        ] {
            let ground = Ground {
                open_listener,
                ..Ground::default()
            };
            let found = confinement(Some(&context(network)), purpose, &ground);
            assert_eq!(found.is_err(), is_refused, "{network} {purpose:?}");
        }
    }
}
