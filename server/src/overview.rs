//! What the admin listener shows of the server.

use std::sync::Arc;

use ops::admin::Source;
use ops::prometheus::registry::Registry;
use ops::state::State;
use serde_json::{Value, json};

use crate::metrics::{Present, metrics};
use crate::service::Service;

/// The server takes requests.
pub(crate) const SERVING: &str = "serving";
/// It sends its peers away.
pub(crate) const DRAINING: &str = "draining";

/// The server, as the admin listener sees it.
#[derive(Debug)]
pub(crate) struct Overview {
    pub(crate) service: Arc<Service>,
    pub(crate) state: Arc<State>,
}

impl Overview {
    fn environments(&self) -> i64 {
        i64::try_from(self.service.hub.environment_count()).unwrap_or(i64::MAX)
    }
}

impl Source for Overview {
    async fn is_ready(&self) -> bool {
        self.service.is_ready().await
    }

    fn metrics(&self) -> Registry {
        metrics().registry(&Present {
            ready: !self.service.is_draining(),
            environments: self.environments(),
        })
    }

    fn status(&self) -> Value {
        let mut status = self.state.describe();
        status.insert("ready".to_owned(), json!(!self.service.is_draining()));
        status.insert("environments".to_owned(), json!(self.environments()));
        if let Some(oidc) = &self.service.oidc {
            status.insert("oidc_keys".to_owned(), json!(oidc.key_count()));
        }
        status.insert("version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
        Value::Object(status)
    }
}
