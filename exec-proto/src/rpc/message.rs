//! Bytes to messages: one checking pass over the whole text, then the envelope.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::params::{Params, from_json, plain_text};
use super::{Form, RpcError, Value, bulk, scan};
use crate::payload::Payloads;

/// A request's id: any string, or any signed 64-bit integer. Echoed unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RequestId {
    /// An integer id.
    Integer(i64),
    /// A string id; `"1"` is not `1`.
    String(String),
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(id) => id.fmt(f),
            Self::String(id) => id.fmt(f),
        }
    }
}

impl From<i64> for RequestId {
    fn from(id: i64) -> Self {
        Self::Integer(id)
    }
}

/// W3C trace context that travels with a request. A malformed value is the receiver's to ignore.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The `traceparent` header's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The `tracestate` header's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
}

/// One parsed message.
#[derive(Debug, Clone)]
pub enum Message {
    /// Asks for an answer with the same id.
    Request {
        /// To be echoed.
        id: RequestId,
        /// The method's name.
        method: String,
        /// Not decoded yet.
        params: Params,
        /// Trace context, if sent.
        trace: Option<Trace>,
    },
    /// Asks for no answer.
    Notification {
        /// The method's name.
        method: String,
        /// Not decoded yet.
        params: Params,
    },
    /// The answer to a request.
    Response {
        /// The request's id.
        id: RequestId,
        /// Not decoded yet.
        result: Value,
    },
    /// The refusal of a request.
    Error {
        /// The request's id.
        id: RequestId,
        /// What went wrong.
        error: RpcError,
    },
}

/// Why bytes are not a message. The text names at most a key, never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ParseError {
    detail: String,
}

impl ParseError {
    pub(super) fn new(detail: impl Into<String>) -> Self {
        Self {
            detail: detail.into(),
        }
    }
}

/// Members of the envelope; each is present-or-absent, null being present.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    method: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    trace: Option<&'a RawValue>,
}

/// Parses one message that came on a connection with payloads of this form.
///
/// # Errors
///
/// [`ParseError`] with the detail text for the answer with id `-1`.
pub fn decode(message: &Bytes, form: Form) -> Result<Message, ParseError> {
    match (form, message.first()) {
        (Form::Bulk | Form::Compressed, Some(&bulk::MARKER)) => bulk::parse(message, form),
        _ => parse(message),
    }
}

/// Bytes that a message takes once it is decoded, to be counted before that; about its length, unless
/// payloads of it are compressed.
pub fn size(message: &[u8], form: Form) -> usize {
    match (form, message.first()) {
        (Form::Compressed, Some(&bulk::MARKER)) => message.len() + bulk::unpacked(message),
        _ => message.len(),
    }
}

impl Message {
    /// Gives the message the payloads that it refers to.
    pub(super) fn attach(&mut self, payloads: &Payloads) {
        match self {
            Self::Request { params, .. } | Self::Notification { params, .. } => {
                params.attach(payloads);
            }
            Self::Response { result, .. } => result.attach(payloads),
            Self::Error { .. } => {}
        }
    }
}

/// Parses one message in JSON.
///
/// Cost: two passes over the text, one copy of `params` or `result`; memory beyond that copy is
/// bounded by the number of keys of one object chain.
///
/// # Errors
///
/// [`ParseError`] with the detail text for the answer with id `-1`.
pub fn parse(bytes: &[u8]) -> Result<Message, ParseError> {
    scan::check(bytes)?;
    let envelope: Envelope<'_> =
        serde_json::from_slice(bytes).map_err(|err| ParseError::new(err.to_string()))?;
    let Some(method) = envelope.method else {
        return parse_answer(&envelope);
    };
    let method = typed::<String>(method)?;
    let params = Params::from(envelope.params.map(ToOwned::to_owned));
    match envelope.id {
        Some(id) => Ok(Message::Request {
            id: typed(id)?,
            method,
            params,
            trace: match envelope.trace {
                Some(trace) => typed::<Option<Trace>>(trace)?,
                None => None,
            },
        }),
        None => Ok(Message::Notification { method, params }),
    }
}

fn parse_answer(envelope: &Envelope<'_>) -> Result<Message, ParseError> {
    if let Some(result) = envelope.result {
        return Ok(Message::Response {
            id: answered_id(envelope)?,
            result: result.to_owned().into(),
        });
    }
    let error = envelope
        .error
        .ok_or_else(|| ParseError::new("missing field `error`"))?;
    Ok(Message::Error {
        error: typed(error)?,
        id: answered_id(envelope)?,
    })
}

fn answered_id(envelope: &Envelope<'_>) -> Result<RequestId, ParseError> {
    typed(
        envelope
            .id
            .ok_or_else(|| ParseError::new("missing field `id`"))?,
    )
}

fn typed<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, ParseError> {
    from_json(raw).map_err(|err| ParseError::new(plain_text(&err)))
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}
