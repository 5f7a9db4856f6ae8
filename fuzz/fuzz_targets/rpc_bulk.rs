//! Bulk messages: nothing panics, and what was understood means the same in every form.

#![no_main]

use bytes::Bytes;
use exec_proto::rpc::bulk::MAX_UNPACKED_BYTES;
use exec_proto::rpc::{Form, Message, Params, RequestId, Value, decode, encode_request, size};
use exec_proto::{fs, http, process, tcp};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Sends a value on in all forms.
fn send_on<T: DeserializeOwned + Serialize>(value: Option<T>) {
    let Some(value) = value else { return };
    let json = serde_json::to_string(&value).expect("types of the protocol serialize");
    for form in [Form::Json, Form::Bulk, Form::Compressed] {
        let id = RequestId::Integer(1);
        let message = encode_request(&id, "m", &value, None, form).unwrap();
        let Ok(Message::Request { params, .. }) = decode(&message, form) else {
            panic!("what was encoded is no request");
        };
        let again: T = params.decode().expect("what was sent on is understood");
        assert_eq!(json, serde_json::to_string(&again).unwrap());
    }
}

fn of_params(params: &Params) {
    send_on(params.decode::<process::OutputNotification>().ok());
    send_on(params.decode::<process::WriteParams>().ok());
    send_on(params.decode::<fs::WriteFileParams>().ok());
    send_on(params.decode::<fs::WriteBlockParams>().ok());
    send_on(params.decode::<fs::AppendParams>().ok());
    send_on(params.decode::<http::RequestParams>().ok());
    send_on(params.decode::<http::BodyChunkParams>().ok());
    send_on(params.decode::<http::BodyDelta>().ok());
    send_on(params.decode::<tcp::WriteParams>().ok());
    send_on(params.decode::<tcp::DataNotification>().ok());
    if let Ok(batch) = params.decode::<fs::BatchParams>() {
        for call in batch.calls {
            send_on(call.params.decode::<fs::WriteFileParams>().ok());
        }
    }
}

fn of_result(result: &Value) {
    send_on(result.decode::<process::ReadResult>().ok());
    send_on(result.decode::<fs::ReadFileResult>().ok());
    send_on(result.decode::<fs::ReadBlockResult>().ok());
    send_on(result.decode::<http::RequestResult>().ok());
}

fuzz_target!(|data: &[u8]| {
    let message = Bytes::copy_from_slice(data);
    // Whatever it says of itself, it is not decoded to more than that.
    assert!(size(data, Form::Compressed) <= data.len() + MAX_UNPACKED_BYTES);
    match decode(&message, Form::Compressed) {
        Ok(Message::Request { params, .. } | Message::Notification { params, .. }) => {
            of_params(&params);
        }
        Ok(Message::Response { result, .. }) => of_result(&result),
        Ok(Message::Error { .. }) | Err(_) => {}
    }
});
