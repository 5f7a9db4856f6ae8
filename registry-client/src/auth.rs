//! Where the credential for registry calls comes from.
//!
//! A source is asked anew for every call, so a rotated credential is used from the next call on.
//! Which source applies, and to which hosts a credential may be sent, is the program's decision.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::AsyncReadExt;
use tracing::debug;

use crate::limits::MAX_CREDENTIAL_BYTES;
use crate::wire::{ACCOUNT_ID_HEADER, Redacted};

/// Gives the credential for one registry call.
pub trait CredentialSource: fmt::Debug + Send + Sync {
    /// Returns the credential to use now.
    ///
    /// Counts against the call's timeout. Must be safe to drop before it is done.
    fn credential(&self) -> BoxFuture<'_, Result<Credential, CredentialError>>;
}

/// The headers that authenticate one registry call.
#[derive(Clone)]
pub struct Credential {
    authorization: HeaderValue,
    account_id: Option<HeaderValue>,
}

/// Why there is no usable credential. Never shows any part of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The text has blanks, control or non-ASCII characters inside.
    #[error("credential has blank, control or non-ascii characters")]
    Characters,
    /// The account id has characters that cannot be sent.
    #[error("account id has blank, control or non-ascii characters")]
    AccountId,
    /// There is no text.
    #[error("credential is empty")]
    Empty,
    /// The source has nothing to offer for now.
    #[error("credential is not available: {reason}")]
    Unavailable {
        /// Why, from a closed set of the source.
        reason: &'static str,
    },
    /// The text is too long.
    #[error("credential exceeds limit of {MAX_CREDENTIAL_BYTES} bytes")]
    TooLong,
    /// The file cannot be read.
    #[error("failed to read the credential file")]
    Read(#[source] io::Error),
}

/// A bearer that never changes.
#[derive(Clone)]
pub struct StaticBearer(Credential);

/// A bearer in a file, read anew for each call, so that it may be replaced at any time.
///
/// Reading a few hundred bytes costs less than a registry call by far, and there is no change of
/// the file that it could miss. While the file is absent or empty, which a replacement that is not
/// atomic makes it for a moment, and a pipe is after the first time, the last good bearer is used.
#[derive(Clone)]
pub struct FileBearer {
    path: PathBuf,
    account_id: Option<HeaderValue>,
    last: Arc<Mutex<Option<Credential>>>,
}

impl Credential {
    /// Returns the credential with a bearer token, trimmed.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if the token is empty, longer than [`MAX_CREDENTIAL_BYTES`], or has
    /// anything but visible ASCII characters.
    pub fn bearer(token: &str) -> Result<Self, CredentialError> {
        let token = token.trim();
        if token.is_empty() {
            return Err(CredentialError::Empty);
        }
        if token.len() > MAX_CREDENTIAL_BYTES {
            return Err(CredentialError::TooLong);
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(CredentialError::Characters);
        }
        let text = SecretString::from(format!("Bearer {token}"));
        let mut authorization =
            HeaderValue::from_str(text.expose_secret()).map_err(|_| CredentialError::Characters)?;
        authorization.set_sensitive(true);
        Ok(Self {
            authorization,
            account_id: None,
        })
    }

    /// Adds the account that the credential belongs to.
    ///
    /// # Errors
    ///
    /// [`CredentialError::AccountId`] if it has anything but visible ASCII characters.
    pub fn with_account_id(mut self, account_id: &str) -> Result<Self, CredentialError> {
        self.account_id = Some(account_id_header(account_id)?);
        Ok(self)
    }

    /// Puts the credential into the headers of a request.
    pub fn apply(self, headers: &mut HeaderMap) {
        headers.insert(AUTHORIZATION, self.authorization);
        if let Some(account_id) = self.account_id {
            headers.insert(HeaderName::from_static(ACCOUNT_ID_HEADER), account_id);
        }
    }
}

impl CredentialError {
    /// Returns whether a later call may find a usable credential without a change of
    /// configuration.
    ///
    /// An empty or unreadable file may be one that is being replaced.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Empty | Self::Unavailable { .. } | Self::Read(_))
    }
}

impl StaticBearer {
    /// Takes the credential.
    pub fn new(credential: Credential) -> Self {
        Self(credential)
    }
}

impl FileBearer {
    /// Names the file, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            account_id: None,
            last: Arc::default(),
        }
    }

    /// Adds the account that the credential belongs to.
    ///
    /// # Errors
    ///
    /// [`CredentialError::AccountId`] if it has anything but visible ASCII characters.
    pub fn with_account_id(mut self, account_id: &str) -> Result<Self, CredentialError> {
        self.account_id = Some(account_id_header(account_id)?);
        Ok(self)
    }

    async fn current(&self) -> Result<Credential, CredentialError> {
        let read = self.read().await;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match (read, last.as_ref()) {
            (Ok(credential), _) => {
                *last = Some(credential.clone());
                Ok(credential)
            }
            (Err(error), Some(previous)) if error.is_retryable() => {
                debug!(%error, "the credential file cannot be read, using what it held before");
                Ok(previous.clone())
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn read(&self) -> Result<Credential, CredentialError> {
        let file = tokio::fs::File::open(&self.path)
            .await
            .map_err(CredentialError::Read)?;
        let mut text = String::new();
        // One byte for a line end, and one to see that there is more than the limit.
        let limit = u64::try_from(MAX_CREDENTIAL_BYTES)
            .unwrap_or(u64::MAX)
            .saturating_add(2);
        file.take(limit)
            .read_to_string(&mut text)
            .await
            .map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => CredentialError::Characters,
                _ => CredentialError::Read(error),
            })?;
        let text = SecretString::from(text);
        let mut credential = Credential::bearer(text.expose_secret())?;
        credential.account_id.clone_from(&self.account_id);
        Ok(credential)
    }
}

