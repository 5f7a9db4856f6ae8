//! All sessions of the executor: opening, resuming, detaching, expiring.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use exec_proto::RpcError;
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::attachment::Attachment;
use super::connection;
use super::drain::Ending;
use super::place::{Holder, Place};
use crate::environment::ExecutorEnvironment;
use crate::events;
use crate::fs::Sandboxes;
use crate::http::HttpClient;
use crate::limits::{CommandLimits, Limiter};
use crate::memory;
use crate::process::{ProcessTable, Retention, Spawner, SpillSpace, TableConfig};
use crate::rpc::{Outbox, Transport};
use crate::serve::Serve;

/// Sessions at the same time, detached ones included.
const MAX_SESSIONS: usize = 1024;

/// The least output that is kept of a process: as much as Codex 0.169 does, in memory.
pub const OUTPUT_BYTES_MIN: usize = 1 << 20;

/// The most. Clients read back in one answer what they have missed, and a message holds 64 MiB of
/// which base64 takes a third.
pub const OUTPUT_BYTES_MAX: usize = 32 << 20;

/// Output of all programs that may be on disk, in bytes, unless the operator says otherwise.
pub(crate) const OUTPUT_DISK_BYTES: u64 = 1 << 30;

/// How sessions behave.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SessionsConfig {
    /// What children inherit and what `environment/info` says.
    pub environment: Arc<ExecutorEnvironment>,
    /// Performs the HTTP requests of all connections.
    pub http: Arc<HttpClient>,
    /// What each command may use.
    pub limits: CommandLimits,
    /// Where it is written down which absent names sandboxes occupy, for the case that everything is
    /// killed at once. What is left there from earlier is cleared up at once.
    pub names_directory: Option<PathBuf>,
    /// How long a session without a connection is kept.
    pub detached_ttl: Duration,
    /// How long at most, when a client asks for longer.
    pub detached_ttl_max: Duration,
    /// How long the record of a closed process is kept.
    pub closed_retention: Duration,
    /// How much output the closed records of one session hold in memory together; beyond it the
    /// oldest records go early.
    pub closed_output_bytes: usize,
    /// How much output is kept of each process, up to [`OUTPUT_BYTES_MAX`]. What exceeds
    /// [`OUTPUT_BYTES_MIN`] is on disk.
    pub output_bytes: usize,
    /// How much the file for it may take of the disk. When it is full, less is kept.
    pub output_disk_bytes: u64,
    /// Where that file is made. It has no name there.
    pub output_directory: PathBuf,
    /// How long the profile of a login shell may take for its state to be kept for later commands.
    pub snapshot_time: Duration,
    /// Requests of one connection that work on files at the same time, and HTTP requests, each.
    /// Those that mostly wait (starts, long polls, writes to a program that does not read) and
    /// control methods do not count.
    pub concurrent_requests: usize,
    /// Silence of the peer after which a stream of the relay is ended, unless a request is being
    /// worked on. Its harness, if it lives, comes back at once; if it does not, its session
    /// expires like any other that is detached.
    pub stream_idle: Duration,
}

impl SessionsConfig {
    /// The defaults: 80 s for both times, as in Codex 0.169, a day on request, 64 requests, and 30
    /// minutes for a stream. The rendezvous resets the streams of a harness whose socket ends, so silence is only
    /// what is left when that reset was lost; a harness that merely waits pays with one reconnect.
    pub fn new(environment: Arc<ExecutorEnvironment>, http: Arc<HttpClient>) -> Self {
        Self {
            environment,
            http,
            limits: CommandLimits::default(),
            names_directory: None,
            detached_ttl: Duration::from_secs(80),
            detached_ttl_max: Duration::from_secs(24 * 60 * 60),
            closed_retention: Duration::from_secs(80),
            closed_output_bytes: 64 << 20,
            output_bytes: OUTPUT_BYTES_MIN,
            output_disk_bytes: OUTPUT_DISK_BYTES,
            output_directory: std::env::temp_dir(),
            snapshot_time: Duration::from_secs(10),
            concurrent_requests: 64,
            stream_idle: Duration::from_secs(30 * 60),
        }
    }
}

/// The owner of all sessions.
#[derive(Debug)]
pub struct Sessions {
    pub(super) config: SessionsConfig,
    table_config: TableConfig,
    sessions: Mutex<HashMap<String, Arc<Session>>>,
    /// Everything that outlives a connection: pumps, retention, expiry.
    tasks: TaskTracker,
    shutdown: CancellationToken,
    runtime: Handle,
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) processes: Arc<ProcessTable>,
    attachment: Arc<Attachment>,
    /// How long it lives without a connection.
    detached_ttl: Mutex<Duration>,
    place: Mutex<Place>,
}

