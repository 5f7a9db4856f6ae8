//! Notifications of the executor, and pages of events read back, to the routes they belong to.

use exec_proto::{
    fs, http,
    process::{
        self as wire, ClosedNotification, ExitedNotification, OutputNotification, ReadResult,
    },
    rpc, tcp,
};

use super::Engine;
use crate::{Error, ExitStatus, ProcessEvent, order::Page, process::output_stream};

impl Engine {
    /// Routes one notification. Unknown methods and unknown processes are ignored.
    ///
    /// # Errors
    ///
    /// A known notification that does not decode. The connection is then given up: the event that
    /// it carried is read back on the next one.
    pub(super) fn notified(&mut self, method: &str, params: &rpc::Params) -> Result<(), Error> {
        let (process, seq, event) = match method {
            wire::OUTPUT => {
                let OutputNotification {
                    process_id,
                    seq,
                    stream,
                    chunk,
                } = decode(method, params)?;
                (
                    process_id,
                    seq,
                    ProcessEvent::Output {
                        stream: output_stream(stream),
                        chunk,
                    },
                )
            }
            wire::EXITED => {
                let ExitedNotification {
                    process_id,
                    seq,
                    exit_code,
                    sandbox_denied,
                } = decode(method, params)?;
                let status = ExitStatus {
                    code: exit_code,
                    sandbox_denied: sandbox_denied.unwrap_or(false),
                };
                (process_id, seq, ProcessEvent::Exited(status))
            }
            wire::CLOSED => {
                let ClosedNotification { process_id, seq } = decode(method, params)?;
                (process_id, seq, ProcessEvent::Closed)
            }
            http::BODY_DELTA => {
                let delta: http::BodyDelta = decode(method, params)?;
                let request = delta.request_id.clone();
                let finished = self
                    .bodies
                    .get_mut(&request)
                    .is_some_and(|body| body.push(delta));
                if finished {
                    self.bodies.remove(&request);
                }
                return Ok(());
            }
            fs::MISSING_CHANGED => {
                let changed: fs::MissingChangedNotification = decode(method, params)?;
                if let Some(watch) = self.watch.take_if(|watch| watch.id == changed.watch_id) {
                    watch.changed();
                }
                return Ok(());
            }
            tcp::DATA => {
                self.tcp_data(decode(method, params)?);
                return Ok(());
            }
            tcp::CLOSED => {
                self.tcp_closed(decode(method, params)?);
                return Ok(());
            }
            _ => return Ok(()),
        };
        let Some(route) = self.processes.get_mut(&process) else {
            return Ok(());
        };
        route.push(seq, event);
        self.settle(&process);
        Ok(())
    }

    /// Takes the answer to `process/read`.
    pub(super) fn page_arrived(
        &mut self,
        process: &str,
        after: u64,
        outcome: Result<rpc::Value, rpc::RpcError>,
    ) {
        let Some(route) = self.processes.get_mut(process) else {
            return;
        };
        let page = match outcome {
            Ok(result) => result
                .decode::<ReadResult>()
                .map_err(|_| Error::Protocol("its answer to process/read does not decode".into())),
            // The only refusal of a well-formed read is that the process is not known.
            Err(error) if error.code == rpc::code::INVALID_REQUEST => Err(Error::ProcessGone),
            Err(error) => Err(Error::Rpc {
                method: wire::READ,
                code: error.code,
                message: error.message,
            }),
        };
        match page {
            Ok(result) => {
                let chunks = result.chunks.into_iter();
                let page = Page {
                    chunks: chunks
                        .map(|c| (c.seq, output_stream(c.stream), c.chunk))
                        .collect(),
                    next_seq: result.next_seq,
                    exit: result.exited.then(|| ExitStatus {
                        code: result.exit_code.unwrap_or(UNKNOWN_EXIT_CODE),
                        sandbox_denied: result.sandbox_denied,
                    }),
                    closed: result.closed,
                };
                route.replay(after, page);
                self.settle(process);
            }
            Err(error) => {
                route.fail(error);
                self.processes.remove(process);
            }
        }
    }

    /// Forgets a process that has no more events, or reads back what is missing.
    fn settle(&mut self, process: &str) {
        let Some(route) = self.processes.get(process) else {
            return;
        };
        if route.is_finished() {
            self.processes.remove(process);
        } else if let Some(after) = route.page_due() {
            self.ask_for(process, after);
        }
    }
}

fn decode<T: serde::de::DeserializeOwned>(method: &str, params: &rpc::Params) -> Result<T, Error> {
    params
        .decode()
        .map_err(|error| Error::Protocol(format!("{method}: {}", error.message)))
}

/// The protocol's value for an exit code that nobody knows.
const UNKNOWN_EXIT_CODE: i32 = -1;
