//! Checks the parameters of a request and turns them into what is sent.

use bytes::Bytes;
use exec_proto::{
    http::{RequestHeader, RequestParams},
    rpc::RpcError,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use url::Url;

use super::variables::HeaderVariables;

/// A request that can be sent.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    /// Headers that carry a variable of the executor.
    pub(super) from_variables: Vec<HeaderName>,
    pub(super) body: Option<Bytes>,
}

/// Checks `params`, in the order method, URL, headers.
pub(super) fn check(
    params: RequestParams,
    variables: &HeaderVariables,
) -> Result<Checked, RpcError> {
    let method = Method::from_bytes(params.method.as_bytes())
        .map_err(|error| invalid(format!("method is invalid: {error}")))?;
    let url =
        Url::parse(&params.url).map_err(|error| invalid(format!("url is invalid: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid(format!(
            "only supports http and https URLs, got {}",
            url.scheme()
        )));
    }
    let mut headers = HeaderMap::with_capacity(params.headers.len());
    let mut from_variables = Vec::new();
    let knows_length = params.stream_request_body;
    for given in params.headers {
        let name = HeaderName::from_bytes(given.name.as_bytes())
            .map_err(|error| invalid(format!("header name is invalid: {error}")))?;
        let (value, is_variable) = header_value(given, variables)?;
        if is_variable {
            from_variables.push(name.clone());
        }
        // The body decides both; a wrong length would make the server wait for the rest of it. Of a
        // body that is still to come, the client alone knows the length.
        if name == header::TRANSFER_ENCODING || (name == header::CONTENT_LENGTH && !knows_length) {
            continue;
        }
        headers
            .try_append(name, value)
            .map_err(|_| invalid("has too many headers".to_owned()))?;
    }
    Ok(Checked {
        method,
        url,
        headers,
        from_variables,
        body: params.body_base64,
    })
}

fn header_value(
    given: RequestHeader,
    variables: &HeaderVariables,
) -> Result<(HeaderValue, bool), RpcError> {
    let RequestHeader {
        name,
        value,
        value_env_var,
    } = given;
    let mut bytes = value.into_bytes();
    if let Some(variable) = &value_env_var {
        bytes.extend_from_slice(&variables.value(&name, variable)?);
    }
    let mut value = HeaderValue::from_bytes(&bytes)
        .map_err(|error| invalid(format!("header value is invalid for {name}: {error}")))?;
    value.set_sensitive(value_env_var.is_some());
    Ok((value, value_env_var.is_some()))
}

fn invalid(text: String) -> RpcError {
    RpcError::invalid_params(format!("http/request {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(method: &str, url: &str, headers: &[(&str, &str)]) -> RequestParams {
        RequestParams {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: headers
                .iter()
                .map(|(name, value)| RequestHeader {
                    name: (*name).to_owned(),
                    value: (*value).to_owned(),
                    value_env_var: None,
                })
                .collect(),
            body_base64: None,
            timeout_ms: None,
            redirect_policy: exec_proto::http::RedirectPolicy::Follow,
            request_id: "r".to_owned(),
            stream_response: false,
            stream_request_body: false,
        }
    }

    fn checked(params: RequestParams) -> Result<Checked, RpcError> {
        check(params, &HeaderVariables::new(|_| None, []))
    }

    #[test]
    fn mistakes_have_the_texts_of_the_reference() {
        let long_name = "x".repeat(70_000);
        for (params, expected) in [
            (
                params("GE T", "http://h", &[]),
                "http/request method is invalid: invalid HTTP method",
            ),
            (
                params("", "http://h", &[]),
                "http/request method is invalid: invalid HTTP method",
            ),
            (
                params("GET", "/x", &[]),
                "http/request url is invalid: relative URL without a base",
            ),
            (
                params("GET", "http://", &[]),
                "http/request url is invalid: empty host",
            ),
            (
                params("GET", "http://h:x", &[]),
                "http/request url is invalid: invalid port number",
            ),
            (
                params("GET", "ftp://h", &[]),
                "http/request only supports http and https URLs, got ftp",
            ),
            (
                params("GET", "http://h", &[("bad name", "x")]),
                "http/request header name is invalid: invalid HTTP header name",
            ),
            (
                params("GET", "http://h", &[(&long_name, "x")]),
                "http/request header name is invalid: invalid HTTP header name",
            ),
            (
                params("GET", "http://h", &[("X-A", "l1\r\nl2")]),
                "http/request header value is invalid for X-A: failed to parse header value",
            ),
        ] {
            let error = checked(params).unwrap_err();
            assert_eq!((error.code, error.message.as_str()), (-32602, expected));
        }
    }

    #[test]
    fn order_repetition_and_case_of_the_method_are_kept() {
        let headers = [
            ("B", "1"),
            ("a", "2"),
            ("B", "é"),
            ("Content-Length", "999"),
        ];
        let checked = checked(params("get", "http://h/?q", &headers)).unwrap();
        assert_eq!(checked.method.as_str(), "get");
        let sent: Vec<_> = checked
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        assert_eq!(sent, [("b", &b"1"[..]), ("b", "é".as_bytes()), ("a", b"2")]);
    }
}
