//! Which system calls a confined program may make: a list of what is allowed, by mode.
//!
//! Two filters are stacked. The first allows the calls of [`calls`](super::calls) and answers everything else with
//! ENOSYS, as a kernel without that call would, so that programs fall back. The second answers calls
//! that are known and refused with EPERM; the kernel takes the stricter answer of the two. A call
//! through the entry of another architecture kills the program.

use std::collections::BTreeMap;
use std::io;

use exec_proto::sandbox::NetworkAccess;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use super::calls::{ADMINISTRATION, ALLOWED, MESSAGING, REFUSED, TRACING};

/// What a filter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mode {
    pub(crate) network: NetworkAccess,
    /// Whether files are confined as well, by namespaces.
    pub(crate) namespaces: bool,
}

/// Both filters, in the order in which they are to be installed.
pub(crate) fn filters(mode: Mode) -> io::Result<[BpfProgram; 2]> {
    let mut allowed: Rules = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    let mut refused: Rules = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let administration = ADMINISTRATION.iter().map(|call| (*call, Vec::new()));
    if mode.namespaces {
        refused.extend(administration);
    } else {
        allowed.extend(administration);
    }
    if !mode.namespaces || mode.network == NetworkAccess::Restricted {
        refused.extend(TRACING.iter().map(|call| (*call, Vec::new())));
    } else {
        allowed.extend(TRACING.iter().map(|call| (*call, Vec::new())));
    }
    for flag in NAMESPACES {
        let is_set = |argument| {
            let flag = u64::from(flag.cast_unsigned());
            rule(&[(argument, Op::MaskedEq(flag), flag)])
        };
        refused.entry(libc::SYS_clone).or_default().push(is_set(0)?);
        refused
            .entry(libc::SYS_unshare)
            .or_default()
            .push(is_set(0)?);
    }
    // Typing into a terminal as if its user did.
    for request in [libc::TIOCSTI, libc::TIOCLINUX] {
        #[allow(
            clippy::useless_conversion,
            reason = "its type depends on the C library"
        )]
        let typing = rule(&[(1, Op::Eq, u64::from(request))])?;
        refused.entry(libc::SYS_ioctl).or_default().push(typing);
    }
    match mode.network {
        NetworkAccess::Enabled => {
            let known = [
                libc::AF_UNIX,
                libc::AF_INET,
                libc::AF_INET6,
                libc::AF_NETLINK,
            ];
            let other = known.map(|family| (0, Op::Ne, u64::from(family.cast_unsigned())));
            refused.insert(libc::SYS_socket, vec![rule(&other)?]);
        }
        NetworkAccess::Restricted => {
            refused.extend(MESSAGING.iter().map(|call| (*call, Vec::new())));
            let local = u64::from(libc::AF_UNIX.cast_unsigned());
            let kind = 0xf;
            // Datagrams can be addressed one by one, which a filter cannot see.
            let other = [
                rule(&[(0, Op::Ne, local)])?,
                rule(&[(
                    1,
                    Op::MaskedEq(kind),
                    u64::from(libc::SOCK_DGRAM.cast_unsigned()),
                )])?,
                rule(&[(
                    1,
                    Op::MaskedEq(kind),
                    u64::from(libc::SOCK_RAW.cast_unsigned()),
                )])?,
            ];
            refused.insert(libc::SYS_socket, other.to_vec());
            refused.insert(libc::SYS_socketpair, other.to_vec());
            let addressed = condition(4, Len::Qword, Op::Ne, 0)?;
            refused.insert(
                libc::SYS_sendto,
                vec![SeccompRule::new(vec![addressed]).map_err(invalid)?],
            );
        }
    }
    let arch: TargetArch = std::env::consts::ARCH.try_into().map_err(invalid)?;
    let no_such_call = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let compile = |rules, otherwise, then| {
        let filter = SeccompFilter::new(rules, otherwise, then, arch).map_err(invalid)?;
        BpfProgram::try_from(filter).map_err(invalid)
    };
    Ok([
        compile(allowed, no_such_call, SeccompAction::Allow)?,
        compile(refused, SeccompAction::Allow, refuse)?,
    ])
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// All conditions at once, on the lower half of each argument, which is all the kernel looks at.
fn rule(conditions: &[(u8, Op, u64)]) -> io::Result<SeccompRule> {
    let conditions = conditions
        .iter()
        .map(|(argument, op, value)| condition(*argument, Len::Dword, op.clone(), *value))
        .collect::<io::Result<_>>()?;
    SeccompRule::new(conditions).map_err(invalid)
}

fn condition(argument: u8, len: Len, op: Op, value: u64) -> io::Result<SeccompCondition> {
    SeccompCondition::new(argument, len, op, value).map_err(invalid)
}

fn invalid(err: seccompiler::BackendError) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, err)
}

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
