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
    encode_request, encode_response, size,
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

/// The table's entry of the only payload of a message: coding, bytes here, bytes when decoded.
fn entry(message: &[u8]) -> (u8, u32, u32) {
    let number = |at: usize| u32::from_be_bytes(message[at..at + 4].try_into().unwrap());
    let table = 9 + number(1) as usize;
    (message[table], number(table + 1), number(table + 5))
}

#[test]
fn what_gets_smaller_is_compressed_if_both_ends_agree() {
    let even = output(vec![b'x'; 65_536].into());
    let compressed = encode_notification("m", &even, Form::Compressed).unwrap();
    assert!(compressed.len() < 300, "{} bytes", compressed.len());
    let (coding, _, decoded) = entry(&compressed);
    assert_eq!((coding, decoded), (1, 65_536));
    let Ok(Message::Notification { params, .. }) = decode(&compressed, Form::Compressed) else {
        panic!("a notification");
    };
    assert_eq!(
        params.decode::<process::OutputNotification>().unwrap(),
        even
    );
    assert_eq!(
        refusal(&compressed),
        "bulk message with a payload of unknown coding 1"
    );
    let plain = encode_notification("m", &even, Form::Bulk).unwrap();
    assert_eq!(entry(&plain), (0, 65_536, 65_536));
    assert!(decode(&plain, Form::Compressed).is_ok());
}

#[test]
fn what_does_not_get_smaller_stays_as_it_is() {
    // As good as random: every byte depends on all before it.
    let mut state = 1u64;
    let noise = (0..65_536).map(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    });
    let noise = output(noise.collect());
    let message = encode_notification("m", &noise, Form::Compressed).unwrap();
    assert_eq!(entry(&message), (0, 65_536, 65_536));
    assert_eq!(
        message,
        encode_notification("m", &noise, Form::Bulk).unwrap()
    );
}

#[test]
fn no_more_is_compressed_than_a_receiver_takes() {
    let large = output(vec![b'x'; MAX_UNPACKED_BYTES].into());
    let message = encode_notification("m", &large, Form::Compressed).unwrap();
    assert_eq!(entry(&message).0, 1);
    assert!(decode(&message, Form::Compressed).is_ok());
    let larger = output(vec![b'x'; MAX_UNPACKED_BYTES + 1].into());
    let message = encode_notification("m", &larger, Form::Compressed).unwrap();
    assert_eq!(entry(&message).0, 0);
    assert!(decode(&message, Form::Compressed).is_ok());
}

#[test]
fn a_receiver_holds_no_more_than_it_was_told_and_allows() {
    let refusal = |message: &Bytes| decode(message, Form::Compressed).unwrap_err().to_string();
    let text = r#"{"id":1,"result":0}"#;
    let bomb = zstd::pack(&vec![0; 1 << 20]).unwrap();
    let length = u32::try_from(bomb.len()).unwrap();
    let said = |decoded: u32| message(text, &[(1, length, decoded)], &bomb);
    assert!(decode(&said(1 << 20), Form::Compressed).is_ok());
    for decoded in [0, 1, (1 << 20) - 1, (1 << 20) + 1] {
        assert_eq!(
            refusal(&said(decoded)),
            format!("bulk message with a compressed payload that does not give {decoded} bytes")
        );
    }
    let five = message(text, &[(1, length, 1 << 20); 5], &bomb.repeat(5));
    assert_eq!(
        refusal(&five),
        "bulk message with 5242880 bytes in compressed payloads, expected at most 4194304"
    );
    // Before any is decoded: the first of these is no frame.
    let later = message(text, &[(1, 1, 1), (1, 1, u32::MAX)], b"xx");
    assert!(refusal(&later).ends_with("in compressed payloads, expected at most 4194304"));
    let plain = u32::try_from(MAX_PAYLOAD_BYTES).unwrap() - (1 << 20);
    let mut payloads = vec![0; MAX_PAYLOAD_BYTES - (1 << 20)];
    payloads.extend(&bomb);
    let full = [(0, plain, plain), (1, length, 1 << 20)];
    assert!(decode(&message(text, &full, &payloads), Form::Compressed).is_ok());
    payloads.insert(0, 0);
    let fuller = [(0, plain + 1, plain + 1), (1, length, 1 << 20)];
    assert_eq!(
        refusal(&message(text, &fuller, &payloads)),
        "bulk message with 67108865 bytes or more in payloads, expected at most 67108864"
    );
    let broken = message(text, &[(1, length - 1, 1 << 20)], &bomb[..bomb.len() - 1]);
    assert!(refusal(&broken).contains("does not give"));
    let nothing = message(text, &[(1, 0, 1)], b"");
    assert!(refusal(&nothing).contains("does not give 1 bytes"));
}

