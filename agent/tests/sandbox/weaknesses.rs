//! What the sandbox of the reference does badly, and the tests that keep us from doing the same.
//! Those that are not in this program are beside the code or in another one.
//!
//! | weakness | prevented by |
//! |---|---|
//! | 1 the superuser changes the kernel's settings | `the_superuser_cannot_change_the_kernels_settings` |
//! | 2 file requests are read by the executor itself | `the_executors_environment_cannot_be_read_through_a_file_request` |
//! | 3 a type is reported though nothing is enforced | `the_reported_type_is_true` |
//! | 4 managed network without a sandbox is not enforced | `what_cannot_be_enforced_is_refused` |
//! | 5 commands run in another directory | `a_command_never_runs_in_another_directory` |
//! | 6 placeholders stay, or are taken away | `absent_protected_names_cannot_be_made_and_leave_nothing_behind`, `a_terminated_command_leaves_nothing_behind`, `a_killed_executor_leaves_nothing_behind`, `removing_a_protected_name_from_outside_ends_the_command`, `commands_share_protected_names` |
//! | 7 denial by a list of words | `exit_codes_and_signals_are_the_programs`, `words_count_only_for_failed_programs_and_within_a_stream`, `a_refused_connection_is_known_without_words` |
//! | 8 a missing program looks like a denial | `a_program_that_cannot_be_executed_is_a_failed_start` |
//! | 9 a writable file or a linked `.git` crashes every command | `a_single_file_can_be_writable`, `links_that_the_policy_went_through_cannot_be_replaced` |
//! | 10 patterns skip links and directories, and are old | `patterns_deny_directories_and_targets_of_links`, `a_policy_whose_files_changed_is_applied_as_it_is_now` |
//! | 11 the environment widens the policy | `the_commands_environment_does_not_widen_the_policy`, `temporary_directories_are_the_executors_or_the_contexts` |
//! | 12 narrower entries and `skip` have no effect | `narrower_entries_open_what_is_denied_around_them`, `a_skipped_name_is_not_kept` |
//! | 13 the network opens every socket and every process | `abstract_sockets_of_others_are_out_of_reach_with_network`, `sockets_of_daemons_are_not_there_with_network`, `a_command_with_network_cannot_reach_an_open_listener`, `processes_outside_do_not_exist` |
//! | 14 nested namespaces, keyrings, kernel interfaces | `nested_namespaces_keyrings_and_kernel_interfaces_are_refused_in_every_mode` |
//! | 15 entries about Unix sockets have no effect | `what_cannot_be_enforced_is_refused` |
//! | 16 masking of credentials fails open | `what_cannot_be_enforced_is_refused` |
//! | 17 the executor is not hardened | `no_way_leads_to_the_environment_of_the_executor`, `the_secret_is_in_no_environment_argument_descriptor_or_log`, `no_way_leads_from_a_sandbox_to_the_executors_credentials`, `credentials_are_inherited_only_if_the_operator_says_so`, `a_crash_leaves_no_image_and_starts_no_program_of_the_host` |
//! | 18 a question for every connection | `what_cannot_be_enforced_is_refused` |
//! | 19 a program from `PATH`, and many processes | `no_program_of_the_path_takes_part`, `file_requests_of_a_policy_share_a_process` |
//! | 20 no controlling terminal | `the_terminal_controls_the_program` |
//! | 21 no limits | `processes_of_a_sandbox_are_limited`, `what_is_left_of_a_command_ends_with_it` |
//! | 22 the state home must not be a temporary directory | `a_state_home_below_a_temporary_directory_is_no_problem` |
//! | 23 the policy travels as arguments | `large_policies_are_no_problem`, `the_policy_is_in_no_argument` |
//! | 24 what is not refused is allowed | `calls_that_are_not_listed_do_not_exist` |
//! | 25 a waiting request holds the others up | `nothing_that_waits_holds_up_the_connection`, `file_requests_do_not_wait_for_each_other` |

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use crate::client::{Client, Setup, for_each_user, for_each_user_with, with_network};

/// A renamed test must not leave a weakness without one.
#[test]
fn every_weakness_has_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    for directory in ["src", "tests"] {
        read_sources(&root.join(directory), &mut sources);
    }
    let rows = include_str!("weaknesses.rs").lines();
    let rows = rows.filter_map(|line| line.strip_prefix("//! | "));
    let mut numbers = BTreeSet::new();
    for (weakness, tests) in rows.filter_map(|row| row.split_once(" | ")) {
        let Some(number) = weakness
            .split(' ')
            .next()
            .and_then(|word| word.parse().ok())
        else {
            continue;
        };
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{weakness}");
        for name in names {
            assert!(
                sources.contains(&format!("fn {name}(")),
                "{weakness}: {name}"
            );
        }
        numbers.insert(number);
    }
    assert_eq!(numbers, (1..=25).collect::<BTreeSet<u32>>());
}