impl CredentialSource for StaticBearer {
    fn credential(&self) -> BoxFuture<'_, Result<Credential, CredentialError>> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }
}

impl CredentialSource for FileBearer {
    fn credential(&self) -> BoxFuture<'_, Result<Credential, CredentialError>> {
        Box::pin(self.current())
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("authorization", &Redacted)
            .field("account_id", &self.account_id.as_ref().map(|_| Redacted))
            .finish()
    }
}

impl fmt::Debug for StaticBearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StaticBearer").field(&self.0).finish()
    }
}

impl fmt::Debug for FileBearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileBearer")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn account_id_header(account_id: &str) -> Result<HeaderValue, CredentialError> {
    let account_id = account_id.trim();
    if account_id.is_empty() || !account_id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(CredentialError::AccountId);
    }
    HeaderValue::from_str(account_id).map_err(|_| CredentialError::AccountId)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorization(credential: Credential) -> String {
        let mut headers = HeaderMap::new();
        credential.apply(&mut headers);
        headers[AUTHORIZATION].to_str().expect("ascii").to_owned()
    }

    #[test]
    fn bearer_is_trimmed_and_everything_else_is_refused() {
        let credential = Credential::bearer(" tok-1\r\n").expect("usable");
        assert_eq!(authorization(credential), "Bearer tok-1");
        assert!(matches!(
            Credential::bearer(" \n"),
            Err(CredentialError::Empty)
        ));
        for token in [
            "s3cr3t x",
            "s3cr3t\tx",
            "s3cr3t\u{7f}",
            "s3cr3té",
            "s3cr3t\u{0}",
        ] {
            let error = Credential::bearer(token).expect_err("refused");
            assert!(matches!(error, CredentialError::Characters));
            assert!(!format!("{error:?} {error}").contains("s3cr3t"));
        }
        assert!(Credential::bearer(&"x".repeat(MAX_CREDENTIAL_BYTES)).is_ok());
        let long = "x".repeat(MAX_CREDENTIAL_BYTES + 1);
        assert!(matches!(
            Credential::bearer(&long),
            Err(CredentialError::TooLong)
        ));
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let credential = Credential::bearer("s3cr3t").expect("usable");
        let credential = credential.with_account_id("acc0unt").expect("usable");
        let source = StaticBearer::new(credential.clone());
        for text in [format!("{credential:?}"), format!("{source:#?}")] {
            assert!(
                !text.contains("s3cr3t") && !text.contains("acc0unt"),
                "{text}"
            );
        }
        let mut headers = HeaderMap::new();
        credential.apply(&mut headers);
        assert!(!format!("{headers:?}").contains("s3cr3t"));
        assert_eq!(headers[ACCOUNT_ID_HEADER], "acc0unt");
    }

    #[tokio::test]
    async fn file_bearer_follows_every_change_of_the_file() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("token");
        let source = FileBearer::new(&path);

        let error = source.credential().await.expect_err("no file");
        assert!(matches!(error, CredentialError::Read(_)) && error.is_retryable());
        for token in ["tok-1", "tok-2"] {
            std::fs::write(&path, format!("{token}\n")).expect("written");
            let credential = source.credential().await.expect("usable");
            assert_eq!(authorization(credential), format!("Bearer {token}"));
        }
        std::fs::write(&path, "").expect("written");
        let credential = source.credential().await.expect("the last one");
        assert_eq!(authorization(credential), "Bearer tok-2");
        std::fs::remove_file(&path).expect("removed");
        let credential = source.credential().await.expect("the last one");
        assert_eq!(authorization(credential), "Bearer tok-2");
        std::fs::write(&path, "one two").expect("written");
        assert!(source.credential().await.is_err());
    }

    #[tokio::test]
    async fn file_bearer_refuses_other_contents() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("token");
        let source = FileBearer::new(&path);
        std::fs::write(&path, b"tok\xff").expect("written");
        let error = source.credential().await.expect_err("not text");
        assert!(matches!(error, CredentialError::Characters) && !error.is_retryable());
        std::fs::write(&path, "one two").expect("written");
        let error = source.credential().await.expect_err("two words");
        assert!(matches!(error, CredentialError::Characters));
        std::fs::write(&path, "x".repeat(10 * MAX_CREDENTIAL_BYTES)).expect("written");
        let error = source.credential().await.expect_err("too long");
        assert!(matches!(error, CredentialError::TooLong));
    }
}