#[test]
fn what_is_no_frame_or_more_than_one_is_refused() {
    let text = r#"{"id":1,"result":0}"#;
    let taken = |packed: &[u8], decoded: usize| {
        let length = u32::try_from(packed.len()).unwrap();
        let decoded = u32::try_from(decoded).unwrap();
        let message = message(text, &[(1, length, decoded)], packed);
        decode(&message, Form::Compressed).is_ok()
    };
    let frame = zstd::pack(&[b'x'; 1000]).unwrap();
    assert!(taken(&frame, 1000));
    assert!(!taken(&frame.repeat(2), 2000));
    assert!(!taken(&frame.repeat(2), 1000));
    let behind = [&frame[..], b"x"].concat();
    assert!(!taken(&behind, 1000));
    for end in 0..frame.len() {
        assert!(!taken(&frame[..end], 1000));
    }
    // One that other programs pass over, in front of the payload.
    let skipped = [b"\x50\x2a\x4d\x18\x01\0\0\0x", &frame[..]].concat();
    assert!(!taken(&skipped, 1000));
    // It says that it has a tebibyte, and what it needs a dictionary for.
    let boast = b"\x28\xb5\x2f\xfd\xe0\0\0\0\0\0\x01\0\0\x0b\0\0x";
    assert!(!taken(boast, 1));
    assert!(!taken(boast, MAX_UNPACKED_BYTES));
    let with_dictionary = b"\x28\xb5\x2f\xfd\x21\x07\x01\x09\0\0x";
    assert!(!taken(with_dictionary, 1));
    let without = b"\x28\xb5\x2f\xfd\x20\x01\x09\0\0x";
    assert!(taken(without, 1));
}

proptest! {
    #[test]
    fn damaged_frame_is_refused_or_gives_what_the_table_says(
        at in 0_usize..2000,
        byte: u8,
        decoded in prop_oneof![Just(3000), 0_u32..4_194_305],
    ) {
        let lines = (0_u32..400).flat_map(|n| format!("line {n}\n").into_bytes());
        let log: Vec<u8> = lines.take(3000).collect();
        prop_assert_eq!(log.len(), 3000);
        let mut frame = zstd::pack(&log).unwrap();
        let at = at % frame.len();
        frame[at] = byte;
        let length = u32::try_from(frame.len()).unwrap();
        let text = r#"{"id":1,"result":{"chunk":0,"eof":false}}"#;
        let message = message(text, &[(1, length, decoded)], &frame);
        if let Ok(Message::Response { result, .. }) = decode(&message, Form::Compressed) {
            let chunk = result.decode::<fs::ReadBlockResult>().unwrap().chunk;
            prop_assert_eq!(chunk.len(), usize::try_from(decoded).unwrap());
        }
    }
}

#[test]
fn size_is_known_before_anything_is_decoded() {
    let text = r#"{"id":1,"result":0}"#;
    let entries = [(0, 3, 3), (1, 2, 1000), (1, 0, 30)];
    let three = message(text, &entries, b"abcde");
    assert_eq!(size(&three, Form::Compressed), three.len() + 1030);
    assert_eq!(size(&three, Form::Bulk), three.len());
    for end in 0..three.len() {
        assert!(size(&three[..end], Form::Compressed) <= end + 1030);
    }
    let liar = message(text, &[(1, 0, u32::MAX); 9], b"");
    assert_eq!(
        size(&liar, Form::Compressed),
        liar.len() + MAX_UNPACKED_BYTES
    );
    assert_eq!(
        size(b"\xb1\xff\xff\xff\xff\xff\xff\xff\xff", Form::Compressed),
        9
    );
    assert_eq!(size(b"{}", Form::Compressed), 2);
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

const FORMS: [Form; 3] = [Form::Json, Form::Bulk, Form::Compressed];

/// Encodes a value in all forms, as a result and as parameters; it must come out as it was.
fn both<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let id = RequestId::Integer(1);
    let draft = Draft::new(value).unwrap();
    for form in FORMS {
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
        for form in FORMS {
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
        let _ = decode(&message.into(), Form::Compressed);
    }

    #[test]
    fn message_with_any_change_is_a_message_or_an_error(at in 0usize..500, to in any::<u8>(), cut in 0usize..500) {
        let form = if cut % 2 == 0 { Form::Bulk } else { Form::Compressed };
        let encoded = encode_notification("m", &output(vec![b'x'; 300].into()), form).unwrap();
        let mut changed = encoded.to_vec();
        let at = at % changed.len();
        changed[at] = to;
        changed.truncate(changed.len() - cut % 3);
        if let Ok(Message::Notification { params, .. }) = decode(&changed.into(), form) {
            let _ = params.decode::<process::OutputNotification>();
        }
    }
}
