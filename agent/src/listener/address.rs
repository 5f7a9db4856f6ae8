//! What `--listen` accepts.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    str::FromStr,
};

/// Where the executor listens when it does not dial out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenAddress {
    /// A websocket server on a literal address; port 0 lets the system choose.
    WebSocket(SocketAddr),
    /// One connection over standard input and output.
    Stdio,
}

impl ListenAddress {
    /// Whether a peer on another machine could reach this address.
    pub fn is_exposed(&self) -> bool {
        matches!(self, Self::WebSocket(address) if !address.ip().to_canonical().is_loopback())
    }
}

impl Default for ListenAddress {
    /// A free port on the IPv4 loopback address.
    fn default() -> Self {
        Self::WebSocket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    /// Parses `ws://IP:PORT`, `stdio` or `stdio://`.
    ///
    /// # Errors
    ///
    /// [`AddressError`] for a host name, a path, a missing port or another scheme.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if matches!(text, "stdio" | "stdio://") {
            return Ok(Self::Stdio);
        }
        match text.strip_prefix("ws://") {
            Some(address) => address
                .parse()
                .map(Self::WebSocket)
                .map_err(|_| AddressError::Invalid(text.to_owned())),
            None => Err(AddressError::Unsupported(text.to_owned())),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WebSocket(address) => write!(f, "ws://{address}"),
            Self::Stdio => f.write_str("stdio"),
        }
    }
}

/// A `--listen` value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The scheme is right, the rest is not a literal address and port.
    #[error("invalid websocket --listen URL `{0}`; expected `ws://IP:PORT`")]
    Invalid(String),
    /// Another scheme.
    #[error("unsupported --listen URL `{0}`; expected `ws://IP:PORT` or `stdio`")]
    Unsupported(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_addresses_and_stdio_are_accepted() {
        for (text, shown) in [
            ("ws://127.0.0.1:0", "ws://127.0.0.1:0"),
            ("ws://[::1]:7001", "ws://[::1]:7001"),
            ("stdio", "stdio"),
            ("stdio://", "stdio"),
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn host_names_paths_and_missing_ports_are_refused() {
        for text in [
            "ws://localhost:1",
            "ws://127.0.0.1:1/",
            "ws://127.0.0.1",
            "ws://",
            "ws://127.0.0.1:99999",
        ] {
            let error = text.parse::<ListenAddress>().unwrap_err().to_string();
            assert_eq!(
                error,
                format!("invalid websocket --listen URL `{text}`; expected `ws://IP:PORT`")
            );
        }
    }

    #[test]
    fn other_schemes_are_refused() {
        for text in ["wss://127.0.0.1:1", "http://127.0.0.1:1", "127.0.0.1:1", ""] {
            let error = text.parse::<ListenAddress>().unwrap_err().to_string();
            assert_eq!(
                error,
                format!("unsupported --listen URL `{text}`; expected `ws://IP:PORT` or `stdio`")
            );
        }
    }

    #[test]
    fn only_loopback_is_not_exposed() {
        for (text, exposed) in [
            ("ws://127.0.0.1:0", false),
            ("ws://127.9.9.9:0", false),
            ("ws://[::1]:0", false),
            ("ws://[::ffff:127.0.0.1]:0", false),
            ("stdio", false),
            ("ws://0.0.0.0:0", true),
            ("ws://[::]:0", true),
            ("ws://192.0.2.1:0", true),
        ] {
            assert_eq!(
                text.parse::<ListenAddress>().unwrap().is_exposed(),
                exposed,
                "{text}"
            );
        }
    }
}
