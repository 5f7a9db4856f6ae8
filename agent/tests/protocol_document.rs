//! `docs/protocol.md` against the code: the flags it lists, and the tests that its version matrix names.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/sources.rs"]
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use exec_proto::environment::Capabilities;
use exec_proto::rpc::{self, Form, Message, parse};
use exec_proto::{Empty, RpcError, fs, http, process, tcp};
use serde_json::Value;
use serde_json::value::RawValue;

/// The flags that the reference has.
const REFERENCE_FLAGS: usize = 15;

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    std::fs::read_to_string(path).unwrap()
}

/// From a heading to the next one of the same depth.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let (_, rest) = document.split_once(heading).unwrap();
    rest.split("\n### ").next().unwrap()
}

/// What stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
}

#[test]
fn flags_of_the_document_are_those_of_the_code() {
    let document = document();
    let rows = section(&document, "### 2.1 Negotiation")
        .lines()
        .filter(|line| line.starts_with("| `"));
    let listed: BTreeSet<&str> = rows.map(|row| quoted(row).next().unwrap()).collect();
    let flags = serde_json::to_value(Capabilities::default()).unwrap();
    let flags = flags.as_object().unwrap();
    assert_eq!(flags.len(), REFERENCE_FLAGS + listed.len());
    for flag in listed {
        assert!(flags.contains_key(flag), "{flag}");
    }
}

#[test]
fn every_test_of_the_version_matrix_exists() {
    let tests = sources::tests_of_this_project();
    let document = document();
    let matrix = section(&document, "### 2.21 Version matrix");
    let is_name = |text: &&str| {
        text.matches('_').count() > 1
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let names: BTreeSet<&str> = quoted(matrix).filter(is_name).collect();
    assert!(names.len() > 40, "{}", names.len());
    for name in names {
        assert!(tests.contains(name), "{name}");
    }
}

/// The flags of the extensions, each with its methods that clients call.
fn extensions(document: &str) -> BTreeMap<&str, Vec<&str>> {
    let rows = section(document, "### 2.1 Negotiation").lines();
    let rows = rows.filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut names = quoted(row);
        let flag = names.next().unwrap();
        let from_server = [tcp::DATA, tcp::CLOSED];
        let methods = names.filter(|name| name.contains('/') && !from_server.contains(name));
        (flag, methods.collect())
    })
    .collect()
}

/// No cell may be empty: it names a test, or is one of those that one test is for.
#[test]
fn every_extension_has_its_row_in_the_version_matrix() {
    let document = document();
    let extensions = extensions(&document);
    let matrix = section(&document, "### 2.21 Version matrix");
    let mut rows = BTreeSet::new();
    for row in matrix.lines().filter(|line| line.contains(" (`")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, old_client, old_executor, new] = cells[..] else {
            panic!("{row}");
        };
        rows.insert(quoted(name).next().unwrap());
        for cell in [old_client, old_executor, new] {
            let is_general = cell == "never sent" || cell.contains("-32601");
            let is_ignored = cell.starts_with("member ignored");
            assert!(is_general || is_ignored || cell.contains('`'), "{row}");
        }
        assert!(new.contains('`'), "{row}");
    }
    assert_eq!(rows, extensions.keys().copied().collect());
}

/// What the real executor of 0.169 is asked for must be everything.
#[test]
fn old_executors_are_tried_with_every_flag_and_method() {
    let document = document();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tests/e2e/extensions.rs");
    let tried = std::fs::read_to_string(path).unwrap();
    for (flag, methods) in extensions(&document) {
        for name in std::iter::once(flag).chain(methods) {
            assert!(tried.contains(&format!("\"{name}\"")), "{name}");
        }
    }
}

/// Decodes an example and makes it text again, with the types that both ends use.
fn again(method: &str, params: &rpc::Params) -> Result<Value, RpcError> {
    fn value<T: serde::de::DeserializeOwned + serde::Serialize>(
        params: &rpc::Params,
    ) -> Result<Value, RpcError> {
        Ok(serde_json::to_value(params.decode::<T>()?).unwrap())
    }
    match method {
        process::START => value::<process::StartParams>(params),
        process::RESIZE => value::<process::ResizeParams>(params),
        process::TERMINATE => value::<process::TerminateParams>(params),
        process::LIST => value::<process::ListParams>(params),
        process::OUTPUT => value::<process::OutputNotification>(params),
        process::EXITED => value::<process::ExitedNotification>(params),
        process::CLOSED => value::<process::ClosedNotification>(params),
        fs::WRITE_BLOCK => value::<fs::WriteBlockParams>(params),
        fs::UNWATCH_MISSING => value::<fs::UnwatchMissingParams>(params),
        http::REQUEST => value::<http::RequestParams>(params),
        http::BODY_CHUNK => value::<http::BodyChunkParams>(params),
        http::CANCEL => value::<http::CancelParams>(params),
        tcp::CONNECT => value::<tcp::ConnectParams>(params),
        tcp::WRITE => value::<tcp::WriteParams>(params),
        tcp::SHUTDOWN => value::<tcp::ShutdownParams>(params),
        tcp::CLOSE => value::<tcp::CloseParams>(params),
        tcp::DATA => value::<tcp::DataNotification>(params),
        tcp::CLOSED => value::<tcp::ClosedNotification>(params),
        // Raw parameters inside of parameters are no values, only text.
        fs::BATCH => {
            let text = serde_json::to_string(&params.decode::<fs::BatchParams>()?).unwrap();
            Ok(serde_json::from_str(&text).unwrap())
        }
        other => panic!("an example of {other}, which this test does not know"),
    }
}

