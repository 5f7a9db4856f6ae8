//! The HTTP proxy: requests with absolute targets, and tunnels.
//!
//! A request target must name its host itself, and the `Host` header must agree with it: what was
//! decided about is what the other end is told. Targets in origin form, other schemes, and names of
//! users in targets are refused.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use exec_proto::network::Protocol;
use http::header::{HOST, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpStream, UnixStream};

use super::answer::{Body, blocked_request, blocked_tunnel, opened, text};
use super::decide::{Attempt, Blocked, Decider};
use super::forward::{failed, forward};
use super::gateway::join;
use super::host::Host;
use super::policy::Socket;
use super::resolve::connect;

/// Serves one connection to its end.
pub(super) async fn serve(decider: Arc<Decider>, stream: TcpStream, client: Option<SocketAddr>) {
    let tunnel = Arc::<Mutex<Option<Tunnel>>>::default();
    let service = service_fn(|request| {
        let (decider, tunnel) = (Arc::clone(&decider), Arc::clone(&tunnel));
        async move { Ok::<_, Infallible>(answer(&decider, request, client, &tunnel).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_header_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .half_close(true)
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    let opened = tunnel.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let (Ok(()), Some(tunnel)) = (served, opened)
        && let Ok(upgraded) = tunnel.near.await
    {
        join(TokioIo::new(upgraded), tunnel.far).await;
    }
}

/// A tunnel whose near end is still to be told.
struct Tunnel {
    near: OnUpgrade,
    far: TcpStream,
}

async fn answer(
    decider: &Decider,
    mut request: Request<Incoming>,
    client: Option<SocketAddr>,
    tunnel: &Mutex<Option<Tunnel>>,
) -> Response<Body> {
    if request.method() == Method::CONNECT {
        return match open(decider, &mut request, client).await {
            Ok(opening) => {
                *tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(opening);
                opened()
            }
            Err(response) => response,
        };
    }
    let (host, port) = match target(&request) {
        Ok(target) => target,
        Err(problem) => return text(StatusCode::BAD_REQUEST, problem),
    };
    let path = request.uri().path_and_query().cloned();
    if request.headers().contains_key(UNIX_SOCKET) {
        return unix_socket(decider, request, path, client).await;
    }
    let method = request.method().clone();
    let attempt = Attempt {
        protocol: Protocol::Http,
        host: &host,
        port,
        method: Some(method.as_str()),
        client,
    };
    let addresses = match decider.admit(attempt).await {
        Ok(addresses) => addresses,
        Err(blocked) => return blocked_request(&blocked, &host.to_string(), port),
    };
    let authority = request
        .uri()
        .authority()
        .map(|text| text.as_str().to_owned());
    let Some(authority) = authority.and_then(|text| HeaderValue::try_from(text).ok()) else {
        return text(StatusCode::BAD_REQUEST, NOT_ABSOLUTE);
    };
    request.headers_mut().insert(HOST, authority);
    *request.uri_mut() = origin(path);
    match connect(&addresses).await {
        Ok(stream) => forward(stream, request).await,
        Err(_) => failed(),
    }
}

/// Decides about a tunnel and connects it.
async fn open(
    decider: &Decider,
    request: &mut Request<Incoming>,
    client: Option<SocketAddr>,
) -> Result<Tunnel, Response<Body>> {
    let authority = request.uri().authority();
    let Some((host, port)) = authority.and_then(|text| endpoint(text.as_str(), None)) else {
        let problem = "tunnels need a host and a port";
        return Err(text(StatusCode::BAD_REQUEST, problem));
    };
    let attempt = Attempt {
        protocol: Protocol::HttpsConnect,
        host: &host,
        port,
        method: Some("CONNECT"),
        client,
    };
    let addresses = decider.admit(attempt).await;
    let addresses = addresses.map_err(|blocked| blocked_tunnel(&blocked))?;
    let far = connect(&addresses).await.map_err(|_| failed())?;
    Ok(Tunnel {
        near: hyper::upgrade::on(request),
        far,
    })
}

/// A request for a Unix socket of the host, which the header names by path.
///
/// Only for a command that has the proxy for itself: others on this host may not be allowed to use
/// that socket.
async fn unix_socket(
    decider: &Decider,
    mut request: Request<Incoming>,
    path: Option<PathAndQuery>,
    client: Option<SocketAddr>,
) -> Response<Body> {
    let method = request.method().clone();
    if !decider.isolated {
        decider.tell_socket(method.as_str(), client, Err("unix_socket_unsupported"));
        return text(StatusCode::NOT_IMPLEMENTED, "unix sockets unsupported");
    }
    let mut values = request.headers().get_all(UNIX_SOCKET).iter();
    let (Some(Ok(named)), None) = (values.next().map(HeaderValue::to_str), values.next()) else {
        return text(StatusCode::BAD_REQUEST, "x-unix-socket must be one path");
    };
    let settled = match decider.admit_socket(Path::new(named), method.as_str(), client) {
        Ok(settled) => settled,
        Err(blocked) => return blocked_request(&blocked, SOCKET_HOST, 0),
    };
    *request.uri_mut() = origin(path);
    match connect_socket(&settled).await {
        Ok(stream) => forward(stream, request).await,
        Err(_) => failed(),
    }
}

impl Decider {
    /// Where the socket is that a command means, if it may connect to it.
    fn admit_socket(
        &self,
        named: &Path,
        method: &str,
        client: Option<SocketAddr>,
    ) -> Result<std::path::PathBuf, Blocked> {
        let refused = |reason: &'static str| {
            self.tell_socket(method, client, Err(reason));
            Blocked {
                reason: reason.into(),
                decision: "deny",
                source: PROXY_STATE,
            }
        };
        let settled = match self.policy.socket(named) {
            Socket::Allowed(settled) => settled.to_owned(),
            Socket::Denied => return Err(refused("unix_socket_denied")),
            Socket::Unlisted => return Err(refused("unix_socket_not_allowed")),
        };
        self.tell_socket(method, client, Ok(()));
        let host = Host::Name(SOCKET_HOST.to_owned());
        self.guard(Attempt {
            protocol: Protocol::Http,
            host: &host,
            port: 0,
            method: Some(method),
            client,
        })?;
        Ok(settled)
    }

    fn tell_socket(
        &self,
        method: &str,
        client: Option<SocketAddr>,
        outcome: Result<(), &'static str>,
    ) {
        let (decision, reason) = match outcome {
            Ok(()) => ("allow", "allow"),
            Err(reason) => ("deny", reason),
        };
        self.notices.send(super::notice::Notice {
            scope: "non_domain",
            decision,
            source: PROXY_STATE,
            reason,
            protocol: Protocol::Http,
            host: SOCKET_HOST,
            port: 0,
            method: Some(method),
            client,
            policy_override: false,
        });
    }
}

/// Connects to a socket by a path without links. What became a link since is an error: the command
/// may be able to make one.
async fn connect_socket(path: &Path) -> std::io::Result<UnixStream> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
    use std::os::fd::AsRawFd as _;
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let place = rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve)?;
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode);
    if kind != rustix::fs::FileType::Socket {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let place_name = format!("/proc/self/fd/{}", place.as_raw_fd());
    let connect = UnixStream::connect(place_name);
    tokio::time::timeout(SOCKET_TIME, connect)
        .await
        .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
}

/// The host and port that a request is for.
fn target(request: &Request<Incoming>) -> Result<(Host, u16), &'static str> {
    let uri = request.uri();
    let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
        return Err(NOT_ABSOLUTE);
    };
    if *scheme != Scheme::HTTP {
        return Err("only http can be requested, other protocols need a tunnel");
    }
    let target = endpoint(authority.as_str(), Some(80)).ok_or("invalid request target")?;
    let mut hosts = request.headers().get_all(HOST).iter();
    let agrees = |host: &HeaderValue| {
        let host = host.to_str().ok();
        host.and_then(|host| endpoint(host, Some(80))).as_ref() == Some(&target)
    };
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if agrees(host) => Ok(target),
        (None, None) if request.version() == Version::HTTP_10 => Ok(target),
        _ => Err("Host header does not match request target"),
    }
}

