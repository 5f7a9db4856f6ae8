//! The stable handle: one logical session with one executor, over any number of connections.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use exec_proto::{
    PathUri,
    environment::{self, Capabilities, Info},
    process::{self, ListParams, ListResult, ListedProcess},
    rpc::{self, Form},
    session,
};
use rand::{SeedableRng, rngs::StdRng};
use relay_proto::{
    backoff::{Backoff, BackoffConfig, Jitter},
    keys::PublicKey,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{Span, field::Empty};

use crate::{
    Dial, Error, NetworkDecider,
    engine::{
        Engine, Job, Shared,
        call::{Asker, Call, Retry, Room},
    },
    generation::{Generation, Resume},
    limits,
    transport::AbortOnDrop,
};

/// How a client behaves towards time.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// How long the first connection is retried when that may help. Zero tries once.
    pub connect_budget: Duration,
    /// How a lost connection is restored.
    pub recovery: RecoveryConfig,
    /// Whether payloads may travel beside the JSON text.
    pub bulk: Bulk,
    /// Who answers the executor's questions about the network; see [`Network::ask`](crate::Network::ask).
    pub network: NetworkDecider,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_budget: limits::CONNECT_BUDGET,
            recovery: RecoveryConfig::default(),
            bulk: Bulk::default(),
            network: NetworkDecider::default(),
        }
    }
}

/// How output, input, contents of files and bodies travel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Bulk {
    /// As they are, where the executor and the way to it can, else as base64.
    #[default]
    WherePossible,
    /// Also compressed, where the executor can and it makes them smaller. For paths that carry less
    /// than the compressor, which is some hundred MB/s.
    Compressed,
    /// Always as base64 in JSON. For measurements, and for reading what is on the wire.
    Never,
}

impl Bulk {
    /// What an executor that can do this is asked for.
    pub(crate) fn form(self, executor: &Capabilities) -> Form {
        match self {
            Self::Compressed if executor.rpc_bulk && executor.rpc_bulk_zstd => Form::Compressed,
            Self::Compressed | Self::WherePossible if executor.rpc_bulk => Form::Bulk,
            _ => Form::Json,
        }
    }
}

/// How a lost connection is restored.
#[derive(Debug, Clone)]
pub struct RecoveryConfig {
    /// How long it is tried before the session is given up. A stream of the relay that can be resumed
    /// is tried for as long before that, but at most for the minute for which executors keep it.
    pub budget: Duration,
    /// The waits between attempts.
    pub backoff: BackoffConfig,
}

impl Default for RecoveryConfig {
    /// 0.5 s doubling to 5 s, jittered upwards, for 90 s: the reference client's waits, and longer
    /// than the 80 s for which an executor keeps a session.
    fn default() -> Self {
        let backoff = BackoffConfig {
            min_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(5),
            jitter: Jitter::FullToOneAndAHalf,
            ..BackoffConfig::default()
        };
        Self {
            budget: limits::RECOVERY_BUDGET,
            backoff,
        }
    }
}

/// A session with an executor.
///
/// Cheap to clone; the session ends when the last clone, and the last [`Process`](crate::Process)
/// and open file made from it, is gone, or with [`Client::close`]. A lost connection is restored
/// behind the handle; see the crate documentation for what that means for requests on their way.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    jobs: mpsc::Sender<Job>,
    calls: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    tcp_writes: Arc<Semaphore>,
    shared: Arc<Shared>,
    dial: Arc<dyn Dial>,
    config: ClientConfig,
    next_name: AtomicU64,
    /// The last id of a watch. Held while one is asked for: their order has to be that of their ids.
    last_watch: tokio::sync::Mutex<u64>,
    cancel: CancellationToken,
    /// Ends the session task with the last handle.
    _cancel: DropGuard,
    task: Mutex<Option<AbortOnDrop>>,
}

impl Client {
    /// Connects through `dial` and opens a session.
    ///
    /// # Errors
    ///
    /// What the last attempt failed with, when no attempt within the budget worked.
    pub async fn connect_with(dial: Arc<dyn Dial>, config: ClientConfig) -> Result<Self, Error> {
        Self::open(dial, config, None).await
    }

