//! Which environment variables of the executor a header may carry (`valueEnvVar`).
//!
//! A client names a variable and a URL, so whatever is readable here can be sent anywhere.
//!
//! - The names of the reference's list, and everything of this program's own, are never readable.
//! - A name that looks like a credential is readable when the operator allows it by name
//!   (`--http-header-env`). The reference has no such rule and gives out `GITHUB_TOKEN` and the like.
//! - Every other name is readable.

use std::{collections::HashSet, ffi::OsString, fmt, os::unix::ffi::OsStringExt as _};

use exec_proto::rpc::RpcError;

type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// The rule, and the environment it applies to.
pub struct HeaderVariables {
    lookup: Box<Lookup>,
    allowed: HashSet<String>,
}

impl HeaderVariables {
    /// Reads variables with `lookup`; `allowed` are names that the operator lets through although
    /// they look like credentials.
    pub fn new(
        lookup: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static,
        allowed: impl IntoIterator<Item = String>,
    ) -> Self {
        Self {
            lookup: Box::new(lookup),
            allowed: allowed.into_iter().collect(),
        }
    }

    /// Reads `variable` for `header`.
    pub(super) fn value(&self, header: &str, variable: &str) -> Result<Vec<u8>, RpcError> {
        let refused = |text: String| {
            Err(RpcError::invalid_params(format!(
                "http/request header {header} {text}"
            )))
        };
        match self.judge(variable) {
            Judgement::Readable => {}
            Judgement::Denied => {
                return refused(format!(
                    "cannot use executor environment variable {variable}"
                ));
            }
            Judgement::NotAllowed => {
                return refused(format!(
                    "cannot use executor environment variable {variable}; \
                     it looks like a credential, so the executor must allow it with --http-header-env"
                ));
            }
        }
        match (self.lookup)(variable) {
            None => refused(format!("requires executor environment variable {variable}")),
            Some(value) if value.is_empty() => refused(format!(
                "requires a non-empty executor environment variable {variable}"
            )),
            Some(value) => Ok(value.into_vec()),
        }
    }

    fn judge(&self, variable: &str) -> Judgement {
        let upper = variable.to_ascii_uppercase();
        if DENIED.contains(&upper.as_str()) || upper.starts_with(OWN_PREFIX) {
            Judgement::Denied
        } else if looks_like_credential(&upper) && !self.allowed.contains(variable) {
            Judgement::NotAllowed
        } else {
            Judgement::Readable
        }
    }
}

impl fmt::Debug for HeaderVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderVariables")
            .field("allowed", &self.allowed)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Readable,
    Denied,
    NotAllowed,
}

/// Judges by the words of the name.
fn looks_like_credential(upper: &str) -> bool {
    upper
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .any(|word| {
            CREDENTIAL_WORDS.contains(&word)
                || CREDENTIAL_ENDINGS
                    .iter()
                    .any(|ending| word.ends_with(ending))
        })
}

/// Never readable, as in the reference.
const DENIED: [&str; 14] = [
    "CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN",
    "OPENAI_FEDERATION_RULE_ID",
    "OPENAI_IDENTITY_TOKEN_FILE",
    "OPENAI_WORKLOAD_IDENTITY_CONTEXT",
    "OPENAI_API_KEY",
    "CODEX_API_KEY",
    "CODEX_ACCESS_TOKEN",
    "CODEX_CONNECTORS_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
];
/// This program's own variables.
const OWN_PREFIX: &str = "EXEC_SERVER_";
const CREDENTIAL_WORDS: [&str; 7] = ["AUTH", "BEARER", "COOKIE", "JWT", "KEY", "KEYS", "PAT"];
const CREDENTIAL_ENDINGS: [&str; 11] = [
    "TOKEN",
    "TOKENS",
    "SECRET",
    "SECRETS",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "CREDENTIAL",
    "CREDENTIALS",
    "APIKEY",
    "PWD",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> HeaderVariables {
        HeaderVariables::new(
            |name| match name {
                "EMPTY" => Some(OsString::new()),
                "REGION" | "GITHUB_TOKEN" | "GH_TOKEN" | "AWS_SESSION_TOKEN" => {
                    Some("value".into())
                }
                _ => None,
            },
            ["GH_TOKEN".to_owned(), "AWS_SESSION_TOKEN".to_owned()],
        )
    }

    fn message(variable: &str) -> String {
        let error = variables().value("X-A", variable).unwrap_err();
        assert_eq!(error.code, -32602);
        error.message
    }

    #[test]
    fn ordinary_and_allowed_variables_are_read() {
        for variable in ["REGION", "GH_TOKEN"] {
            assert_eq!(variables().value("X-A", variable).unwrap(), b"value");
        }
    }

    #[test]
    fn missing_and_empty_variables_are_told_apart() {
        assert_eq!(
            message("UNSET"),
            "http/request header X-A requires executor environment variable UNSET"
        );
        assert_eq!(
            message("EMPTY"),
            "http/request header X-A requires a non-empty executor environment variable EMPTY"
        );
    }

    #[test]
    fn the_list_of_the_reference_is_denied_in_any_case_whatever_the_operator_allows() {
        for variable in [
            "CODEX_API_KEY",
            "codex_api_key",
            "AWS_SESSION_TOKEN",
            "EXEC_SERVER_REMOTE_URL",
        ] {
            assert_eq!(
                message(variable),
                format!(
                    "http/request header X-A cannot use executor environment variable {variable}"
                )
            );
        }
    }

    #[test]
    fn what_looks_like_a_credential_needs_permission() {
        for variable in [
            "GITHUB_TOKEN",
            "ANTHROPIC_API_KEY",
            "NPM_AUTH",
            "db_password",
            "DB_PWD",
            "MY_APIKEY",
            "SIGNING_KEY",
            "GOOGLE_CREDENTIALS",
            "SESSION_COOKIE",
            "GITLAB_PAT",
            "CLIENTSECRET",
        ] {
            assert_eq!(
                variables().judge(variable),
                Judgement::NotAllowed,
                "{variable}"
            );
        }
        for variable in [
            "PATH",
            "HOSTNAME",
            "KEYBOARD",
            "MONKEY_ISLAND",
            "AUTHOR",
            "PATTERN",
            "TOKENIZERS_PARALLELISM",
        ] {
            assert_eq!(
                variables().judge(variable),
                Judgement::Readable,
                "{variable}"
            );
        }
        assert!(message("GITHUB_TOKEN").contains("--http-header-env"));
    }
}
