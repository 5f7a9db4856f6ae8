//! The executor's credential for the registry.
//!
//! Responsible for where it comes from and for keeping it from commands. Not responsible for
//! where it is sent: [`Settings`](crate::config::Settings) decides that.
//!
//! | source | read |
//! |---|---|
//! | `--token-file` | for each call; while the file is unusable, the last good token is used |
//! | `EXEC_SERVER_TOKEN`, then `CODEX_API_KEY` | once, and removed from the environment ([`shield()`]) |
//! | `--registration-bearer-stdin` | once: one line, ended by a newline |
//! | `--executor-credential-stdin` | as lines come, see [`Rotating`] |

mod rotating;
mod shield;

use std::{
    io::{self, BufRead, Read as _},
    sync::Arc,
};

use registry_client::{Credential, CredentialError, CredentialSource, FileBearer, StaticBearer};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

pub use rotating::{Rotating, RotationError};
pub(crate) use shield::disown;
pub use shield::{ShieldError, is_in_environment, shield};

use relay_proto::ids::EnvironmentId;
use tokio_util::sync::CancellationToken;

use crate::{config::CredentialChoice, events};

/// A credential that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Standard input ended before a complete line.
    #[error(
        "standard input ended before the registration bearer; \
         --registration-bearer-stdin needs one line that ends with a newline"
    )]
    StdinClosed,
    /// The line is too long.
    #[error("registration bearer on standard input exceeds limit of {MAX_LINE_BYTES} bytes")]
    StdinTooLong,
    /// Standard input cannot be read.
    #[error("failed to read the registration bearer from standard input")]
    Stdin(#[source] io::Error),
    /// The text is not a token.
    #[error("the registry token cannot be used")]
    Token(#[source] CredentialError),
    /// The environment promised a token and has none.
    #[error("no registry credential in EXEC_SERVER_TOKEN or CODEX_API_KEY")]
    Missing,
    /// The lines on standard input.
    #[error(transparent)]
    Rotation(#[from] RotationError),
}

/// A source that was opened.
#[derive(Debug)]
pub enum Source {
    /// One that lasts as long as the program.
    Lasting(Arc<dyn CredentialSource>),
    /// One that can end the program.
    Rotating(Arc<Rotating>),
}

impl Source {
    /// What registry calls ask.
    pub fn credentials(&self) -> Arc<dyn CredentialSource> {
        match self {
            Self::Lasting(source) => Arc::clone(source),
            Self::Rotating(source) => Arc::<Rotating>::clone(source),
        }
    }

    /// Why the program ended, if this is the reason.
    pub fn failure(&self) -> Option<RotationError> {
        match self {
            Self::Lasting(_) => None,
            Self::Rotating(source) => source.failure(),
        }
    }
}

/// Opens the source that was chosen. Waits for standard input when that is the one; credentials for
/// `environment` alone are taken from there, and what ends it cancels `end`.
///
/// # Errors
///
/// [`SourceError`] when no token is there now, or what is there is not one.
pub async fn open(
    choice: &CredentialChoice,
    from_environment: Option<SecretString>,
    environment: &EnvironmentId,
    end: &CancellationToken,
) -> Result<Source, SourceError> {
    if *choice == CredentialChoice::Rotating {
        let source = Rotating::start(environment.clone(), end.clone());
        let source = source.map_err(RotationError::Read)?;
        source.first().await?;
        return Ok(Source::Rotating(Arc::new(source)));
    }
    lasting(choice, from_environment).await.map(Source::Lasting)
}

/// Opens a source that does not need [`Rotating`].
pub(crate) async fn lasting(
    choice: &CredentialChoice,
    from_environment: Option<SecretString>,
) -> Result<Arc<dyn CredentialSource>, SourceError> {
    match choice {
        CredentialChoice::TokenFile(path) => {
            let source = FileBearer::new(path.clone());
            source.credential().await.map_err(SourceError::Token)?;
            Ok(Arc::new(source))
        }
        CredentialChoice::Environment => {
            let token = from_environment.ok_or(SourceError::Missing)?;
            bearer(token.expose_secret())
        }
        CredentialChoice::Stdin | CredentialChoice::Rotating => {
            events::waiting_for_bearer();
            let line = tokio::task::spawn_blocking(|| first_line(&mut io::stdin().lock()))
                .await
                .map_err(|error| SourceError::Stdin(io::Error::other(error)))??;
            bearer(&line)
        }
    }
}

fn bearer(token: &str) -> Result<Arc<dyn CredentialSource>, SourceError> {
    let credential = Credential::bearer(token).map_err(SourceError::Token)?;
    Ok(Arc::new(StaticBearer::new(credential)))
}

/// Reads the line that holds the token, without its end.
fn first_line(input: &mut impl BufRead) -> Result<Zeroizing<String>, SourceError> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE_BYTES));
    let limit = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
    input
        .by_ref()
        .take(limit)
        .read_until(b'\n', &mut line)
        .map_err(SourceError::Stdin)?;
    match line.strip_suffix(b"\n") {
        Some(token) => {
            let token = token.strip_suffix(b"\r").unwrap_or(token);
            let token = str::from_utf8(token)
                .map_err(|_| SourceError::Token(CredentialError::Characters))?;
            // The credential type trims; here a blank anywhere means that the line is something else.
            if token.contains(|letter: char| letter.is_whitespace()) {
                return Err(SourceError::Token(CredentialError::Characters));
            }
            Ok(Zeroizing::new(token.to_owned()))
        }
        None if line.len() == MAX_LINE_BYTES => Err(SourceError::StdinTooLong),
        None => Err(SourceError::StdinClosed),
    }
}

