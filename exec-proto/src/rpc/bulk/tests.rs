//! Both forms of a message mean the same, and what is no bulk message is refused with a reason.

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::PathUri;
use crate::base64::Undecoded;
use crate::payload::MIN_BYTES;
use crate::rpc::{
    Draft, Form, Params, RequestId, Value, decode, encode_call, encode_notification,
    encode_request, encode_response,
};
use crate::{fs, http, process, tcp};

/// Parts that become a message; most of the tests spoil one of them.
fn message(text: &str, entries: &[(u8, u32, u32)], payloads: &[u8]) -> Bytes {
    let mut message = vec![MARKER];
    message.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    message.extend(u32::try_from(entries.len()).unwrap().to_be_bytes());
    message.extend(text.as_bytes());
    for (coding, length, decoded) in entries {
        message.push(*coding);
        message.extend(length.to_be_bytes());
        message.extend(decoded.to_be_bytes());
    }
    message.extend(payloads);
    message.into()
}

fn refusal(message: &Bytes) -> String {
    decode(message, Form::Bulk).unwrap_err().to_string()
}

fn result(message: &Bytes) -> Value {
    match decode(message, Form::Bulk).unwrap() {
        Message::Response { result, .. } => result,
        other => panic!("no response: {other:?}"),
    }
}

fn output(chunk: Bytes) -> process::OutputNotification {
    process::OutputNotification {
        process_id: "p".into(),
        seq: 7,
        stream: process::Stream::Stdout,
        chunk,
    }
}

#[test]
fn layout_is_that_of_the_document() {
    let chunk = Bytes::from(vec![b'x'; MIN_BYTES]);
    let encoded = encode_notification(process::OUTPUT, &output(chunk.clone()), Form::Bulk);
    let text = r#"{"method":"process/output","params":{"processId":"p","seq":7,"stream":"stdout","chunk":0}}"#;
    let length = u32::try_from(MIN_BYTES).unwrap();
    assert_eq!(
        encoded.unwrap(),
        message(text, &[(0, length, length)], &chunk)
    );
}

#[test]
fn small_payloads_stay_in_the_text() {
    for size in [0, 1, MIN_BYTES - 1] {
        let small = output(vec![b'x'; size].into());
        let bulk = encode_notification(process::OUTPUT, &small, Form::Bulk).unwrap();
        let json = encode_notification(process::OUTPUT, &small, Form::Json).unwrap();
        assert_eq!(bulk, json);
        assert_eq!(&bulk[..1], b"{");
    }
}

