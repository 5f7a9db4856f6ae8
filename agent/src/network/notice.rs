//! Notices of decisions, for the client's audit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use exec_proto::network::{POLICY_DECISION, PolicyDecision, Protocol};

use crate::session::Attachment;

/// Where a process's notices go.
#[derive(Debug)]
pub(super) struct Notices {
    attachment: Arc<Attachment>,
    process_id: String,
}

/// What was decided. See [`PolicyDecision`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Notice<'a> {
    pub(super) scope: &'static str,
    pub(super) decision: &'static str,
    pub(super) source: &'static str,
    pub(super) reason: &'a str,
    pub(super) protocol: Protocol,
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) method: Option<&'a str>,
    pub(super) client: Option<SocketAddr>,
    pub(super) policy_override: bool,
}

impl Notices {
    pub(super) fn new(attachment: Arc<Attachment>, process_id: String) -> Self {
        Self {
            attachment,
            process_id,
        }
    }

    /// Sends a notice. It is dropped while nobody is attached, and when the client does not read:
    /// a command must not be able to make others wait.
    pub(super) fn send(&self, notice: Notice<'_>) {
        tracing::debug!(
            decision = notice.decision,
            source = notice.source,
            protocol = ?notice.protocol,
            policy_override = notice.policy_override,
            "network policy decision"
        );
        let Some(outbox) = self.attachment.current() else {
            return;
        };
        let params = PolicyDecision {
            process_id: self.process_id.clone(),
            timestamp: timestamp(SystemTime::now()),
            scope: notice.scope.to_owned(),
            decision: notice.decision.to_owned(),
            source: notice.source.to_owned(),
            reason: notice.reason.to_owned(),
            protocol: notice.protocol,
            host: notice.host.to_owned(),
            port: notice.port,
            method: notice.method.map(ToOwned::to_owned),
            client: notice.client.map(|client| client.to_string()),
            policy_override: notice.policy_override,
        };
        if !outbox.try_notify(POLICY_DECISION, &params) {
            tracing::debug!("network policy notice dropped");
        }
    }
}

/// RFC 3339 with milliseconds, in universal time.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, millis) = (since.as_secs(), since.subsec_millis());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March have their leap day at the end. 400 of them have 146 097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = year + era * 400 + next;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_written_as_calendars_have_them() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_767_225_600_123, "2026-01-01T00:00:00.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_millis(millis)), text);
        }
    }
}
