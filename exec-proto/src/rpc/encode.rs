//! Messages to bytes. Members come in the order `id`, `method` or `result`, `params`.

use bytes::Bytes;
use serde::Serialize;

use super::{Draft, Form, RequestId, RpcError, Trace, UNPARSABLE_ID};

/// A value that JSON cannot express, such as a map with keys that are not strings.
#[derive(Debug, thiserror::Error)]
#[error("message does not serialize")]
pub struct EncodeError(#[from] serde_json::Error);

/// Encodes the answer to a request.
///
/// # Errors
///
/// [`EncodeError`] if `result` does not serialize; the protocol's own types always do.
pub fn encode_response<T: Serialize + ?Sized>(
    id: &RequestId,
    result: &T,
    form: Form,
) -> Result<Bytes, EncodeError> {
    #[derive(Serialize)]
    struct Response<'a, T: ?Sized> {
        id: &'a RequestId,
        result: &'a T,
    }
    Ok(Draft::new(&Response { id, result })?.into_message(form))
}

/// Encodes an error answer.
pub fn encode_error(id: &RequestId, error: &RpcError) -> Bytes {
    #[derive(Serialize)]
    struct ErrorAnswer<'a> {
        error: &'a RpcError,
        id: &'a RequestId,
    }
    // A string, an integer and an id always serialize.
    to_bytes(&ErrorAnswer { error, id }).unwrap_or_default()
}

/// Encodes the answer to a message that does not parse, which has the id [`UNPARSABLE_ID`].
///
/// `number` is the message's place among all that arrived on the connection, from 1. It travels as
/// `data.message` of the error, so that the sender can tell which of its messages was meant. The
/// reference sends no such member, and its client ignores it.
pub fn encode_parse_error(number: u64, error: &RpcError) -> Bytes {
    #[derive(Serialize)]
    struct Data {
        message: u64,
    }
    #[derive(Serialize)]
    struct ErrorWithData<'a> {
        #[serde(flatten)]
        error: &'a RpcError,
        data: Data,
    }
    #[derive(Serialize)]
    struct ErrorAnswer<'a> {
        error: ErrorWithData<'a>,
        id: RequestId,
    }
    let data = Data { message: number };
    let error = ErrorWithData { error, data };
    let id = UNPARSABLE_ID;
    // Strings and integers always serialize.
    to_bytes(&ErrorAnswer { error, id }).unwrap_or_default()
}

/// Encodes a notification.
///
/// # Errors
///
/// [`EncodeError`] if `params` does not serialize; the protocol's own types always do.
pub fn encode_notification<P: Serialize + ?Sized>(
    method: &str,
    params: &P,
    form: Form,
) -> Result<Bytes, EncodeError> {
    #[derive(Serialize)]
    struct Notification<'a, P: ?Sized> {
        method: &'a str,
        params: &'a P,
    }
    Ok(Draft::new(&Notification { method, params })?.into_message(form))
}

/// Encodes a request.
///
/// # Errors
///
/// [`EncodeError`] if `params` does not serialize; the protocol's own types always do.
pub fn encode_request<P: Serialize + ?Sized>(
    id: &RequestId,
    method: &str,
    params: &P,
    trace: Option<&Trace>,
    form: Form,
) -> Result<Bytes, EncodeError> {
    #[derive(Serialize)]
    struct Request<'a, P: ?Sized> {
        id: &'a RequestId,
        method: &'a str,
        params: &'a P,
        #[serde(skip_serializing_if = "Option::is_none")]
        trace: Option<&'a Trace>,
    }
    let request = Request {
        id,
        method,
        params,
        trace,
    };
    Ok(Draft::new(&request)?.into_message(form))
}

/// Encodes a request whose parameters were serialized before.
///
/// # Errors
///
/// [`EncodeError`], which never happens: an id and a name always serialize.
pub fn encode_call(
    id: &RequestId,
    method: &str,
    params: &Draft,
    trace: Option<&Trace>,
    form: Form,
) -> Result<Bytes, EncodeError> {
    #[derive(Serialize)]
    struct Head<'a> {
        id: &'a RequestId,
        method: &'a str,
    }
    let mut head = serde_json::to_vec(&Head { id, method })?;
    // The parameters are one more member.
    head.pop();
    head.extend_from_slice(br#","params":"#);
    let mut tail = Vec::new();
    if let Some(trace) = trace {
        tail.extend_from_slice(br#","trace":"#);
        serde_json::to_writer(&mut tail, trace)?;
    }
    tail.push(b'}');
    Ok(params.between(&head, &tail).into_message(form))
}

fn to_bytes<T: Serialize>(message: &T) -> Result<Bytes, EncodeError> {
    Ok(Bytes::from(serde_json::to_vec(message)?))
}
