//! Texts of transport errors: with their causes, without the query of the URL.

use std::error::Error;

use exec_proto::rpc::RpcError;
use registry_client::ProxyAddress;
use url::Url;

use crate::events::Chain;

/// A request that got no answer, through `proxy` if that was on the way.
pub(super) fn not_sent(
    url: &Url,
    proxy: Option<&ProxyAddress>,
    error: &reqwest::Error,
) -> RpcError {
    let proxy = proxy.map(|proxy| format!(" through proxy {proxy}"));
    RpcError::internal(format!(
        "http/request failed: error sending request for url ({}){}{}",
        shown(url),
        proxy.unwrap_or_default(),
        causes(error)
    ))
}

/// A failure that has nothing to do with one URL.
pub(super) fn failed(error: &(dyn Error + 'static)) -> RpcError {
    RpcError::internal(format!("http/request failed: {}", Chain(error)))
}

/// The body of an answer that could not be read to its end.
pub(super) fn broken_body(error: reqwest::Error) -> String {
    format!(
        "error decoding response body{}",
        causes(&error.without_url())
    )
}

/// The causes below the library's own text, which would repeat the URL.
fn causes(error: &reqwest::Error) -> String {
    error
        .source()
        .map(|cause| format!(": {}", Chain(cause)))
        .unwrap_or_default()
}

/// The URL without what may be secret in it: user info, query, fragment.
fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), host(url), url.path())
}

fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
