//! Extensions of `fs/*`: append, rename, sync, and many small calls in one request. Codex 0.169 has
//! none of them; each is announced by a flag of
//! [`Capabilities`](crate::environment::Capabilities).

use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::PathUri;
use crate::rpc::{Params, RpcError, Value};
use crate::sandbox::SandboxContext;

/// Request: add to the end of a file.
pub const APPEND: &str = "fs/append";
/// Request: give a file or directory another name.
pub const RENAME: &str = "fs/rename";
/// Request: bring what was written to the disk.
pub const SYNC: &str = "fs/sync";
/// Request: several small calls, one after another.
pub const BATCH: &str = "fs/batch";

/// Request: take back the watch on missing paths.
pub const UNWATCH_MISSING: &str = "fs/unwatchMissing";

/// Most calls in one batch.
pub const MAX_BATCH_CALLS: usize = 256;

/// Most bytes that the results of one batch take together: their JSON, and the contents of files that
/// stand beside it. In results this long there are fewer values than a message may hold, however they
/// are made up.
pub const MAX_BATCH_RESULT_BYTES: usize = 2 << 20;

/// Parameters of `fs/append`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppendParams {
    /// The file; made if there is none.
    pub path: PathUri,
    /// What to add.
    #[serde(with = "crate::base64")]
    pub data_base64: Bytes,
    /// `None` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow_symlinks: Option<bool>,
    /// Restrictions.
    #[serde(default)]
    pub sandbox: Option<SandboxContext>,
}
redacted_debug!(AppendParams {
    path,
    follow_symlinks
});

/// Result of `fs/append`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendResult {
    /// Where in the file the added bytes begin.
    pub offset: u64,
}

/// Parameters of `fs/rename`, answered with an empty object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenameParams {
    /// What to rename; a link itself, not its target.
    pub source_path: PathUri,
    /// The new name, on the same filesystem.
    pub destination_path: PathUri,
    /// Whether to take the place of what is there; `None` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<bool>,
    /// Restrictions.
    #[serde(default)]
    pub sandbox: Option<SandboxContext>,
}

/// Parameters of `fs/sync`, answered with an empty object. Exactly one of the first two is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncParams {
    /// A handle of this connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle_id: Option<String>,
    /// A file, or a directory, which is the names in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathUri>,
    /// Restrictions, for a path.
    #[serde(default)]
    pub sandbox: Option<SandboxContext>,
}

/// Parameters of `fs/unwatchMissing`, answered with an empty object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnwatchMissingParams {
    /// The watch; one that is not there is fine.
    pub watch_id: u64,
}

/// Parameters of `fs/batch`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchParams {
    /// At most [`MAX_BATCH_CALLS`].
    pub calls: Vec<BatchCall>,
    /// Do not begin the calls after one that failed.
    #[serde(default)]
    pub stop_on_error: bool,
    /// Contents of files in the results may stand beside the text of a bulk message.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bulk_results: bool,
}

/// One call of a batch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BatchCall {
    /// One of the methods that a batch takes.
    pub method: String,
    /// As in a request of its own.
    #[serde(default)]
    pub params: Params,
}

impl BatchCall {
    /// A call with typed parameters.
    ///
    /// # Errors
    ///
    /// If `params` does not serialize; the protocol's own types always do.
    pub fn new<P: Serialize>(method: &str, params: &P) -> Result<Self, serde_json::Error> {
        Ok(Self {
            method: method.to_owned(),
            params: Params::encode(params)?,
        })
    }
}

/// Result of `fs/batch`. An executor may have a type of its own for results, which it serializes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(bound(deserialize = "BatchOutcome<R>: Deserialize<'de>"))]
pub struct BatchResult<R = Value> {
    /// One for each call, in their order.
    pub results: Vec<BatchOutcome<R>>,
}

/// What came of one call: `{"result": ..}` or `{"error": ..}`, as in an answer of its own.
#[derive(Clone)]
pub enum BatchOutcome<R = Value> {
    /// The method's result, not decoded yet.
    Result(R),
    /// The method's error.
    Error(RpcError),
}