fn read_sources(directory: &Path, sources: &mut String) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_sources(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn a_skipped_name_is_not_kept() {
    for_each_user(|client| {
        let mut context = client.place.workspace_write(&["read /w/later"]);
        let finished = client.shell("mkdir later", context.clone());
        assert!(finished.output.contains("File exists"), "{finished:?}");
        let entries = &mut context["permissions"]["file_system"]["entries"];
        entries[2]["missing_path_behavior"] = "skip".into();
        let finished = client.shell("mkdir later", context);
        assert_eq!(finished.code, 0, "{finished:?}");
    });
}

#[test]
fn sockets_of_daemons_are_not_there_with_network() {
    for_each_user(|client| {
        let script = "for f in /run/* /var/run/docker.sock; do test -S \"$f\" && echo $f; done; \
            ls -A /run; true";
        let context = with_network(client.place.read_only());
        let finished = client.shell(script, context);
        // What is of use for the network may be shown.
        let shown = [
            "systemd",
            "resolvconf",
            "NetworkManager",
            "current-system",
            "opengl-driver",
        ];
        for line in finished.output.lines() {
            assert!(shown.contains(&line), "{line}");
        }
    });
}

/// Whatever stands first on the path is not asked.
#[test]
fn no_program_of_the_path_takes_part() {
    let directory = tempfile::tempdir().unwrap();
    let traps = directory.path().join("traps");
    std::fs::create_dir(&traps).unwrap();
    let sprung = directory.path().join("sprung");
    for name in [
        "bwrap",
        "codex-linux-sandbox",
        "exec-server",
        "true",
        "newuidmap",
    ] {
        let script = format!("#!/bin/sh\necho $0 >> {}\n", sprung.display());
        std::fs::write(traps.join(name), script).unwrap();
    }
    crate::client::open_to_all(directory.path());
    for entry in std::fs::read_dir(&traps).unwrap() {
        let path = entry.unwrap().path();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(path, mode).unwrap();
    }
    let path = format!("{}:/usr/bin:/bin", traps.display());
    let setup = Setup {
        variables: vec![("PATH".to_owned(), path)],
        ..Setup::default()
    };
    for_each_user_with(&setup, |client| {
        let finished = client.shell("cat a.txt", client.place.read_only());
        assert_eq!(finished.output, "a\n");
        let sandbox = client.place.workspace_write(&["deny /w/.env"]);
        let params = json!({"path": client.place.uri("w/a.txt"), "sandbox": sandbox});
        client.ok("fs/readFile", params);
        assert!(!sprung.exists(), "{:?}", std::fs::read_to_string(&sprung));
    });
}

#[test]
fn file_requests_of_a_policy_share_a_process() {
    for_each_user(|client| {
        let sandbox = client.place.workspace_write(&["deny /w/.env"]);
        let params = json!({"path": client.place.uri("w/a.txt"), "sandbox": sandbox});
        client.ok("fs/readFile", params.clone());
        let first = children(client);
        // And the template that it is a copy of.
        assert_eq!(first.len(), 2);
        for _ in 0..20 {
            client.ok("fs/readFile", params.clone());
        }
        assert_eq!(children(client), first);
    });
}

/// The processes that an executor has started.
pub(crate) fn children(client: &Client) -> Vec<u32> {
    let tasks = format!("/proc/{}/task", client.executor.id());
    let mut found = Vec::new();
    for task in std::fs::read_dir(tasks).unwrap() {
        let list = task.unwrap().path().join("children");
        let list = std::fs::read_to_string(list).unwrap_or_default();
        found.extend(list.split_whitespace().map(|id| id.parse::<u32>().unwrap()));
    }
    found
}

/// Those, and all that they have started.
pub(crate) fn descendants(client: &Client) -> Vec<u32> {
    let mut all = children(client);
    let mut next = all.clone();
    while let Some(pid) = next.pop() {
        let list = format!("/proc/{pid}/task/{pid}/children");
        let list = std::fs::read_to_string(list).unwrap();
        let found = list.split_whitespace().map(|id| id.parse::<u32>().unwrap());
        next.extend(found.clone());
        all.extend(found);
    }
    all
}

#[test]
fn a_state_home_below_a_temporary_directory_is_no_problem() {
    let home = tempfile::tempdir_in("/tmp").unwrap();
    crate::client::open_to_all(home.path());
    let setup = Setup {
        variables: vec![("CODEX_HOME".to_owned(), home.path().display().to_string())],
        ..Setup::default()
    };
    for_each_user_with(&setup, |client| {
        let finished = client.shell("cat a.txt", client.place.read_only());
        assert_eq!(finished.output, "a\n");
        let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

/// Other users can read arguments, and environments of what is dumpable.
#[test]
fn the_policy_is_in_no_argument() {
    for_each_user(|client| {
        let context = client
            .place
            .context(&["read root", "deny /o/secret-of-the-policy"]);
        let script = "echo ready; read line";
        let mut params = client.start(&["/bin/sh", "-c", script], context);
        params["pipeStdin"] = true.into();
        let id = params["processId"].clone();
        client.ok("process/start", params);
        client.until(&id, "ready");
        let all = descendants(client);
        assert!(all.len() >= 3, "{all:?}");
        for pid in all {
            for file in ["cmdline", "environ"] {
                let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                assert!(!text.contains("secret-of-the-policy"), "{text}");
            }
        }
        client.ok("process/terminate", json!({"processId": id}));
        client.finish(&id);
    });
}

/// One that is held up must not hold the next one up, in the shared process either.
#[test]
fn file_requests_do_not_wait_for_each_other() {
    for_each_user(|client| {
        let fifo = client.place.path("w/fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o666),
            0,
        )
        .unwrap();
        client.place.open();
        let sandbox = client.place.workspace_write(&["deny /w/.env"]);
        let shell = [
            "/bin/sh",
            "-c",
            "echo waiting; read line < fifo; echo $line",
        ];
        let params = client.start(&shell, sandbox.clone());
        let id = params["processId"].clone();
        client.ok("process/start", params);
        client.until(&id, "waiting");
        let wait = json!({"processId": id, "afterSeq": 100, "waitMs": 600_000});
        client.send("process/read", wait);
        let params = json!({"path": client.place.uri("w/a.txt"), "sandbox": sandbox});
        // Answered although the one before is not.
        client.ok("fs/readFile", params);
        std::fs::write(fifo, "now\n").unwrap();
        assert_eq!(client.finish(&id).output, "now\n");
    });
}
