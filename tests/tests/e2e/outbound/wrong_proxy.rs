//! Proxies that are wrong, before addresses that could be reached without one.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
};

use anyhow::{Context as _, Result, ensure};
use testkit::{
    forward_proxy::{CREDENTIALS, ForwardProxy, Way},
    processes::{Binary, Child, Cloud, DEADLINE, ENVIRONMENT, Launch, Listener},
    workspace::Workspace,
};
use tokio::net::TcpSocket;

use super::{Scheme, World, tells_no_secret};

/// A port that nobody should connect to.
struct Tripwire(TcpListener);

impl Tripwire {
    fn new() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    fn address(&self) -> Result<SocketAddr> {
        Ok(self.0.local_addr()?)
    }

    /// Whether anybody has connected since this was asked last: the system keeps who does.
    fn touched(&self) -> Result<bool> {
        match self.0.accept() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Registry and rendezvous at addresses that could be reached directly, where nobody should.
struct Trap {
    world: World,
    registry: Tripwire,
    rendezvous: Tripwire,
    /// Leads from there to where they are.
    good: ForwardProxy,
    _agent: Child,
}

impl Trap {
    async fn set(scheme: Scheme) -> Result<Self> {
        let (registry, rendezvous) = (Tripwire::new()?, Tripwire::new()?);
        // By name, so that `NO_PROXY` can tell them apart.
        let at = format!("localhost:{}", registry.address()?.port());
        let world = World::start(scheme, &at, &rendezvous.address()?.to_string()).await?;
        let good = ForwardProxy::start().await?;
        good.lead(at, Way::To(world.address()?));
        good.lead(rendezvous.address()?.to_string(), Way::To(world.address()?));
        let agent = world
            .cloud
            .attach(world.agent(&good.url(), ENVIRONMENT)?)
            .await?;
        Ok(Self {
            world,
            registry,
            rendezvous,
            good,
            _agent: agent,
        })
    }

    fn registry(&self) -> Result<String> {
        Ok(format!("localhost:{}", self.registry.address()?.port()))
    }

    /// A proxy for which the registry is one thing and the rendezvous another.
    async fn proxy(&self, registry: Way, rendezvous: Way) -> Result<ForwardProxy> {
        let proxy = ForwardProxy::start().await?;
        proxy.lead(self.registry()?, registry);
        proxy.lead(self.rendezvous.address()?.to_string(), rendezvous);
        Ok(proxy)
    }

    /// Both programs fail, and say at which proxy.
    async fn both_fail(&self, proxy: &str) -> Result<()> {
        let shown = shown(proxy)?;
        // For another environment, since it may get as far as to register.
        let agent = self.world.agent(proxy, "other")?.spawn()?;
        let execctl = self.world.execctl(proxy)?;
        let execctl = execctl.args(["--connect-timeout-secs", "0", "run", "-n", "--", "true"]);
        let execctl = execctl.finish(b"", DEADLINE).await?;
        ensure!(
            execctl.code() != Some(0) && execctl.stderr.contains(&shown),
            "{shown}: {execctl:?}"
        );
        agent.stderr().wait_for(&shown, DEADLINE).await?;
        tells_no_secret(&execctl.stderr);
        tells_no_secret(&agent.stderr().text());
        agent.never_panicked()
    }
}

/// The URL of a proxy that is not there. The socket has its port, so that nobody else listens.
fn dead() -> Result<(TcpSocket, String)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let url = format!("http://{CREDENTIALS}{}", socket.local_addr()?);
    Ok((socket, url))
}

/// A proxy's URL as errors have it.
fn shown(proxy: &str) -> Result<String> {
    let (_, address) = proxy.rsplit_once('@').context("credentials")?;
    Ok(format!("http://{address}"))
}

#[tokio::test]
async fn proxy_that_is_wrong_is_named_and_never_passed_by() -> Result<()> {
    for scheme in [Scheme::Https, Scheme::Http] {
        let trap = Trap::set(scheme).await?;
        let cloud = Way::To(trap.world.address()?);
        let (_socket, dead) = dead()?;
        for proxy in [trap.good.url_with("user:wr0ng@"), dead] {
            trap.both_fail(&proxy).await?;
        }
        for (registry, rendezvous) in [
            (Way::Forbidden, Way::Forbidden),
            (cloud, Way::Forbidden),
            (cloud, Way::OtherCredentials),
            (cloud, Way::HangUp),
        ] {
            let proxy = trap.proxy(registry, rendezvous).await?;
            trap.both_fail(&proxy.url()).await?;
        }
        assert!(!trap.registry.touched()? && !trap.rendezvous.touched()?);
    }
    Ok(())
}

#[tokio::test]
async fn requests_for_clients_do_not_pass_a_wrong_proxy_by() -> Result<()> {
    let (workspace, target) = (Workspace::new()?, Tripwire::new()?);
    // It does not know the target.
    let proxy = ForwardProxy::start().await?;
    let (_socket, dead) = dead()?;
    for (proxy, scheme) in [
        (proxy.url(), Scheme::Https),
        (proxy.url_with("user:wr0ng@"), Scheme::Https),
        (dead.clone(), Scheme::Https),
        (dead, Scheme::Http),
    ] {
        let variables = [("HTTPS_PROXY", proxy.as_str()), ("HTTP_PROXY", &proxy)];
        let (_listener, url) = Listener::start(&workspace, &variables).await?;
        let asked = scheme.url(&target.address()?.to_string());
        let execctl = Launch::new(Binary::Execctl)?.args(["--url", &url, "http", &asked]);
        let finished = execctl.finish(b"", DEADLINE).await?;
        let shown = format!("through proxy {}", shown(&proxy)?);
        ensure!(
            finished.code() == Some(1) && finished.stderr.contains(&shown),
            "{shown}: {finished:?}"
        );
        tells_no_secret(&finished.stderr);
    }
    assert!(!target.touched()?);
    Ok(())
}

#[tokio::test]
async fn identity_providers_are_not_asked_around_a_wrong_proxy() -> Result<()> {
    let (data, target) = (tempfile::tempdir()?, Tripwire::new()?);
    let issuer = Scheme::Http.url(&target.address()?.to_string());
    let (_socket, dead) = dead()?;
    let variables = [
        ("EXEC_CLOUD_OIDC_ISSUER", issuer.as_str()),
        ("EXEC_CLOUD_OIDC_AUDIENCES", "any"),
        ("EXEC_CLOUD_OIDC_RULES", "sub=* -> harness:*"),
        ("HTTP_PROXY", &dead),
    ];
    let cloud = Cloud::start_guarded_with(data.path(), &variables).await?;
    let log = cloud.child().stderr();
    log.wait_for(&shown(&dead)?, DEADLINE).await?;
    tells_no_secret(&log.text());
    assert!(!target.touched()?);
    Ok(())
}

#[tokio::test]
async fn tripwires_of_these_tests_work() -> Result<()> {
    let trap = Trap::set(Scheme::Http).await?;
    assert!(!trap.registry.touched()? && !trap.rendezvous.touched()?);
    let execctl = || trap.world.execctl(&trap.good.url());
    for (not_proxied, touched, other) in [
        ("127.0.0.1", &trap.rendezvous, &trap.registry),
        ("*", &trap.registry, &trap.rendezvous),
    ] {
        let execctl = execctl()?.env("NO_PROXY", not_proxied);
        let _execctl = execctl.args(["run", "-n", "--", "true"]).spawn()?;
        testkit::until(async || touched.touched().unwrap_or(true)).await?;
        assert!(!other.touched()?);
    }
    Ok(())
}