/// Longest line on standard input, with its end.
const MAX_LINE_BYTES: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_standard_input_is_the_token() {
        for input in ["tok-1\n", "tok-1\r\n", "tok-1\nmore\n"] {
            assert_eq!(*first_line(&mut input.as_bytes()).unwrap(), "tok-1");
        }
        let longest = "x".repeat(MAX_LINE_BYTES - 1) + "\n";
        assert!(first_line(&mut longest.as_bytes()).is_ok());
        let too_long = "x".repeat(MAX_LINE_BYTES) + "\n";
        assert!(matches!(
            first_line(&mut too_long.as_bytes()),
            Err(SourceError::StdinTooLong)
        ));
        for input in ["", "tok-1"] {
            assert!(matches!(
                first_line(&mut input.as_bytes()),
                Err(SourceError::StdinClosed)
            ));
        }
        for input in ["two words\n", " tok\n", "tok\t\n", "tok\r\r\n"] {
            assert!(
                matches!(
                    first_line(&mut input.as_bytes()),
                    Err(SourceError::Token(_))
                ),
                "{input:?}"
            );
        }
        assert!(matches!(
            first_line(&mut &b"tok\xff\n"[..]),
            Err(SourceError::Token(_))
        ));
    }

    #[test]
    fn tokens_that_are_none_are_refused_without_being_shown() {
        for token in ["", "s3cr3t two", "s3cr3t\u{7f}", "s3cr3té"] {
            let error = bearer(token).unwrap_err();
            assert!(!format!("{error:?} {}", events::Chain(&error)).contains("s3cr3t"));
        }
    }

    #[tokio::test]
    async fn a_token_file_is_followed_and_survives_a_gap() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let choice = CredentialChoice::TokenFile(path.clone());
        assert!(matches!(
            lasting(&choice, None).await,
            Err(SourceError::Token(_))
        ));

        std::fs::write(&path, "tok-1\n").unwrap();
        let source = lasting(&choice, None).await.unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(source.credential().await.is_ok());
        std::fs::remove_file(&path).unwrap();
        assert!(source.credential().await.is_ok());
        std::fs::write(&path, "two words").unwrap();
        assert!(source.credential().await.is_err());
    }
}
