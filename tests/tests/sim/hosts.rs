//! What runs on each host: the parts of the programs, put together as the programs do.

use std::{
    ffi::OsString,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use agent::{
    environment::ExecutorEnvironment,
    http::{HeaderVariables, HttpClient},
    session::{Sessions, SessionsConfig},
    supervisor::{BACKOFF, Supervisor},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use registry_client::{
    Connector, ConnectorConfig, ConnectorEnvironment, Credential, CredentialSource, RegistryClient,
    RegistryUrl, StaticBearer,
};
use relay_proto::{Identity, ids::EnvironmentId};
use server::{
    PublicUrl, Role, Server,
    clock::{Clock, Timestamp},
    store::{NewToken, Store},
};
use tokio::{io::copy_bidirectional, task::JoinSet};
use tokio_util::sync::CancellationToken;
use turmoil::{
    Sim,
    net::{TcpListener, TcpStream},
};

use crate::{
    book::Book,
    load,
    network::{Listener, Simulated},
};

pub(crate) const RENDEZVOUS: &str = "rendezvous";
pub(crate) const REGISTRY: &str = "registry";
pub(crate) const EXECUTOR: &str = "executor";
pub(crate) const HARNESSES: [&str; 2] = ["harness-0", "harness-1"];

/// What the hosts share that is not of their world: files, tokens, what the test wants to know.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) directory: PathBuf,
    pub(crate) environment: EnvironmentId,
    executor_token: String,
    pub(crate) harness_token: String,
    connector: Connector,
    pub(crate) book: Book,
    pub(crate) resumptions: AtomicU64,
    /// Seconds by which the clock of the cloud is wrong.
    pub(crate) skew: Arc<AtomicI64>,
    /// The database of the cloud that runs, to see when it works.
    pub(crate) store: Mutex<Option<Store>>,
    /// All faults are over.
    calm: AtomicBool,
    incarnations: AtomicUsize,
}

impl World {
    /// Makes the state that is on disk before anything starts.
    pub(crate) fn new(seed: u64, directory: PathBuf) -> anyhow::Result<Self> {
        let environment = EnvironmentId::new("env")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (executor_token, harness_token) = runtime.block_on(async {
            let store = Store::open(&directory.join(DATABASE)).await?;
            let mut tokens = Vec::new();
            for role in [Role::Executor, Role::Harness] {
                let token = NewToken {
                    role,
                    environment: Some(environment.clone()),
                    label: None,
                    expires_at: None,
                };
                let made = Timestamp::from_unix_seconds(0);
                tokens.push(store.create_token(token, made).await?.text);
            }
            store.close().await;
            anyhow::Ok((tokens.remove(0), tokens.remove(0)))
        })?;
        let connector = Connector::new(ConnectorConfig {
            environment: ConnectorEnvironment::empty(),
            network: Some(Arc::new(Simulated)),
            ..ConnectorConfig::default()
        })?;
        Ok(Self {
            seed,
            directory,
            environment,
            executor_token,
            harness_token,
            connector,
            book: Book::default(),
            resumptions: AtomicU64::new(0),
            skew: Arc::default(),
            store: Mutex::default(),
            calm: AtomicBool::new(false),
            incarnations: AtomicUsize::new(0),
        })
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    pub(crate) fn becomes_calm(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    /// Whether the database works on something.
    pub(crate) fn database_works(&self) -> bool {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.as_ref().is_some_and(|store| !store.is_idle())
    }

    pub(crate) fn credential(&self, token: &str) -> Arc<dyn CredentialSource> {
        let credential = Credential::bearer(token).expect("a usable token");
        Arc::new(StaticBearer::new(credential))
    }

    pub(crate) fn registry_client(&self, token: &str) -> RegistryClient {
        RegistryClient::new(
            self.connector.clone(),
            RegistryUrl::parse(&format!("http://{REGISTRY}:{REGISTRY_PORT}")).expect("a URL"),
            self.credential(token),
        )
    }

    /// A number that no host had when it started before.
    fn incarnation(&self) -> usize {
        self.incarnations.fetch_add(1, Ordering::Relaxed)
    }
}

/// Puts all hosts into the simulation.
pub(crate) fn register(sim: &mut Sim<'_>, world: &Arc<World>) {
    let cloud = Arc::clone(world);
    sim.host(RENDEZVOUS, move || run_cloud(Arc::clone(&cloud)));
    sim.host(REGISTRY, forward);
    let executor = Arc::clone(world);
    sim.host(EXECUTOR, move || run_executor(Arc::clone(&executor)));
    for (number, name) in HARNESSES.into_iter().enumerate() {
        let world = Arc::clone(world);
        sim.host(name, move || {
            let world = Arc::clone(&world);
            async move {
                let incarnation = world.incarnation();
                load::run(world, number, incarnation).await;
                Ok(())
            }
        });
    }
}

async fn run_cloud(world: Arc<World>) -> turmoil::Result {
    let store = Store::open(&world.directory.join(DATABASE)).await?;
    *world.store.lock().unwrap_or_else(PoisonError::into_inner) = Some(store.clone());
    let listener = TcpListener::bind(("0.0.0.0", RENDEZVOUS_PORT)).await?;
    let url = PublicUrl::parse(&format!("http://{RENDEZVOUS}:{RENDEZVOUS_PORT}"))?;
    let clock = WrongClock(Arc::clone(&world.skew));
    let server = Server::over(Listener(listener), store, url, Arc::new(clock)).await?;
    server.run(CancellationToken::new()).await;
    Ok(())
}

/// Passes the registry's connections on, so that it can be out of reach while the rendezvous is not.
async fn forward() -> turmoil::Result {
    let listener = TcpListener::bind(("0.0.0.0", REGISTRY_PORT)).await?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (mut near, _) = accepted?;
                connections.spawn(async move {
                    let mut far = TcpStream::connect((RENDEZVOUS, RENDEZVOUS_PORT)).await?;
                    copy_bidirectional(&mut near, &mut far).await
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn run_executor(world: Arc<World>) -> turmoil::Result {
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    let variables = [(OsString::from("PATH"), path)];
    let environment = ExecutorEnvironment::from_parts(variables, world.directory.clone());
    let http = HttpClient::new(
        ConnectorConfig::default(),
        HeaderVariables::new(|_| None, []),
    );
    let sessions = Sessions::new(SessionsConfig::new(Arc::new(environment), Arc::new(http)))?;
    // Another key each time, as for a program that was started again.
    let incarnation = u64::try_from(world.incarnation())?;
    let mut rng = StdRng::seed_from_u64(world.seed.wrapping_mul(1_000).wrapping_add(incarnation));
    let identity = Identity::generate(&mut rng)?;
    let supervisor = Supervisor::new(
        world.registry_client(&world.executor_token),
        world.environment.clone(),
        Arc::new(identity),
        sessions,
        BACKOFF,
        rng.random(),
    );
    supervisor.run(CancellationToken::new()).await;
    Ok(())
}

/// The clock of a machine that is set wrong, by more or less over time.
#[derive(Debug)]
struct WrongClock(Arc<AtomicI64>);

impl Clock for WrongClock {
    fn now(&self) -> Timestamp {
        let right = Timestamp::from_unix_seconds(0)
            .after(EPOCH + turmoil::sim_elapsed().unwrap_or_default());
        let skew = self.0.load(Ordering::Relaxed);
        Timestamp::from_unix_seconds(right.as_unix_seconds() + skew)
    }
}

/// When simulations begin.
const EPOCH: Duration = Duration::from_secs(1_800_000_000);
const DATABASE: &str = "cloud";
const RENDEZVOUS_PORT: u16 = 7700;
const REGISTRY_PORT: u16 = 80;
