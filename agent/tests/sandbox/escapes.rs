//! Ways out, all closed.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::client::{for_each_user, with_network};
use crate::probe::try_inside;

#[test]
fn the_superuser_cannot_change_the_kernels_settings() {
    for_each_user(|client| {
        let before = std::fs::read("/proc/sys/kernel/domainname").unwrap();
        let script = "for f in /proc/sys/kernel/domainname /proc/sys/kernel/core_pattern \
            /proc/sysrq-trigger /sys/kernel/mm/ksm/run; do echo x > $f && echo written; done; true";
        for context in [
            client.place.read_only(),
            client.place.context(&["write root", "deny /o"]),
        ] {
            let finished = client.shell(script, context);
            assert!(!finished.output.contains("written"), "{}", finished.output);
        }
        assert_eq!(
            std::fs::read("/proc/sys/kernel/domainname").unwrap(),
            before
        );
    });
}

#[test]
fn no_rights_are_left() {
    for_each_user(|client| {
        let script = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; ls /proc/self/fd";
        let finished = client.shell(script, client.place.read_only());
        let mut lines = finished.output.lines();
        for line in lines.by_ref().take(5) {
            assert!(line.ends_with("\t0000000000000000"), "{line}");
        }
        assert_eq!(lines.next(), Some("NoNewPrivs:\t1"));
        assert_eq!(lines.next(), Some("Seccomp:\t2"));
        // The fourth is the directory itself.
        assert_eq!(lines.collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    });
}

#[test]
fn nested_namespaces_keyrings_and_kernel_interfaces_are_refused_in_every_mode() {
    for_each_user(|client| {
        let modes = [
            client.place.read_only(),
            with_network(client.place.read_only()),
        ];
        for mode in modes {
            for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET] {
                let answer = try_inside(client, &format!("unshare {flag}"), mode.clone());
                assert_eq!(answer, libc::EPERM, "unshare {flag:x}");
            }
            for call in [
                libc::SYS_keyctl,
                libc::SYS_add_key,
                libc::SYS_request_key,
                libc::SYS_bpf,
                libc::SYS_perf_event_open,
                libc::SYS_userfaultfd,
                libc::SYS_io_uring_setup,
                libc::SYS_mount,
                libc::SYS_fsopen,
                libc::SYS_open_tree,
                libc::SYS_setns,
                libc::SYS_pidfd_getfd,
            ] {
                let answer = try_inside(client, &format!("call {call}"), mode.clone());
                assert_eq!(answer, libc::EPERM, "call {call}");
            }
        }
    });
}

#[test]
fn calls_that_are_not_listed_do_not_exist() {
    for_each_user(|client| {
        for call in [libc::SYS_clone3, 10_000] {
            let answer = try_inside(client, &format!("call {call}"), client.place.read_only());
            assert_eq!(answer, libc::ENOSYS, "call {call}");
        }
    });
}

#[test]
fn without_network_only_pairs_of_sockets_remain() {
    for_each_user(|client| {
        let inside = client.place.read_only();
        for (domain, kind, expected) in [
            (libc::AF_INET, libc::SOCK_STREAM, libc::EPERM),
            (libc::AF_INET6, libc::SOCK_DGRAM, libc::EPERM),
            (libc::AF_NETLINK, libc::SOCK_RAW, libc::EPERM),
            (libc::AF_VSOCK, libc::SOCK_STREAM, libc::EPERM),
            (libc::AF_UNIX, libc::SOCK_STREAM, 0),
            // Datagrams carry an address that a filter cannot see.
            (libc::AF_UNIX, libc::SOCK_DGRAM, libc::EPERM),
            (
                libc::AF_UNIX,
                libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
                libc::EPERM,
            ),
        ] {
            let what = format!("socket {domain} {kind}");
            assert_eq!(
                try_inside(client, &what, inside.clone()),
                expected,
                "{what}"
            );
        }
        for call in [libc::SYS_connect, libc::SYS_bind, libc::SYS_ptrace] {
            let answer = try_inside(client, &format!("call {call}"), inside.clone());
            assert_eq!(answer, libc::EPERM, "call {call}");
        }
    });
}

#[test]
fn abstract_sockets_of_others_are_out_of_reach_with_network() {
    let name = format!("exec-server-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    for_each_user(|client| {
        let what = format!("abstract {name}");
        let inside = with_network(client.place.read_only());
        assert_eq!(try_inside(client, &what, inside), libc::EPERM);
        assert_eq!(
            try_inside(client, &what, serde_json::Value::Null),
            0,
            "without a sandbox"
        );
        // Another kind of socket is fine.
        let inside = with_network(client.place.read_only());
        let what = format!("socket {} {}", libc::AF_INET, libc::SOCK_STREAM);
        assert_eq!(try_inside(client, &what, inside), 0);
    });
}

#[test]
fn processes_outside_do_not_exist() {
    for_each_user(|client| {
        let outside = client.executor.id();
        for context in [
            client.place.read_only(),
            with_network(client.place.read_only()),
        ] {
            let answer = try_inside(client, &format!("kill {outside}"), context);
            assert_eq!(answer, libc::ESRCH);
        }
        let count = "ls /proc | grep -c '^[0-9]'";
        let finished = client.shell(count, client.place.read_only());
        assert!(
            finished.output.trim().parse::<u32>().unwrap() < 6,
            "{finished:?}"
        );
    });
}

#[test]
fn init_of_the_sandbox_gives_nothing_away() {
    for_each_user(|client| {
        let script = "cat /proc/1/environ; ls /proc/1/root /proc/1/cwd; cat /proc/1/maps; \
            for f in 0 1 2 3; do cat /proc/1/fd/$f; done; true";
        let context = with_network(client.place.read_only());
        let finished = client.shell(script, context);
        for line in finished.output.lines() {
            assert!(line.contains("Permission denied"), "{line}");
        }
    });
}

#[test]
fn nothing_can_be_typed_into_the_terminal() {
    for_each_user(|client| {
        let answer = try_inside(client, "typing", client.place.read_only());
        assert_eq!(answer, libc::EPERM);
    });
}
