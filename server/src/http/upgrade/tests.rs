use url::Url;

use super::*;
use crate::clock::Clock as _;
use crate::http::tests::Fixture;
use crate::limits;
use crate::store::TokenId;

/// Opens a URL as a websocket client would, as far as the answer without a network.
async fn open(fixture: &Fixture, url: &str) -> (u16, String) {
    let response = answer_to(fixture, url).await;
    let reason = response.headers().get(REJECTION_REASON_HEADER);
    let reason = reason
        .map(|value| value.to_str().unwrap().to_owned())
        .unwrap_or_default();
    (response.status().as_u16(), reason)
}

async fn answer_to(fixture: &Fixture, url: &str) -> Response<Body> {
    let url = Url::parse(url).unwrap();
    let request = Request::get(format!(
        "{}?{}",
        url.path(),
        url.query().unwrap_or_default()
    ))
    .header("connection", "upgrade")
    .header("upgrade", "websocket")
    .header("sec-websocket-version", "13")
    .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    .body(Body::empty())
    .unwrap();
    fixture.raw(request).await
}

fn text(answer: &serde_json::Value) -> String {
    answer["url"].as_str().unwrap().to_owned()
}

/// The request got past every check of the URL: only the connection to upgrade is missing here.
const PASSED: (u16, &str) = (426, "");

fn is(answer: &(u16, String), expected: (u16, &str)) -> bool {
    (answer.0, answer.1.as_str()) == expected
}

#[test]
fn every_reason_has_a_status() {
    for (reason, status) in [
        (RejectionReason::MissingRole, 400),
        (RejectionReason::MissingVersion, 400),
        (RejectionReason::MissingExpiry, 400),
        (RejectionReason::MissingExecutorRegistrationId, 400),
        (RejectionReason::MissingSignature, 400),
        (RejectionReason::MalformedQuery, 400),
        (RejectionReason::InvalidRole, 400),
        (RejectionReason::InvalidExpiry, 400),
        (RejectionReason::ExtraQueryParam, 400),
        (RejectionReason::InvalidSignature, 401),
        (RejectionReason::Expired, 401),
        (RejectionReason::UnexpectedExecutorRegistrationId, 401),
        (RejectionReason::UnknownRoute, 404),
        (RejectionReason::PodDraining, 503),
        (RejectionReason::RouteUnavailable, 503),
    ] {
        let rejection = rejection(reason);
        assert_eq!(
            (rejection.status.as_u16(), rejection.reason),
            (status, reason)
        );
    }
}

