use super::super::testing::{Names, context, policy};
use super::*;

/// The plan in short form: one line for each step.
fn plan(names: &Names, entries: &[&str]) -> Vec<String> {
    let rules = policy(names, context(entries)).unwrap().unwrap().files;
    let plan = MountPlan::new(&rules.unwrap(), names).unwrap();
    let points = |points: &[Point]| -> String {
        points
            .iter()
            .map(|point| {
                let path = point.path.display();
                match &point.kind {
                    PointKind::Directory => format!(" {path}/"),
                    PointKind::File => format!(" {path}"),
                    PointKind::Link(target) => format!(" {path}->{}", target.display()),
                }
            })
            .collect()
    };
    let base = match &plan.base {
        Base::Host { writable: true } => "write /".to_owned(),
        Base::Host { writable: false } => "read /".to_owned(),
        Base::Empty { points: inside } => format!("empty{}", points(inside)),
    };
    let steps = plan.steps.iter().map(|step| {
        let path = step.path.display();
        match &step.action {
            Action::Bind { writable: true } => format!("write {path}"),
            Action::Bind { writable: false } => format!("read {path}"),
            Action::Cover {
                mode,
                points: inside,
            } => {
                format!("cover {mode:03o} {path}{}", points(inside))
            }
            Action::Blank => format!("blank {path}"),
            Action::Occupy { mode } => format!("occupy {mode:03o} {path}"),
            Action::Pin => format!("pin {path}"),
        }
    });
    std::iter::once(base).chain(steps).collect()
}

#[test]
fn plans_say_no_more_than_the_rules() {
    let names = Names::workspace();
    let ww = ["read root", "write project_roots"];
    let with = |more: &[&'static str]| -> Vec<&str> { ww.iter().chain(more).copied().collect() };
    let metadata = |lines: &[&str]| -> Vec<String> {
        let mut all: Vec<String> = [
            "occupy 555 /w/.agents",
            "occupy 555 /w/.aws",
            "occupy 555 /w/.codex",
            "read /w/.git",
        ]
        .iter()
        .chain(lines)
        .map(|line| (*line).to_owned())
        .collect();
        all.sort_by_key(|line| line.rsplit_once("/w/").map(|(_, name)| name.to_owned()));
        ["read /", "write /w"]
            .into_iter()
            .map(str::to_owned)
            .chain(all)
            .collect()
    };
    assert_eq!(plan(&names, &["read root"]), ["read /"]);
    assert_eq!(plan(&names, &ww), metadata(&[]));
    assert_eq!(
        plan(&names, &with(&["deny /w/a.txt"])),
        metadata(&["blank /w/a.txt"])
    );
    assert_eq!(
        plan(&names, &with(&["deny /w/none/x"])),
        metadata(&["occupy 000 /w/none"])
    );
    assert_eq!(
        plan(&names, &with(&["read /w/sub/deep"])),
        metadata(&["pin /w/sub", "read /w/sub/deep"])
    );
    assert_eq!(
        plan(
            &names,
            &["read root", "deny /w/private", "read /w/private/open"]
        ),
        [
            "read /",
            "cover 111 /w/private /w/private/open/",
            "read /w/private/open"
        ]
    );
    assert_eq!(
        plan(
            &names,
            &["read root", "deny /none", "read /w", "deny /w/private"]
        ),
        ["read /", "cover 000 /w/private"]
    );
}

#[test]
fn what_is_not_exposed_is_not_there() {
    let names = Names::workspace();
    assert_eq!(
        plan(
            &names,
            &["read minimal", "write project_roots/sub", "deny /o"]
        ),
        [
            "empty /etc/ /usr/ /w/sub/ /bin->usr/bin",
            "read /etc",
            "read /usr",
            "write /w/sub",
            "occupy 555 /w/sub/.agents",
            "occupy 555 /w/sub/.aws",
            "occupy 555 /w/sub/.codex",
            "occupy 555 /w/sub/.git",
        ]
    );
}

#[test]
fn links_that_could_be_replaced_are_pinned() {
    let names = Names::workspace()
        .without("/w/.git")
        .link("/w/.git", "sub/real")
        .directory("/w/sub/real");
    let steps = plan(&names, &["read root", "write project_roots"]);
    for expected in ["pin /w/.git", "pin /w/sub", "read /w/sub/real"] {
        assert!(
            steps.iter().any(|step| step == expected),
            "{expected}: {steps:?}"
        );
    }
}

#[test]
fn plans_survive_the_way_to_the_sandbox() {
    use std::os::unix::ffi::OsStrExt as _;
    let path = Path::new(std::ffi::OsStr::from_bytes(b"/w/\xff\n"));
    let plan = MountPlan {
        base: Base::Empty {
            points: vec![Point {
                path: path.to_owned(),
                kind: PointKind::Link(path.to_owned()),
            }],
        },
        steps: vec![Step {
            path: path.to_owned(),
            action: Action::Blank,
        }],
    };
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<MountPlan>(&text).unwrap(), plan);
}
