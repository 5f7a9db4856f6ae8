//! TLS: certificate and key from PEM files, read again when they change and on request.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aws_lc_rs::digest;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::events::Chain;

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
    /// What was found in the files the last time.
    seen: Mutex<Seen>,
}

/// Whether something was looked at before. Not the thing itself, which is a key.
type Seen = Result<Digest, String>;
type Digest = [u8; digest::SHA256_OUTPUT_LEN];

impl Tls {
    /// Reads the files.
    pub(crate) fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let content = Content::read(&files)?;
        Ok(Self {
            config: RwLock::new(content.config()?),
            seen: Mutex::new(Ok(content.digest())),
            files,
        })
    }

    /// What new connections use.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again. If that fails, the old certificates stay in use.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let content = Content::read(&self.files);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen(&content);
        self.take(content)
    }

    /// The same, if the files have changed since they were last read. A change that cannot be used is
    /// told once; it may be half of one that can.
    pub(crate) fn refresh(&self) -> Option<Result<(), TlsError>> {
        let content = Content::read(&self.files);
        let now = seen(&content);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return None;
        }
        *seen = now;
        drop(seen);
        Some(self.take(content))
    }

    fn take(&self, content: Result<Content, TlsError>) -> Result<(), TlsError> {
        let config = content?.config()?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }
}

fn seen(content: &Result<Content, TlsError>) -> Seen {
    match content {
        Ok(content) => Ok(content.digest()),
        Err(error) => Err(Chain(error).to_string()),
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

/// What the two files hold.
struct Content {
    certificates: Vec<u8>,
    key: Vec<u8>,
}

impl Content {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read =
            |path: &PathBuf, what| fs::read(path).map_err(|source| TlsError::Read { what, source });
        Ok(Self {
            certificates: read(&files.certificates, "certificate")?,
            key: read(&files.key, "key")?,
        })
    }

    fn digest(&self) -> Digest {
        let mut context = digest::Context::new(&digest::SHA256);
        // The length keeps what moves from one file to the other apart.
        context.update(&self.certificates.len().to_le_bytes());
        context.update(&self.certificates);
        context.update(&self.key);
        let mut digest = [0; digest::SHA256_OUTPUT_LEN];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }

    fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let certificates = CertificateDer::pem_slice_iter(&self.certificates)
            .collect::<Result<Vec<_>, _>>()
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .ok_or(TlsError::Pem {
                what: "certificate",
            })?;
        let key =
            PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| TlsError::Pem { what: "key" })?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(certificates, key)?;
        // Websockets are upgraded from HTTP/1.1; a client must not choose HTTP/2.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
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
    fn changed_files_are_noticed_and_a_half_of_a_change_is_told_once() {
        let (directory, files) = files();
        let tls = Tls::load(files.clone()).unwrap();
        let first = tls.config();
        assert!(tls.refresh().is_none());
        let next = TlsFiles {
            certificates: directory.path().join("next-cert.pem"),
            key: directory.path().join("next-key.pem"),
        };
        write_pair(&next);
        fs::rename(&next.certificates, &files.certificates).unwrap();
        assert!(matches!(tls.refresh(), Some(Err(TlsError::Unusable(_)))));
        assert!(tls.refresh().is_none());
        assert!(Arc::ptr_eq(&first, &tls.config()));
        fs::rename(&next.key, &files.key).unwrap();
        assert!(matches!(tls.refresh(), Some(Ok(()))));
        assert!(!Arc::ptr_eq(&first, &tls.config()));
        fs::remove_file(&files.key).unwrap();
        assert!(matches!(tls.refresh(), Some(Err(TlsError::Read { .. }))));
        assert!(tls.refresh().is_none());
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
