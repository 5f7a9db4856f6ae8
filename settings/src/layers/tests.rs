use std::{cell::Cell, fs};

use super::*;
use crate::{Period, schema::Secret};

static PROGRAM: Program = Program {
    name: "prog",
    prefix: "PROG_",
    settings: &[
        Setting::new("remote", Kind::Text).in_variable("PROG_REMOTE_URL"),
        Setting::new("grace_period", Kind::Text).or("5s"),
        Setting::new("count", Kind::Number),
        Setting::new("quiet", Kind::Switch),
        Setting::new("names", Kind::List).given_by("name"),
        Setting::new("token_file", Kind::Path),
        Setting::new("roots", Kind::Paths),
        Setting::new("digest", Kind::Text).masked(),
    ],
    secrets: &[Secret {
        variable: "PROG_TOKEN",
        meaning: "token",
    }],
};

#[derive(Debug, Default, PartialEq)]
struct Options {
    remote: Option<String>,
    grace_period: Option<Period>,
    count: Option<u64>,
    quiet: bool,
    names: Vec<String>,
    token_file: Option<PathBuf>,
    roots: Vec<PathBuf>,
    digest: Option<String>,
}

impl Options {
    fn merge(&mut self, layers: &mut Layers<'_>) {
        layers.value("remote", &mut self.remote);
        layers.value("grace_period", &mut self.grace_period);
        layers.value("count", &mut self.count);
        layers.switch("quiet", &mut self.quiet);
        layers.list("names", &mut self.names);
        layers.value("token_file", &mut self.token_file);
        layers.list("roots", &mut self.roots);
        layers.value("digest", &mut self.digest);
    }
}

fn merged(options: Options, variables: &[(&str, &str)], file: &str) -> (Options, Vec<String>) {
    let (options, problems, _) = reported(options, variables, file);
    (options, problems)
}

fn reported(
    mut options: Options,
    variables: &[(&str, &str)],
    file: &str,
) -> (Options, Vec<String>, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    fs::write(&path, file).unwrap();
    let environment = |name: &str| {
        let mut all = variables.iter().filter(|(key, _)| *key == name);
        all.next().map(|(_, value)| (*value).to_owned())
    };
    let mut layers = Layers::open(&PROGRAM, &environment, Some(&path), None);
    options.merge(&mut layers);
    assert_eq!(layers.forgotten(), [""; 0]);
    let report = layers.report();
    for root in options.roots.iter_mut().chain(&mut options.token_file) {
        if let Ok(relative) = root.strip_prefix(directory.path()) {
            *root = Path::new("BASE").join(relative);
        }
    }
    (options, layers.take_problems(), report)
}

#[test]
fn flag_beats_variable_beats_file() {
    let file =
        "remote = 'file'\ngrace_period = '1m'\ncount = 1\nquiet = true\nnames = ['f', 'g']\n";
    let all = [
        ("PROG_REMOTE_URL", "variable"),
        ("PROG_GRACE_PERIOD", "2m"),
        ("PROG_COUNT", "2"),
        ("PROG_QUIET", "false"),
        ("PROG_NAMES", "v, w,"),
    ];
    let (from_file, problems) = merged(Options::default(), &[], file);
    assert_eq!(problems, [""; 0]);
    assert_eq!(from_file.remote.as_deref(), Some("file"));
    assert_eq!(from_file.grace_period, "1m".parse().ok());
    assert_eq!((from_file.count, from_file.quiet), (Some(1), true));
    assert_eq!(from_file.names, ["f", "g"]);

    let (from_variables, problems) = merged(Options::default(), &all, file);
    assert_eq!(problems, [""; 0]);
    assert_eq!(from_variables.remote.as_deref(), Some("variable"));
    assert_eq!(from_variables.grace_period, "2m".parse().ok());
    assert_eq!(
        (from_variables.count, from_variables.quiet),
        (Some(2), false)
    );
    assert_eq!(from_variables.names, ["v", "w"]);

    let flags = || Options {
        remote: Some("flag".to_owned()),
        grace_period: "3m".parse().ok(),
        count: Some(3),
        quiet: true,
        names: vec!["x".to_owned()],
        ..Options::default()
    };
    assert_eq!(merged(flags(), &all, file), (flags(), Vec::new()));
}

#[test]
fn blank_variables_count_as_absent() {
    let blank = [("PROG_REMOTE_URL", " "), ("PROG_COUNT", "")];
    let (options, problems) = merged(Options::default(), &blank, "remote = 'file'");
    assert_eq!(problems, [""; 0]);
    assert_eq!(options.remote.as_deref(), Some("file"));
    assert_eq!(options.count, None);
}