    /// Connects through `dial` and takes over a session that no connection holds any more, such as
    /// one that another program has left with [`Client::close`].
    ///
    /// Whoever is authorized for the executor and knows the session's id may do so. While another
    /// connection holds the session, it is tried again until the budget for connecting is used up.
    ///
    /// # Errors
    ///
    /// [`Error::SessionUnknown`] when it has expired or never existed; otherwise as for
    /// [`Client::connect_with`].
    pub async fn resume_with(
        dial: Arc<dyn Dial>,
        config: ClientConfig,
        session_id: &str,
    ) -> Result<Self, Error> {
        Self::open(dial, config, Some(session_id)).await
    }

    async fn open(
        dial: Arc<dyn Dial>,
        config: ClientConfig,
        session_id: Option<&str>,
    ) -> Result<Self, Error> {
        let first = first_connection(&*dial, &config, session_id).await?;
        let cancel = CancellationToken::new();
        let (jobs, queue) = mpsc::channel(limits::JOBS_QUEUED);
        let shared = Arc::new(Shared {
            generation: AtomicU64::new(1),
            resumptions: Mutex::new((0, first.transport.resumptions())),
            info: Mutex::new(first.info.clone()),
            session_id: first.session_id.clone(),
            executor_key: first.transport.executor_key.clone(),
            ended: OnceLock::new(),
            drained: Arc::new(Notify::new()),
        });
        let engine = Engine::new(dial.clone(), &config, queue, cancel.clone(), shared.clone());
        let task = tokio::spawn(engine.run(first));
        let inner = Inner {
            jobs,
            calls: Arc::new(Semaphore::new(limits::CALLS_IN_FLIGHT)),
            bytes: Arc::new(Semaphore::new(limits::CALL_BYTES_IN_FLIGHT)),
            tcp_writes: Arc::new(Semaphore::new(limits::TCP_WRITES_SHARED)),
            shared,
            dial,
            config,
            next_name: AtomicU64::new(1),
            last_watch: tokio::sync::Mutex::new(0),
            cancel: cancel.clone(),
            _cancel: cancel.drop_guard(),
            task: Mutex::new(Some(AbortOnDrop::new(task))),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Opens another session with the same executor, over a connection of its own.
    ///
    /// What happens on one does not hold up the other; see [`Overflow::Block`](crate::Overflow).
    ///
    /// # Errors
    ///
    /// As for [`Client::connect_with`].
    pub async fn sibling(&self) -> Result<Self, Error> {
        Self::connect_with(self.inner.dial.clone(), self.inner.config.clone()).await
    }

    /// What the executor said about itself when it was last connected.
    pub fn info(&self) -> Info {
        self.inner
            .shared
            .info
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        self.info().capabilities
    }

    /// The processes of the session: those that run, and those that have ended and are remembered.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] when the executor has no list.
    pub async fn processes(&self) -> Result<Vec<ListedProcess>, Error> {
        if !self.capabilities().process_list {
            return Err(Error::Unsupported("listing processes"));
        }
        let mut processes = Vec::new();
        let mut params = ListParams::default();
        loop {
            let page: ListResult = self.call(process::LIST, &params, Retry::Repeat).await?;
            processes.extend(page.processes);
            match page.next {
                // An executor that goes round in circles must not keep us for ever.
                Some(next) if Some(&next) > params.after.as_ref() => params.after = Some(next),
                Some(_) => return Err(Error::Protocol("its list of processes has no end".into())),
                None => return Ok(processes),
            }
        }
    }

    /// Asks the executor to let the session live this long without a connection, each time, and
    /// to remember ended processes as long. Returns what it granted.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] when the executor has one time for all sessions; the reference's is
    /// 80 s.
    pub async fn keep(&self, detached: Duration) -> Result<Duration, Error> {
        if !self.capabilities().session_keep {
            return Err(Error::Unsupported("keeping a session"));
        }
        let params = session::KeepParams {
            detached_ms: u64::try_from(detached.as_millis()).unwrap_or(u64::MAX),
        };
        let kept: session::KeepResult = self.call(session::KEEP, &params, Retry::Repeat).await?;
        Ok(Duration::from_millis(kept.detached_ms))
    }

    /// Ends the session at the executor, which kills its processes, and closes the client.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] when the executor cannot do that; the client is open still.
    pub async fn close_session(&self) -> Result<(), Error> {
        if !self.capabilities().session_close {
            return Err(Error::Unsupported("ending a session"));
        }
        let nothing = exec_proto::Empty {};
        let outcome: Result<exec_proto::Empty, _> =
            self.call(session::CLOSE, &nothing, Retry::Repeat).await;
        match outcome {
            // Ended by the first of two requests, of which the answer was lost.
            Ok(_) | Err(Error::SessionLost(_)) => {}
            Err(error) => return Err(error),
        }
        self.close().await;
        Ok(())
    }

    /// The executor's name for the session.
    pub fn session_id(&self) -> &str {
        &self.inner.shared.session_id
    }

    /// The executor's key, when the transport authenticates one. The same for the whole session.
    pub fn executor_key(&self) -> Option<&PublicKey> {
        self.inner.shared.executor_key.as_ref()
    }

    /// How many connections the session has had.
    pub fn generation(&self) -> u64 {
        self.inner.shared.generation.load(Ordering::Acquire)
    }

    /// How often a connection of the session lost its websocket and went on over another one, which
    /// no request and no reader notices.
    pub fn resumptions(&self) -> u64 {
        let shared = &self.inner.shared;
        let resumptions = shared
            .resumptions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        resumptions.0 + resumptions.1.count()
    }

    /// Asks the executor whether it is there; answers with its status, which is `ready`.
    ///
    /// # Errors
    ///
    /// As for every request; see [`Error`].
    pub async fn status(&self) -> Result<String, Error> {
        let status: environment::Status = self
            .call(environment::STATUS, &exec_proto::Empty {}, Retry::Repeat)
            .await?;
        Ok(status.status)
    }

    /// Makes a path of the executor out of text: absolute, `~/...`, or relative to the executor's
    /// working directory. `file:` URIs are taken as they are.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] when the text is empty or not a path of the executor.
    pub fn resolve(&self, text: &str) -> Result<PathUri, Error> {
        let info = self.info();
        let bad = |why: &str| Error::Misuse(format!("invalid remote path: {why}"));
        if text.is_empty() {
            return Err(bad("it is empty"));
        }
        if text.starts_with("file:") {
            return PathUri::parse(text).map_err(|error| bad(&error.to_string()));
        }
        let base = if text.starts_with('/') {
            None
        } else if text == "~" || text.starts_with("~/") {
            Some(
                info.user_home_dir
                    .ok_or_else(|| bad("the executor does not say where its home is"))?,
            )
        } else {
            Some(info.cwd.ok_or_else(|| {
                bad("the executor does not say where it is: use an absolute path")
            })?)
        };
        let relative = text
            .strip_prefix('~')
            .map_or(text, |rest| rest.trim_start_matches('/'));
        let path = match base {
            None => Path::new(text).to_path_buf(),
            Some(base) => {
                let base = base.to_native().map_err(|error| bad(&error.to_string()))?;
                if text.starts_with('~') {
                    base.join(relative)
                } else {
                    base.join(text)
                }
            }
        };
        PathUri::from_native(&path).ok_or_else(|| bad("it cannot be expressed"))
    }

    /// Ends the session's connection and waits until that is done.
    ///
    /// Running processes live on until the executor's session expires; terminate them before if they
    /// should not. Other clones fail with [`Error::Closed`] from now on.
    pub async fn close(&self) {
        self.inner.cancel.cancel();
        let task = self
            .inner
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(mut task) = task {
            task.ended().await;
        }
    }

    /// Makes one request.
    pub(crate) async fn call<P: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &P,
        retry: Retry,
    ) -> Result<R, Error> {
        self.submit(method, params, retry, Asker::Caller, Job::Call)
            .await
    }

    /// Makes one request that the session task has to prepare for.
    pub(crate) async fn submit<P: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &P,
        retry: Retry,
        asker: impl FnOnce(oneshot::Sender<Result<rpc::Value, Error>>) -> Asker,
        job: impl FnOnce(Call) -> Job,
    ) -> Result<R, Error> {
        let answer = self.begin(method, params, retry, None, asker, job).await?;
        answer.wait().await
    }

