//! What a redirect does to a request.
//!
//! | status | method and body |
//! |---|---|
//! | 301, 302 | POST becomes GET without a body; others stay |
//! | 303 | GET without a body; HEAD stays, without a body |
//! | 307, 308 | stay |
//!
//! Across origins `authorization`, cookies, a given `host` and headers that carry a variable of the
//! executor are left out; other headers stay. A `referer` says where the redirect came from, without
//! user info and fragment, and not from `https` to `http`.

use bytes::Bytes;
use exec_proto::rpc::RpcError;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use url::Url;

use super::request::Checked;

/// One request on the way to the final answer.
#[derive(Debug)]
pub(super) struct Hop {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    from_variables: Vec<HeaderName>,
}

/// What follows an answer.
#[derive(Debug)]
pub(super) enum Next {
    /// It is the final one.
    Final,
    /// This request.
    Follow(Box<Hop>),
}

impl From<Checked> for Hop {
    fn from(checked: Checked) -> Self {
        let Checked {
            method,
            url,
            headers,
            from_variables,
            body,
        } = checked;
        Self {
            method,
            url,
            headers,
            body,
            from_variables,
        }
    }
}

/// Decides what follows the answer to `hop`. A redirect without a usable location is final.
pub(super) fn next(mut hop: Hop, status: StatusCode, answer: &HeaderMap) -> Result<Next, RpcError> {
    let drops_body = match status.as_u16() {
        301 | 302 => hop.method == Method::POST,
        303 => true,
        307 | 308 => false,
        _ => return Ok(Next::Final),
    };
    let Some(mut target) = location(&hop.url, answer) else {
        return Ok(Next::Final);
    };
    if !matches!(target.scheme(), "http" | "https") {
        return Err(RpcError::internal(format!(
            "http/request failed: redirect target uses unsupported URL scheme: {}",
            target.scheme()
        )));
    }
    // A fragment is inherited, though it is never sent.
    if target.fragment().is_none() {
        target.set_fragment(hop.url.fragment());
    }
    if drops_body {
        if hop.method != Method::HEAD {
            hop.method = Method::GET;
        }
        hop.body = None;
        for name in [
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
            header::CONTENT_LENGTH,
        ] {
            hop.headers.remove(name);
        }
    }
    if hop.url.origin() != target.origin() {
        let bound_to_origin = [
            header::AUTHORIZATION,
            header::COOKIE,
            header::PROXY_AUTHORIZATION,
            header::WWW_AUTHENTICATE,
            header::HOST,
        ];
        for name in bound_to_origin
            .into_iter()
            .chain(std::mem::take(&mut hop.from_variables))
        {
            hop.headers.remove(name);
        }
    }
    match referer(&hop.url, &target) {
        Some(referer) => hop.headers.insert(header::REFERER, referer),
        None => hop.headers.remove(header::REFERER),
    };
    hop.url = target;
    Ok(Next::Follow(Box::new(hop)))
}

fn location(base: &Url, answer: &HeaderMap) -> Option<Url> {
    let location = answer.get(header::LOCATION)?;
    base.join(str::from_utf8(location.as_bytes()).ok()?).ok()
}

fn referer(from: &Url, to: &Url) -> Option<HeaderValue> {
    if from.scheme() == "https" && to.scheme() == "http" {
        return None;
    }
    let mut from = from.clone();
    let _ = from.set_username("");
    let _ = from.set_password(None);
    from.set_fragment(None);
    HeaderValue::from_str(from.as_str()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(method: Method, url: &str) -> Hop {
        let mut headers = HeaderMap::new();
        for name in [
            "authorization",
            "cookie",
            "host",
            "content-type",
            "x-kept",
            "x-variable",
        ] {
            headers.insert(name, HeaderValue::from_static("v"));
        }
        Hop {
            method,
            url: url.parse().unwrap(),
            headers,
            body: Some(Bytes::from_static(b"data")),
            from_variables: vec![HeaderName::from_static("x-variable")],
        }
    }

    fn follow(hop: Hop, status: u16, location: &str) -> Option<Hop> {
        let mut answer = HeaderMap::new();
        answer.insert(header::LOCATION, location.parse().unwrap());
        match next(hop, StatusCode::from_u16(status).unwrap(), &answer).unwrap() {
            Next::Final => None,
            Next::Follow(hop) => Some(*hop),
        }
    }

    #[test]
    fn method_and_body_follow_the_status() {
        for (status, method, expected, has_body) in [
            (301, Method::POST, Method::GET, false),
            (302, Method::POST, Method::GET, false),
            (302, Method::PUT, Method::PUT, true),
            (303, Method::POST, Method::GET, false),
            (303, Method::PUT, Method::GET, false),
            (303, Method::HEAD, Method::HEAD, false),
            (307, Method::POST, Method::POST, true),
            (308, Method::DELETE, Method::DELETE, true),
        ] {
            let followed = follow(hop(method, "http://h/from"), status, "/to").unwrap();
            assert_eq!(
                (followed.method, followed.body.is_some()),
                (expected, has_body),
                "{status}"
            );
            assert_eq!(followed.url.as_str(), "http://h/to");
        }
    }

    #[test]
    fn other_statuses_and_bad_locations_are_final() {
        assert!(follow(hop(Method::GET, "http://h/"), 200, "/to").is_none());
        assert!(follow(hop(Method::GET, "http://h/"), 304, "/to").is_none());
        assert!(follow(hop(Method::GET, "http://h/"), 302, "http://[").is_none());
        let answer = HeaderMap::new();
        assert!(matches!(
            next(hop(Method::GET, "http://h/"), StatusCode::FOUND, &answer).unwrap(),
            Next::Final
        ));
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        let names = |hop: &Hop| {
            let mut names: Vec<_> = hop
                .headers
                .keys()
                .map(|name| name.as_str().to_owned())
                .collect();
            names.sort();
            names
        };
        let same = follow(hop(Method::GET, "http://h:80/"), 302, "http://h/x").unwrap();
        assert_eq!(
            names(&same),
            [
                "authorization",
                "content-type",
                "cookie",
                "host",
                "referer",
                "x-kept",
                "x-variable"
            ]
        );
        for other in ["http://h:81/x", "https://h/x", "http://other/x"] {
            let crossed = follow(hop(Method::GET, "http://h/"), 302, other).unwrap();
            assert_eq!(
                names(&crossed),
                ["content-type", "referer", "x-kept"],
                "{other}"
            );
            let back = follow(crossed, 302, "http://h/").unwrap();
            assert!(
                !names(&back)
                    .iter()
                    .any(|name| name == "authorization" || name == "x-variable")
            );
        }
    }

    #[test]
    fn referer_has_no_credentials_and_does_not_leave_tls() {
        let followed = follow(hop(Method::GET, "https://u:p@h/a#f"), 302, "https://h/b").unwrap();
        assert_eq!(followed.headers[header::REFERER], "https://h/a");
        let down = follow(hop(Method::GET, "https://h/a"), 302, "http://h/b").unwrap();
        assert!(!down.headers.contains_key(header::REFERER));
    }

    #[test]
    fn other_schemes_are_an_error() {
        let mut answer = HeaderMap::new();
        answer.insert(header::LOCATION, HeaderValue::from_static("ftp://h/"));
        let error = next(hop(Method::GET, "http://h/"), StatusCode::FOUND, &answer).unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (
                -32603,
                "http/request failed: redirect target uses unsupported URL scheme: ftp"
            )
        );
    }
}
