//! Texts to values, and back for those who look at what is in force.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::Period;

/// A value of a setting.
pub trait Value: Sized {
    /// Takes the text of a variable or of the file.
    ///
    /// # Errors
    ///
    /// What is expected instead. Never holds the text itself, which may be in the wrong place.
    fn parse(text: &str) -> Result<Self, String>;

    /// What would be parsed to the same value.
    fn show(&self) -> String;

    /// Takes a relative path from `directory`. Only paths do anything.
    fn start_at(&mut self, directory: &Path) {
        let _ = directory;
    }
}

impl Value for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }

    fn show(&self) -> String {
        self.to_string_lossy().into_owned()
    }

    fn start_at(&mut self, directory: &Path) {
        *self = directory.join(&*self);
    }
}

impl Value for u64 {
    fn parse(text: &str) -> Result<Self, String> {
        text.trim()
            .parse()
            .map_err(|_| "expected a number that is not negative".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for NonZeroUsize {
    fn parse(text: &str) -> Result<Self, String> {
        text.trim()
            .parse()
            .map_err(|_| "expected a number above 0".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for Period {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|error: crate::PeriodError| error.to_string())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for SocketAddr {
    fn parse(text: &str) -> Result<Self, String> {
        text.trim()
            .parse()
            .map_err(|_| "expected IP:PORT".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// An address to listen on: `PORT` of 127.0.0.1, or `IP:PORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalAddress(pub SocketAddr);

impl FromStr for LocalAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let port = text.strip_prefix(':').unwrap_or(text);
        port.parse()
            .map(loopback)
            .or_else(|_| text.parse())
            .map(Self)
            .map_err(|_| "expected PORT, for 127.0.0.1, or IP:PORT")
    }
}

impl Value for LocalAddress {
    fn parse(text: &str) -> Result<Self, String> {
        text.trim()
            .parse()
            .map_err(|error: &'static str| error.to_owned())
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

/// Takes one of the texts that the command line takes for this type.
///
/// # Errors
///
/// The texts there are.
pub fn parse_choice<T: clap::ValueEnum>(text: &str) -> Result<T, String> {
    T::from_str(text.trim(), false).map_err(|_| {
        let names: Vec<String> = T::value_variants().iter().map(show_choice).collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// The text that the command line takes for this value.
pub fn show_choice<T: clap::ValueEnum>(value: &T) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_of_loopback() {
        for (text, address) in [
            ("9090", "127.0.0.1:9090"),
            (":9090", "127.0.0.1:9090"),
            ("0.0.0.0:1", "0.0.0.0:1"),
            ("[::1]:2", "[::1]:2"),
        ] {
            assert_eq!(LocalAddress::parse(text).unwrap().show(), address);
        }
        for text in ["", "host:1", "70000", "127.0.0.1"] {
            assert!(LocalAddress::parse(text).is_err(), "{text}");
        }
    }
}
