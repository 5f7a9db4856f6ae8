//! From a checked start request to a running program.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use exec_proto::RpcError;
use exec_proto::process::{MAX_TERM_BYTES, StartParams, StartResult};
use exec_proto::sandbox::{SandboxContext, SandboxType};
use telemetry::trace;
use tokio::sync::oneshot;
use tracing::{Span, field::Empty};

use super::{ProcessTable, TableConfig};
use crate::environment::Variables;
use crate::network;
use crate::process::MAX_PROCESS_ID_BYTES;
use crate::process::pty::Size;
use crate::process::snapshot::{self, Restored};
use crate::process::spawn::{SpawnRequest, StdioKind};
use crate::sandbox::{self, Confinement, Isolation, Purpose};

/// An id that is taken and a request that is checked. Dropping it frees the id.
#[derive(Debug)]
pub(crate) struct Reservation {
    table: Arc<ProcessTable>,
    params: Option<Box<StartParams>>,
    cwd: PathBuf,
}

/// A started process: the answer, and the gate that holds its events back.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) result: StartResult,
    pub(crate) gate: StartGate,
}

/// Holds a process's events back until it is dropped, so that the answer comes first.
#[derive(Debug)]
pub(crate) struct StartGate {
    _opened_by_drop: oneshot::Sender<()>,
}

impl StartGate {
    pub(super) fn new(opened_by_drop: oneshot::Sender<()>) -> Self {
        Self {
            _opened_by_drop: opened_by_drop,
        }
    }
}

impl Reservation {
    /// For an id that was just taken.
    pub(super) fn new(table: Arc<ProcessTable>, params: Box<StartParams>, cwd: PathBuf) -> Self {
        Self {
            table,
            params: Some(params),
            cwd,
        }
    }

    /// Whether the program gets a terminal.
    pub(crate) fn is_interactive(&self) -> bool {
        self.params.as_deref().is_some_and(|params| params.tty)
    }

    /// Starts the program.
    ///
    /// # Cancel safety
    ///
    /// If the call is cancelled, the program still starts and stays with the session.
    pub(crate) async fn start(mut self) -> Result<Started, RpcError> {
        // Below the request, which is over long before.
        let span = telemetry::span!("internal", "command", process.exit.code = Empty);
        let (answer, started) = oneshot::channel();
        let tasks = self.table.config.tasks.clone();
        let busy = self.table.config.ending.busy();
        tasks.spawn(async move {
            let _busy = busy;
            let result = self.spawn(span).await;
            // A failed start frees its id before the client hears of it.
            drop(self);
            // Nobody may be left to take the answer; dropping it opens the gate.
            let _ = answer.send(result);
        });
        started
            .await
            .unwrap_or_else(|_| Err(RpcError::internal("the executor is shutting down")))
    }

