use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::process::{ReadParams, StartParams};

fn detail(text: &str) -> String {
    parse(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn messages_are_classified_by_their_members() {
    let request = parse(br#"{"id":1,"method":"m","result":2,"jsonrpc":7,"x":[]}"#).unwrap();
    assert!(
        matches!(request, Message::Request { id: RequestId::Integer(1), method, .. } if method == "m")
    );
    let notification = parse(br#"{"method":"m","params":[1]}"#).unwrap();
    assert!(matches!(notification, Message::Notification { .. }));
    let response = parse(br#"{"id":"a","result":null}"#).unwrap();
    assert!(matches!(response, Message::Response { id: RequestId::String(id), .. } if id == "a"));
    let error = parse(br#"{"id":-5,"error":{"code":1,"message":"no","data":{}}}"#).unwrap();
    assert!(matches!(error, Message::Error { error, .. } if error == RpcError::new(1, "no")));
}

#[test]
fn details_of_unparsable_messages() {
    let id = "data did not match any variant of untagged enum RequestId";
    let cases = [
        ("[]", "expected a JSON-RPC object"),
        ("42", "expected a JSON-RPC object"),
        ("null", "expected a JSON-RPC object"),
        ("\"x\"", "expected a JSON-RPC object"),
        ("{}", "missing field `error`"),
        (r#"{"id":5}"#, "missing field `error`"),
        (r#"{"result":1}"#, "missing field `id`"),
        (r#"{"error":{"code":1,"message":""}}"#, "missing field `id`"),
        (r#"{"id":1.5,"method":"m"}"#, id),
        (r#"{"id":null,"method":"m"}"#, id),
        (r#"{"id":true,"method":"m"}"#, id),
        (r#"{"id":9223372036854775808,"method":"m"}"#, id),
        (
            r#"{"id":1,"method":2}"#,
            "invalid type: number, expected a string",
        ),
        (
            r#"{"id":1,"method":"m","trace":"x"}"#,
            "invalid type: string, expected struct Trace",
        ),
        ("", "EOF while parsing a value at line 1 column 0"),
        ("nonsense", "expected ident at line 1 column 2"),
        ("{} tail", "trailing characters at line 1 column 4"),
        (
            r#"{"id":5,"id":6}"#,
            "duplicate JSON object key `id` at line 1 column 12",
        ),
        (
            r#"{"a":{"k":1,"k":2}}"#,
            "duplicate JSON object key `k` at line 1 column 15",
        ),
        (
            r#"{"k":1,"\u006b":2}"#,
            "duplicate JSON object key `k` at line 1 column 15",
        ),
        (
            r#"{"a":"\ud800"}"#,
            "unexpected end of hex escape at line 1 column 13",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(detail(text), expected, "{text}");
    }
}

#[test]
fn limits_are_exact() {
    // The object, its method, the list and its elements count.
    let message =
        |zeros: usize| format!(r#"{{"method":"m","params":[{}0]}}"#, "0,".repeat(zeros - 1));
    assert!(parse(message(MAX_VALUES - 3).as_bytes()).is_ok());
    assert!(detail(&message(MAX_VALUES - 2)).contains("exceeds the limit of 262144 JSON values"));

    let nested = |depth: usize| {
        format!(
            r#"{{"method":"m","params":{}{}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    assert!(parse(nested(MAX_DEPTH - 1).as_bytes()).is_ok());
    assert!(detail(&nested(MAX_DEPTH)).starts_with("recursion limit exceeded at line 1 column"));
}

#[test]
fn no_value_is_echoed_in_a_text() {
    let err = Params::encode(&json!({"processId": "p", "afterSeq": "hunter2\", expected x"}))
        .unwrap()
        .decode::<ReadParams>()
        .unwrap_err();
    assert_eq!(err.message, "invalid type: string, expected u64");
}

#[test]
fn texts_of_invalid_params() {
    fn text(params: serde_json::Value) -> String {
        let err = Params::encode(&params)
            .unwrap()
            .decode::<StartParams>()
            .unwrap_err();
        assert_eq!(err.code, code::INVALID_PARAMS);
        err.message
    }
    let base = json!({"processId": "p", "argv": ["x"], "cwd": "file:///", "env": {}, "tty": false});
    let with = |name: &str, value: serde_json::Value| {
        let mut params = base.clone();
        params[name] = value;
        text(params)
    };
    assert_eq!(
        text(json!(null)),
        "invalid type: null, expected struct StartParams"
    );
    assert_eq!(text(json!({"processId": "p"})), "missing field `argv`");
    assert_eq!(
        with("processId", json!(7)),
        "invalid type: number, expected a string"
    );
    assert_eq!(
        with("cwd", json!(null)),
        "invalid type: null, expected a string"
    );
    assert_eq!(
        with("cwd", json!("/x")),
        "invalid URI: relative URL without a base"
    );
    assert_eq!(
        with("env", json!({"A": 1})),
        "invalid type: number, expected a string"
    );
    assert_eq!(
        with("env", json!(["A=1"])),
        "invalid type: sequence, expected a map"
    );
    assert_eq!(
        with("pipeStdin", json!(null)),
        "invalid type: null, expected a boolean"
    );
    assert_eq!(
        with(
            "envPolicy",
            json!({"inherit": "some", "ignoreDefaultExcludes": true, "exclude": [], "set": {}, "includeOnly": []})
        ),
        "unknown variant `some`, expected one of `core`, `all`, `none`"
    );
    assert!(
        with("metadata", json!({"threadId": "1"})).starts_with("invalid length:"),
        "the text comes from the parser of UUIDs"
    );
    assert_eq!(
        with(
            "sandbox",
            json!({"permissions": {"type": "zz"}, "windowsSandboxLevel": "disabled"})
        ),
        "unknown variant `zz`, expected one of `managed`, `disabled`, `external`"
    );
}

#[test]
fn integers_that_are_not_are_invalid_numbers() {
    for number in ["-1", "1.5", "1.0", "1e3", "18446744073709551616"] {
        let text =
            format!(r#"{{"id":1,"method":"m","params":{{"processId":"p","waitMs":{number}}}}}"#);
        let Message::Request { params, .. } = parse(text.as_bytes()).unwrap() else {
            panic!("a request")
        };
        assert_eq!(
            params.decode::<ReadParams>().unwrap_err().message,
            "invalid number",
            "{number}"
        );
    }
}

#[test]
fn methods_without_parameters_accept_three_forms() {
    let none =
        |params: &str| match parse(format!(r#"{{"method":"m"{params}}}"#).as_bytes()).unwrap() {
            Message::Notification { params, .. } => params.decode_none().map_err(|err| err.message),
            _ => panic!("a notification"),
        };
    for accepted in [
        "",
        r#","params":null"#,
        r#","params":{}"#,
        r#","params": { } "#,
    ] {
        assert_eq!(none(accepted), Ok(()));
    }
    assert_eq!(
        none(r#","params":{"a":1}"#).unwrap_err(),
        "invalid type: map, expected unit"
    );
    assert_eq!(
        none(r#","params":[]"#).unwrap_err(),
        "invalid type: sequence, expected unit"
    );
    assert_eq!(
        none(r#","params":3"#).unwrap_err(),
        "invalid type: number, expected unit"
    );
}

#[test]
fn encoded_messages_parse_back() {
    let id = RequestId::String("\u{2713}".into());
    let trace = Trace {
        traceparent: Some("00-a-b-01".into()),
        tracestate: None,
    };
    let bytes = encode_request(&id, "m", &json!({"a": 1}), Some(&trace), Form::Json).unwrap();
    let Message::Request {
        id: parsed,
        params,
        trace: Some(parsed_trace),
        ..
    } = parse(&bytes).unwrap()
    else {
        panic!("a request with a trace")
    };
    assert_eq!((parsed, parsed_trace), (id.clone(), trace));
    assert_eq!(
        params.decode::<serde_json::Value>().unwrap(),
        json!({"a": 1})
    );

    let bytes = encode_response(&id, &crate::Empty {}, Form::Json).unwrap();
    assert_eq!(bytes, r#"{"id":"✓","result":{}}"#.as_bytes());
    let bytes = encode_error(&UNPARSABLE_ID, &RpcError::invalid_request("x"));
    assert_eq!(
        &bytes[..],
        br#"{"error":{"code":-32600,"message":"x"},"id":-1}"#
    );
    let bytes = encode_parse_error(7, &RpcError::invalid_request("x"));
    assert_eq!(
        &bytes[..],
        br#"{"error":{"code":-32600,"message":"x","data":{"message":7}},"id":-1}"#
    );
    assert!(matches!(parse(&bytes), Ok(Message::Error { id, .. }) if id == UNPARSABLE_ID));
    let bytes = encode_notification("n", &crate::Empty {}, Form::Json).unwrap();
    assert_eq!(&bytes[..], br#"{"method":"n","params":{}}"#);
}

#[test]
fn debug_shows_no_payload() {
    let params: StartParams = serde_json::from_value(json!({
        "processId": "p", "argv": ["argv-secret"], "cwd": "file:///", "env": {"A": "env-secret"}, "tty": false
    }))
    .unwrap();
    let shown = format!("{params:?} {:?}", Params::encode(&params).unwrap());
    assert!(!shown.contains("secret"), "{shown}");
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        ".{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(".{0,6}", inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn any_json_text_is_a_message_or_an_error(value in any_json(), cut in 0usize..400) {
        let text = value.to_string();
        let _ = parse(text.as_bytes());
        let end = (0..=cut.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        let _ = parse(&text.as_bytes()[..end]);
    }

    #[test]
    fn params_of_any_shape_survive_the_envelope(value in any_json(), id in any::<i64>()) {
        let bytes = encode_request(&RequestId::Integer(id), "m", &value, None, Form::Json).unwrap();
        match parse(&bytes).unwrap() {
            Message::Request { id: RequestId::Integer(parsed), params, .. } => {
                prop_assert_eq!(parsed, id);
                prop_assert_eq!(params.decode::<serde_json::Value>().unwrap(), value);
            }
            other => prop_assert!(false, "not a request: {other:?}"),
        }
    }

    #[test]
    fn typed_decoding_of_any_json_never_panics(value in any_json()) {
        #[derive(Deserialize)]
        #[expect(dead_code, reason = "only the decoding is of interest")]
        struct Any { start: Option<StartParams>, read: Option<ReadParams> }
        let _ = Params::encode(&value).unwrap().decode::<StartParams>();
        let _ = Params::encode(&json!({"start": value})).unwrap().decode::<Any>();
    }
}