#[test]
fn json_is_what_it_was() {
    let chunk: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let output = output(chunk.into());
    let json = encode_notification(process::OUTPUT, &output, Form::Json).unwrap();
    let params = serde_json::to_string(&output).unwrap();
    assert_eq!(
        std::str::from_utf8(&json).unwrap(),
        format!(r#"{{"method":"process/output","params":{params}}}"#)
    );
}

#[test]
fn payloads_are_not_copied_on_arrival() {
    let encoded = encode_notification(
        process::OUTPUT,
        &output(Bytes::from(vec![b'x'; 4096])),
        Form::Bulk,
    );
    let encoded = encoded.unwrap();
    let Message::Notification { params, .. } = decode(&encoded, Form::Bulk).unwrap() else {
        panic!("a notification");
    };
    let chunk = params
        .decode::<process::OutputNotification>()
        .unwrap()
        .chunk;
    assert!(encoded.as_ptr_range().contains(&chunk.as_ptr()));
}

#[test]
fn peer_that_did_not_ask_for_it_understands_no_bulk_message() {
    let encoded = message(r#"{"id":1,"result":0}"#, &[(0, 1, 1)], b"x");
    assert!(decode(&encoded, Form::Json).is_err());
    assert!(decode(&encoded, Form::Bulk).is_ok());
    let json = Bytes::from_static(br#"{"id":1,"result":0}"#);
    assert!(decode(&json, Form::Bulk).is_ok());
}

#[test]
fn what_is_malformed_is_refused_with_a_reason() {
    let text = r#"{"id":1,"result":0}"#;
    let fine = message(text, &[(0, 3, 3)], b"abc");
    assert!(decode(&fine, Form::Bulk).is_ok());
    let parts = [
        (9, "head"),
        (9 + text.len(), "text"),
        (18 + text.len(), "table"),
    ];
    for end in 1..fine.len() {
        let part = parts.iter().find(|(until, _)| end < *until);
        let part = part.map_or("payloads", |(_, part)| *part);
        let expected = format!("bulk message ends within its {part}");
        assert_eq!(refusal(&fine.slice(..end)), expected);
    }
    let cases = [
        (
            message(text, &[(0, 3, 3)], b"abcd"),
            "bulk message with 1 bytes behind its payloads",
        ),
        (
            message(text, &[(0, 3, 4)], b"abc"),
            "bulk message with a payload of 3 bytes that says 4",
        ),
        (
            message(text, &[(9, 3, 3)], b"abc"),
            "bulk message with a payload of unknown coding 9",
        ),
        (
            message(text, &[], b""),
            "bulk message of 0 payloads, expected 1 to 65536",
        ),
        (
            Bytes::from_static(b"\xb1\0\0\0\x01\xff\xff\xff\xff "),
            "bulk message of 4294967295 payloads, expected 1 to 65536",
        ),
        (
            Bytes::from_static(b"\xb1\xff\xff\xff\xff\0\0\0\x01 "),
            "bulk message ends within its text",
        ),
        (message("{}", &[(0, 1, 1)], b"x"), "missing field `error`"),
        (
            message("{", &[(0, 1, 1)], b"x"),
            "EOF while parsing an object at line 1 column 1",
        ),
    ];
    for (message, expected) in cases {
        assert_eq!(refusal(&message), expected);
    }
}

#[test]
fn number_of_no_payload_is_refused() {
    let text = r#"{"id":1,"result":{"chunk":1,"eof":false}}"#;
    let error = result(&message(text, &[(0, 1, 1)], b"x"))
        .decode::<fs::ReadBlockResult>()
        .unwrap_err();
    assert!(error.to_string().starts_with("the payload does not exist"));
    for reference in ["-1", "0.5", "null", "[0]", "true"] {
        let text = format!(r#"{{"id":1,"result":{{"chunk":{reference},"eof":false}}}}"#);
        let result = result(&message(&text, &[(0, 1, 1)], b"x"));
        assert!(
            result.decode::<fs::ReadBlockResult>().is_err(),
            "{reference}"
        );
    }
}

#[test]
fn number_means_nothing_in_a_message_without_payloads() {
    let params = Params::encode(&serde_json::json!({"handleId": "h", "offset": 0, "chunk": 0}));
    let error = params
        .unwrap()
        .decode::<fs::WriteBlockParams>()
        .unwrap_err();
    assert_eq!(error.message, "invalid type: number, expected a string");
}

#[test]
fn base64_is_understood_beside_payloads() {
    let text = r#"{"id":1,"result":{"chunks":[{"seq":1,"stream":"stdout","chunk":"YQ=="},
        {"seq":2,"stream":"stdout","chunk":0}],"nextSeq":3,"exited":false,"exitCode":null,"closed":false,"failure":null}}"#;
    let read: process::ReadResult = result(&message(text, &[(0, 1, 1)], b"b")).decode().unwrap();
    let chunks: Vec<_> = read.chunks.iter().map(|it| it.chunk.as_ref()).collect();
    assert_eq!(chunks, [b"a", b"b"]);
}

#[test]
fn calls_inside_of_parameters_may_refer_to_payloads() {
    let text = r#"{"id":1,"method":"fs/batch","params":{"calls":[
        {"method":"fs/writeFile","params":{"path":"file:///x","dataBase64":0}}]}}"#;
    let bulk = message(text, &[(0, 2, 2)], b"hi");
    let Message::Request { params, .. } = decode(&bulk, Form::Bulk).unwrap() else {
        panic!("a request");
    };
    let batch: fs::BatchParams = params.decode().unwrap();
    let write: fs::WriteFileParams = batch.calls[0].params.decode().unwrap();
    assert_eq!(write.data_base64.decode().unwrap().as_ref(), b"hi");
}

#[test]
fn errors_carry_no_payloads_and_ignore_them() {
    let text = r#"{"error":{"code":-32600,"message":"x"},"id":1}"#;
    let bulk = message(text, &[(0, 1, 1)], b"x");
    let decoded = decode(&bulk, Form::Bulk);
    assert!(matches!(decoded, Ok(Message::Error { error, .. }) if error.code == -32600));
}

