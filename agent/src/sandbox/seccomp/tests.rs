use super::super::bpf::tests::{own_architecture, run};
use super::*;

const MODES: [Mode; 4] = [
    mode(NetworkAccess::Restricted, true),
    mode(NetworkAccess::Enabled, true),
    mode(NetworkAccess::Restricted, false),
    mode(NetworkAccess::Enabled, false),
];

const fn mode(network: NetworkAccess, namespaces: bool) -> Mode {
    Mode {
        network,
        namespaces,
        notices: false,
        isolation: None,
    }
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
const ASK: u32 = libc::SECCOMP_RET_USER_NOTIF;

fn ask(mode: Mode, call: i64, args: [u64; 6]) -> u32 {
    let program = filter(mode).unwrap();
    let call = u32::try_from(call).unwrap();
    run(&program, own_architecture(), call, args)
}

fn socket(mode: Mode, family: i32, kind: i32) -> u32 {
    let args = [family, kind].map(|argument| u64::from(argument.cast_unsigned()));
    ask(mode, libc::SYS_socket, [args[0], args[1], 0, 0, 0, 0])
}

#[test]
fn every_list_means_what_it_says_in_every_mode() {
    for mode in MODES {
        let restricted = mode.network == NetworkAccess::Restricted;
        let program = filter(mode).unwrap();
        for call in 0..600 {
            let answer = run(&program, own_architecture(), call, [0; 6]);
            let call = i64::from(call);
            let refused = REFUSED.contains(&call)
                || mode.namespaces && ADMINISTRATION.contains(&call)
                || (restricted || !mode.namespaces) && TRACING.contains(&call)
                || restricted && MESSAGING.contains(&call)
                // A family of zero.
                || call == libc::SYS_socket
                || restricted && call == libc::SYS_socketpair;
            let known = [ALLOWED, ADMINISTRATION, TRACING].concat().contains(&call);
            let expected = match (refused, known) {
                (true, _) => EPERM,
                (false, true) => ALLOW,
                (false, false) => ENOSYS,
            };
            assert_eq!(answer, expected, "{mode:?} {call}");
        }
    }
}

#[test]
fn other_entries_and_unknown_numbers_are_no_way_in() {
    for mode in MODES {
        let program = filter(mode).unwrap();
        // i386, and x32, whose numbers have a bit of their own.
        let other = run(&program, 0x4000_0003, 20, [0; 6]);
        assert_eq!(other, libc::SECCOMP_RET_KILL_PROCESS);
        for call in [0x4000_0000, 0x4000_0001, 0x4000_0208, 0x7fff_ffff, u32::MAX] {
            assert_eq!(
                run(&program, own_architecture(), call, [0; 6]),
                ENOSYS,
                "{call:x}"
            );
        }
    }
}

#[test]
fn namespaces_need_a_flag_to_be_refused() {
    for mode in MODES {
        for call in [libc::SYS_clone, libc::SYS_unshare] {
            for flag in NAMESPACES {
                let flags = u64::from(flag.cast_unsigned());
                assert_eq!(ask(mode, call, [flags, 0, 0, 0, 0, 0]), EPERM);
                let more = flags | 0x11;
                assert_eq!(ask(mode, call, [more, 0, 0, 0, 0, 0]), EPERM);
            }
            let threads = u64::from((libc::CLONE_VM | libc::CLONE_FS).cast_unsigned());
            assert_eq!(ask(mode, call, [threads, 0, 0, 0, 0, 0]), ALLOW);
        }
    }
}

#[test]
fn sockets_are_those_of_the_mode() {
    for mode in MODES {
        let open = mode.network == NetworkAccess::Enabled;
        let with = if open { ALLOW } else { EPERM };
        assert_eq!(socket(mode, libc::AF_UNIX, libc::SOCK_STREAM), ALLOW);
        assert_eq!(socket(mode, libc::AF_INET, libc::SOCK_STREAM), with);
        assert_eq!(socket(mode, libc::AF_INET6, libc::SOCK_DGRAM), with);
        assert_eq!(socket(mode, libc::AF_NETLINK, libc::SOCK_RAW), with);
        assert_eq!(socket(mode, libc::AF_UNIX, libc::SOCK_DGRAM), with);
        let flagged = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        assert_eq!(socket(mode, libc::AF_UNIX, flagged), with);
        for family in [
            libc::AF_VSOCK,
            libc::AF_PACKET,
            libc::AF_ALG,
            libc::AF_BLUETOOTH,
        ] {
            assert_eq!(socket(mode, family, libc::SOCK_STREAM), EPERM, "{family}");
        }
        let to = [3, 0, 0, 0, 1 << 40, 0];
        assert_eq!(ask(mode, libc::SYS_sendto, to), with);
        assert_eq!(ask(mode, libc::SYS_sendto, [3, 1, 1, 1, 0, 0]), ALLOW);
    }
}

#[test]
fn terminals_cannot_be_typed_into() {
    for mode in MODES {
        for (request, expected) in [(libc::TIOCSTI, EPERM), (libc::TIOCGWINSZ, ALLOW)] {
            assert_eq!(
                ask(mode, libc::SYS_ioctl, [0, request, 0, 0, 0, 0]),
                expected
            );
        }
    }
}

#[test]
fn only_what_says_something_about_the_policy_is_told() {
    let mode = Mode {
        notices: true,
        ..mode(NetworkAccess::Restricted, true)
    };
    assert_eq!(socket(mode, libc::AF_INET, libc::SOCK_STREAM), ASK);
    assert_eq!(socket(mode, libc::AF_NETLINK, libc::SOCK_RAW), EPERM);
    assert_eq!(ask(mode, libc::SYS_mount, [0; 6]), ASK);
    assert_eq!(ask(mode, libc::SYS_ptrace, [0; 6]), ASK);
    // Asked for by way of trying, and everybody has another way.
    assert_eq!(ask(mode, libc::SYS_connect, [0; 6]), EPERM);
    assert_eq!(ask(mode, libc::SYS_io_uring_setup, [0; 6]), EPERM);
}

#[test]
fn a_managed_network_has_no_local_sockets_unless_all_of_them() {
    let isolated = |all_unix_sockets| Mode {
        isolation: Some(Isolation { all_unix_sockets }),
        ..mode(NetworkAccess::Enabled, true)
    };
    for mode in [isolated(false), isolated(true)] {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            for family in [libc::AF_INET, libc::AF_INET6] {
                assert_eq!(socket(mode, family, kind), ALLOW);
            }
        }
        for family in [libc::AF_NETLINK, libc::AF_VSOCK, libc::AF_PACKET] {
            assert_eq!(socket(mode, family, libc::SOCK_RAW), EPERM);
        }
        for call in [libc::SYS_connect, libc::SYS_bind, libc::SYS_listen] {
            assert_eq!(ask(mode, call, [0; 6]), ALLOW);
        }
        assert_eq!(ask(mode, libc::SYS_ptrace, [0; 6]), EPERM);
    }
    let pair = |mode, kind: libc::c_int| {
        let (family, kind) = (libc::AF_UNIX.cast_unsigned(), kind.cast_unsigned());
        let arguments = [family.into(), kind.into(), 0, 0, 0, 0];
        ask(mode, libc::SYS_socketpair, arguments)
    };
    assert_eq!(
        socket(isolated(false), libc::AF_UNIX, libc::SOCK_STREAM),
        EPERM
    );
    assert_eq!(
        socket(isolated(true), libc::AF_UNIX, libc::SOCK_STREAM),
        ALLOW
    );
    assert_eq!(pair(isolated(false), libc::SOCK_STREAM), ALLOW);
    assert_eq!(pair(isolated(false), libc::SOCK_DGRAM), EPERM);
    assert_eq!(pair(isolated(true), libc::SOCK_DGRAM), ALLOW);
}
