//! A scripted model: the server side of the Responses API, as far as the reference client uses it.
//!
//! A [`Script`] is a list of responses. Each answers one request of the client, either with tool
//! calls or with a closing message. Every request body is kept, so a test can assert the exact
//! outputs of the tool calls that reached the model.
//!
//! # What the client needs
//!
//! Found by watching release 0.169.0 with `wire_api = "responses"`:
//!
//! ```text
//! POST {base_url}/responses          one request per step of a turn, body is JSON
//! 200, content-type: text/event-stream
//!   event: response.created            {"response": {"id": ...}}
//!   event: response.output_item.done   {"item": function_call | message}      (any number)
//!   event: response.completed          {"response": {"id": ..., "usage": {...}}}
//! ```
//!
//! The next request repeats the calls in `input` and adds one `function_call_output` for each.

mod call;
mod normalize;

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::web;

pub use call::Call;
pub use normalize::{normalize, session_id};

/// What the model answers, in order.
#[derive(Debug, Clone, Default)]
pub struct Script {
    responses: Vec<Vec<Call>>,
}

impl Script {
    /// Returns an empty script: the model only says that it is done.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one response that calls one tool.
    #[must_use]
    pub fn call(self, call: Call) -> Self {
        self.calls([call])
    }

    /// Adds one response that calls several tools at once.
    #[must_use]
    pub fn calls(mut self, calls: impl IntoIterator<Item = Call>) -> Self {
        self.responses.push(calls.into_iter().collect());
        self
    }
}

/// A running scripted model. Dropping it stops the server.
#[derive(Debug)]
pub struct ScriptedModel {
    base_url: String,
    state: Arc<Mutex<ModelState>>,
    _server: JoinSet<()>,
}

impl ScriptedModel {
    /// Starts the server on a free loopback port.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start(script: Script) -> Result<Self> {
        let state = Arc::new(Mutex::new(ModelState {
            script,
            requests: Vec::new(),
            problem: None,
        }));
        let (listener, url) = web::bind().await?;
        let router = Router::new()
            .route("/v1/responses", post(respond))
            .layer(DefaultBodyLimit::max(REQUEST_LIMIT_BYTES))
            .with_state(Arc::clone(&state));
        Ok(Self {
            base_url: format!("{url}/v1"),
            state,
            _server: web::serve(listener, router),
        })
    }

    /// The base URL for a `model_providers` table.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Bodies of all requests so far.
    pub fn requests(&self) -> Vec<Value> {
        lock(&self.state).requests.clone()
    }

    /// Checks that the client followed the script to its end and not beyond.
    ///
    /// # Errors
    ///
    /// When a request did not fit the script, or responses are left over.
    pub fn finished(&self) -> Result<()> {
        let state = lock(&self.state);
        if let Some(problem) = &state.problem {
            bail!("the scripted model refused a request: {problem}");
        }
        let wanted = state.script.responses.len() + 1;
        if state.requests.len() != wanted {
            bail!(
                "the client made {} of {wanted} scripted requests",
                state.requests.len()
            );
        }
        Ok(())
    }

    /// The output of tool call `call_id` as it reached the model: a text, or a list of items.
    ///
    /// # Errors
    ///
    /// When no request carried an output of this call.
    pub fn output(&self, call_id: &str) -> Result<Value> {
        let state = lock(&self.state);
        let last = state
            .requests
            .last()
            .context("the client made no request")?;
        find_output(last, call_id)
            .cloned()
            .with_context(|| format!("no output of call {call_id}"))
    }

    /// The text output of tool call `call_id`, with chunk ids and wall times normalized.
    ///
    /// # Errors
    ///
    /// When no request carried an output of this call, or it is not text.
    pub fn text_output(&self, call_id: &str) -> Result<String> {
        let output = self.output(call_id)?;
        let text = output
            .as_str()
            .with_context(|| format!("output of {call_id} is not text"))?;
        Ok(normalize(text))
    }

    /// All texts of user messages in the first request: the prompt and what the client put
    /// before it, such as the instructions of the project.
    pub fn user_texts(&self) -> Vec<String> {
        let state = lock(&self.state);
        let Some(input) = state.requests.first().and_then(|r| r["input"].as_array()) else {
            return Vec::new();
        };
        input
            .iter()
            .filter(|item| item["role"] == "user")
            .flat_map(|item| item["content"].as_array().into_iter().flatten())
            .filter_map(|content| content["text"].as_str().map(str::to_owned))
            .collect()
    }
}

#[derive(Debug)]
struct ModelState {
    script: Script,
    requests: Vec<Value>,
    problem: Option<String>,
}

impl ModelState {
    /// Records `request` and returns the items that answer it.
    fn answer(&mut self, request: Value) -> Result<Vec<Value>> {
        let index = self.requests.len();
        self.requests.push(request);
        if index > self.script.responses.len() {
            bail!("request {} comes after the end of the script", index + 1);
        }
        let request = self
            .requests
            .last()
            .context("a request was just recorded")?;
        let Some(calls) = self.script.responses.get(index) else {
            return Ok(vec![closing_message()]);
        };
        calls
            .iter()
            .map(|call| call.item(|id| find_output(request, id).and_then(Value::as_str)))
            .collect()
    }
}

async fn respond(State(state): State<Arc<Mutex<ModelState>>>, body: Bytes) -> Response {
    let answer = serde_json::from_slice(&body)
        .context("the request body is not JSON")
        .and_then(|request| lock(&state).answer(request));
    match answer {
        Ok(items) => ([(header::CONTENT_TYPE, "text/event-stream")], events(items)).into_response(),
        Err(error) => {
            let problem = format!("{error:#}");
            lock(&state).problem = Some(problem.clone());
            (StatusCode::BAD_REQUEST, problem).into_response()
        }
    }
}

/// The event stream of one response.
fn events(items: Vec<Value>) -> String {
    let usage = json!({
        "input_tokens": 0, "input_tokens_details": null,
        "output_tokens": 0, "output_tokens_details": null,
        "total_tokens": 0,
    });
    let created = json!({"type": "response.created", "response": {"id": "response"}});
    let done = items
        .into_iter()
        .map(|item| json!({"type": "response.output_item.done", "item": item}));
    let completed =
        json!({"type": "response.completed", "response": {"id": "response", "usage": usage}});
    std::iter::once(created)
        .chain(done)
        .chain(std::iter::once(completed))
        .map(|event| {
            let name = event["type"].as_str().unwrap_or_default();
            format!("event: {name}\ndata: {event}\n\n")
        })
        .collect()
}

fn closing_message() -> Value {
    json!({
        "type": "message", "role": "assistant", "id": "closing",
        "content": [{"type": "output_text", "text": "done"}],
    })
}

fn find_output<'r>(request: &'r Value, call_id: &str) -> Option<&'r Value> {
    request["input"]
        .as_array()?
        .iter()
        .find(|item| item["type"] == "function_call_output" && item["call_id"] == call_id)
        .map(|item| &item["output"])
}

/// A panic of one test thread must not hide the others' results behind a poisoned lock.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The history with images and long outputs grows with each request.
const REQUEST_LIMIT_BYTES: usize = 64 << 20;