#[test]
fn what_is_beyond_a_limit_is_sent_as_json() {
    let chunk = Bytes::from(vec![0; MIN_BYTES]);
    let chunks = (1..=MAX_PAYLOADS as u64 + 1).map(|seq| process::Chunk {
        seq,
        stream: process::Stream::Stdout,
        chunk: chunk.clone(),
    });
    let chunks: Vec<_> = chunks.collect();
    let bulk = encode_response(&1.into(), &chunks[1..], Form::Bulk).unwrap();
    assert_eq!(bulk.first(), Some(&MARKER));
    let json = encode_response(&1.into(), &chunks, Form::Bulk).unwrap();
    assert_eq!(json.first(), Some(&b'{'));
}

/// Encodes a value in both forms, as a result and as parameters; it must come out as it was.
fn both<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let id = RequestId::Integer(1);
    let draft = Draft::new(value).unwrap();
    for form in [Form::Json, Form::Bulk] {
        let response = encode_response(&id, value, form).unwrap();
        let request = encode_request(&id, "m", value, None, form).unwrap();
        assert_eq!(request, encode_call(&id, "m", &draft, None, form).unwrap());
        let Ok(Message::Response { result, .. }) = decode(&response, form) else {
            panic!("a response");
        };
        let Ok(Message::Request { params, .. }) = decode(&request, form) else {
            panic!("a request");
        };
        assert_eq!(result.decode::<T>().unwrap(), *value);
        assert_eq!(params.decode::<T>().unwrap(), *value);
    }
}

fn bytes() -> impl Strategy<Value = Bytes> {
    let lengths = prop_oneof![0..8usize, MIN_BYTES - 2..MIN_BYTES + 3, 0..5000usize];
    (lengths, any::<u8>()).prop_map(|(length, seed)| {
        let bytes = (0..length).map(|at| seed.wrapping_mul(31) ^ u8::try_from(at % 251).unwrap());
        bytes.collect()
    })
}

proptest! {
    #[test]
    fn both_forms_decode_to_the_same(one in bytes(), two in bytes(), three in bytes(), seq in any::<u64>()) {
        let chunks = [one.clone(), two.clone(), three].into_iter().enumerate();
        let chunks = chunks.map(|(seq, chunk)| process::Chunk {
            seq: seq as u64,
            stream: process::Stream::Stderr,
            chunk,
        });
        both(&process::ReadResult {
            chunks: chunks.collect(),
            next_seq: seq,
            exited: true,
            exit_code: Some(1),
            closed: false,
            failure: None,
            sandbox_denied: false,
            evicted: None,
        });
        both(&output(one.clone()));
        both(&process::WriteParams {
            process_id: "p \" \u{2713}".into(),
            chunk: one.clone(),
            write_id: "0".into(),
        });
        both(&fs::ReadFileResult { data_base64: one.clone() });
        both(&fs::ReadBlockResult { chunk: one.clone(), eof: false });
        both(&http::BodyDelta {
            request_id: "r".into(),
            seq: 1,
            delta_base64: one.clone(),
            done: true,
            error: None,
        });
        both(&tcp::DataNotification {
            stream_id: "s".into(),
            seq: 1,
            chunk_base64: two.clone(),
        });
    }

    #[test]
    fn contents_of_a_file_decode_to_the_same(contents in bytes()) {
        let params = fs::WriteFileParams {
            path: PathUri::parse("file:///x").unwrap(),
            data_base64: Undecoded::from(contents.clone()),
            follow_symlinks: None,
            sandbox: None,
        };
        for form in [Form::Json, Form::Bulk] {
            let request = encode_request(&1.into(), fs::WRITE_FILE, &params, None, form).unwrap();
            let Ok(Message::Request { params, .. }) = decode(&request, form) else {
                panic!("a request");
            };
            let decoded: fs::WriteFileParams = params.decode().unwrap();
            prop_assert_eq!(decoded.data_base64.decode().unwrap(), &contents);
        }
    }

    #[test]
    fn any_bytes_behind_the_marker_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut message = vec![MARKER];
        message.extend(bytes);
        let _ = decode(&message.into(), Form::Bulk);
    }

    #[test]
    fn message_with_any_change_is_a_message_or_an_error(at in 0usize..500, to in any::<u8>(), cut in 0usize..500) {
        let encoded = encode_notification("m", &output(vec![b'x'; 300].into()), Form::Bulk).unwrap();
        let mut changed = encoded.to_vec();
        let at = at % changed.len();
        changed[at] = to;
        changed.truncate(changed.len() - cut % 3);
        if let Ok(Message::Notification { params, .. }) = decode(&changed.into(), Form::Bulk) {
            let _ = params.decode::<process::OutputNotification>();
        }
    }
}
