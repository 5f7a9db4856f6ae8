//! What the benchmarks of the parts do. Exists with the feature `bench` only.
//!
//! A work is its name, the bytes that one run moves, and the run. Criterion times the works
//! (`benches/messages.rs`), and the test command counts their instructions (the crate `counts`). All
//! of a work's inputs are made before its first run, and every run does the same.
//!
//! | works | part |
//! |---|---|
//! | `base64` | a payload to text and back |
//! | `json`, `bulk` | the same message in either form, both ways, from and to the type of its method |
//! | `scan` | the check of a text that is all structure |
//! | `start` | parameters with much structure and no payload |
//! | `path` | a path URI |

use std::hint::black_box;

use bytes::Bytes;
use serde_json::json;

use crate::PathUri;
use crate::process::{OUTPUT, OutputNotification, START, StartParams, Stream};
use crate::rpc::{self, Form, Message};

/// One work, ready to be run any number of times.
pub type Work = Box<dyn FnMut()>;

/// Makes the works, one after another, and hands each to `take`: its name, the bytes that one run
/// moves, and the work itself.
pub fn each(mut take: impl FnMut(&'static str, usize, Work)) {
    take("base64/encode/65536", LARGE, encode_base64());
    take("base64/decode/65536", LARGE, decode_base64());
    take("json/encode/16", SMALL, encode(SMALL, Form::Json));
    take("json/decode/16", SMALL, decode(SMALL, Form::Json));
    take("json/encode/65536", LARGE, encode(LARGE, Form::Json));
    take("json/decode/65536", LARGE, decode(LARGE, Form::Json));
    take("bulk/encode/65536", LARGE, encode(LARGE, Form::Bulk));
    take("bulk/decode/65536", LARGE, decode(LARGE, Form::Bulk));
    let (bytes, work) = scan();
    take("scan/4000-values", bytes, work);
    let (bytes, work) = start();
    take("start/decode", bytes, work);
    take("path/parse", PATH.len(), path());
}

fn encode_base64() -> Work {
    let payload = payload(LARGE);
    Box::new(move || {
        black_box(crate::base64::encode(&payload));
    })
}

fn decode_base64() -> Work {
    let text = crate::base64::encode(&payload(LARGE));
    Box::new(move || {
        black_box(crate::base64::decode(&text).unwrap());
    })
}

fn encode(length: usize, form: Form) -> Work {
    let output = output(length);
    Box::new(move || {
        black_box(rpc::encode_notification(OUTPUT, &output, form).unwrap());
    })
}

fn decode(length: usize, form: Form) -> Work {
    let message = rpc::encode_notification(OUTPUT, &output(length), form).unwrap();
    Box::new(move || {
        let Ok(Message::Notification { params, .. }) = rpc::decode(&message, form) else {
            unreachable!("a notification was encoded");
        };
        let output: OutputNotification = params.decode().unwrap();
        assert_eq!(output.chunk.len(), length);
    })
}

fn scan() -> (usize, Work) {
    let entry = |number| json!({"name": format!("{number}.txt"), "isFile": true, "size": number});
    let entries: Vec<_> = (0..1000).map(entry).collect();
    let message = json!({"id": 1, "result": {"entries": entries}}).to_string();
    let work = move |message: &str| {
        black_box(rpc::parse(message.as_bytes()).unwrap());
    };
    (message.len(), Box::new(move || work(&message)))
}

fn start() -> (usize, Work) {
    let variables = (0..30).map(|number| (format!("VARIABLE_{number}"), json!("a value")));
    let request = json!({
        "id": 7,
        "method": START,
        "params": {
            "processId": "5f0c7f1e",
            "argv": ["/bin/bash", "-lc", "cargo test --workspace 2>&1 | tail -n 50"],
            "cwd": "file:///home/somebody/projects/something",
            "env": serde_json::Map::from_iter(variables),
            "tty": false,
        },
    });
    let message = request.to_string();
    let work = |message: &str| {
        let Ok(Message::Request { params, .. }) = rpc::parse(message.as_bytes()) else {
            unreachable!("it is a request");
        };
        let params: StartParams = params.decode().unwrap();
        black_box(params);
    };
    (message.len(), Box::new(move || work(&message)))
}

fn path() -> Work {
    Box::new(|| {
        black_box(PathUri::parse(black_box(PATH)).unwrap());
    })
}

fn output(length: usize) -> OutputNotification {
    OutputNotification {
        process_id: "5f0c7f1e".to_owned(),
        seq: 1234,
        stream: Stream::Stdout,
        chunk: payload(length),
    }
}

/// Bytes of all values.
fn payload(length: usize) -> Bytes {
    (0..=u8::MAX).cycle().take(length).collect()
}

/// A line of output.
const SMALL: usize = 16;

/// What a busy program's output is read in.
const LARGE: usize = 65_536;

const PATH: &str = "file:///home/somebody/with%20space/src/main.rs";
