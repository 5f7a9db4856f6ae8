//! A server of OpenSSH on loopback, and one connection to it that commands share.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// Both ends, ended when dropped.
#[derive(Debug)]
pub(crate) struct Ssh {
    directory: TempDir,
    port: u16,
    _server: Child,
    _connection: Child,
}

impl Ssh {
    /// Starts both ends with keys of their own.
    pub(crate) async fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path();
        for name in ["host", "user"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
            let status = keygen.arg(path.join(name)).status().await;
            ensure!(status.context("ssh-keygen")?.success(), "ssh-keygen failed");
        }
        fs::rename(path.join("user.pub"), path.join("authorized"))?;
        // As root it insists on this directory.
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd")?;
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        fs::write(path.join("config"), configuration(path, port))?;
        let server = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(path.join("config"))
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("start /usr/sbin/sshd")?;
        let listening = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                sleep(ASK_AGAIN).await;
            }
        };
        let start = timeout(DEADLINE, listening).await;
        start.context("the server of OpenSSH does not listen")?;
        let connection = options(Command::new("ssh"), path, port)
            .args(["-o", "ControlMaster=yes", "-N", "127.0.0.1"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("start ssh")?;
        let ssh = Self {
            directory,
            port,
            _server: server,
            _connection: connection,
        };
        let connected = async {
            while !ssh.directory.path().join("control").exists() {
                sleep(ASK_AGAIN).await;
            }
        };
        let connect = timeout(DEADLINE, connected).await;
        connect.context("OpenSSH does not connect")?;
        let status = ssh.command("true").status().await?;
        ensure!(status.success(), "OpenSSH does not run commands");
        Ok(ssh)
    }

    /// A command of the other side, over the connection that is there.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = options(Command::new("ssh"), self.directory.path(), self.port);
        command.args(["127.0.0.1", line]).stdin(Stdio::null());
        command
    }

    /// `scp` with `arguments`, in which the other side is `127.0.0.1:PATH`, over the same connection.
    pub(crate) fn scp(&self, arguments: &[&str]) -> Command {
        let mut command = options(Command::new("scp"), self.directory.path(), self.port);
        command.arg("-q").args(arguments).stdin(Stdio::null());
        command
    }
}

fn options(mut command: Command, path: &Path, port: u16) -> Command {
    let path = path.display();
    for option in [
        format!("Port={port}"),
        format!("IdentityFile={path}/user"),
        format!("ControlPath={path}/control"),
        "IdentitiesOnly=yes".to_owned(),
        "StrictHostKeyChecking=no".to_owned(),
        "UserKnownHostsFile=/dev/null".to_owned(),
        "LogLevel=ERROR".to_owned(),
        "BatchMode=yes".to_owned(),
    ] {
        command.args(["-o", &option]);
    }
    command.args(["-F", "/dev/null"]);
    command
}

fn configuration(path: &Path, port: u16) -> String {
    let path = path.display();
    format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey {path}/host\n\
         AuthorizedKeysFile {path}/authorized\nPidFile none\nUsePAM no\nStrictModes no\n\
         PermitRootLogin prohibit-password\nMaxSessions 64\nSubsystem sftp internal-sftp\n"
    )
}

const DEADLINE: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_millis(10);
