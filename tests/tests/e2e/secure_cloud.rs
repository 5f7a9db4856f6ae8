//! A cloud with a certificate of its own.

use std::{fs, path::PathBuf};

use anyhow::Result;
use tempfile::TempDir;
use testkit::processes::{Binary, Child, DEADLINE, Launch};

/// For `localhost`, and for any token.
pub(crate) struct SecureCloud {
    pub(crate) cloud: Child,
    pub(crate) port: String,
    pub(crate) directory: TempDir,
}

impl SecureCloud {
    pub(crate) async fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        issue(&directory)?;
        let cloud = Launch::new(Binary::ExecCloud)?
            .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--tls-cert"])
            .arg(directory.path().join(CERTIFICATE))
            .arg("--tls-key")
            .arg(directory.path().join(KEY))
            .spawn()?;
        let line = cloud.stdout().wait_for("listening on ", DEADLINE).await?;
        let port = line.rsplit_once(':').map_or("", |(_, port)| port.trim());
        Ok(Self {
            port: port.to_owned(),
            cloud,
            directory,
        })
    }

    /// What its clients have to trust.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.directory.path().join(CERTIFICATE)
    }

    /// Replaces the certificate.
    pub(crate) fn renew(&self) -> Result<()> {
        issue(&self.directory)
    }
}

fn issue(directory: &TempDir) -> Result<()> {
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    fs::write(
        directory.path().join(KEY),
        issued.signing_key.serialize_pem(),
    )?;
    fs::write(directory.path().join(CERTIFICATE), issued.cert.pem())?;
    Ok(())
}

const CERTIFICATE: &str = "cert";
const KEY: &str = "key";