    /// Hands one request to the session task, behind those that were handed over before. `share` is
    /// given back with the answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future means that the request is not made.
    pub(crate) async fn begin<P: Serialize + ?Sized>(
        &self,
        method: &'static str,
        params: &P,
        retry: Retry,
        share: Option<OwnedSemaphorePermit>,
        asker: impl FnOnce(oneshot::Sender<Result<rpc::Value, Error>>) -> Asker,
        job: impl FnOnce(Call) -> Job,
    ) -> Result<Answer, Error> {
        let params = rpc::Draft::new(params)
            .map_err(|_| Error::Misuse(format!("the parameters of {method} do not serialize")))?;
        let mut room = self.room(params.size()).await?;
        room._share = share;
        let (reply, answer) = oneshot::channel();
        let asker = asker(reply);
        let span = telemetry::span!(
            "client",
            method,
            rpc.system = "jsonrpc",
            otel.status_code = Empty
        );
        let call = Call {
            method,
            params,
            retry,
            asker,
            repeated: false,
            made: Instant::now(),
            trace: telemetry::trace::of(&span).map(|context| rpc::Trace {
                traceparent: Some(context.parent),
                tracestate: context.state,
            }),
            _room: Some(room),
        };
        self.inner
            .jobs
            .send(job(call))
            .await
            .map_err(|_| self.ended())?;
        Ok(Answer {
            method,
            answer,
            shared: self.inner.shared.clone(),
            span,
        })
    }

