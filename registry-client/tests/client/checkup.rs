//! Checkups: what each kind of answer comes to.

use std::time::SystemTime;

use registry_client::checkup::{self, Asker, Report, Verdict};
use registry_client::{Credential, RegistryUrl, StaticBearer};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers};

use crate::support::{TOKEN, connector, environment, key};

async fn asked(answer: ResponseTemplate, asker: Asker) -> Report {
    let server = MockServer::start().await;
    Mock::given(matchers::any())
        .respond_with(answer)
        .mount(&server)
        .await;
    let credential = StaticBearer::new(Credential::bearer(TOKEN).expect("usable"));
    let base = RegistryUrl::parse(&server.uri()).expect("usable");
    let (environment, key) = (environment("env1"), key(1));
    let connector = connector();
    let asked = checkup::registry(
        &connector,
        &base,
        Some(&credential),
        &environment,
        &key,
        asker,
    );
    Report(asked.await)
}

fn verdict(report: &Report, check: &str) -> Option<Verdict> {
    let mut all = report.0.iter().filter(|finding| finding.check == check);
    all.next().map(|finding| finding.verdict)
}

#[tokio::test]
async fn each_status_has_its_finding() {
    use Verdict::{Fail, Pass, Warn};
    let error = serde_json::json!({"error": {"code": "any"}});
    for (asker, status, check, expected) in [
        (Asker::Executor, 200, "authentication", Pass),
        (Asker::Executor, 404, "authentication", Pass),
        (Asker::Executor, 201, "authentication", Pass),
        (Asker::Executor, 401, "authentication", Fail),
        (Asker::Executor, 403, "authentication", Fail),
        (Asker::Executor, 400, "authentication", Fail),
        (Asker::Executor, 429, "authentication", Warn),
        (Asker::Executor, 503, "registry", Fail),
        (Asker::Executor, 308, "registry", Fail),
        (Asker::Executor, 407, "proxy", Fail),
        (Asker::Harness, 200, "authentication", Pass),
        (Asker::Harness, 401, "authentication", Fail),
        (Asker::Harness, 404, "environment", Fail),
    ] {
        let answer = ResponseTemplate::new(status).set_body_json(&error);
        let report = asked(answer, asker).await;
        assert_eq!(
            verdict(&report, check),
            Some(expected),
            "{status} {report:?}"
        );
        assert_eq!(report.has_failed(), expected == Fail, "{status}");
        assert!(!report.text().contains(TOKEN));
    }
    let offline = serde_json::json!({"error": {"code": "environment_offline"}});
    let answer = ResponseTemplate::new(409).set_body_json(offline);
    let report = asked(answer, Asker::Harness).await;
    assert_eq!(verdict(&report, "environment"), Some(Fail), "{report:?}");
}

#[tokio::test]
async fn a_web_server_is_no_registry() {
    for (status, body) in [(200, "<html>"), (404, "<html>"), (404, "{}"), (405, "")] {
        let answer = ResponseTemplate::new(status).set_body_string(body);
        let report = asked(answer, Asker::Executor).await;
        assert_eq!(
            verdict(&report, "authentication"),
            Some(Verdict::Fail),
            "{status} {report:?}"
        );
    }
}

#[tokio::test]
async fn without_a_token_the_rest_is_told() {
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(401).insert_header("date", "Thu, 01 Jan 1970 00:00:00 GMT");
    let mock = Mock::given(matchers::any()).respond_with(answer);
    mock.mount(&server).await;
    let base = RegistryUrl::parse(&server.uri()).expect("usable");
    let (environment, key) = (environment("env1"), key(1));
    let connector = connector();
    let asked = checkup::registry(&connector, &base, None, &environment, &key, Asker::Executor);
    let report = Report(asked.await);
    assert_eq!(verdict(&report, "registry"), Some(Verdict::Pass));
    assert_eq!(verdict(&report, "clock"), Some(Verdict::Fail));
    assert_eq!(verdict(&report, "authentication"), None, "{report:?}");
}

#[tokio::test]
async fn clock_that_is_wrong_is_told() {
    for (ahead_secs, expected) in [(0, Verdict::Pass), (600, Verdict::Fail)] {
        let date = SystemTime::now() + std::time::Duration::from_secs(ahead_secs);
        let date = httpdate::fmt_http_date(date);
        let answer = ResponseTemplate::new(200).insert_header("date", date.as_str());
        let report = asked(answer, Asker::Executor).await;
        assert_eq!(verdict(&report, "clock"), Some(expected), "{report:?}");
    }
}
