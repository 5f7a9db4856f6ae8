//! The HTTP answers of the websocket listener, as a pure function of the request.
//!
//! Order of checks: `Origin` (browsers have no business here, whatever the path), path, method,
//! upgrade headers, authentication. Not responsible for sockets.

use std::{borrow::Cow, time::SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::auth::WebSocketAuth;

/// What to do with one HTTP request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Answer 101 with this `Sec-WebSocket-Accept` value.
    Upgrade(HeaderValue),
    /// Answer with this status and text.
    Reply(StatusCode, Cow<'static, str>),
}

impl Answer {
    const fn text(status: StatusCode, text: &'static str) -> Self {
        Self::Reply(status, Cow::Borrowed(text))
    }
}

/// Decides the answer to `request`.
pub(super) fn answer(
    request: &Parts,
    auth: Option<&WebSocketAuth>,
    is_ready: bool,
    now: SystemTime,
) -> Answer {
    // Web pages can open websockets to loopback addresses; the header gives them away.
    if request.headers.contains_key(header::ORIGIN) {
        return Answer::text(StatusCode::FORBIDDEN, "");
    }
    match request.uri.path() {
        "/readyz" => match request.method {
            Method::GET | Method::HEAD if is_ready => Answer::text(StatusCode::OK, ""),
            Method::GET | Method::HEAD => Answer::text(StatusCode::SERVICE_UNAVAILABLE, ""),
            _ => Answer::text(StatusCode::METHOD_NOT_ALLOWED, ""),
        },
        "/" => upgrade(request, auth, now),
        _ => Answer::text(StatusCode::NOT_FOUND, ""),
    }
}

fn upgrade(request: &Parts, auth: Option<&WebSocketAuth>, now: SystemTime) -> Answer {
    let headers = &request.headers;
    if request.method != Method::GET {
        return Answer::text(
            StatusCode::METHOD_NOT_ALLOWED,
            "Request method must be `GET`",
        );
    }
    if !lists(headers, &header::CONNECTION, "upgrade") {
        return bad_request("Connection header did not include 'upgrade'");
    }
    if !lists(headers, &header::UPGRADE, "websocket") {
        return bad_request("`Upgrade` header did not include 'websocket'");
    }
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return bad_request("`Sec-WebSocket-Version` header did not include '13'");
    }
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
        return bad_request("`Sec-WebSocket-Key` header missing");
    };
    if let Some(auth) = auth
        && let Err(refusal) = auth.check(headers, now)
    {
        return Answer::Reply(StatusCode::UNAUTHORIZED, refusal.to_string().into());
    }
    match HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        Ok(accept) => Answer::Upgrade(accept),
        Err(_) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, ""),
    }
}

const fn bad_request(text: &'static str) -> Answer {
    Answer::text(StatusCode::BAD_REQUEST, text)
}

/// Whether a comma-separated header contains `token`, in any case, in any of its lines.
fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Parts {
        let mut builder = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    const UPGRADE: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn without(name: &str) -> Vec<(&'static str, &'static str)> {
        UPGRADE
            .into_iter()
            .filter(|(key, _)| *key != name)
            .collect()
    }

    #[test]
    fn answers_follow_the_table() {
        let mut with_origin = UPGRADE.to_vec();
        with_origin.push(("origin", "null"));
        let mut old_version = without("sec-websocket-version");
        old_version.push(("sec-websocket-version", "8"));
        for (method, path, headers, status, text) in [
            ("GET", "/readyz", vec![], 200, ""),
            ("POST", "/readyz", vec![], 405, ""),
            ("GET", "/readyz", vec![("origin", "http://x")], 403, ""),
            ("GET", "/healthz", vec![], 404, ""),
            ("GET", "/nothing", UPGRADE.to_vec(), 404, ""),
            ("GET", "/nothing", vec![("origin", "")], 403, ""),
            ("GET", "/", with_origin, 403, ""),
            (
                "GET",
                "/",
                vec![],
                400,
                "Connection header did not include 'upgrade'",
            ),
            (
                "POST",
                "/",
                UPGRADE.to_vec(),
                405,
                "Request method must be `GET`",
            ),
            (
                "GET",
                "/",
                without("upgrade"),
                400,
                "`Upgrade` header did not include 'websocket'",
            ),
            (
                "GET",
                "/",
                old_version,
                400,
                "`Sec-WebSocket-Version` header did not include '13'",
            ),
            (
                "GET",
                "/",
                without("sec-websocket-key"),
                400,
                "`Sec-WebSocket-Key` header missing",
            ),
        ] {
            assert_eq!(
                answer(
                    &request(method, path, &headers),
                    None,
                    true,
                    SystemTime::UNIX_EPOCH
                ),
                Answer::Reply(StatusCode::from_u16(status).unwrap(), text.into()),
                "{method} {path} {headers:?}"
            );
        }
    }

    #[test]
    fn what_is_not_ready_says_so() {
        let answer = answer(
            &request("GET", "/readyz", &[]),
            None,
            false,
            SystemTime::UNIX_EPOCH,
        );
        assert_eq!(answer, Answer::text(StatusCode::SERVICE_UNAVAILABLE, ""));
    }

    #[test]
    fn upgrade_answers_the_accept_key_of_the_rfc_and_ignores_the_query() {
        for path in ["/", "/?token=x"] {
            assert_eq!(
                answer(
                    &request("GET", path, &UPGRADE),
                    None,
                    false,
                    SystemTime::UNIX_EPOCH
                ),
                Answer::Upgrade(HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
            );
        }
    }
}
