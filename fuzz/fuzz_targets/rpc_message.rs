//! The JSON-RPC envelope: nothing panics, and what was understood survives being sent on.

#![no_main]

use exec_proto::rpc::{
    Form, Message, encode_error, encode_notification, encode_request, encode_response, parse,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(message) = parse(data) else { return };
    let value = |params: &exec_proto::rpc::Params| params.decode::<serde_json::Value>();
    let again = match &message {
        Message::Request {
            id,
            method,
            params,
            trace,
        } => {
            // Numbers beyond 64 bits are valid JSON that this type cannot hold.
            let Ok(params) = value(params) else { return };
            encode_request(id, method, &params, trace.as_ref(), Form::Json).unwrap()
        }
        Message::Notification { method, params } => {
            let Ok(params) = value(params) else { return };
            encode_notification(method, &params, Form::Json).unwrap()
        }
        Message::Response { id, result } => encode_response(id, result, Form::Json).unwrap(),
        Message::Error { id, error } => encode_error(id, error),
    };
    let again = parse(&again).expect("what was encoded parses");
    match (message, again) {
        (
            Message::Request {
                id,
                method,
                trace,
                params,
            },
            Message::Request {
                id: id2,
                method: method2,
                trace: trace2,
                params: params2,
            },
        ) => {
            assert_eq!((id, method, trace), (id2, method2, trace2));
            assert_eq!(value(&params).ok(), value(&params2).ok());
        }
        (
            Message::Notification { method, params },
            Message::Notification {
                method: method2,
                params: params2,
            },
        ) => {
            assert_eq!(method, method2);
            assert_eq!(value(&params).ok(), value(&params2).ok());
        }
        (Message::Response { id, .. }, Message::Response { id: id2, .. }) => assert_eq!(id, id2),
        (
            Message::Error { id, error },
            Message::Error {
                id: id2,
                error: error2,
            },
        ) => {
            assert_eq!((id, error), (id2, error2));
        }
        (message, again) => panic!("{message:?} became {again:?}"),
    }
});
