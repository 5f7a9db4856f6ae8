//! `exec-cloud token`: makes, lists and revokes tokens in a data directory.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use relay_proto::ids::EnvironmentId;
use serde_json::json;

use super::schema::DataDirectory;
use super::{FAILED, Failure, print};
use crate::auth::Role;
use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::config::ConfigError;
use crate::store::{
    Action, AuditEntry, NewToken, OidcTokenRecord, RevokeOutcome, Store, TokenId, TokenRecord,
};

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a token and print it; it cannot be shown again
    Create {
        /// What its bearer may do
        #[arg(long)]
        role: RoleName,
        /// The only environment it is good for [default: all]
        #[arg(long, value_name = "ID")]
        environment: Option<String>,
        /// How long it works, for example 90m, 12h, 30d [default: until revoked]
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        ttl: Option<Duration>,
        /// A name for people, shown in the list
        #[arg(long, value_name = "TEXT")]
        label: Option<String>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        data: DataDirectory,
    },
    /// List all tokens, without their secrets, and those of an identity provider that are in use
    List {
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        data: DataDirectory,
    },
    /// Revoke a token, also one of an identity provider; a running server closes its sockets within seconds
    Revoke {
        /// Id of the token, from `create --json`, `list` or `audit`
        id: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        data: DataDirectory,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum RoleName {
    /// Registers environments and validates harnesses
    Executor,
    /// Connects to environments
    Harness,
    /// Both
    Admin,
}

/// Does what the command says.
pub(super) async fn run(command: Token) -> Result<(), Failure> {
    let now = SystemClock.now();
    let actor = actor();
    match command {
        Token::Create {
            role,
            environment,
            ttl,
            label,
            json,
            data,
        } => {
            let new = NewToken {
                role: role.into(),
                environment: environment.map(environment_id).transpose()?,
                label,
                expires_at: ttl.map(|ttl| now.after(ttl)),
            };
            let store = Store::open(&data.resolve()?).await?;
            let created = store.create_token(new, now).await?;
            let record = &created.record;
            let made = entry(now, Action::CreateToken, "ok", &record.id, &actor);
            store
                .record(AuditEntry {
                    environment: record.environment.as_ref(),
                    ..made
                })
                .await?;
            store.close().await;
            if json {
                let mut object = to_json(&created.record, now);
                if let Some(members) = object.as_object_mut() {
                    members.insert("token".to_owned(), json!(created.text));
                }
                print(&object.to_string());
            } else {
                print(&created.text);
            }
        }
        Token::List { json, data } => {
            let store = data.open_existing().await?;
            let tokens = store.tokens().await?;
            let identities = store.oidc_tokens().await?;
            store.close().await;
            for record in &tokens {
                if json {
                    print(&to_json(record, now).to_string());
                } else {
                    print(&to_line(record, now));
                }
            }
            for record in &identities {
                if json {
                    print(&identity_to_json(record, now).to_string());
                } else {
                    print(&identity_to_line(record, now));
                }
            }
        }
        Token::Revoke { id, json, data } => {
            let store = data.open_existing().await?;
            let id = TokenId::from(id);
            let outcome = store.revoke_token(&id, now).await?;
            let told = match outcome {
                RevokeOutcome::Revoked => Some("ok"),
                RevokeOutcome::AlreadyRevoked => Some("already_revoked"),
                RevokeOutcome::Unknown => None,
            };
            if let Some(told) = told {
                let revoked = entry(now, Action::RevokeToken, told, &id, &actor);
                store.record(revoked).await?;
            }
            store.close().await;
            if outcome == RevokeOutcome::Unknown {
                return Err(Failure {
                    code: FAILED,
                    text: "there is no token with this id; see `exec-cloud token list`".to_owned(),
                });
            }
            if json {
                print(&json!({ "id": id.as_str(), "status": "revoked" }).to_string());
            } else {
                print(&format!("revoked {id}"));
            }
        }
    }
    Ok(())
}

/// Who runs this command, as far as the system knows.
fn actor() -> String {
    format!("uid {}", rustix::process::getuid().as_raw())
}

/// What a command did to a token.
fn entry<'a>(
    at: Timestamp,
    action: Action,
    outcome: &'static str,
    token: &'a TokenId,
    actor: &'a str,
) -> AuditEntry<'a> {
    AuditEntry {
        at,
        action,
        outcome,
        token: Some(token),
        actor: Some(actor),
        environment: None,
        registration: None,
        peer: None,
    }
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Executor => Self::Executor,
            RoleName::Harness => Self::Harness,
            RoleName::Admin => Self::Admin,
        }
    }
}