    /// Waits for room in the budgets for requests without an answer.
    async fn room(&self, bytes: usize) -> Result<Room, Error> {
        // A larger request waits for the whole budget rather than for more than there is.
        let share = u32::try_from(bytes.clamp(1, limits::CALL_BYTES_IN_FLIGHT)).unwrap_or(u32::MAX);
        let calls = self
            .inner
            .calls
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| Error::Closed)?;
        let bytes = self
            .inner
            .bytes
            .clone()
            .acquire_many_owned(share)
            .await
            .map_err(|_| Error::Closed)?;
        Ok(Room {
            _calls: calls,
            _bytes: bytes,
            _share: None,
        })
    }

    /// A name that no other process, file or response of this session has.
    pub(crate) fn unique_name(&self) -> String {
        let number = self.inner.next_name.fetch_add(1, Ordering::Relaxed);
        format!("{number}-{}", uuid::Uuid::new_v4())
    }

    pub(crate) fn drained(&self) -> Arc<Notify> {
        self.inner.shared.drained.clone()
    }

    pub(crate) fn last_watch(&self) -> &tokio::sync::Mutex<u64> {
        &self.inner.last_watch
    }

    /// The budget for writes to TCP streams beyond one of each.
    pub(crate) fn tcp_writes(&self) -> &Arc<Semaphore> {
        &self.inner.tcp_writes
    }

    fn ended(&self) -> Error {
        self.inner.shared.ended()
    }
}

/// The answer to a request that was handed over.
#[derive(Debug)]
pub(crate) struct Answer {
    method: &'static str,
    answer: oneshot::Receiver<Result<rpc::Value, Error>>,
    shared: Arc<Shared>,
    /// From the request until nobody waits for the answer any more.
    span: Span,
}

impl Answer {
    /// Waits for it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future of a mutable reference is dropped.
    pub(crate) async fn wait<R: DeserializeOwned>(mut self) -> Result<R, Error> {
        self.wait_mut().await
    }

    /// The same, for one that is kept until it has come.
    pub(crate) async fn wait_mut<R: DeserializeOwned>(&mut self) -> Result<R, Error> {
        let answer = (&mut self.answer).await;
        let answer = answer.map_err(|_| self.shared.ended()).flatten();
        let result = answer.inspect_err(|_| {
            self.span.record("otel.status_code", "ERROR");
        })?;
        let method = self.method;
        result
            .decode()
            .map_err(|_| Error::Protocol(format!("its answer to {method} does not decode")))
    }
}

async fn first_connection(
    dial: &dyn Dial,
    config: &ClientConfig,
    session_id: Option<&str>,
) -> Result<Generation, Error> {
    let deadline = Instant::now() + config.connect_budget;
    let mut backoff = Backoff::new(config.recovery.backoff);
    let mut rng = StdRng::from_seed(random_seed());
    loop {
        let resume = session_id.map(|session_id| Resume {
            session_id,
            executor_key: None,
        });
        let error = match Generation::establish(dial, config.bulk, resume).await {
            Ok(generation) => return Ok(generation),
            Err(error) => error,
        };
        let delay = backoff.next_delay(&mut rng, error.retry_after());
        if !error.is_retryable() || Instant::now() + delay >= deadline {
            return Err(error);
        }
        tracing::debug!(error = %error, "attempt to connect failed");
        tokio::time::sleep(delay).await;
    }
}

/// Randomness of the operating system. Without any, waits and stream names are still usable, only
/// predictable, so a failure is no reason to give up.
pub(crate) fn random_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    if let Err(error) = getrandom::fill(&mut seed) {
        tracing::warn!(error = %error, "the operating system gives no randomness");
    }
    seed
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("session_id", &self.shared.session_id)
            .finish_non_exhaustive()
    }
}
