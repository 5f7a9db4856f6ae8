use super::*;

static PROGRAM: Program = Program {
    name: "prog",
    prefix: "PROG_",
    settings: &[
        Setting::new("place", Kind::Text).or("here"),
        Setting::new("roots", Kind::Paths).given_by("root"),
    ],
    secrets: &[crate::Secret {
        variable: "PROG_TOKEN",
        meaning: "the token",
    }],
};

fn command() -> Command {
    let serve = Command::new("serve")
        .arg(Arg::new("place").long("place").help("Where | there"))
        .arg(Arg::new("root").long("root").help("Which <roots>"))
        .arg(Arg::new("check").long("check").help("Check"));
    Command::new("prog").subcommand(serve)
}

#[test]
fn help_names_variable_and_default() {
    let mut command = describe(command(), &PROGRAM);
    let serve = command.find_subcommand_mut("serve").unwrap();
    let help = serve.render_help().to_string();
    assert!(
        help.contains("Where | there [env: PROG_PLACE] [default: here]"),
        "{help}"
    );
    assert!(help.contains("Which <roots> [env: PROG_ROOTS]"), "{help}");
}

#[test]
fn reference_is_the_same_whether_the_help_has_hints_or_not() {
    let text = reference(&command(), &PROGRAM);
    assert_eq!(text, reference(&describe(command(), &PROGRAM), &PROGRAM));
    for line in [
        "| `place` | `--place` | `PROG_PLACE` | string | `here` | Where \\| there |",
        "| `roots` | `--root` | `PROG_ROOTS` | array of strings |  | Which &lt;roots> |",
        "| `PROG_TOKEN` | the token |",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn what_is_on_one_side_only_is_found() {
    let serve = Command::new("serve").arg(Arg::new("place").long("place"));
    let serve = serve.arg(Arg::new("other").long("other"));
    assert_eq!(
        undeclared(&serve, &PROGRAM, &[]),
        ["`roots` has no argument", "argument `other` is no setting"]
    );
    assert_eq!(
        undeclared(&serve, &PROGRAM, &["other"]),
        ["`roots` has no argument"]
    );
}

#[test]
fn man_pages_are_written_for_each_subcommand() {
    let directory = tempfile::tempdir().unwrap();
    let manual = Manual {
        directory: Some(directory.path().to_owned()),
    };
    manual.run(describe(command(), &PROGRAM)).unwrap();
    let page = std::fs::read_to_string(directory.path().join("prog-serve.1")).unwrap();
    assert!(page.contains("PROG_PLACE"), "{page}");
    assert!(directory.path().join("prog.1").is_file());
}
