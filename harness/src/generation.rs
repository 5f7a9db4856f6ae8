//! One physical connection in the life of a session: dial, `initialize`, `initialized`.
//!
//! What comes out has a session attached to it. Routing and recovery are the session task's.

use std::time::Duration;

use exec_proto::{
    environment::{self, Info},
    initialize::{self, BulkTerms, InitializeParams, InitializeResult, InitializedParams},
    rpc,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use crate::{Bulk, Dial, Error, Transport, limits};

/// The name that this client gives in `initialize`.
const CLIENT_NAME: &str = "exec-harness";

/// A connection with a session attached.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) transport: Transport,
    pub(crate) session_id: String,
    pub(crate) info: Info,
    /// How payloads travel on it, both ways.
    pub(crate) form: rpc::Form,
}

/// The session that a new connection has to take over.
#[derive(Debug)]
pub(crate) struct Resume<'a> {
    pub(crate) session_id: &'a str,
    pub(crate) executor_key: Option<&'a relay_proto::keys::PublicKey>,
}

impl Generation {
    /// Connects, and opens a session or takes over an old one.
    ///
    /// Notifications that arrive during the handshake are dropped: they belong to processes whose
    /// events are read back right afterwards, and the page that is read then includes them.
    pub(crate) async fn establish(
        dial: &dyn Dial,
        bulk: Bulk,
        resume: Option<Resume<'_>>,
    ) -> Result<Self, Error> {
        let pinned = resume.as_ref().and_then(|resume| resume.executor_key);
        let mut transport = dial.dial(pinned).await?;
        if pinned.is_some() && transport.executor_key.as_ref() != pinned {
            return Err(Error::ExecutorKeyChanged);
        }
        let params = InitializeParams {
            client_name: CLIENT_NAME.to_owned(),
            resume_session_id: resume.as_ref().map(|resume| resume.session_id.to_owned()),
        };
        let answer = ask(
            &mut transport,
            1,
            initialize::METHOD,
            &params,
            limits::INITIALIZE_TIMEOUT,
        );
        let answer: InitializeResult = answer.await.map_err(|error| match error {
            // The one thing that an executor refuses in it, besides a session that is attached.
            Error::Rpc {
                code: rpc::code::INVALID_REQUEST,
                ..
            } if resume.is_some() => Error::SessionUnknown,
            other => other,
        })?;
        if resume.is_some_and(|resume| resume.session_id != answer.session_id) {
            return Err(Error::Protocol(
                "it resumed another session than the one asked for".into(),
            ));
        }
        let known = answer.environment_info.as_ref();
        let form = known.map_or_else(rpc::Form::default, |info| bulk.form(&info.capabilities));
        let params = InitializedParams {
            bulk: (form != rpc::Form::Json).then(|| BulkTerms {
                zstd: form == rpc::Form::Compressed,
            }),
        };
        let initialized = rpc::encode_notification(initialize::INITIALIZED, &params, form)
            .map_err(|_| Error::Misuse("initialized does not serialize".into()))?;
        transport
            .outgoing
            .send(initialized)
            .await
            .map_err(|_| lost())?;
        let info = match answer.environment_info {
            Some(info) => info,
            // Executors of before 0.169 answer with the session alone.
            None => {
                let nothing = exec_proto::Empty {};
                ask(
                    &mut transport,
                    2,
                    environment::INFO,
                    &nothing,
                    limits::INFO_TIMEOUT,
                )
                .await?
            }
        };
        Ok(Self {
            transport,
            session_id: answer.session_id,
            info,
            form,
        })
    }
}

/// One request while nothing else is on the connection.
async fn ask<P: Serialize, R: DeserializeOwned>(
    transport: &mut Transport,
    id: i64,
    method: &'static str,
    params: &P,
    limit: Duration,
) -> Result<R, Error> {
    let request = rpc::encode_request(&id.into(), method, params, None, rpc::Form::Json)
        .map_err(|_| Error::Misuse(format!("{method} does not serialize")))?;
    let exchange = async {
        transport.outgoing.send(request).await.map_err(|_| lost())?;
        while let Some(bytes) = transport.incoming.recv().await {
            match rpc::parse(&bytes) {
                Ok(rpc::Message::Response {
                    id: answered,
                    result,
                }) if answered == id.into() => {
                    return result.decode().map_err(|_| {
                        Error::Protocol(format!("its answer to {method} does not decode"))
                    });
                }
                Ok(rpc::Message::Error {
                    id: answered,
                    error,
                }) if answered == id.into() => {
                    return Err(Error::Rpc {
                        method,
                        code: error.code,
                        message: error.message,
                    });
                }
                Ok(_) => {}
                Err(error) => return Err(Error::Protocol(error.to_string())),
            }
        }
        Err(lost())
    };
    match timeout(limit, exchange).await {
        Ok(outcome) => outcome,
        Err(_) => Err(unavailable(format!(
            "no answer to {method} within {} s",
            limit.as_secs()
        ))),
    }
}

fn lost() -> Error {
    unavailable("the connection ended during the handshake".into())
}

fn unavailable(detail: String) -> Error {
    Error::Unavailable {
        context: "executor".into(),
        detail,
        retry_after: None,
    }
}
