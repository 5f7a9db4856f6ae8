//! What files a command can reach.

use serde_json::json;

use crate::client::for_each_user;

#[test]
fn read_only_means_read_only() {
    for_each_user(|client| {
        let script = "cat a.txt ../o/o.txt && ! echo x > a.txt && ! touch /tmp/z ../o/z; echo z > /dev/shm/z";
        let finished = client.shell(script, client.place.read_only());
        assert_eq!(finished.code, 0, "{finished:?}");
        assert!(finished.output.starts_with("a\no\n"), "{finished:?}");
        let finished = client.shell("echo x > a.txt", client.place.read_only());
        assert!(finished.denied, "{finished:?}");
    });
}

#[test]
fn workspaces_are_writable_and_their_metadata_is_not() {
    for_each_user(|client| {
        let context = client.place.workspace_write(&[]);
        let script = "echo n > new.txt && mkdir -p sub/.git && echo c > sub/.git/config || exit 9; \
            for f in .git/config .git/new ../o/new; do echo x > $f && echo written; done; \
            mv .git gg && echo moved; rm -rf .git; ln ../o/o.txt hl && echo linked; cat .git/config";
        let finished = client.shell(script, context);
        let words = ["written", "moved", "linked"];
        assert!(
            !words.iter().any(|word| finished.output.contains(word)),
            "{finished:?}"
        );
        assert!(finished.output.ends_with("git\n"), "{finished:?}");
        assert_eq!(
            std::fs::read_to_string(client.place.path("w/new.txt")).unwrap(),
            "n\n"
        );
    });
}

#[test]
fn denied_paths_cannot_be_read_moved_or_replaced() {
    for_each_user(|client| {
        let context = client.place.workspace_write(&[
            "deny /w/private",
            "deny /w/.env",
            "deny glob:w/sub/*.env",
        ]);
        let script = "cat private/p.txt .env sub/b.env; ls private; mv private q; rm -rf private; \
            mv a.txt .env; chmod 777 private .env; mv sub sub2; mkdir -p sub; echo mine > sub/b.env; cat sub/b.env";
        let finished = client.shell(script, context);
        for secret in ["secret", "p\n", "inner", "mine"] {
            assert!(
                !finished.output.contains(&format!("\n{secret}")),
                "{finished:?}"
            );
        }
        assert!(finished.denied, "{finished:?}");
        assert_eq!(
            std::fs::read_to_string(client.place.path("w/.env")).unwrap(),
            "secret\n"
        );
        assert_eq!(
            std::fs::read_to_string(client.place.path("w/private/p.txt")).unwrap(),
            "p\n"
        );
    });
}

#[test]
fn narrower_entries_open_what_is_denied_around_them() {
    for_each_user(|client| {
        let script =
            "cat private/open/f.txt; cat private/p.txt; ls private; echo x > private/open/f.txt";
        let reading = client
            .place
            .workspace_write(&["deny /w/private", "read /w/private/open"]);
        let finished = client.shell(script, reading);
        assert!(
            finished.output.starts_with("f\n") && finished.code != 0,
            "{finished:?}"
        );
        let writing = client
            .place
            .workspace_write(&["deny /w/private", "write /w/private/open"]);
        let finished = client.shell("cat private/p.txt || echo x > private/open/f.txt", writing);
        assert_eq!(finished.code, 0, "{finished:?}");
        assert_eq!(
            std::fs::read_to_string(client.place.path("w/private/open/f.txt")).unwrap(),
            "x\n"
        );
    });
}

#[test]
fn patterns_deny_directories_and_targets_of_links() {
    for_each_user(|client| {
        std::os::unix::fs::symlink("../o/o.txt", client.place.path("w/z.env")).unwrap();
        let context = client
            .place
            .context(&["read root", "deny glob:w/*.env", "deny glob:w/pri*"]);
        let finished = client.shell(
            "cat z.env ../o/o.txt .env private/p.txt; cat a.txt",
            context,
        );
        assert_eq!(
            finished.output.matches("Permission denied").count(),
            4,
            "{finished:?}"
        );
        assert!(finished.output.contains("a\n"));
    });
}

#[test]
fn links_that_the_policy_went_through_cannot_be_replaced() {
    for_each_user(|client| {
        let place = &client.place;
        std::fs::rename(place.path("w/.git"), place.path("w/real")).unwrap();
        std::os::unix::fs::symlink("real", place.path("w/.git")).unwrap();
        let context = place.workspace_write(&["read /w/docs"]);
        let script = "echo x > .git/config; rm .git; mv .git q; ln -sfn sub .git; \
            mv docs d; echo x > docs/d.md; readlink .git; echo works > n; cat n";
        let finished = client.shell(script, context);
        assert!(finished.output.ends_with("real\nworks\n"), "{finished:?}");
        assert_eq!(
            std::fs::read_to_string(client.place.path("w/real/config")).unwrap(),
            "git\n"
        );
    });
}

#[test]
fn directories_around_protected_paths_cannot_be_replaced() {
    for_each_user(|client| {
        std::fs::create_dir_all(client.place.path("w/x/y/z")).unwrap();
        let context = client.place.workspace_write(&["read /w/x/y/z"]);
        let script = "mv x x2; mv x/y x/y2; mkdir -p x/y/z; echo evil > x/y/z/f; test -e x/y/z/f && echo written; touch x/ok x/y/ok && echo fine";
        let finished = client.shell(script, context);
        assert!(!finished.output.contains("written"), "{finished:?}");
        assert!(
            finished.output.ends_with("fine\n") || finished.output.contains("touch"),
            "{finished:?}"
        );
    });
}

#[test]
fn a_single_file_can_be_writable() {
    for_each_user(|client| {
        let context = client.place.context(&["read root", "write /o/o.txt"]);
        let finished = client.shell("echo more >> ../o/o.txt; echo x > ../o/new", context);
        assert_ne!(finished.code, 0, "{finished:?}");
        assert_eq!(
            std::fs::read_to_string(client.place.path("o/o.txt")).unwrap(),
            "o\nmore\n"
        );
    });
}

#[test]
fn the_commands_environment_does_not_widen_the_policy() {
    for_each_user(|client| {
        let context = client.place.context(&["read root", "write tmpdir"]);
        let mut params = client.start(&["/bin/sh", "-c", "echo x > ../o/q"], context);
        params["env"]["TMPDIR"] = json!(client.place.text("o"));
        let finished = client.run(params);
        assert!(finished.denied, "{finished:?}");
        assert!(!client.place.path("o/q").exists());
    });
}

#[test]
fn what_is_not_exposed_is_absent() {
    for_each_user(|client| {
        let context = client
            .place
            .context(&["read minimal", "write project_roots"]);
        let finished = client.shell("cat ../o/o.txt; ls ..; echo x > n && cat n", context);
        assert!(finished.output.contains("No such file"), "{finished:?}");
        assert!(finished.output.ends_with("w\nx\n"), "{finished:?}");
    });
}

#[test]
fn large_policies_are_no_problem() {
    for_each_user(|client| {
        let long = "x".repeat(60);
        let entries: Vec<String> = (0..1500).map(|n| format!("deny /o/{long}{n}")).collect();
        let mut all = vec!["read root"];
        all.extend(entries.iter().map(String::as_str));
        let finished = client.shell("cat a.txt", client.place.context(&all));
        assert_eq!((finished.code, finished.output.as_str()), (0, "a\n"));
    });
}
