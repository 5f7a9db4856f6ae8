//! Every outbound call through a proxy that wants credentials and alone can resolve names, and to a
//! private authority's certificates; and no way around a proxy that is wrong.
//!
//! The names end in `.invalid`, which no name service resolves.

mod wrong_proxy;

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use testkit::{
    forward_proxy::{ForwardProxy, Way},
    processes::{Binary, Cloud, DEADLINE, ENVIRONMENT, Execctl, Finished, Launch, Listener},
    web::EchoServer,
    workspace::Workspace,
};

const REGISTRY: &str = "registry.test.invalid";
const RENDEZVOUS: &str = "rendezvous.test.invalid";
const WEB: &str = "web.test.invalid";
const LISTENER: &str = "listener.test.invalid";
/// The passwords of proxies, as URLs and headers have them.
const SECRETS: [&str; 4] = ["pa%20ss", "pa ss", "dXNlcjpwYSBzcw", "wr0ng"];

/// Whether everything is served with a certificate of a private authority, or in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Https,
    Http,
}

impl Scheme {
    fn url(self, host: &str) -> String {
        match self {
            Self::Https => format!("https://{host}"),
            Self::Http => format!("http://{host}"),
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

/// Registry and rendezvous, and what it takes to trust them.
struct World {
    scheme: Scheme,
    cloud: Cloud,
    /// Where the registry is for those who go through a proxy.
    registry: String,
    directory: TempDir,
}

impl World {
    async fn start(scheme: Scheme, registry: &str, rendezvous: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let file = |name: &str| directory.path().join(name).display().to_string();
        let (certificate, key) = (file("cert.pem"), file("key.pem"));
        let public = scheme.url(rendezvous);
        let mut variables = vec![("EXEC_CLOUD_PUBLIC_URL", public.as_str())];
        if scheme == Scheme::Https {
            issue(&directory)?;
            variables.push(("EXEC_CLOUD_TLS_CERT", &certificate));
            variables.push(("EXEC_CLOUD_TLS_KEY", &key));
        }
        // In its development mode it would answer to the names of this machine only.
        let data = directory.path().join("data");
        let cloud = Cloud::start_guarded_with(&data, &variables).await?;
        Ok(Self {
            scheme,
            cloud,
            registry: scheme.url(registry),
            directory,
        })
    }

    fn address(&self) -> Result<SocketAddr> {
        Ok(([127, 0, 0, 1], self.cloud.port()?).into())
    }

    fn authorities(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// What makes a program go through the proxy, and trust the authority.
    fn confine(&self, launch: Launch, proxy: &str) -> Launch {
        let launch = launch.env("HTTPS_PROXY", proxy).env("HTTP_PROXY", proxy);
        match self.scheme {
            Scheme::Https => launch.env("CODEX_CA_CERTIFICATE", self.authorities()),
            Scheme::Http => launch.env("EXECCTL_ALLOW_INSECURE_HTTP", "true"),
        }
    }

    fn agent(&self, proxy: &str, environment: &str) -> Result<Launch> {
        let launch = Launch::new(Binary::ExecServer)?
            .env("EXEC_SERVER_TOKEN", self.cloud.executor_token())
            .args(["--remote", &self.registry, "--environment-id", environment]);
        Ok(match self.scheme {
            Scheme::Https => self.confine(launch, proxy),
            Scheme::Http => self.confine(launch, proxy).arg("--allow-insecure-http"),
        })
    }

    fn execctl(&self, proxy: &str) -> Result<Launch> {
        let execctl = Execctl::new(&self.cloud).registry(&self.registry);
        Ok(self.confine(execctl.launch()?, proxy))
    }
}

/// Writes a private authority (`ca.pem`), and a certificate of its with its key.
fn issue(directory: &TempDir) -> Result<()> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    let root = params.self_signed(&key)?;
    let issuer = Issuer::new(params, key);
    let names = [REGISTRY, RENDEZVOUS, "localhost", "127.0.0.1"].map(str::to_owned);
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(names.to_vec())?.signed_by(&key, &issuer)?;
    for (name, content) in [
        ("ca.pem", root.pem()),
        ("cert.pem", leaf.pem()),
        ("key.pem", key.serialize_pem()),
    ] {
        std::fs::write(directory.path().join(name), content)?;
    }
    Ok(())
}

fn shows(finished: &Finished, expected: &str) {
    let output = String::from_utf8_lossy(&finished.stdout);
    assert!(
        finished.code() == Some(0) && output.contains(expected),
        "{:?} {output} {}",
        finished.code(),
        finished.stderr
    );
    tells_no_secret(&format!("{output}{}", finished.stderr));
}

fn tells_no_secret(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

/// The hosts that were asked for, each once, in the order of their names.
fn hosts(proxy: &ForwardProxy) -> Vec<String> {
    let requests = proxy.requests();
    let targets = requests.iter().filter_map(|line| line.split(' ').nth(1));
    let hosts = targets.map(|target| {
        let target = target.trim_start_matches("http://");
        let host = target.split(['/', ':']).next();
        host.unwrap_or_default().to_owned()
    });
    let mut hosts: Vec<String> = hosts.collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

#[tokio::test]
async fn everything_goes_through_a_proxy_that_alone_can_resolve_names() -> Result<()> {
    for scheme in [Scheme::Https, Scheme::Http] {
        let workspace = Workspace::new()?;
        let world = World::start(scheme, REGISTRY, RENDEZVOUS).await?;
        let web = EchoServer::start().await?;
        let proxy = ForwardProxy::start().await?;
        for host in [REGISTRY, RENDEZVOUS] {
            let way = Way::To(world.address()?);
            proxy.lead(format!("{host}:{}", scheme.port()), way);
        }
        let address = web.url().trim_start_matches("http://").parse()?;
        proxy.lead(format!("{WEB}:80"), Way::To(address));

        let agent = world
            .agent(&proxy.url(), ENVIRONMENT)?
            .current_dir(workspace.path());
        let agent = world.cloud.attach(agent).await?;
        // The executor alone has asked so far, for each of the two.
        assert_eq!(hosts(&proxy), [REGISTRY, RENDEZVOUS]);
        let asked = proxy.requests().len();
        let run = |arguments: &[&str]| {
            let launch = world.execctl(&proxy.url()).map(|it| it.args(arguments));
            async move { launch?.finish(b"", DEADLINE).await }
        };
        shows(
            &run(&["run", "-n", "--", "echo", "through"]).await?,
            "through\n",
        );
        let harness = &proxy.requests()[asked..];
        assert!(
            harness.iter().any(|line| line.contains(REGISTRY)),
            "{harness:?}"
        );
        assert!(
            harness.iter().any(|line| line.contains(RENDEZVOUS)),
            "{harness:?}"
        );

        // What the executor asks for in a client's name takes the same way.
        let url = format!("http://{WEB}/path");
        shows(&run(&["http", &url]).await?, "GET\n/path\n");
        shows(&run(&["http", &scheme.url(REGISTRY)]).await?, "");
        assert_eq!(hosts(&proxy), [REGISTRY, RENDEZVOUS, WEB]);

        let through = format!("through {}", proxy.url_with(""));
        shows(&run(&["doctor"]).await?, &through);
        agent.never_panicked()?;
        tells_no_secret(&agent.stderr().text());
    }
    Ok(())
}

#[tokio::test]
async fn executors_that_listen_are_reached_through_it_as_well() -> Result<()> {
    let workspace = Workspace::new()?;
    let world = World::start(Scheme::Http, REGISTRY, RENDEZVOUS).await?;
    let (_listener, url) = Listener::start(&workspace, &[]).await?;
    let proxy = ForwardProxy::start().await?;
    for host in [REGISTRY, RENDEZVOUS] {
        proxy.lead(format!("{host}:80"), Way::To(world.address()?));
    }
    let address = url.trim_start_matches("ws://").parse()?;
    proxy.lead(format!("{LISTENER}:80"), Way::To(address));
    let url = format!("ws://{LISTENER}");

    let direct =
        Launch::new(Binary::Execctl)?.args(["--url", &url, "run", "-n", "--", "echo", "a"]);
    let direct = world.confine(direct, &proxy.url());
    shows(&direct.finish(b"", DEADLINE).await?, "a\n");
    assert_eq!(hosts(&proxy), [LISTENER]);

    let forwarder = world
        .agent(&proxy.url(), ENVIRONMENT)?
        .args(["--connect", &url]);
    let forwarder = world.cloud.attach(forwarder).await?;
    let run = world
        .execctl(&proxy.url())?
        .args(["run", "-n", "--", "echo", "b"]);
    shows(&run.finish(b"", DEADLINE).await?, "b\n");
    assert_eq!(hosts(&proxy), [LISTENER, REGISTRY, RENDEZVOUS]);
    forwarder.never_panicked()
}
