//! The SOCKS5 proxy: connections of streams, without authentication.
//!
//! Names are resolved here. Datagrams are not carried, whatever the request allows: their command is
//! answered as unknown.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use exec_proto::network::Protocol;
use fast_socks5::server::Socks5ServerProtocol;
use fast_socks5::server::states::CommandRead;
use fast_socks5::util::target_addr::TargetAddr;
use fast_socks5::{ReplyError, Socks5Command};
use tokio::net::TcpStream;

use super::decide::{Attempt, Decider};
use super::gateway::join;
use super::host::Host;
use super::resolve::connect;

/// Serves one connection to its end.
pub(super) async fn serve(decider: Arc<Decider>, stream: TcpStream, client: Option<SocketAddr>) {
    let asked = async {
        let opened = Socks5ServerProtocol::accept_no_auth(stream).await.ok()?;
        opened.read_command().await.ok()
    };
    let Ok(Some((asked, command, target))) = tokio::time::timeout(HANDSHAKE_TIME, asked).await
    else {
        return;
    };
    if command != Socks5Command::TCPConnect {
        return refuse(asked, ReplyError::CommandNotSupported).await;
    }
    let (host, port) = match &target {
        TargetAddr::Ip(address) => (Host::parse(&address.ip().to_string()), address.port()),
        TargetAddr::Domain(name, port) => (Host::parse(name), *port),
    };
    let (Ok(host), 1..) = (host, port) else {
        return refuse(asked, ReplyError::ConnectionNotAllowed).await;
    };
    let attempt = Attempt {
        protocol: Protocol::Socks5Tcp,
        host: &host,
        port,
        method: None,
        client,
    };
    let Ok(addresses) = decider.admit(attempt).await else {
        return refuse(asked, ReplyError::ConnectionNotAllowed).await;
    };
    let far = match connect(&addresses).await {
        Ok(far) => far,
        Err(err) => return refuse(asked, reply(&err)).await,
    };
    // Which of the executor's addresses is used is nobody's business.
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    if let Ok(near) = asked.reply_success(nowhere).await {
        join(near, far).await;
    }
}

async fn refuse(asked: Socks5ServerProtocol<TcpStream, CommandRead>, reply: ReplyError) {
    // Whoever is gone misses nothing.
    let _ = asked.reply_error(&reply).await;
}

fn reply(err: &io::Error) -> ReplyError {
    match err.kind() {
        io::ErrorKind::ConnectionRefused => ReplyError::ConnectionRefused,
        io::ErrorKind::HostUnreachable => ReplyError::HostUnreachable,
        io::ErrorKind::NetworkUnreachable => ReplyError::NetworkUnreachable,
        io::ErrorKind::TimedOut => ReplyError::ConnectionTimeout,
        _ => ReplyError::GeneralFailure,
    }
}

/// From the connection to its command.
const HANDSHAKE_TIME: Duration = Duration::from_secs(30);