#[tokio::test]
async fn altered_urls_are_rejected_with_status_and_reason() {
    let fixture = Fixture::new().await;
    let url = text(&fixture.register().await);
    let query = Url::parse(&url).unwrap().query().unwrap().to_owned();
    let base = url.split_once('?').unwrap().0;
    for (query, expected) in [
        (String::new(), (400, "missing_role")),
        (
            query.replace("role=environment", "role=owner"),
            (400, "invalid_role"),
        ),
        (
            query.replace("role=environment", "role=harness"),
            (401, "invalid_signature"),
        ),
        (format!("{query}&x=1"), (400, "extra_query_param")),
        (format!("{query}&x"), (400, "malformed_query")),
    ] {
        let answer = open(&fixture, &format!("{base}?{query}")).await;
        assert!(is(&answer, expected), "{query}: {answer:?}");
    }
    let other = url.replace("/env1?", "/env2?");
    assert!(is(
        &open(&fixture, &other).await,
        (401, "invalid_signature")
    ));
    for path in [
        "/cloud-agent/default/ws/environment/",
        "/cloud-agent/x",
        "/",
    ] {
        let answer = open(&fixture, &format!("wss://exec.example{path}?{query}")).await;
        assert!(is(&answer, (404, "unknown_route")), "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn executor_url_works_again_until_it_expires() {
    let fixture = Fixture::new().await;
    let url = text(&fixture.register().await);
    for _ in 0..2 {
        let answer = open(&fixture, &url).await;
        assert!(is(&answer, PASSED), "{answer:?}");
    }
    fixture.clock.advance(limits::EXECUTOR_URL_TTL);
    assert!(is(&open(&fixture, &url).await, (401, "expired")));
}

#[tokio::test]
async fn superseded_executor_registers_again_only_if_the_newer_one_is_gone() {
    let fixture = Fixture::new().await;
    let old = text(&fixture.register().await);
    fixture.register().await;
    let reason = "unexpected_executor_registration_id";
    assert!(is(&open(&fixture, &old).await, (401, reason)));
    let online = fixture.go_online().await;
    assert!(is(&open(&fixture, &old).await, (503, reason)));
    drop(online);
    assert!(is(&open(&fixture, &old).await, (401, reason)));
}

#[tokio::test]
async fn executor_url_ends_with_the_token_that_registered() {
    let fixture = Fixture::new().await;
    let url = text(&fixture.register().await);
    let id = TokenId::from(fixture.executor[4..20].to_owned());
    fixture
        .service
        .store
        .revoke_token(&id, fixture.clock.now())
        .await
        .unwrap();
    assert!(is(&open(&fixture, &url).await, (401, "expired")));
}

#[tokio::test]
async fn harness_url_expires_and_ends_with_its_registration() {
    let fixture = Fixture::new().await;
    fixture.register().await;
    let _online = fixture.go_online().await;
    let bundle_url = async || text(&fixture.connect().await.1);

    let expired = bundle_url().await;
    fixture.clock.advance(limits::HARNESS_URL_TTL);
    assert!(is(&open(&fixture, &expired).await, (401, "expired")));

    let stale = bundle_url().await;
    let orphaned = bundle_url().await;
    fixture.register().await;
    let reason = "unexpected_executor_registration_id";
    assert!(is(&open(&fixture, &stale).await, (401, reason)));
    let _online = fixture.go_online().await;
    assert!(is(&open(&fixture, &orphaned).await, (401, reason)));
}

#[tokio::test]
async fn harness_is_told_when_the_executor_left() {
    let fixture = Fixture::new().await;
    fixture.register().await;
    let online = fixture.go_online().await;
    let url = text(&fixture.connect().await.1);
    drop(online);
    assert!(is(&open(&fixture, &url).await, (503, "route_unavailable")));
    let _online = fixture.go_online().await;
    assert!(
        is(&open(&fixture, &url).await, PASSED),
        "a bundle is not used up by that"
    );
}

#[tokio::test]
async fn draining_server_sends_everybody_away() {
    let fixture = Fixture::new().await;
    let url = text(&fixture.register().await);
    fixture.service.draining.cancel();
    assert!(is(&open(&fixture, &url).await, (503, "pod_draining")));
}

#[tokio::test]
async fn database_failure_makes_the_executor_come_back() {
    let fixture = Fixture::new().await;
    let url = text(&fixture.register().await);
    fixture.service.store.close().await;
    assert!(is(&open(&fixture, &url).await, (503, "route_unavailable")));
}

#[tokio::test]
async fn many_forged_urls_are_answered_429() {
    let fixture = Fixture::new().await;
    let url = text(&fixture.register().await).replace("version=1", "version=2");
    let mut last = answer_to(&fixture, &url).await;
    for _ in 0..limits::FAILURE_BURST * 4 {
        if last.status() == 429 {
            break;
        }
        assert_eq!(last.headers().get("retry-after"), None);
        last = answer_to(&fixture, &url).await;
    }
    assert_eq!(last.status(), 429);
    assert_eq!(last.headers()[REJECTION_REASON_HEADER], "invalid_signature");
    assert_eq!(last.headers()["retry-after"], "30");
    let good = text(&fixture.register().await);
    assert!(is(&open(&fixture, &good).await, PASSED));
}