    async fn spawn(&mut self, span: Span) -> Result<Started, RpcError> {
        let Some(params) = self.params.as_deref() else {
            return Err(RpcError::internal("the request was started before"));
        };
        let config = &self.table.config;
        let network = network::Plan::new(params)?;
        let isolation = network.as_ref().and_then(network::Plan::isolation);
        let sandbox = params.sandbox.as_ref();
        let confinement = match sandbox.is_some() || config.environment.ground().floor.is_some() {
            false => None,
            true => confinement(sandbox, &self.cwd, config, isolation).await?,
        };
        let restored = self
            .table
            .snapshots
            .restore(config, params, &self.cwd, confinement.as_ref())
            .await;
        let (argv, mut variables, extra) = match restored {
            Some(Restored {
                argv,
                variables,
                state,
            }) => (argv, variables, state),
            None => {
                let variables = config.environment.child_variables(
                    params.env_policy.as_ref(),
                    &params.env,
                    params.metadata.as_ref(),
                );
                (params.argv.clone(), variables, None)
            }
        };
        if params.tty {
            let shell = &config.environment.info().shell.path;
            variables
                .entry("SHELL".into())
                .or_insert_with(|| shell.into());
        }
        let terminal = params.terminal.as_ref();
        if let Some(term) = terminal.and_then(|terminal| terminal.term.as_ref()) {
            variables
                .entry("TERM".into())
                .or_insert_with(|| term.into());
        }
        name_span(&span, &params.env, &mut variables);
        let opening = match network {
            None => None,
            Some(plan) => {
                let surroundings = network::Surroundings {
                    questions: Arc::clone(&self.table.questions),
                    attachment: Arc::clone(&self.table.attachment),
                };
                Some(plan.open(&mut variables, surroundings).await?)
            }
        };
        let ways = match &opening {
            Some(network::Opening::Sandbox(routes)) => routes.ports(),
            _ => Vec::new(),
        };
        let (bounds, limited) = config.limiter.command().map_err(|err| {
            RpcError::internal(format!("failed to make the command's control group: {err}"))
        })?;
        let request = SpawnRequest {
            argv,
            arg0: params.arg0.clone(),
            cwd: self.cwd.clone(),
            variables,
            stdio: match (params.tty, params.pipe_stdin) {
                (true, _) => StdioKind::Terminal(terminal.map_or_else(Size::default, Size::of)),
                (false, true) => StdioKind::InputOutput,
                (false, false) => StdioKind::Output,
            },
            extra,
            confinement,
            ways,
            bounds,
        };
        let sandbox_type = match request.confinement {
            Some(_) => SandboxType::LinuxSeccomp,
            None => SandboxType::None,
        };
        let mut spawned = config.spawner.spawn(request).await?;
        let gateway = match opening {
            None => Ok(None),
            Some(network::Opening::Host(gateway)) => Ok(Some(gateway)),
            Some(network::Opening::Sandbox(routes)) => spawned
                .listeners()
                .and_then(|listeners| routes.with(listeners).map(Some)),
        };
        let gateway = gateway.map_err(|err| {
            spawned.kill();
            RpcError::internal(format!("failed to start network proxy: {err}"))
        })?;
        let gate = self
            .table
            .adopt(params, spawned, gateway, limited, span)
            .map_err(|err| RpcError::internal(err.to_string()))?;
        let process_id = params.process_id.clone();
        self.params = None;
        let result = StartResult {
            process_id,
            sandbox_type: Some(sandbox_type),
        };
        Ok(Started { result, gate })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(params) = &self.params {
            self.table.entries().by_id.remove(&params.process_id);
        }
    }
}

/// Lets a command that makes spans put them below its own, unless the client has said below which.
fn name_span(span: &Span, given: &BTreeMap<String, String>, variables: &mut Variables) {
    let [parent, state] = [trace::PARENT, trace::STATE].map(str::to_ascii_uppercase);
    if given.contains_key(&parent) {
        return;
    }
    if let Some(context) = trace::of(span) {
        // What the executor itself was started with.
        variables.remove(OsStr::new(&state));
        for (name, value) in context.members() {
            variables.insert(name.to_ascii_uppercase().into(), value.into());
        }
    }
}

/// What a context asks to enforce on a command.
async fn confinement(
    context: Option<&SandboxContext>,
    cwd: &Path,
    config: &TableConfig,
    isolation: Option<Isolation>,
) -> Result<Option<Confinement>, RpcError> {
    let (context, cwd) = (context.cloned(), cwd.to_owned());
    let environment = Arc::clone(&config.environment);
    let evaluate = move || {
        let (purpose, ground) = (Purpose::Command(&cwd), environment.ground());
        match (&context, isolation) {
            (Some(context), Some(isolation)) => {
                sandbox::isolated(context, purpose, ground, isolation).map(Some)
            }
            (context, _) => sandbox::confinement(context.as_ref(), purpose, ground),
        }
    };
    match tokio::task::spawn_blocking(evaluate).await {
        Ok(confinement) => confinement.map_err(sandbox::Refusal::for_process),
        Err(_) => Err(RpcError::internal("the sandbox policy was not evaluated")),
    }
}

/// Everything about a request that can be refused without looking at the host.
pub(super) fn check(params: &StartParams) -> Result<(), RpcError> {
    let refuse = |text: &str| Err(RpcError::invalid_params(text));
    if params.argv.is_empty() {
        return refuse("argv must not be empty");
    }
    if params.process_id.len() > MAX_PROCESS_ID_BYTES {
        return Err(RpcError::invalid_params(format!(
            "processId must be at most {MAX_PROCESS_ID_BYTES} bytes"
        )));
    }
    if let Some(terminal) = &params.terminal {
        if !params.tty {
            return refuse("terminal requires tty: true");
        }
        if !terminal.has_valid_term() {
            return Err(RpcError::invalid_params(format!(
                "terminal.term must be 1 to {MAX_TERM_BYTES} letters, digits or any of . _ + -"
            )));
        }
    }
    if let Some(snapshot) = &params.shell_snapshot {
        snapshot::check(snapshot, &params.argv)?;
    }
    network::Plan::new(params).map(|_| ())
}