/// Reads `host:port`. Without a default the port must be there.
fn endpoint(text: &str, default: Option<u16>) -> Option<(Host, u16)> {
    let end_of_host = match text.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, port) = text.split_at_checked(end_of_host)?;
    let port = match port.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        None if port.is_empty() => default?,
        _ => return None,
    };
    (port != 0).then_some((Host::parse(host).ok()?, port))
}

fn origin(path: Option<PathAndQuery>) -> Uri {
    path.map_or_else(|| Uri::from_static("/"), Uri::from)
}

/// Names a Unix socket of the host instead of the target's host.
pub(super) const UNIX_SOCKET: HeaderName = HeaderName::from_static("x-unix-socket");

/// What notices and answers call the host of a Unix socket, as the reference does.
const SOCKET_HOST: &str = "unix-socket";
const PROXY_STATE: &str = "proxy_state";

const NOT_ABSOLUTE: &str = "request target must be an absolute URL";

/// The longest head of a request or an answer. Common servers allow 8 to 32 KiB.
pub(super) const MAX_HEAD_BYTES: usize = 64 << 10;

/// The most headers of a request.
const MAX_HEADERS: usize = 128;

/// For the head of a request, and between requests.
const HEAD_TIME: Duration = Duration::from_secs(60);

/// For a connection on this host.
const SOCKET_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_name_a_host_and_a_port() {
        let host = |text| Host::parse(text).unwrap();
        for (text, default, expected) in [
            ("a.com:80", None, Some((host("a.com"), 80))),
            ("a.com", Some(80), Some((host("a.com"), 80))),
            ("[::1]:1", None, Some((host("::1"), 1))),
            ("[::1]", Some(80), Some((host("::1"), 80))),
            ("a.com", None, None),
            ("a.com:", Some(80), None),
            ("a.com:0", Some(80), None),
            ("a.com:65536", Some(80), None),
            ("a.com:+80", Some(80), None),
            ("a.com:80:80", Some(80), None),
            ("user@a.com", Some(80), None),
            ("user:pass@a.com:80", Some(80), None),
            ("[::1]80", Some(80), None),
            ("[::1", Some(80), None),
            ("::1", Some(80), None),
            ("", Some(80), None),
        ] {
            assert_eq!(endpoint(text, default), expected, "{text}");
        }
    }
}
