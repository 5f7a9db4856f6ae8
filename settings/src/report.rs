//! What `--print-config` shows: the settings in force, and the source of each.
//!
//! The output is itself a configuration file, as far as nothing has to be left out: secrets, and
//! what a URL may hold of them.

use std::fmt::Write as _;

use toml::Value as Toml;

use crate::{
    layers::{Layers, Source, Taken},
    schema::Setting,
};

impl Layers<'_> {
    /// All settings in force, one line each, in the order of their declaration.
    pub fn report(&self) -> String {
        let mut text = format!("# Settings of {} in force.\n", self.program.name);
        for setting in self.program.settings {
            if let Some(taken) = self.taken.get(setting.key) {
                // Writing to a string does not fail.
                let _ = writeln!(text, "{}", self.line(setting, taken));
            }
        }
        for secret in self.program.secrets {
            if self.variable(secret.variable).is_some() {
                let (variable, meaning) = (secret.variable, secret.meaning);
                let _ = writeln!(text, "# {meaning}: set by variable {variable}, not shown");
            }
        }
        text
    }

    fn line(&self, setting: &Setting, taken: &Taken) -> String {
        let key = setting.key;
        let source = match taken.source {
            Source::Flag => format!("flag {}", setting.flag()),
            Source::Variable => format!("variable {}", self.program.variable(setting)),
            Source::File => "file".to_owned(),
            Source::Default if setting.default.is_empty() => return format!("# {key}: not set"),
            Source::Default => return format!("# {key}: {}, by default", setting.default),
        };
        match &taken.shown {
            Some(_) if setting.is_masked => format!("# {key}: set by {source}, not shown"),
            Some(shown) => format!("{key} = {} # {source}", masked(shown)),
            None => format!("# {key}: not usable, from {source}"),
        }
    }
}

/// Hides what URLs in a value may hold of secrets.
fn masked(value: &Toml) -> Toml {
    match value {
        Toml::String(text) => Toml::String(mask(text)),
        Toml::Array(values) => Toml::Array(values.iter().map(masked).collect()),
        other => other.clone(),
    }
}

/// Replaces user information and query of a URL; other texts stay as they are.
pub fn mask(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = match authority.rsplit_once('@') {
        Some((_, host)) => format!("***@{host}"),
        None => authority.to_owned(),
    };
    let path = match path.split_once('?') {
        Some((path, _)) => format!("{path}?***"),
        None => path.to_owned(),
    };
    format!("{scheme}://{authority}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_what_may_be_secret() {
        for (text, expected) in [
            ("https://host/path", "https://host/path"),
            ("https://user:pw@host:1/p", "https://***@host:1/p"),
            ("http://a@b@host", "http://***@host"),
            ("wss://host/p?sig=1", "wss://host/p?***"),
            ("http://host?x=a@b", "http://host?***"),
            ("/a/path?x", "/a/path?x"),
        ] {
            assert_eq!(mask(text), expected, "{text}");
        }
    }
}
