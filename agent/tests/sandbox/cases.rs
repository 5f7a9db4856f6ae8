//! The cases of the reference as a table, run one by one: `cases/table.md`, which says how to read it.
//!
//! Every row says what the reference answers, what this executor answers, and why if that differs.

use std::collections::BTreeSet;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Command;

use serde_json::{Value, json};

use crate::client::{Client, Finished, Place, for_each_user};

#[test]
fn selection() {
    run_section("Selection");
}

#[test]
fn metadata() {
    run_section("Metadata");
}

#[test]
fn entries_and_bases() {
    run_section("Entries and bases");
}

#[test]
fn reads_and_denials() {
    run_section("Reads and denials");
}

#[test]
fn patterns() {
    run_section("Patterns");
}

#[test]
fn links() {
    run_section("Symbolic links and hard links");
}

#[test]
fn processes_denial_and_working_directory() {
    run_section("Processes, denial, working directory");
}

#[test]
fn file_requests() {
    run_section("File requests");
}

#[test]
fn found_late() {
    run_section("Found late");
}

/// No case is forgotten, none is without a judgement, and every section has a test.
#[test]
fn every_case_is_run_and_judged() {
    let cases: Vec<Case> = sections().flat_map(|(_, cases)| cases).collect();
    let numbers: BTreeSet<u32> = cases.iter().map(|case| case.number).collect();
    // The others are about the managed network.
    let expected: BTreeSet<u32> = (1..=116).chain(151..=158).collect();
    assert_eq!(numbers, expected);
    for case in &cases {
        assert!(!case.ours.is_empty() && !case.judged.is_empty(), "{case:?}");
    }
    let own = include_str!("cases.rs");
    for (title, _) in sections() {
        assert!(
            own.contains(&format!("run_section(\"{title}\")")),
            "{title}"
        );
    }
}

#[derive(Debug)]
struct Case {
    number: u32,
    policy: String,
    operation: String,
    ours: String,
    judged: String,
}

/// The sections of the table that have cases.
fn sections() -> impl Iterator<Item = (String, Vec<Case>)> {
    include_str!("cases/table.md")
        .split("\n## ")
        .skip(1)
        .map(|section| {
            let (title, rest) = section.split_once('\n').unwrap();
            let rows = rest.lines().filter(|line| line.starts_with("| "));
            let cases = rows.filter_map(Case::parse).collect();
            (title.to_owned(), cases)
        })
}

