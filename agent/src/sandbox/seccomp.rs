//! Which system calls a confined program may make: a list of what is allowed, by mode.
//!
//! Calls that are known and refused fail with EPERM, and those that are not listed with ENOSYS, as in a
//! kernel without them, so that programs fall back. A call through the entry of another architecture
//! kills the program.
//!
//! Some refusals say that a program wanted what the policy withholds. Where somebody listens, these are
//! told to it; see [`notices`](super::notices).

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use exec_proto::sandbox::NetworkAccess;
use libc::sock_filter;

use super::Isolation;
use super::bpf::{Answer, Condition, Len, Op, Rule, compile};
use super::calls::{ADMINISTRATION, ALLOWED, MESSAGING, REFUSED, TRACING};

/// What a filter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mode {
    pub(crate) network: NetworkAccess,
    /// Whether files are confined as well, by namespaces.
    pub(crate) namespaces: bool,
    /// Whether somebody listens to what is refused.
    pub(crate) notices: bool,
    /// Set if the network is one that nothing else is in.
    pub(crate) isolation: Option<Isolation>,
}

/// The program for the kernel.
pub(super) fn filter(mode: Mode) -> io::Result<Vec<sock_filter>> {
    let rules = rules(mode);
    compile(&rules, NO_SUCH_CALL)
}

fn rules(mode: Mode) -> BTreeMap<i64, Rule> {
    let telling = match mode.notices {
        true => Answer::Ask,
        false => REFUSE,
    };
    let mut allowed: BTreeSet<i64> = ALLOWED.iter().copied().collect();
    let mut refused: BTreeMap<i64, Refused> = BTreeMap::new();
    let mut always = |calls: &[i64], answer| {
        for call in calls {
            refused.insert(*call, vec![(Vec::new(), answer)]);
        }
    };
    always(REFUSED, REFUSE);
    if mode.namespaces {
        always(ADMINISTRATION, telling);
    } else {
        allowed.extend(ADMINISTRATION);
    }
    let reachable = mode.network == NetworkAccess::Enabled && mode.isolation.is_none();
    if !mode.namespaces || !reachable {
        always(TRACING, telling);
    } else {
        allowed.extend(TRACING);
    }
    if mode.network == NetworkAccess::Restricted {
        always(MESSAGING, REFUSE);
    }
    let mut when = |call, conditions, answer| {
        refused.entry(call).or_default().push((conditions, answer));
    };
    for flag in NAMESPACES {
        let flag = u64::from(flag.cast_unsigned());
        for call in [libc::SYS_clone, libc::SYS_unshare] {
            when(call, vec![is(0, Op::MaskedEq(flag), flag)], telling);
        }
    }
    // Typing into a terminal as if its user did.
    for request in [libc::TIOCSTI, libc::TIOCLINUX] {
        #[allow(
            clippy::useless_conversion,
            reason = "its type depends on the C library"
        )]
        let typing = is(1, Op::Eq, u64::from(request));
        when(libc::SYS_ioctl, vec![typing], REFUSE);
    }
    let families = |families: &[i32], op: Op| -> Vec<Condition> {
        let families = families.iter().map(|family| family.cast_unsigned().into());
        families.map(|family| is(0, op, family)).collect()
    };
    // What stays connected to one other. Datagrams can be addressed one by one, which a filter cannot
    // see.
    let pairs_only = || {
        let datagrams = [libc::SOCK_DGRAM, libc::SOCK_RAW].map(|kind| {
            let kind = u64::from(kind.cast_unsigned());
            vec![is(1, Op::MaskedEq(SOCKET_KIND), kind)]
        });
        std::iter::once(families(&[libc::AF_UNIX], Op::Ne)).chain(datagrams)
    };
    match (mode.network, mode.isolation) {
        (NetworkAccess::Enabled, Some(isolation)) => {
            let mut known = vec![libc::AF_INET, libc::AF_INET6];
            if isolation.all_unix_sockets {
                known.push(libc::AF_UNIX);
            } else {
                for other in pairs_only() {
                    when(libc::SYS_socketpair, other, REFUSE);
                }
            }
            when(libc::SYS_socket, families(&known, Op::Ne), REFUSE);
        }
        (NetworkAccess::Enabled, None) => {
            let known = [
                libc::AF_UNIX,
                libc::AF_INET,
                libc::AF_INET6,
                libc::AF_NETLINK,
            ];
            when(libc::SYS_socket, families(&known, Op::Ne), REFUSE);
        }
        (NetworkAccess::Restricted, _) => {
            // What other families are asked for is often only a look around.
            for family in [libc::AF_INET, libc::AF_INET6] {
                when(libc::SYS_socket, families(&[family], Op::Eq), telling);
            }
            for call in [libc::SYS_socket, libc::SYS_socketpair] {
                for other in pairs_only() {
                    when(call, other, REFUSE);
                }
            }
            let addressed = Condition {
                argument: 4,
                len: Len::Qword,
                op: Op::Ne,
                value: 0,
            };
            when(libc::SYS_sendto, vec![addressed], REFUSE);
        }
    }
    let mut rules: BTreeMap<i64, Rule> = allowed
        .iter()
        .map(|call| (*call, Rule::always(Answer::Allow)))
        .collect();
    for (call, mut when) in refused {
        let otherwise = match allowed.contains(&call) {
            true => Answer::Allow,
            false => NO_SUCH_CALL,
        };
        // Without conditions there is no other case.
        let rule = match when
            .iter()
            .position(|(conditions, _)| conditions.is_empty())
        {
            Some(at) => {
                let (_, otherwise) = when.swap_remove(at);
                when.truncate(at);
                Rule { when, otherwise }
            }
            None => Rule { when, otherwise },
        };
        rules.insert(call, rule);
    }
    rules
}

/// Conditions, and the answer when all of them hold.
type Refused = Vec<(Vec<Condition>, Answer)>;

fn is(argument: u8, op: Op, value: u64) -> Condition {
    Condition {
        argument,
        len: Len::Dword,
        op,
        value,
    }
}

const REFUSE: Answer = Answer::Errno(libc::EPERM);
const NO_SUCH_CALL: Answer = Answer::Errno(libc::ENOSYS);

/// The bits of a socket's type that are not flags.
const SOCKET_KIND: u64 = 0xf;

/// Namespaces that a program could use to leave or weaken its own.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

#[cfg(test)]
mod tests;