/// Whether everything in `part` is in `whole`, which may have more members.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(name, part)| whole.get(name).is_some_and(|whole| contains(whole, part))),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(w, p)| contains(w, p))
        }
        _ => whole == part,
    }
}

fn is_result(result: &rpc::Value) -> bool {
    fn fits<T: serde::de::DeserializeOwned>(result: &rpc::Value) -> bool {
        result.decode::<T>().is_ok()
    }
    fits::<process::TerminateResult>(result)
        || fits::<process::ListResult>(result)
        || fits::<process::ReadResult>(result)
        || fits::<fs::BatchResult>(result)
        || fits::<http::CancelResult>(result)
        || (fits::<tcp::ConnectResult>(result) && result.get().contains("peerAddr"))
        || (fits::<Empty>(result) && result.get() == "{}")
}

#[test]
fn examples_of_the_document_are_messages_of_the_protocol() {
    let document = document();
    let (_, extensions) = document.split_once("\n## 2. ").unwrap();
    let mut examples = 0;
    for block in extensions.split("```json\n").skip(1) {
        let block = block.split("```").next().unwrap();
        for example in serde_json::Deserializer::from_str(block).into_iter::<Box<RawValue>>() {
            let example = example.unwrap();
            let value: Value = serde_json::from_str(example.get()).unwrap();
            match parse(example.get().as_bytes()).unwrap() {
                Message::Request { method, params, .. }
                | Message::Notification { method, params } => {
                    let again = again(&method, &params).unwrap();
                    assert!(contains(&again, &value["params"]), "{value}");
                }
                Message::Response { result, .. } => assert!(is_result(&result), "{value}"),
                Message::Error { .. } => {}
            }
            examples += 1;
        }
    }
    assert!(examples > 10, "{examples}");
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits: String = hexadecimal.split_whitespace().collect();
    assert_eq!(digits.len() % 2, 0, "{hexadecimal}");
    let at = (0..digits.len()).step_by(2);
    at.map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

/// What a message says, whichever its form.
fn meaning(message: Message) -> Value {
    match message {
        Message::Request { method, params, .. } | Message::Notification { method, params } => {
            again(&method, &params).unwrap()
        }
        Message::Response { result, .. } => {
            serde_json::to_value(result.decode::<process::ReadResult>().unwrap()).unwrap()
        }
        Message::Error { error, .. } => panic!("{error:?}"),
    }
}

#[test]
fn bulk_messages_of_the_document_mean_what_is_beside_them() {
    let document = document();
    let mut examples = 0;
    for block in document.split("```bulk\n").skip(1) {
        let (bulk, rest) = block.split_once("```\n```json\n").unwrap();
        let json = rest.split("```").next().unwrap();
        let mut message = Vec::new();
        for line in bulk.lines() {
            match line.starts_with('{') {
                true => message.extend(line.bytes()),
                false => message.extend(bytes(line)),
            }
        }
        let bulk = meaning(rpc::decode(&message.into(), Form::Compressed).unwrap());
        assert_eq!(bulk, meaning(parse(json.as_bytes()).unwrap()));
        examples += 1;
    }
    assert_eq!(examples, 4);
}

#[test]
fn what_the_document_calls_no_bulk_message_is_none() {
    let document = document();
    let rows = section(&document, "### 2.22 Bulk messages").lines();
    let rows: Vec<_> = rows.filter(|row| row.starts_with("| `b1")).collect();
    assert_eq!(rows.len(), 12);
    for row in rows {
        let message = bytes(quoted(row).next().unwrap());
        let error = rpc::decode(&message.into(), Form::Compressed).unwrap_err();
        assert!(row.ends_with(&format!("| {error} |")), "{row}: {error}");
    }
}
