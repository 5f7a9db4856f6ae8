//! Words for systemd (`sd_notify(3)`).
//!
//! One datagram to the socket that `NOTIFY_SOCKET` names. Without that variable, or when nobody listens,
//! nothing happens: a program must not depend on being watched.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Speaks to systemd, if it listens.
#[derive(Debug)]
pub struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// Looks up where to speak to, by the variables of the environment that `variable` looks up.
    pub fn new(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Self {
        let address = variable("NOTIFY_SOCKET").and_then(|name| address(&name));
        let socket = address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address)));
        // Somebody else's watchdog, if the variable was passed on.
        let is_ours = variable("WATCHDOG_PID")
            .is_none_or(|pid| pid.to_str() == Some(std::process::id().to_string().as_str()));
        let watchdog = variable("WATCHDOG_USEC")
            .filter(|_| is_ours)
            .and_then(|micros| micros.to_str()?.parse().ok())
            .filter(|micros| *micros > 0)
            .map(Duration::from_micros);
        Self { socket, watchdog }
    }

    /// Everything works.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The end has begun.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// A line for `systemctl status`.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", text.replace('\n', " ")));
    }

    /// Says again and again that the program lives, twice as often as is asked for. Never returns; with
    /// no watchdog it does nothing.
    ///
    /// It is a task of the program's own runtime, so a runtime that hangs is silent.
    pub async fn keep_alive(&self) -> Infallible {
        let Some(watchdog) = self.watchdog else {
            return std::future::pending().await;
        };
        let mut interval = tokio::time::interval(watchdog / 2);
        loop {
            interval.tick().await;
            self.send("WATCHDOG=1");
        }
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.socket {
            // Whoever listens may be gone.
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }
}

/// A path, or with `@` in front a name of the abstract kind.
fn address(name: &OsStr) -> Option<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        [b'/', ..] => SocketAddr::from_pathname(name).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "failing is how a test reports")]

    use super::*;

    fn variables<'a>(
        list: &'a [(&'a str, &'a str)],
    ) -> impl Fn(&str) -> Option<std::ffi::OsString> + 'a {
        move |name| {
            let found = list.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.into())
        }
    }

    fn receive(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn words_arrive_at_the_socket() {
        let path = std::env::temp_dir().join(format!("notify-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        let list = [
            ("NOTIFY_SOCKET", path.to_str().unwrap()),
            ("WATCHDOG_USEC", "2000"),
        ];
        let notify = Notify::new(variables(&list));
        notify.ready();
        assert_eq!(receive(&socket), "READY=1");
        notify.status("two\nlines");
        assert_eq!(receive(&socket), "STATUS=two lines");
        notify.stopping();
        assert_eq!(receive(&socket), "STOPPING=1");
        let heard = tokio::task::spawn_blocking(move || (receive(&socket), receive(&socket)));
        tokio::select! {
            never = notify.keep_alive() => match never {},
            heard = heard => {
                let (first, second) = heard.unwrap();
                assert_eq!([first, second], ["WATCHDOG=1", "WATCHDOG=1"]);
            }
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn without_a_listener_nothing_happens() {
        for list in [
            &[][..],
            &[("NOTIFY_SOCKET", "")],
            &[("NOTIFY_SOCKET", "relative")],
            &[("NOTIFY_SOCKET", "/nonexistent/notify")],
            &[("NOTIFY_SOCKET", "@nobody-listens-here")],
        ] {
            Notify::new(variables(list)).ready();
        }
        let other = [("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")];
        assert_eq!(Notify::new(variables(&other)).watchdog, None);
    }
}
