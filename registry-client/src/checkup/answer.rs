//! One answer of the registry, and what follows from it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{DATE, HeaderMap};
use relay_proto::ids::EnvironmentId;
use serde::Serialize;

use super::{Asker, Finding};
use crate::connector::{Connector, TransportError};
use crate::limits;
use crate::registry_url::{Call, RegistryUrl};
use crate::wire::{ErrorBody, code};

/// What the registry has answered.
pub(super) struct Answer {
    status: u16,
    /// Whether the body is what a registry says with this status.
    is_registry: bool,
    code: Option<String>,
    skew_secs: Option<i64>,
}

/// Makes one call of the registry's, and reads the answer whatever it is.
pub(super) async fn ask(
    connector: &Connector,
    base: &RegistryUrl,
    call: Call,
    environment: &EnvironmentId,
    headers: HeaderMap,
    body: &impl Serialize,
) -> Result<Answer, TransportError> {
    let route = connector.route(base.url());
    let broken = |error| TransportError::from_reqwest(route.clone(), error);
    let url = base
        .call(call, environment)
        .map_err(|error| TransportError::Broken {
            route: route.clone(),
            source: error.into(),
        })?;
    let request = connector
        .http()
        .post(url)
        .headers(headers)
        .timeout(limits::REQUEST_TIMEOUT);
    let asked = SystemTime::now();
    let mut response = request.json(body).send().await.map_err(broken)?;
    let answered = SystemTime::now();
    let status = response.status();
    if status == http::StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        return Err(TransportError::ProxyCredentials { route });
    }
    let date = response.headers().get(DATE);
    let date = date.and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > limits::MAX_RESPONSE_BYTES {
            break;
        }
    }
    let error = serde_json::from_slice::<ErrorBody>(&body).ok();
    let detail = error.and_then(ErrorBody::into_detail);
    let is_registry = match status.is_success() {
        true => serde_json::from_slice::<serde_json::Map<_, _>>(&body).is_ok(),
        false => detail.is_some(),
    };
    Ok(Answer {
        status: status.as_u16(),
        is_registry,
        code: detail.and_then(|detail| detail.code),
        skew_secs: date.map(|date| skew(date, asked, answered)),
    })
}

impl Answer {
    /// Whether the registry does its work.
    pub(super) fn reached(&self, host: &str) -> Finding {
        match self.status {
            500..=599 => Finding::fail(
                "registry",
                format!("{host} answers with status {}", self.status),
                "see the log of the registry, or of the proxy in front of it",
            ),
            300..=399 => Finding::fail(
                "registry",
                format!("{host} redirects elsewhere, which is never followed"),
                "give the address that it redirects to",
            ),
            _ => Finding::pass("registry", format!("{host} answers")),
        }
    }

    /// Whether both clocks agree.
    pub(super) fn clock(&self) -> Finding {
        clock(self.skew_secs)
    }

    /// What the registry says of the token, and of the environment.
    pub(super) fn authentication(&self, asker: Asker) -> Option<Finding> {
        let role = match asker {
            Asker::Executor => "executor",
            Asker::Harness => "harness",
        };
        let pass = |text: &str| Some(Finding::pass("authentication", text));
        let fail =
            |text: String, remedy: String| Some(Finding::fail("authentication", text, remedy));
        match (self.status, self.code.as_deref()) {
            (401, _) => fail(
                "the registry does not know the token, or it has expired (401)".to_owned(),
                format!("make one with `exec-cloud token create --role {role}`"),
            ),
            (403, _) => fail(
                "the token is for another role or environment (403)".to_owned(),
                format!("make one with `exec-cloud token create --role {role}`"),
            ),
            (429, _) => Some(Finding::warn(
                "authentication",
                "the registry has been asked too often (429)",
                "wait a minute and ask again",
            )),
            (200..=299, _) if self.is_registry => pass("the token is accepted"),
            (404, _) if !self.is_registry => fail(
                "what answers is no registry (404)".to_owned(),
                "check the address, and the path in it".to_owned(),
            ),
            (404, _) if asker == Asker::Executor => {
                pass("the token is accepted; nobody has registered for this environment yet")
            }
            (404, _) => Some(Finding::fail(
                "environment",
                "the registry does not know it",
                "check the id, or start an executor for it",
            )),
            (409, Some(code::ENVIRONMENT_OFFLINE)) => Some(Finding::fail(
                "environment",
                "the token is accepted, but no executor is connected for it",
                "start it, or see its log, or `exec-server doctor` there",
            )),
            (300..=399 | 500..=599, _) => None,
            (status, _) => fail(
                format!("what answers does not do so as a registry does (status {status})"),
                "check that the address is that of a registry".to_owned(),
            ),
        }
    }
}

/// By how much this clock is ahead of the other one, which gave `date` between the two times.
fn skew(date: SystemTime, asked: SystemTime, answered: SystemTime) -> i64 {
    let secs = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    };
    let (date, asked, answered) = (secs(date), secs(asked), secs(answered));
    // The date was right at some time in between, as far as anybody can tell.
    if date < asked {
        asked - date
    } else if date > answered {
        answered - date
    } else {
        0
    }
}

fn clock(skew_secs: Option<i64>) -> Finding {
    let remedy = "set it: `timedatectl set-ntp true`, or the clock of the host";
    match skew_secs {
        None => Finding::skip("clock", "the registry does not tell its time"),
        Some(secs) if secs.unsigned_abs() <= CLOCK_TOLERANCE.as_secs() => {
            Finding::pass("clock", "as the registry's")
        }
        Some(secs) => {
            let direction = if secs > 0 { "ahead of" } else { "behind" };
            let text = format!("{} s {direction} the registry's", secs.unsigned_abs());
            Finding::fail("clock", text, remedy)
        }
    }
}

/// Credentials and signed URLs last for minutes; a minute lost is much of that.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn skew_is_counted_from_the_nearer_end_of_the_exchange() {
        let at = |secs| UNIX_EPOCH + Duration::from_secs(secs);
        for (date, expected) in [(100, 0), (103, 0), (90, 10), (110, -7)] {
            assert_eq!(skew(at(date), at(100), at(103)), expected, "{date}");
        }
    }

    #[test]
    fn a_clock_is_right_within_half_a_minute() {
        for (secs, verdict) in [
            (None, Verdict::Skip),
            (Some(0), Verdict::Pass),
            (Some(30), Verdict::Pass),
            (Some(-30), Verdict::Pass),
            (Some(31), Verdict::Fail),
            (Some(-31), Verdict::Fail),
        ] {
            assert_eq!(clock(secs).verdict, verdict, "{secs:?}");
        }
        assert!(clock(Some(-90)).detail.contains("90 s behind"));
    }
}
