//! Variables of the executor that children do not inherit unless the operator allows it.
//!
//! A client asks for the whole environment by default, so whatever the executor was started with would
//! be in reach of every command. Two kinds stay behind:
//!
//! - what looks like a credential, by the same rule as for headers of HTTP requests, and well-known
//!   names of addresses that hold one;
//! - what makes the loader run other code (`LD_*`): it was meant for the executor.
//!
//! What a request itself sets is its own and not judged.

use std::ffi::OsStr;

use super::policy::matches_any;
use crate::http::looks_like_credential;

/// The rule.
#[derive(Debug, Clone, Default)]
pub(super) struct Withheld {
    /// Names and patterns that the operator lets through.
    pub(super) allowed: Vec<String>,
}

impl Withheld {
    pub(super) fn covers(&self, name: &OsStr) -> bool {
        is_sensitive(name) && !matches_any(&self.allowed, name)
    }
}

fn is_sensitive(name: &OsStr) -> bool {
    let upper = name.to_string_lossy().to_ascii_uppercase();
    if HARMLESS.contains(&upper.as_str()) {
        return false;
    }
    upper.starts_with("LD_") || matches_any(&WELL_KNOWN, name) || looks_like_credential(&upper)
}

/// Addresses with a password in them, and addresses that are one.
const WELL_KNOWN: [&str; 14] = [
    "DATABASE_URL",
    "*_DATABASE_URL",
    "POSTGRES_URL",
    "MYSQL_URL",
    "REDIS_URL",
    "MONGO_URL",
    "MONGO_URI",
    "MONGODB_URI",
    "AMQP_URL",
    "*_DSN",
    "*CONNECTION_STRING*",
    "*WEBHOOK*",
    "*PRIVATE_KEY*",
    "AWS_CONTAINER_*",
];

/// Names that only look like one. The socket of an SSH agent gives the use of keys and not the keys.
const HARMLESS: [&str; 3] = ["PWD", "OLDPWD", "SSH_AUTH_SOCK"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_loader_variables_stay_behind_unless_they_are_allowed() {
        let withheld = Withheld {
            allowed: vec!["GH_TOKEN".to_owned(), "LD_LIBRARY_*".to_owned()],
        };
        for name in [
            "OPENAI_API_KEY",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_ACCESS_KEY_ID",
            "AWS_SESSION_TOKEN",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AZURE_CLIENT_SECRET",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "GITHUB_TOKEN",
            "npm_config__auth",
            "ANTHROPIC_API_KEY",
            "DATABASE_URL",
            "APP_DATABASE_URL",
            "SENTRY_DSN",
            "SLACK_WEBHOOK_URL",
            "PGPASSWORD",
            "LD_PRELOAD",
            "LD_AUDIT",
        ] {
            assert!(withheld.covers(OsStr::new(name)), "{name}");
        }
        for name in [
            "PATH",
            "PWD",
            "HOME",
            "SSH_AUTH_SOCK",
            "GH_TOKEN",
            "LD_LIBRARY_PATH",
            "CARGO_HOME",
            "TOKENIZERS_PARALLELISM",
            "OLD_FILE",
        ] {
            assert!(!withheld.covers(OsStr::new(name)), "{name}");
        }
    }
}
