//! What the admin listener shows of the executor.

use std::sync::Arc;

use ops::{admin::Source, prometheus::registry::Registry, state::State};
use serde_json::{Value, json};

use crate::{
    metrics::{Present, metrics},
    session::Sessions,
};

/// The executor is about to do what it is for.
pub const STARTING: &str = "starting";
/// It asks the registry for a registration.
pub const REGISTERING: &str = "registering";
/// Something does not work, and is tried again.
pub const WAITING: &str = "waiting";
/// It opens the websocket.
pub const CONNECTING: &str = "connecting";
/// It is attached to its environment.
pub const CONNECTED: &str = "connected";
/// It takes connections of this machine.
pub const LISTENING: &str = "listening";
/// It comes to its end.
pub const DRAINING: &str = "draining";

/// The executor, as the admin listener sees it.
#[derive(Debug)]
pub struct Overview {
    state: Arc<State>,
    sessions: Arc<Sessions>,
}

impl Overview {
    /// Shows these.
    pub fn new(state: Arc<State>, sessions: Arc<Sessions>) -> Self {
        Self { state, sessions }
    }

    fn ready(&self) -> bool {
        !self.sessions.is_draining() && matches!(self.state.name(), CONNECTED | LISTENING)
    }
}

impl Source for Overview {
    async fn is_ready(&self) -> bool {
        self.ready()
    }

    fn metrics(&self) -> Registry {
        metrics().registry(&Present {
            ready: self.ready(),
            connected: self.state.name() == CONNECTED,
            sessions: i64::try_from(self.sessions.session_count()).unwrap_or(i64::MAX),
        })
    }

    fn status(&self) -> Value {
        let mut status = self.state.describe();
        if self.sessions.is_draining() {
            status.insert("state".to_owned(), json!(DRAINING));
        }
        status.insert("ready".to_owned(), json!(self.ready()));
        status.insert("sessions".to_owned(), json!(self.sessions.session_count()));
        status.insert("version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
        Value::Object(status)
    }
}
