//! What goes on in the background: closing sockets whose token is gone, removing stale rows.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::service::Service;
use crate::store::{Action, AuditEntry, StoreError, TokenId};
use crate::{events, limits};

/// Runs until the server stops.
pub(crate) async fn run(service: Arc<Service>, revocation_interval: Duration) {
    let mut revocation = interval(revocation_interval);
    revocation.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pruned = Instant::now();
    loop {
        tokio::select! {
            () = service.draining.cancelled() => return,
            _ = revocation.tick() => {}
        }
        if let Err(error) = close_unauthorized(&service).await {
            // The sockets stay: a database that is busy must not cut everybody off.
            events::internal_error("look for revoked tokens", &error);
        }
        if pruned.elapsed() >= limits::PRUNE_INTERVAL {
            pruned = Instant::now();
            service.failures.prune();
            service.refusals.prune();
            service.calls.prune();
            if let Err(error) = service.store.prune_audit(service.clock.now()).await {
                events::internal_error("remove old audit records", &error);
            }
            if let Err(error) = service.store.prune_oidc_tokens(service.clock.now()).await {
                events::internal_error("forget expired tokens", &error);
            }
            if let Err(error) = service.store.prune(service.clock.now()).await {
                events::internal_error("remove expired authorizations", &error);
            }
        }
    }
}

/// Closes the sockets whose token was revoked or has expired since they were opened.
async fn close_unauthorized(service: &Service) -> Result<(), StoreError> {
    let tokens = service.hub.tokens();
    if tokens.is_empty() {
        return Ok(());
    }
    let now = service.clock.now();
    let valid = service.store.valid_tokens(&tokens, now).await?;
    let ended: HashSet<TokenId> = tokens.difference(&valid).cloned().collect();
    if ended.is_empty() {
        return Ok(());
    }
    let cut = service.hub.close_unauthorized(&ended);
    // After the fact: a database that fails must not keep a socket open.
    for (environment, token) in &cut {
        let is_revoked = service.store.is_token_revoked(token).await?;
        let entry = AuditEntry {
            at: now,
            action: Action::Cut,
            outcome: if is_revoked {
                "revoked_token"
            } else {
                "expired_token"
            },
            token: Some(token),
            actor: None,
            environment: Some(environment),
            registration: None,
            peer: None,
        };
        service.store.record(entry).await?;
    }
    Ok(())
}