/// A session held by a connection. Dropping it detaches the session.
#[derive(Debug)]
pub(super) struct AttachedSession {
    sessions: Arc<Sessions>,
    pub(super) session: Arc<Session>,
    /// Set when the session is over, so that there is nothing to keep for a resume.
    over: bool,
    /// Told after the session was let go of, so that whoever waits for it finds it so.
    _released: DropGuard,
}

/// What an attempt to open a session comes to.
enum Attempt {
    Attached(AttachedSession),
    /// The harness's own old connection has it, and has been told to end.
    HeldUntil(CancellationToken),
}

impl Sessions {
    /// Starts the executor's sessions. Must be called inside the runtime that serves them.
    ///
    /// # Errors
    ///
    /// If there is no runtime, the thread that starts programs cannot be started, or the operator's
    /// directory of control groups does not do.
    pub fn new(config: SessionsConfig) -> io::Result<Arc<Self>> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let tasks = TaskTracker::new();
        let shutdown = CancellationToken::new();
        let limits = config.limits.clone();
        let (limiter, warnings) = Limiter::new(limits).map_err(io::Error::other)?;
        for warning in warnings {
            events::limit_is_weaker(&warning);
        }
        let table_config = TableConfig {
            limiter: Arc::new(limiter),
            environment: Arc::clone(&config.environment),
            spawner: Spawner::start(config.names_directory.clone())?,
            closed_retention: config.closed_retention,
            closed_output_bytes: config.closed_output_bytes,
            retention: Retention {
                bytes: config.output_bytes.min(OUTPUT_BYTES_MAX),
                spill: (config.output_bytes > OUTPUT_BYTES_MIN).then(|| {
                    SpillSpace::new(config.output_directory.clone(), config.output_disk_bytes)
                }),
            },
            snapshot_time: config.snapshot_time,
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
            ending: Ending::default(),
        };
        let sessions = Mutex::default();
        Ok(Arc::new(Self {
            config,
            table_config,
            sessions,
            tasks,
            shutdown,
            runtime,
        }))
    }

    /// Runs one connection to its end: until either side closes it, the peer breaks the protocol,
    /// `cancel` is cancelled, or the executor shuts down. The session outlives it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the connection like `cancel` does.
    pub async fn serve(self: Arc<Self>, transport: Transport, cancel: CancellationToken) {
        let shutdown = self.shutdown.clone();
        memory::stir();
        tokio::select! {
            () = connection::serve(self, transport, cancel) => {}
            () = shutdown.cancelled() => {}
        }
        memory::stir();
    }

    /// Kills every process group, ends every connection and waits until nothing is left.
    pub async fn shutdown(&self) {
        self.shutdown.cancel();
        for (_, session) in self.map().drain() {
            session.attachment.detach();
            session.processes.end();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Sessions, attached and detached, for counts.
    pub fn session_count(&self) -> usize {
        self.map().len()
    }

    /// How far the graceful end has come.
    pub(super) fn ending(&self) -> &Ending {
        &self.table_config.ending
    }

    /// Asks every process that is left to end, and kills it after `grace`. Returns how many still ran.
    pub(super) fn end_processes(&self, grace: Duration) -> usize {
        let sessions: Vec<_> = self.map().values().cloned().collect();
        sessions
            .iter()
            .map(|session| session.processes.wind_up(grace))
            .sum()
    }

    pub(super) fn environment(&self) -> &Arc<ExecutorEnvironment> {
        &self.config.environment
    }

    /// What connections need to serve file requests in sandboxes.
    pub(super) fn sandboxes(&self) -> Sandboxes {
        Sandboxes {
            spawner: self.table_config.spawner.clone(),
            ground: self.config.environment.ground().clone(),
        }
    }

    /// Opens a session, or attaches to one that is detached or held by an older connection of the
    /// same harness, which is ended. Events go to `outbox` from then on.
    ///
    /// # Cancel safety
    ///
    /// A cancelled call has attached nothing.
    pub(super) async fn open(
        self: &Arc<Self>,
        resume: Option<&str>,
        outbox: &Outbox,
        holder: &Holder,
    ) -> Result<AttachedSession, RpcError> {
        loop {
            match self.try_open(resume, outbox, holder)? {
                Attempt::Attached(attached) => return Ok(attached),
                Attempt::HeldUntil(released) => released.cancelled().await,
            }
        }
    }

    fn try_open(
        self: &Arc<Self>,
        resume: Option<&str>,
        outbox: &Outbox,
        holder: &Holder,
    ) -> Result<Attempt, RpcError> {
        let mut sessions = self.map();
        let session = match resume {
            Some(id) => {
                let session = sessions
                    .get(id)
                    .ok_or_else(|| RpcError::invalid_request(format!("unknown session id {id}")))?;
                let mut place = session.place();
                match &*place {
                    Place::Held(held) => {
                        return held
                            .yield_to(holder)
                            .map(Attempt::HeldUntil)
                            .ok_or_else(|| RpcError::session_attached(id));
                    }
                    Place::Detached(expiry) => expiry.cancel(),
                }
                *place = Place::Held(holder.clone());
                drop(place);
                Arc::clone(session)
            }
            None => {
                self.ending().check("takes no new sessions")?;
                if sessions.len() >= MAX_SESSIONS {
                    return Err(RpcError::invalid_request(format!(
                        "at most {MAX_SESSIONS} sessions may exist"
                    )));
                }
                let session = Arc::new(Session::new(
                    &self.table_config,
                    self.config.detached_ttl,
                    holder.clone(),
                ));
                sessions.insert(session.id.clone(), Arc::clone(&session));
                session
            }
        };
        session.attachment.attach(outbox.clone());
        if self.shutdown.is_cancelled() {
            session.processes.end();
        }
        Ok(Attempt::Attached(AttachedSession {
            sessions: Arc::clone(self),
            session,
            over: false,
            _released: holder.released().clone().drop_guard(),
        }))
    }

    /// Ends a session that was not resumed in time.
    fn expire(&self, session: &Session, expiry: &CancellationToken) {
        {
            let mut sessions = self.map();
            // A resume that came first has cancelled the expiry, under the same lock.
            if expiry.is_cancelled() {
                return;
            }
            sessions.remove(&session.id);
        }
        tracing::info!("session expired");
        session.processes.end();
    }

    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Serve for Sessions {
    fn serve(
        self: Arc<Self>,
        transport: Transport,
        cancel: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        Self::serve(self, transport, cancel)
    }

    fn is_ready(&self) -> bool {
        !self.is_draining()
    }

    fn finishing(&self) -> CancellationToken {
        self.ending().finishing().clone()
    }
}

impl Session {
    fn new(config: &TableConfig, detached_ttl: Duration, holder: Holder) -> Self {
        let attachment = Arc::new(Attachment::default());
        Self {
            id: Uuid::new_v4().hyphenated().to_string(),
            processes: Arc::new(ProcessTable::new(config.clone(), Arc::clone(&attachment))),
            attachment,
            detached_ttl: Mutex::new(detached_ttl),
            place: Mutex::new(Place::Held(holder)),
        }
    }

    fn detached_ttl(&self) -> std::sync::MutexGuard<'_, Duration> {
        self.detached_ttl
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> std::sync::MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AttachedSession {
    /// Sets how long the session lives without a connection, within what the executor allows, and
    /// returns it. A client that comes back late wants to learn how its programs ended, so records
    /// of processes that close from now on are kept as long.
    pub(super) fn keep(&self, wanted: Duration) -> Duration {
        let config = &self.sessions.config;
        let kept = wanted.min(config.detached_ttl_max).max(config.detached_ttl);
        *self.session.detached_ttl() = kept;
        self.session
            .processes
            .keep_closed(kept.max(config.closed_retention));
        kept
    }

    /// Ends the session: its processes are killed and its id is unknown from now on.
    pub(super) fn close(mut self) {
        self.over = true;
        self.sessions.map().remove(&self.session.id);
        tracing::info!("session closed");
        self.session.attachment.detach();
        self.session.processes.end();
    }
}

impl Drop for AttachedSession {
    fn drop(&mut self) {
        self.session.attachment.detach();
        if self.over {
            return;
        }
        let expiry = CancellationToken::new();
        *self.session.place() = Place::Detached(expiry.clone());
        let sessions = Arc::clone(&self.sessions);
        let session = Arc::clone(&self.session);
        let ttl = *session.detached_ttl();
        let expire = async move {
            tokio::select! {
                () = tokio::time::sleep(ttl) => {
                    sessions.expire(&session, &expiry);
                }
                () = expiry.cancelled() => {}
                () = sessions.shutdown.cancelled() => {}
            }
        };
        self.sessions.tasks.spawn_on(expire, &self.sessions.runtime);
    }
}
