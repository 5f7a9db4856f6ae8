//! Documents that are fetched, and those that are not taken.

use std::time::Duration;

use registry_client::{FetchError, TransportError};
use url::Url;

use crate::support::{PATIENCE, Server, chain, connector, http_answer};

const LIMIT: usize = 1_000;

async fn fetch(server: &Server, timeout: Duration) -> Result<Vec<u8>, FetchError> {
    let url = Url::parse(&server.url("http")).expect("a url");
    let url = url.join("/keys?sig=s3cr3t").expect("a url");
    let connector = connector();
    connector.fetch(&url, LIMIT, timeout).await
}

#[tokio::test]
async fn document_up_to_the_limit_is_returned() {
    let body = "x".repeat(LIMIT);
    let server = Server::canned(http_answer("200 OK", "", &body)).await;
    let found = fetch(&server, PATIENCE).await.expect("fetched");
    assert_eq!(found, body.as_bytes());

    let server = Server::canned(http_answer("200 OK", "", &format!("{body}x"))).await;
    let error = fetch(&server, PATIENCE).await.expect_err("too large");
    assert!(
        matches!(error, FetchError::TooLarge { limit: LIMIT, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn redirects_and_other_answers_are_errors_that_do_not_show_the_url() {
    let elsewhere = "location: http://127.0.0.1:1/\r\n";
    for (status, headers) in [
        ("302 Found", elsewhere),
        ("204 No Content", ""),
        ("404 Not Found", ""),
        ("500 Internal Server Error", ""),
    ] {
        let server = Server::canned(http_answer(status, headers, "")).await;
        let error = fetch(&server, PATIENCE).await.expect_err("no document");
        let FetchError::Status { status: found, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(status.starts_with(&found.to_string()), "{error:?}");
        assert!(!chain(&error).contains("s3cr3t"), "{error:?}");
    }
}

#[tokio::test]
async fn server_that_does_not_answer_is_given_up() {
    let server = Server::canned("").await;
    let error = fetch(&server, Duration::from_millis(50))
        .await
        .expect_err("no answer");
    let FetchError::Transport(TransportError::Timeout { .. }) = &error else {
        panic!("{error:?}");
    };
    assert!(!chain(&error).contains("s3cr3t"), "{error:?}");
}
