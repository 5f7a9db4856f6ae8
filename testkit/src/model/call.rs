//! One tool call of the scripted model.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::session_id;

/// A tool call. The arguments may refer to a session that an earlier call started.
#[derive(Debug, Clone)]
pub struct Call {
    id: String,
    tool: &'static str,
    arguments: Value,
    /// The call whose output names the session to address.
    session_of: Option<String>,
}

impl Call {
    /// Runs `command` in the default shell, waiting as long as the client allows.
    pub fn exec(id: &str, command: &str) -> Self {
        Self::new(
            id,
            "exec_command",
            json!({"cmd": command, "yield_time_ms": LONGEST_YIELD_MS}),
        )
    }

    /// Runs `command` on a terminal.
    pub fn exec_tty(id: &str, command: &str) -> Self {
        Self::exec(id, command).with("tty", json!(true))
    }

    /// Writes `chars` to the session that call `session_of` left running; empty only polls.
    pub fn write_stdin(id: &str, session_of: &str, chars: &str) -> Self {
        let arguments = json!({"chars": chars, "yield_time_ms": LONGEST_YIELD_MS});
        let mut call = Self::new(id, "write_stdin", arguments);
        call.session_of = Some(session_of.to_owned());
        call
    }

    /// Shows the image at `path` to the model.
    pub fn view_image(id: &str, path: &str) -> Self {
        Self::new(id, "view_image", json!({"path": path}))
    }

    /// Makes the tool return after `milliseconds` even if the command still runs.
    #[must_use]
    pub fn yield_after_ms(self, milliseconds: u32) -> Self {
        self.with("yield_time_ms", json!(milliseconds))
    }

    fn new(id: &str, tool: &'static str, arguments: Value) -> Self {
        Self {
            id: id.to_owned(),
            tool,
            arguments,
            session_of: None,
        }
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.arguments[name] = value;
        self
    }

    /// The wire form; `output_of` gives the text output of an earlier call.
    pub(super) fn item<'o>(&self, output_of: impl Fn(&str) -> Option<&'o str>) -> Result<Value> {
        let mut arguments = self.arguments.clone();
        if let Some(starter) = &self.session_of {
            let session = output_of(starter)
                .and_then(session_id)
                .with_context(|| format!("call {starter} left no session running"))?;
            arguments["session_id"] = json!(session);
        }
        Ok(json!({
            "type": "function_call",
            "call_id": self.id,
            "name": self.tool,
            "arguments": arguments.to_string(),
        }))
    }
}

/// The client waits no longer than this for a command.
const LONGEST_YIELD_MS: u32 = 30_000;
