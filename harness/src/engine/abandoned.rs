//! What becomes of response bodies, TCP streams and watches whose reader has gone away.

use exec_proto::{
    fs, http, rpc,
    session::{self, CancelParams},
    tcp::{self, CloseParams},
};
use serde::Serialize;
use tokio::time::Instant;

use super::{
    Engine,
    call::{Asker, Call, Retry},
};

impl Engine {
    /// Has the executor end what nobody reads any more. An executor without the extensions goes on,
    /// and what it sends is thrown away.
    pub(super) fn give_up_abandoned(&mut self) {
        let bodies: Vec<_> = self
            .bodies
            .iter()
            .filter(|(_, body)| body.is_abandoned() && !body.given_up)
            .map(|(request, body)| (request.clone(), body.answered))
            .collect();
        for (request, answered) in bodies {
            self.give_up_body(request, answered);
        }
        let streams: Vec<_> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.is_abandoned())
            .map(|(id, _)| id.clone())
            .collect();
        for stream in streams {
            self.give_up_stream(stream);
        }
        if let Some(watch) = self.watch.take_if(|watch| watch.is_abandoned())
            && self.capabilities().fs_unwatch_missing
        {
            let watch_id = watch.id;
            self.tell(fs::UNWATCH_MISSING, &fs::UnwatchMissingParams { watch_id });
        }
    }

    fn give_up_body(&mut self, request: String, answered: bool) {
        let capabilities = self.capabilities();
        if !answered {
            // When it is answered all the same, the body is given up then.
            let asks = |asker: &Asker| matches!(asker, Asker::Stream(id, _) if *id == request);
            match self.pending.find(asks) {
                Some((id, false)) => {
                    self.pending.answered(id);
                    self.bodies.remove(&request);
                }
                // It may still wait for its turn, which the other way does not reach.
                Some((id, true)) if capabilities.request_cancel => {
                    self.asked_to_end(&request);
                    self.tell(session::CANCEL, &CancelParams { id: id.into() });
                }
                _ => {}
            }
            return;
        }
        self.asked_to_end(&request);
        if capabilities.http_cancel {
            let request_id = request;
            self.tell(http::CANCEL, &http::CancelParams { request_id });
        }
    }

    fn asked_to_end(&mut self, request: &str) {
        if let Some(body) = self.bodies.get_mut(request) {
            body.given_up = true;
        }
    }

    fn give_up_stream(&mut self, stream_id: String) {
        let asks = |asker: &Asker| matches!(asker, Asker::Tcp(id, _) if *id == stream_id);
        // Ids are used once, so that nothing which still comes can be mistaken.
        self.streams.remove(&stream_id);
        match self.pending.find(asks) {
            Some((id, false)) => {
                self.pending.answered(id);
                return;
            }
            Some((id, true)) if self.capabilities().request_cancel => {
                self.tell(session::CANCEL, &CancelParams { id: id.into() });
            }
            _ => {}
        }
        self.tell(tcp::CLOSE, &CloseParams { stream_id });
    }

    /// Makes a request of the session task's own, of which the answer does not matter.
    pub(super) fn tell<P: Serialize>(&mut self, method: &'static str, params: &P) {
        let Ok(params) = rpc::Draft::new(params) else {
            return;
        };
        self.pending.add(Call {
            method,
            params,
            retry: Retry::Never,
            asker: Asker::Nobody,
            repeated: false,
            made: Instant::now(),
            trace: None,
            _room: None,
        });
    }
}
