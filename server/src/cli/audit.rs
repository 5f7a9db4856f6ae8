//! `exec-cloud audit`: prints the audit log of a data directory.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::schema::DataDirectory;
use super::token::parse_duration;
use super::{Failure, print};
use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::store::{Action, AuditFilter, AuditRecord};

/// Arguments of `audit`.
#[derive(Debug, Args)]
pub(super) struct Audit {
    /// Only what happened since then, for example 90m, 12h, 30d ago
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    since: Option<Duration>,
    /// Only what is about this environment
    #[arg(long, value_name = "ID")]
    environment: Option<String>,
    /// Only what this token was used for
    #[arg(long, value_name = "ID")]
    token: Option<String>,
    /// Only what they did: issuer and subject with a space between, or the user of a command
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only what was refused
    #[arg(long)]
    refused: bool,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataDirectory,
}

/// Prints the records, the oldest first.
pub(super) async fn run(arguments: Audit) -> Result<(), Failure> {
    let store = arguments.data.open_existing().await?;
    let mut filter = AuditFilter {
        after: 0,
        since: arguments.since.map(|since| SystemClock.now().before(since)),
        environment: arguments.environment,
        token: arguments.token,
        actor: arguments.actor,
        refused: arguments.refused,
    };
    loop {
        let page = store.audit(&filter).await?;
        let Some(last) = page.last() else { break };
        filter.after = last.id;
        for record in &page {
            if arguments.json {
                print(&to_json(record).to_string());
            } else {
                print(&to_line(record));
            }
        }
    }
    store.close().await;
    Ok(())
}

fn to_json(record: &AuditRecord) -> serde_json::Value {
    json!({
        "id": record.id,
        "at": record.at.as_unix_seconds(),
        "time": record.at.to_string(),
        "action": record.action,
        "outcome": record.outcome,
        "token_id": record.token,
        "actor": record.actor,
        "environment_id": record.environment,
        "registration_id": record.registration,
        "peer": record.peer,
    })
}

fn to_line(record: &AuditRecord) -> String {
    let or =
        |text: &Option<String>, absent: &str| text.clone().unwrap_or_else(|| absent.to_owned());
    let at: &Timestamp = &record.at;
    let by_itself = record.action == Action::Cut.as_str();
    let nowhere = if by_itself { "(server)" } else { "(command)" };
    format!(
        "{at}  {:<12}  {:<22}  {:<16}  {:<15}  {}  {}  {}",
        record.action,
        record.outcome,
        or(&record.token, "-"),
        or(&record.peer, nowhere),
        or(&record.environment, "-"),
        or(&record.registration, "-"),
        or(&record.actor, ""),
    )
    .trim_end()
    .to_owned()
}
