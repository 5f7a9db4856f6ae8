//! Which certificate authorities are trusted.
//!
//! ```text
//! SSL_CERT_FILE, SSL_CERT_DIR      either one replaces the system's authorities
//! CODEX_CA_CERTIFICATE, ca file    added to whichever of the two applies
//! ```
//!
//! A system that has no authorities at all, such as an image with one program in it, gets those that
//! Mozilla trusts, which are compiled in.
//!
//! A file that is named and cannot be used is an error. For a directory only the directory itself
//! has to be readable, since such directories hold revocation lists and links as well.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use reqwest::Certificate;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::environment::ConnectorEnvironment;
use super::error::ConnectorConfigError;
use crate::limits;

/// The authorities to trust.
pub(super) enum Roots {
    /// Those of the system, and `extra`.
    System {
        /// Further authorities.
        extra: Vec<Certificate>,
    },
    /// These alone.
    Only(Vec<Certificate>),
}

impl Roots {
    /// Returns whether nothing but the system's authorities is trusted.
    pub(super) fn is_system_alone(&self) -> bool {
        matches!(self, Self::System { extra } if extra.is_empty())
    }
}

impl fmt::Display for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System { extra } if extra.is_empty() => f.write_str("those of the system"),
            Self::System { extra } => write!(f, "those of the system and {} more", extra.len()),
            Self::Only(all) => write!(
                f,
                "{} of SSL_CERT_FILE, SSL_CERT_DIR and further files",
                all.len()
            ),
        }
    }
}

/// The authorities that Mozilla trusts, as of this build.
pub(super) fn built_in() -> Vec<Certificate> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .filter_map(|certificate| Certificate::from_der(certificate).ok())
        .collect()
}

/// Reads all certificate files that apply.
pub(super) fn load(
    ca_file: Option<&Path>,
    environment: &ConnectorEnvironment,
) -> Result<Roots, ConnectorConfigError> {
    let mut extra = Vec::new();
    for (origin, path) in [
        ("the ca file option", ca_file),
        (
            "CODEX_CA_CERTIFICATE",
            environment.codex_ca_certificate.as_deref(),
        ),
    ] {
        if let Some(path) = path {
            extra.extend(read_bundle(origin, path)?);
        }
    }

    let mut replacement = Vec::new();
    if let Some(path) = environment.ssl_cert_file.as_deref() {
        replacement.extend(read_bundle("SSL_CERT_FILE", path)?);
    }
    if let Some(paths) = environment.ssl_cert_dir.as_deref() {
        for directory in std::env::split_paths(paths) {
            replacement.extend(read_directory("SSL_CERT_DIR", &directory)?);
        }
    }
    if environment.ssl_cert_file.is_none() && environment.ssl_cert_dir.is_none() {
        return Ok(Roots::System { extra });
    }
    replacement.extend(extra);
    Ok(Roots::Only(replacement))
}

/// Reads a bundle that must hold at least one certificate, and nothing that is broken.
fn read_bundle(
    origin: &'static str,
    path: &Path,
) -> Result<Vec<Certificate>, ConnectorConfigError> {
    let pem = read_capped(path)
        .map_err(|source| ConnectorConfigError::CertificateFile { origin, source })?;
    let certificates = parse(&pem).map_err(|_| ConnectorConfigError::Certificate { origin })?;
    if certificates.is_empty() {
        return Err(ConnectorConfigError::NoCertificate { origin });
    }
    Ok(certificates)
}

/// Reads the certificates of a directory, passing over files that are something else.
fn read_directory(
    origin: &'static str,
    directory: &Path,
) -> Result<Vec<Certificate>, ConnectorConfigError> {
    let unreadable = |source| ConnectorConfigError::CertificateFile { origin, source };
    let mut certificates = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if let Ok(found) = read_capped(&path).map_err(drop).and_then(|pem| parse(&pem)) {
            certificates.extend(found);
        }
    }
    Ok(certificates)
}

fn read_capped(path: &Path) -> io::Result<Vec<u8>> {
    let mut pem = Vec::new();
    let file = File::open(path)?;
    let read = file
        .take(limits::MAX_CA_FILE_BYTES + 1)
        .read_to_end(&mut pem)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > limits::MAX_CA_FILE_BYTES {
        let limit = limits::MAX_CA_FILE_BYTES;
        return Err(io::Error::other(format!(
            "file exceeds limit of {limit} bytes"
        )));
    }
    Ok(pem)
}

/// Returns the certificates of a PEM text, all of which must be usable as authorities.
fn parse(pem: &[u8]) -> Result<Vec<Certificate>, ()> {
    // The store checks what the HTTP library would check only when a client is built.
    let mut store = rustls::RootCertStore::empty();
    CertificateDer::pem_slice_iter(pem)
        .map(|certificate| {
            let certificate = certificate.map_err(drop)?;
            store.add(certificate.clone()).map_err(drop)?;
            Certificate::from_der(&certificate).map_err(drop)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_authority_is_usable() {
        assert_eq!(
            built_in().len(),
            webpki_root_certs::TLS_SERVER_ROOT_CERTS.len()
        );
        assert!(!built_in().is_empty());
    }
}