fn environment_id(text: String) -> Result<EnvironmentId, Failure> {
    crate::http::environment_id(&text).map_err(|error| {
        Failure::configuration(&ConfigError::new(
            error.to_string(),
            "give another --environment",
        ))
    })
}

fn status(record: &TokenRecord, now: Timestamp) -> &'static str {
    match (record.revoked_at, record.is_valid(now)) {
        (Some(_), _) => "revoked",
        (None, true) => "valid",
        (None, false) => "expired",
    }
}

fn to_json(record: &TokenRecord, now: Timestamp) -> serde_json::Value {
    json!({
        "id": record.id.as_str(),
        "role": record.role.as_str(),
        "environment_id": record.environment.as_ref().map(EnvironmentId::as_str),
        "label": record.label,
        "created_at": record.created_at.as_unix_seconds(),
        "expires_at": record.expires_at.map(Timestamp::as_unix_seconds),
        "revoked_at": record.revoked_at.map(Timestamp::as_unix_seconds),
        "status": status(record, now),
    })
}

fn to_line(record: &TokenRecord, now: Timestamp) -> String {
    let environment = record
        .environment
        .as_ref()
        .map_or("(all)", EnvironmentId::as_str);
    let expiry = record
        .expires_at
        .map_or_else(|| "never".to_owned(), |time| time.to_string());
    let label: String = record
        .label
        .iter()
        .flat_map(|label| label.chars())
        .filter(|character| !character.is_control())
        .collect();
    let (id, role, status) = (&record.id, record.role.as_str(), status(record, now));
    format!("{id}  {role:<8}  {status:<7}  expires {expiry:<20}  {environment}  {label}")
        .trim_end()
        .to_owned()
}

fn identity_status(record: &OidcTokenRecord, now: Timestamp) -> &'static str {
    match record.revoked_at {
        Some(_) => "revoked",
        None if now < record.expires_at => "valid",
        None => "expired",
    }
}

fn identity_to_json(record: &OidcTokenRecord, now: Timestamp) -> serde_json::Value {
    json!({
        "id": record.id.as_str(),
        "issuer": record.issuer,
        "subject": record.subject,
        "expires_at": record.expires_at.as_unix_seconds(),
        "revoked_at": record.revoked_at.map(Timestamp::as_unix_seconds),
        "status": identity_status(record, now),
    })
}

fn identity_to_line(record: &OidcTokenRecord, now: Timestamp) -> String {
    let status = identity_status(record, now);
    let OidcTokenRecord {
        id,
        issuer,
        subject,
        expires_at,
        ..
    } = record;
    format!("{id}  {status:<7}  expires {expires_at:<20}  {issuer} {subject}")
}

/// Reads `90s`, `15m`, `12h`, `30d`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    const HINT: &str = "expected a number above 0 with s, m, h or d, for example 30d";
    let unit = text.chars().last().ok_or(HINT)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(HINT),
    };
    let number = text.strip_suffix(unit).unwrap_or_default();
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HINT);
    }
    number
        .parse()
        .ok()
        .and_then(|number: u64| number.checked_mul(seconds))
        .filter(|seconds| (1..=MAX_TTL_SECS).contains(seconds))
        .map(Duration::from_secs)
        .ok_or(HINT)
}

/// A hundred years, so that no expiry overflows.
const MAX_TTL_SECS: u64 = 100 * 365 * 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, seconds) in [("1s", 1), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000)] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        for text in [
            "", "d", "30", "0d", "-1d", "+1d", "1.5h", "30D", "1w", "36501d", "é",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
