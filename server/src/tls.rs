//! TLS: certificate and key from PEM files, read again on request.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Where certificate chain and private key are.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// PEM file with the certificate chain, the server's own first.
    pub certificates: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// The certificates in use.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsFiles,
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files.
    pub(crate) fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let config = RwLock::new(read(&files)?);
        Ok(Self { files, config })
    }

    /// What new connections use.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again. If that fails, the old certificates stay in use.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let config = read(&self.files)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }
}

/// Why the certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read the TLS {what} file")]
    Read {
        /// Which file.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file holds something else.
    #[error("the TLS {what} file holds no {what} in PEM form")]
    Pem {
        /// Which file.
        what: &'static str,
    },
    /// Certificate and key do not go together, or cannot be used.
    #[error("the TLS certificate and key cannot be used")]
    Unusable(#[from] rustls::Error),
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let read =
        |path: &PathBuf, what| fs::read(path).map_err(|source| TlsError::Read { what, source });
    let certificates = CertificateDer::pem_slice_iter(&read(&files.certificates, "certificate")?)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or(TlsError::Pem {
            what: "certificate",
        })?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key, "key")?)
        .map_err(|_| TlsError::Pem { what: "key" })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    // Websockets are upgraded from HTTP/1.1; a client must not choose HTTP/2.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_pair(files: &TlsFiles) {
        let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(&files.certificates, issued.cert.pem()).unwrap();
        fs::write(&files.key, issued.signing_key.serialize_pem()).unwrap();
    }

    fn files() -> (tempfile::TempDir, TlsFiles) {
        let directory = tempfile::tempdir().unwrap();
        let files = TlsFiles {
            certificates: directory.path().join("cert.pem"),
            key: directory.path().join("key.pem"),
        };
        write_pair(&files);
        (directory, files)
    }

    #[test]
    fn reload_takes_new_certificates_and_keeps_the_old_ones_when_they_are_bad() {
        let (_directory, files) = files();
        let tls = Tls::load(files.clone()).unwrap();
        let first = tls.config();
        write_pair(&files);
        tls.reload().unwrap();
        let second = tls.config();
        assert!(!Arc::ptr_eq(&first, &second));
        fs::write(&files.certificates, "nonsense").unwrap();
        assert!(matches!(
            tls.reload(),
            Err(TlsError::Pem {
                what: "certificate"
            })
        ));
        assert!(Arc::ptr_eq(&second, &tls.config()));
    }

    #[test]
    fn unusable_files_are_told_apart() {
        let (_directory, files) = files();
        let other_key = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
        fs::write(&files.key, other_key.signing_key.serialize_pem()).unwrap();
        assert!(matches!(
            Tls::load(files.clone()),
            Err(TlsError::Unusable(_))
        ));
        fs::write(&files.key, "").unwrap();
        assert!(matches!(
            Tls::load(files.clone()),
            Err(TlsError::Pem { what: "key" })
        ));
        fs::remove_file(&files.key).unwrap();
        assert!(matches!(
            Tls::load(files),
            Err(TlsError::Read { what: "key", .. })
        ));
    }
}