impl BatchOutcome {
    /// Decodes the result of the call's method, or gives its error.
    ///
    /// # Errors
    ///
    /// If the result has another shape. That error may quote values; do not show it to a peer.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<Result<T, RpcError>, serde_json::Error> {
        match self {
            Self::Result(result) => result.decode().map(Ok),
            Self::Error(error) => Ok(Err(error.clone())),
        }
    }
}

impl<R> fmt::Debug for BatchOutcome<R> {
    /// Results hold file contents, so they are not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Result(_) => f.write_str("Result"),
            Self::Error(error) => f.debug_tuple("Error").field(error).finish(),
        }
    }
}

impl<R: Serialize> Serialize for BatchOutcome<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut member = serializer.serialize_map(Some(1))?;
        match self {
            Self::Result(result) => member.serialize_entry("result", result)?,
            Self::Error(error) => member.serialize_entry("error", error)?,
        }
        member.end()
    }
}

impl<'de> Deserialize<'de> for BatchOutcome {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Members {
            #[serde(default)]
            result: Option<Value>,
            #[serde(default)]
            error: Option<RpcError>,
        }
        let members = Members::deserialize(deserializer)?;
        match (members.result, members.error) {
            (Some(result), _) => Ok(Self::Result(result)),
            (None, Some(error)) => Ok(Self::Error(error)),
            (None, None) => Err(D::Error::missing_field("error")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fs::{GET_METADATA, GetMetadataResult};

    fn text<T: Serialize>(value: &T) -> String {
        serde_json::to_string(value).unwrap()
    }

    #[test]
    fn calls_of_a_batch_keep_their_parameters_as_they_are() {
        let wire = r#"{"calls":[{"method":"fs/x","params":{"b":1, "a":[2]}},{"method":"y"}]}"#;
        let batch: BatchParams = serde_json::from_str(wire).unwrap();
        assert!(!batch.stop_on_error);
        let again = r#"{"calls":[{"method":"fs/x","params":{"b":1, "a":[2]}},{"method":"y","params":null}],"stopOnError":false}"#;
        assert_eq!(text(&batch), again);
        let typed = BatchCall::new(GET_METADATA, &json!({"path": "file:///"})).unwrap();
        assert_eq!(
            text(&typed),
            r#"{"method":"fs/getMetadata","params":{"path":"file:///"}}"#
        );
    }

    #[test]
    fn outcomes_are_results_or_errors() {
        let wire = r#"{"results":[{"result":{"isDirectory":true,"isFile":false,"isSymlink":false,"size":1,"createdAtMs":2,"modifiedAtMs":3}},{"error":{"code":-32004,"message":"gone"}}]}"#;
        let result: BatchResult = serde_json::from_str(wire).unwrap();
        assert_eq!(text(&result), wire);
        let [found, gone] = result.results.as_slice() else {
            panic!("{result:?}");
        };
        let found = found.decode::<GetMetadataResult>().unwrap().unwrap();
        assert_eq!((found.is_directory, found.modified_at_ms), (true, 3));
        let gone = gone.decode::<GetMetadataResult>().unwrap().unwrap_err();
        assert_eq!(gone, RpcError::not_found("gone"));
        // Members that a later version adds are no obstacle; their absence is.
        let more = r#"{"results":[{"result":{},"cost":5}]}"#;
        assert!(serde_json::from_str::<BatchResult>(more).is_ok());
        let neither = r#"{"results":[{}]}"#;
        assert!(serde_json::from_str::<BatchResult>(neither).is_err());
    }

    #[test]
    fn debug_shows_no_contents() {
        let append = AppendParams {
            path: PathUri::parse("file:///f").unwrap(),
            data_base64: Bytes::from_static(b"secret"),
            follow_symlinks: None,
            sandbox: None,
        };
        let outcome = BatchOutcome::Result(Value::encode("secret").unwrap());
        let shown = format!("{append:?} {outcome:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}
