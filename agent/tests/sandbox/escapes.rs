//! Ways out, all closed.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use serde_json::json;

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

/// Somebody inside changes what a link means all the time, while a command and file requests go
/// through it.
#[test]
fn links_that_change_all_the_time_lead_nowhere() {
    for_each_user(|client| {
        let context = client.place.workspace_write(&["deny /w/private"]);
        let script = "echo started; while :; do ln -sfn ../o way; ln -sfn private way; ln -sfn sub way; done";
        let params = client.start(&["/bin/sh", "-c", script], context.clone());
        let id = params["processId"].clone();
        client.ok("process/start", params);
        client.until(&id, "started");
        for number in 0..100 {
            let path = client.place.uri(&format!("w/way/f{number}"));
            let params = json!({"path": path, "dataBase64": "eA==", "sandbox": context});
            // Whatever it meets.
            let _ = client.call("fs/writeFile", params);
            let params = json!({"path": client.place.uri("w/way/p.txt"), "sandbox": context});
            let read = client.call("fs/readFile", params);
            assert!(read.is_err(), "the denied file: {read:?}");
        }
        let script = "i=0; while [ $i -lt 200 ]; do echo x > way/g$i; cat way/p.txt; i=$((i+1)); done 2>/dev/null; true";
        let finished = client.shell(script, context);
        assert!(!finished.output.contains('p'), "{finished:?}");
        client.ok("process/terminate", json!({"processId": id}));
        client.finish(&id);
        let names = |name: &str| std::fs::read_dir(client.place.path(name)).unwrap().count();
        assert_eq!((names("o"), names("w/private")), (1, 2));
    });
}

#[test]
fn other_names_of_the_root_lead_to_the_same_place() {
    for_each_user(|client| {
        let outside = client.place.text("o");
        let script = format!(
            "for r in /proc/self/root /proc/thread-self/root /proc/$$/root /proc/self/cwd/../../../../../.. \
            /proc/$$/task/$$/root; do echo x > $r{outside}/escaped && echo escaped; cat $r{0}/w/.env; done; \
            cd / && cd .. && echo x > ./{outside}/escaped && echo escaped; true",
            client.place.root.display()
        );
        for context in [
            client.place.workspace_write(&["deny /w/.env"]),
            with_network(client.place.workspace_write(&["deny /w/.env"])),
        ] {
            let finished = client.shell(&script, context);
            assert!(
                !finished
                    .output
                    .lines()
                    .any(|line| line == "escaped" || line == "secret"),
                "{finished:?}"
            );
            assert!(!client.place.path("o/escaped").exists());
        }
    });
}

/// What is open when the program starts, and what a file request opened, is as confined as a path.
#[test]
fn open_descriptors_give_nothing_more() {
    for_each_user(|client| {
        let script = "for f in 0 1 2; do echo x > /proc/self/fd/$f/../../o/n; ls /proc/self/fd/$f/; done; \
            cd /proc/self/fd && ls; true";
        let finished = client.shell(script, client.place.workspace_write(&[]));
        assert!(!client.place.path("o/n").exists(), "{finished:?}");
        let context = client.place.workspace_write(&["deny /w/.env"]);
        let open = json!({"handleId": "h", "mode": "read", "path": client.place.uri("o/o.txt"), "sandbox": context});
        client.ok("fs/open", open);
        let chunk = exec_proto::base64::encode(b"other");
        let write = json!({"handleId": "h", "offset": 0, "chunk": chunk});
        assert!(client.call("fs/writeBlock", write).is_err());
        client.ok("fs/close", json!({"handleId": "h"}));
        assert_eq!(
            std::fs::read_to_string(client.place.path("o/o.txt")).unwrap(),
            "o\n"
        );
    });
}

#[test]
fn hard_links_bring_nothing_in_or_out() {
    for_each_user(|client| {
        let context = client
            .place
            .workspace_write(&["deny /w/.env", "read /w/docs"]);
        let script = "ln .env e; ln private/p.txt ../o/p; ln ../o/o.txt o; ln docs/d.md d && echo x >> d; \
            ln .git/config c && echo x >> c; cat e; ls";
        let finished = client.shell(script, context);
        assert!(!finished.output.contains("secret"), "{finished:?}");
        for (name, content) in [
            ("w/docs/d.md", "d\n"),
            ("w/.git/config", "git\n"),
            ("o/o.txt", "o\n"),
        ] {
            assert_eq!(
                std::fs::read_to_string(client.place.path(name)).unwrap(),
                content,
                "{name}"
            );
        }
        assert!(!client.place.path("o/p").exists());
    });
}

#[test]
fn no_mount_is_shared_with_the_host() {
    for_each_user(|client| {
        let script = "grep -E ' (shared|master|propagate_from):' /proc/self/mountinfo; \
            grep -vE ' (ro|rw),[^ ]*nosuid' /proc/self/mountinfo; true";
        for context in [
            client.place.workspace_write(&["deny /w/.env"]),
            client
                .place
                .context(&["read minimal", "write project_roots"]),
        ] {
            let finished = client.shell(script, context);
            assert_eq!(
                finished.output, "",
                "mounts that are shared, or with setuid"
            );
        }
    });
}

#[test]
fn setuid_programs_give_no_rights() {
    for_each_user(|client| {
        let program = client.place.path("w/id");
        std::fs::copy("/usr/bin/id", &program).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
        std::fs::set_permissions(&program, mode).unwrap();
        let own = client.user.unwrap_or(rustix::process::geteuid().as_raw());
        let finished = client.shell("./id -u", client.place.workspace_write(&[]));
        assert_eq!(finished.output, format!("{own}\n"));
        let script = "grep -E '^Cap(Prm|Eff|Bnd)' /proc/self/status | grep -v 0000000000000000; su -c true </dev/null && echo became; true";
        let finished = client.shell(script, client.place.workspace_write(&[]));
        assert!(!finished.output.contains("Cap"), "{finished:?}");
    });
}

#[test]
fn calls_by_other_numbers_are_no_way_around() {
    for_each_user(|client| {
        // Numbers of the x32 calls, where the kernel has them.
        for call in [libc::SYS_mount, libc::SYS_ptrace, libc::SYS_socket] {
            let answer = try_inside(
                client,
                &format!("call {}", call | 0x4000_0000),
                client.place.read_only(),
            );
            assert_eq!(answer, libc::ENOSYS, "{call}");
        }
    });
}