#[test]
fn paths_of_the_file_start_at_its_directory_and_others_do_not() {
    let file = "token_file = 'a/t'\nroots = ['b', '/c']\n";
    let (options, _) = merged(Options::default(), &[], file);
    assert_eq!(options.token_file, Some("BASE/a/t".into()));
    assert_eq!(options.roots, [Path::new("BASE/b"), Path::new("/c")]);
    let variables = [("PROG_TOKEN_FILE", "a/t"), ("PROG_ROOTS", "b")];
    let (options, _) = merged(Options::default(), &variables, file);
    assert_eq!(options.token_file, Some("a/t".into()));
    assert_eq!(options.roots, [Path::new("b")]);
}

#[test]
fn all_problems_are_reported_at_once_and_none_shows_a_value() {
    let file = "remote = 7\ngrace_period = 's3cr3t'\nquiet = 's3cr3t'\nnames = 's3cr3t'\n\
                roots = [7]\nremot = 's3cr3t'\nzebra_crossing_lights = 1\n";
    let variables = [("PROG_COUNT", "s3cr3t")];
    let (_, problems) = merged(Options::default(), &variables, file);
    assert_eq!(
        problems,
        [
            "unknown configuration key `remot`; did you mean `remote`?",
            "unknown configuration key `zebra_crossing_lights`; known keys are remote, \
             grace_period, count, quiet, names, token_file, roots, digest",
            "configuration key `remote` cannot be used: expected a string",
            "configuration key `grace_period` cannot be used: expected a number with ms, s, m or h, \
             such as 5s, and at most a day",
            "PROG_COUNT cannot be used: expected a number that is not negative",
            "configuration key `quiet` cannot be used: expected true or false",
            "configuration key `names` cannot be used: expected an array of strings",
            "configuration key `roots` cannot be used: expected an array of strings",
        ]
    );
}

#[test]
fn a_broken_file_is_told_with_its_line_and_not_quoted() {
    let (_, problems) = merged(Options::default(), &[], "count = 1\nremote = 's3cr3t");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].starts_with("configuration file is not valid TOML, line 2: "),
        "{problems:?}"
    );
    assert!(!problems[0].contains("s3cr3t"), "{problems:?}");
}

#[test]
fn the_file_may_be_named_by_a_variable_and_the_usual_one_may_be_absent() {
    let asked = Cell::new(0);
    let environment = |name: &str| {
        asked.set(asked.get() + usize::from(name == "PROG_CONFIG"));
        (name == "PROG_CONFIG").then(|| "/nonexistent/named".to_owned())
    };
    let usual = Path::new("/nonexistent/usual");
    let mut layers = Layers::open(&PROGRAM, &environment, None, Some(usual));
    assert_eq!(
        layers.take_problems(),
        ["configuration file cannot be read: entity not found"]
    );
    assert!(asked.get() > 0);
    let nothing = |_: &str| None;
    let layers = Layers::open(&PROGRAM, &nothing, None, Some(usual));
    assert!(!layers.has_problems());
}

#[test]
fn the_report_says_where_each_value_is_from_and_hides_secrets() {
    let flags = Options {
        remote: Some("https://user:s3cr3t@host".to_owned()),
        ..Options::default()
    };
    let variables = [
        ("PROG_COUNT", "2"),
        ("PROG_DIGEST", "s3cr3t"),
        ("PROG_TOKEN", "s3cr3t"),
    ];
    let (_, problems, report) = reported(flags, &variables, "quiet = true\nnames = ['f']\n");
    assert_eq!(problems, [""; 0]);
    assert_eq!(
        report,
        "# Settings of prog in force.\n\
         remote = \"https://***@host\" # flag --remote\n\
         # grace_period: 5s, by default\n\
         count = 2 # variable PROG_COUNT\n\
         quiet = true # file\n\
         names = [\"f\"] # file\n\
         # token_file: not set\n\
         # roots: not set\n\
         # digest: set by variable PROG_DIGEST, not shown\n\
         # token: set by variable PROG_TOKEN, not shown\n"
    );
}

#[test]
fn the_report_is_a_configuration_file_that_says_the_same() {
    let file = "remote = 'https://host'\ngrace_period = '250ms'\ncount = 1\nquiet = true\n\
                names = ['a', 'b']\nroots = ['/r']\n";
    let (options, _, report) = reported(Options::default(), &[], file);
    assert_eq!(
        merged(Options::default(), &[], &report),
        (options, Vec::new())
    );
}