fn run_section(title: &str) {
    let (_, cases) = sections().find(|(other, _)| other == title).unwrap();
    for_each_user(|client| {
        let mut wrong = Vec::new();
        for case in &cases {
            client.place = Place::new();
            if let Err(what) = case.run(client) {
                wrong.push(format!("case {}: {what}", case.number));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

impl Case {
    /// `None` for the head of a table.
    fn parse(row: &str) -> Option<Self> {
        // A bar inside a cell is escaped, as Markdown wants it.
        let row = row.replace("\\|", "\u{1}");
        let cells: Vec<String> = row
            .trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().replace('\u{1}', "|"))
            .collect();
        let [number, policy, operation, _, ours, judged] = cells.as_slice() else {
            panic!("{row}");
        };
        Some(Self {
            number: number.parse().ok()?,
            policy: policy.clone(),
            operation: operation.clone(),
            ours: ours.clone(),
            judged: judged.clone(),
        })
    }

    fn run(&self, client: &mut Client) -> Result<(), String> {
        let (before, operation) = match self.operation.split_once(" then ") {
            Some((before, operation)) => (Some(code(before)), operation),
            None => (None, self.operation.as_str()),
        };
        if let Some(before) = before {
            on_host(&client.place, &before);
            client.place.open();
        }
        let observed = perform(client, &self.policy, operation);
        self.compare(&client.place, &observed)
    }

    fn compare(&self, place: &Place, observed: &Observed) -> Result<(), String> {
        let mut denied = false;
        for expected in expectations(&self.ours) {
            let holds = match &expected {
                Expected::Denied => {
                    denied = true;
                    true
                }
                Expected::Text(text) => observed.text.contains(text),
                Expected::NoText(text) => !observed.text.contains(text),
                Expected::Value(name, value) => match name.as_str() {
                    "exit" | "ended" => observed.code == value.parse().ok(),
                    "start" | "error" => observed.error == value.parse().ok(),
                    "os" => observed.text.contains(&format!("(os error {value})")),
                    "type" => observed.kind.as_deref() == Some(value),
                    "made" => std::fs::symlink_metadata(paths(value, place)).is_ok(),
                    "not" => std::fs::symlink_metadata(paths(value, place)).is_err(),
                    other => panic!("{other}"),
                },
                Expected::Success => observed.error.is_none(),
            };
            if !holds {
                return Err(format!("{expected:?} is not so: {observed:?}"));
            }
        }
        if observed.denied != denied {
            return Err(format!("denied should be {denied}: {observed:?}"));
        }
        Ok(())
    }
}

/// What came of an operation.
#[derive(Debug, Default)]
struct Observed {
    error: Option<i64>,
    code: Option<i64>,
    denied: bool,
    kind: Option<String>,
    /// Output, error message or result.
    text: String,
}

#[derive(Debug)]
enum Expected {
    Success,
    Denied,
    Text(String),
    NoText(String),
    Value(String, String),
}

fn expectations(text: &str) -> Vec<Expected> {
    let mut found = Vec::new();
    let mut absent = false;
    for (index, part) in text.split('`').enumerate() {
        if index % 2 == 1 {
            found.push(match absent {
                true => Expected::NoText(part.to_owned()),
                false => Expected::Text(part.to_owned()),
            });
            continue;
        }
        absent = part.ends_with('!');
        for word in part.trim_end_matches('!').split_whitespace() {
            found.push(match (word, word.split_once('=')) {
                ("denied", _) => Expected::Denied,
                ("ok", _) => Expected::Success,
                (_, Some((name, value))) => Expected::Value(name.to_owned(), value.to_owned()),
                _ => panic!("{word}"),
            });
        }
    }
    found
}

fn perform(client: &mut Client, policy: &str, operation: &str) -> Observed {
    let request = Request::parse(policy, &client.place);
    let (word, rest) = operation.split_once(' ').unwrap_or((operation, ""));
    match word {
        "argv" => {
            let argv: Vec<&str> = rest.split_whitespace().collect();
            start(client, &request, &argv)
        }
        "probe" => {
            let listeners = listeners(client, rest);
            let what = match rest {
                "add_key" => format!("call {}", libc::SYS_add_key),
                "unix-path" => format!("unix {}", client.place.text("o/socket")),
                "unix-abstract" => format!("abstract {}", abstract_name(client)),
                other => other.to_owned(),
            };
            let argv = crate::probe::command(client);
            let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
            let mut request = request;
            request.variables.push(("PROBE".to_owned(), what));
            let observed = start(client, &request, &argv);
            drop(listeners);
            observed
        }
        "waiting" => {
            let id = wait_inside(client, &request);
            on_host(&client.place, &code(rest));
            let finished = client.finish(&id);
            Observed::of(finished, None)
        }
        "beside" | "ousted" => {
            let id = wait_inside(client, &request);
            let mut spans = rest.split('`').skip(1).step_by(2);
            let (policy, script) = (spans.next().unwrap(), spans.next().unwrap());
            let second = Request::parse(policy, &client.place);
            let script = paths(script, &client.place);
            let observed = shell(client, &second, &script);
            if word == "beside" {
                client.ok("process/terminate", json!({"processId": id}));
            }
            // Of the one that waited, whether it was told to or not.
            let ended = client.finish(&id).code;
            let text = format!("{}\nended with {ended}", observed.text);
            Observed { text, ..observed }
        }
        method if method.starts_with("fs/") => file_request(client, &request, method, rest),
        _ => {
            let script = paths(&code(operation), &client.place);
            let script = script.replace("EXECUTOR", &client.executor.id().to_string());
            shell(client, &request, &script)
        }
    }
}

fn shell(client: &mut Client, request: &Request, script: &str) -> Observed {
    let script = format!("exec 2>&1; {script}");
    start(client, request, &["/bin/sh", "-c", &script])
}

fn wait_inside(client: &mut Client, request: &Request) -> Value {
    let argv = ["/bin/sh", "-c", "echo started; exec sleep 600"];
    let params = request.params(client, &argv);
    let id = params["processId"].clone();
    client.ok("process/start", params);
    client.until(&id, "started");
    id
}

fn start(client: &mut Client, request: &Request, argv: &[&str]) -> Observed {
    let params = request.params(client, argv);
    let id = params["processId"].clone();
    match client.call("process/start", params) {
        Err((error, text)) => Observed {
            error: Some(error),
            text,
            ..Observed::default()
        },
        Ok(result) => {
            let kind = result["sandboxType"].as_str().map(str::to_owned);
            Observed::of(client.finish(&id), kind)
        }
    }
}

fn file_request(client: &mut Client, request: &Request, method: &str, rest: &str) -> Observed {
    let mut words = rest.split_whitespace();
    let mut uri = || format!("file://{}", paths(words.next().unwrap(), &client.place));
    let mut params = match method {
        "fs/copy" => json!({"sourcePath": uri(), "destinationPath": uri(), "recursive": false}),
        "fs/remove" => json!({"path": uri(), "force": true}),
        _ => json!({"path": uri()}),
    };
    if method == "fs/writeFile" {
        params["dataBase64"] = words.next().unwrap_or("bmV3").into();
    }
    params["sandbox"] = request.context.clone();
    match client.call(method, params) {
        Err((error, text)) => Observed {
            error: Some(error),
            text,
            ..Observed::default()
        },
        Ok(result) => {
            let data = result["dataBase64"].as_str().unwrap_or("");
            let data = exec_proto::base64::decode(data).unwrap();
            Observed {
                text: format!("{result} {}", String::from_utf8_lossy(&data)),
                ..Observed::default()
            }
        }
    }
}

impl Observed {
    fn of(finished: Finished, kind: Option<String>) -> Self {
        Self {
            error: None,
            code: Some(finished.code),
            denied: finished.denied,
            kind,
            text: finished.output,
        }
    }
}

/// A context and what else the policy column says about a request.
#[derive(Debug)]
struct Request {
    context: Value,
    cwd: String,
    tty: bool,
    variables: Vec<(String, String)>,
}

impl Request {
    fn parse(policy: &str, place: &Place) -> Self {
        let uri = |path: &str| json!(format!("file://{}", paths(path, place)));
        let mut entries: Vec<Value> = Vec::new();
        let mut restricted = false;
        let mut context = json!({
            "cwd": uri("/w"), "workspaceRoots": [uri("/w")], "windowsSandboxLevel": "disabled",
        });
        let mut permissions = json!({"type": "managed", "network": "restricted",
            "file_system": {"type": "unrestricted"}});
        let mut request = Self {
            context: Value::Null,
            cwd: uri("/w").as_str().unwrap().to_owned(),
            tty: false,
            variables: Vec::new(),
        };
        let mut absent = false;
        for item in policy.split(", ") {
            let (word, rest) = item.split_once(' ').unwrap_or((item, ""));
            match word {
                "none" => absent = true,
                "disabled" => permissions = json!({"type": "disabled"}),
                "external" => permissions = json!({"type": "external", "network": "restricted"}),
                "unrestricted" => {}
                "entries" => restricted = true,
                "net" => permissions["network"] = "enabled".into(),
                "R" => entries.push(entry("read root", place)),
                "W" => entries.push(entry("write project_roots", place)),
                "M" => entries.extend(
                    [".git", ".agents", ".codex", ".aws"]
                        .map(|name| entry(&format!("read project_roots/{name} skip"), place)),
                ),
                "deny" if rest.parse::<u32>().is_ok() => {
                    let count: u32 = rest.parse().unwrap();
                    let long = "x".repeat(60);
                    entries.extend((0..count).map(|n| entry(&format!("deny /o/{long}{n}"), place)));
                }
                "read" | "write" | "deny" => entries.push(entry(item, place)),
                "depth" => permissions["depth"] = rest.parse::<u32>().unwrap().into(),
                "roots" => {
                    let roots = rest.split_whitespace().filter(|root| *root != "-");
                    context["workspaceRoots"] = roots.map(uri).collect();
                }
                "cwd" if rest == "-" => {
                    context.as_object_mut().unwrap().remove("cwd");
                }
                "cwd" => context["cwd"] = uri(rest),
                "base" => {
                    context["policyContext"] =
                        json!({"cwd": uri(rest), "workspaceRoots": [uri(rest)]});
                }
                "level" => context["windowsSandboxLevel"] = rest.into(),
                "legacy" => context["useLegacyLandlock"] = true.into(),
                "override" => context["sandboxOverride"] = rest.into(),
                "temporary" => context["temporaryDirectories"] = json!([uri(rest)]),
                "tty" => request.tty = true,
                "in" => request.cwd = uri(rest).as_str().unwrap().to_owned(),
                variable => {
                    let (name, value) = variable.split_once('=').unwrap();
                    let value = paths(value, place);
                    request.variables.push((name.to_owned(), value));
                }
            }
        }
        if restricted || !entries.is_empty() {
            let mut files = json!({"type": "restricted", "entries": entries});
            if let Some(depth) = permissions.as_object_mut().unwrap().remove("depth") {
                files["glob_scan_max_depth"] = depth;
            }
            permissions["file_system"] = files;
        }
        context["permissions"] = permissions;
        if !absent {
            request.context = context;
        }
        request
    }

    fn params(&self, client: &Client, argv: &[&str]) -> Value {
        let mut params = client.start(argv, self.context.clone());
        params["cwd"] = self.cwd.as_str().into();
        params["tty"] = self.tty.into();
        for (name, value) in &self.variables {
            params["env"][name] = value.as_str().into();
        }
        params
    }
}

fn entry(text: &str, place: &Place) -> Value {
    let (access, rest) = text.split_once(' ').unwrap();
    let (at, skip) = match rest.strip_suffix(" skip") {
        Some(at) => (at, true),
        None => (rest, false),
    };
    let path = if let Some(pattern) = at.strip_prefix("glob:") {
        json!({"type": "glob_pattern", "pattern": paths(pattern, place)})
    } else if at.starts_with('/') {
        json!({"type": "path", "path": format!("file://{}", paths(at, place))})
    } else {
        let (kind, subpath) = match at.split_once('/') {
            Some((kind, subpath)) => (kind, Some(subpath)),
            None => (at, None),
        };
        json!({"type": "special", "value": {"kind": kind, "subpath": subpath}})
    };
    let mut entry = json!({"path": path, "access": access});
    if skip {
        entry["missing_path_behavior"] = "skip".into();
    }
    entry
}

/// Puts the places of the table where they are in this run.
fn paths(text: &str, place: &Place) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('/') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let inside = before
            .chars()
            .last()
            .or(out.chars().last())
            .is_some_and(|symbol| symbol.is_alphanumeric() || "/.*_-}~".contains(symbol));
        let name: String = from[1..]
            .chars()
            .take_while(|symbol| symbol.is_alphanumeric())
            .collect();
        if !inside && ["w", "w2", "wlink", "o"].contains(&name.as_str()) {
            out.push_str(place.root.to_str().unwrap());
        }
        out.push('/');
        rest = &from[1..];
    }
    out.push_str(rest);
    out
}

/// What is between the first and the last backtick.
fn code(cell: &str) -> String {
    let (_, rest) = cell.split_once('`').unwrap();
    rest.rsplit_once('`').unwrap().0.to_owned()
}

fn on_host(place: &Place, script: &str) {
    let status = Command::new("/bin/sh")
        .args(["-c", &paths(script, place)])
        .current_dir(place.path("w"))
        .status()
        .unwrap();
    assert!(status.success(), "{script}");
}

fn listeners(client: &Client, what: &str) -> Option<UnixListener> {
    match what {
        "unix-path" => {
            let listener = UnixListener::bind(client.place.path("o/socket")).unwrap();
            client.place.open();
            Some(listener)
        }
        "unix-abstract" => {
            let address = SocketAddr::from_abstract_name(abstract_name(client)).unwrap();
            Some(UnixListener::bind_addr(&address).unwrap())
        }
        _ => None,
    }
}

fn abstract_name(client: &Client) -> String {
    format!("exec-server-case-{}", client.executor.id())
}
