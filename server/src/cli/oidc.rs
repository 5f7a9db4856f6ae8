//! The options of `exec-cloud serve` about tokens of an identity provider.

use std::path::PathBuf;

use clap::Args;

use crate::config::{ConfigError, KeySource, OidcConfig, Rule};

/// They go together: either none of them, or issuer, audience and rule.
#[derive(Debug, Args)]
pub(super) struct OidcOptions {
    /// Take bearer tokens of this OpenID Connect issuer too: its URL, as its tokens have it in `iss`
    #[arg(id = "oidc_issuer", long = "oidc-issuer", value_name = "URL")]
    pub(super) issuer: Option<String>,
    /// Audience that a token has to be for; may be repeated, then one of them
    #[arg(id = "oidc_audience", long = "oidc-audience", value_name = "TEXT")]
    pub(super) audiences: Vec<String>,
    /// Key set (JWKS) of the issuer: an https URL, or a file that is read again when it changes; where the
    /// issuer's discovery document says if not given
    #[arg(id = "oidc_jwks", long = "oidc-jwks", value_name = "URL|FILE")]
    pub(super) jwks: Option<KeySource>,
    #[arg(
        id = "oidc_rule",
        long = "oidc-rule",
        value_name = "RULE",
        help = "Who may do what: 'CLAIM=VALUE -> ROLE', or ROLE:ENVIRONMENT, where * stands for anything; \
                may be repeated"
    )]
    pub(super) rules: Vec<Rule>,
    /// Certificate authorities (PEM) to trust besides the system's when keys are fetched
    #[arg(long, value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
}

impl OidcOptions {
    /// What the options mean together.
    pub(super) fn into_config(self, problem: &mut impl FnMut(ConfigError)) -> Option<OidcConfig> {
        let Some(issuer) = self.issuer else {
            let others = [
                (!self.audiences.is_empty(), "--oidc-audience"),
                (self.jwks.is_some(), "--oidc-jwks"),
                (!self.rules.is_empty(), "--oidc-rule"),
                (self.ca_file.is_some(), "--ca-file"),
            ];
            for (_, flag) in others.into_iter().filter(|(is_given, _)| *is_given) {
                problem(ConfigError::new(
                    format!("{flag} is of no use without an issuer"),
                    "give --oidc-issuer",
                ));
            }
            return None;
        };
        if issuer.trim().is_empty() || issuer.chars().any(char::is_whitespace) {
            problem(ConfigError::new(
                "--oidc-issuer is blank or has blanks in it".to_owned(),
                "give it as the issuer's tokens have it",
            ));
        }
        if self.audiences.is_empty() {
            problem(ConfigError::new(
                "tokens that the issuer made for others would be taken".to_owned(),
                "give --oidc-audience",
            ));
        }
        if self.rules.is_empty() {
            problem(ConfigError::new(
                "no token of the issuer would open anything".to_owned(),
                "give --oidc-rule, such as --oidc-rule 'groups=ci -> executor:build-*'",
            ));
        }
        Some(OidcConfig {
            issuer,
            audiences: self.audiences,
            keys: self.jwks,
            rules: self.rules,
            ca_file: self.ca_file,
        })
    }
}
