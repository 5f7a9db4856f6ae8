//! The sandbox that a request asks for: what it means, and how the kernel is made to enforce it.
//!
//! ```text
//! SandboxContext --policy--> Rules --steps--> MountPlan --launch--> first --enter--> program
//!                  (pure, over a View)                              processes of the sandbox
//! ```
//!
//! - [`policy`] and [`glob`] say what may be done with which path; [`view`] is all they see of files.
//! - [`steps`] turns that into mounts, still without doing anything.
//! - [`launch`] hands it to a process of our own program, in [`first`], which calls [`enter`],
//!   [`landlock`] and [`seccomp`] (over [`bpf`]) and then executes the client's program. [`failure`] tells of it.
//! - [`placeholder`] keeps names free that do not exist.
//! - [`ways`] makes the only ways out of a network namespace.
//! - [`worker`] serves file requests from inside a sandbox.
//! - [`notices`] tells what the kernel refused; [`denial`] judges whether a program failed because of it.
//!
//! Everything fails closed: whatever cannot be set up as asked is an error, and nothing runs.

mod bpf;
mod calls;
pub(crate) mod denial;
mod enter;
mod failure;
mod first;
mod glob;
mod landlock;
mod launch;
mod notices;
mod placeholder;
mod policy;
mod raw;
mod refusal;
mod seccomp;
mod steps;
mod sys;
#[cfg(test)]
pub(crate) mod testing;
mod view;
mod ways;
mod worker;

use std::path::Path;

use exec_proto::sandbox::{NetworkAccess, Permissions, SandboxContext};
use rustix::process::Signal;

pub(crate) use failure::{Failure, MAX_BYTES as OUTCOME_BYTES, parse as parse_outcome};
pub use first::run_if_first_process;
pub(crate) use launch::{Confinement, Isolation, Launch, Prepared, Task, variable};
pub(crate) use notices::Told;
pub(crate) use policy::Purpose;
pub(crate) use refusal::Refusal;
pub(crate) use ways::receive as receive_ways;
pub(crate) use worker::{Answer, Request, frame, receive};

/// What a context asks to enforce on this host; `None` if nothing. Looks at files, so it may block.
///
/// `temporary` is the executor's own directory for temporary files.
///
/// # Errors
///
/// [`Refusal`] if it cannot be enforced.
pub(crate) fn confinement(
    context: &SandboxContext,
    purpose: Purpose<'_>,
    temporary: Option<&Path>,
) -> Result<Option<Confinement>, Refusal> {
    let host = view::Host;
    let Some(policy) = policy::evaluate(context, purpose, temporary, &host)? else {
        return Ok(None);
    };
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
    temporary: Option<&Path>,
    isolation: Isolation,
) -> Result<Confinement, Refusal> {
    let mut context = context.clone();
    // Nothing of the host's network is there, so nothing has to be hidden because of it.
    if let Permissions::Managed { network, .. } | Permissions::External { network } =
        &mut context.permissions
    {
        *network = NetworkAccess::Restricted;
    }
    let files = confinement(&context, purpose, temporary)?.and_then(|confined| confined.files);
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
