//! The optional configuration file.
//!
//! TOML, flat, one key per flag. Each key is decoded on its own, so that all mistakes are reported
//! at once; a key that is not known is refused with the nearest one that is.

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::period::Period;
use crate::listener::AuthMode;

/// What the file says; every key is optional.
#[derive(Debug, Default, PartialEq)]
pub(super) struct FileConfig {
    pub(super) remote: Option<String>,
    pub(super) environment_id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) listen: Option<String>,
    pub(super) concurrent_requests: Option<NonZeroUsize>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) allow_insecure_http: Option<bool>,
    pub(super) exit_on_stdin_close: Option<bool>,
    pub(super) grace_period: Option<Period>,
    pub(super) admin_listen: Option<String>,
    pub(super) http_header_env: Option<Vec<String>>,
    pub(super) no_tcp: Option<bool>,
    pub(super) inherit_env: Option<Vec<String>>,
    pub(super) withhold_env: Option<Vec<String>>,
    pub(super) sandbox_floor: Option<String>,
    pub(super) sandbox_roots: Option<Vec<PathBuf>>,
    pub(super) keep_max_secs: Option<u64>,
    pub(super) output_retention_bytes: Option<u64>,
    pub(super) output_retention_secs: Option<u64>,
    pub(super) output_disk_bytes: Option<u64>,
    pub(super) output_directory: Option<PathBuf>,
    pub(super) ws_auth: Option<AuthMode>,
    pub(super) ws_token_file: Option<PathBuf>,
    pub(super) ws_token_sha256: Option<String>,
    pub(super) ws_shared_secret_file: Option<PathBuf>,
    pub(super) ws_issuer: Option<String>,
    pub(super) ws_audience: Option<String>,
    pub(super) ws_max_clock_skew_seconds: Option<u64>,
}

/// Reads and decodes the file. Relative paths in it are taken from its own directory.
pub(super) fn load(path: &Path, problems: &mut Vec<String>) -> FileConfig {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problems.push(format!(
                "configuration file cannot be read: {}",
                error.kind()
            ));
            return FileConfig::default();
        }
    };
    let mut config = parse(&text, problems);
    if let Some(directory) = path.parent() {
        for path in [
            &mut config.token_file,
            &mut config.ca_file,
            &mut config.ws_token_file,
            &mut config.ws_shared_secret_file,
            &mut config.output_directory,
        ]
        .into_iter()
        .flatten()
        {
            *path = directory.join(&*path);
        }
        for path in config.sandbox_roots.iter_mut().flatten() {
            *path = directory.join(&*path);
        }
    }
    config
}

fn parse(text: &str, problems: &mut Vec<String>) -> FileConfig {
    let mut keys = match text.parse::<Table>() {
        Ok(table) => Keys {
            table,
            known: Vec::new(),
            problems,
        },
        Err(error) => {
            // The full error quotes the line, which may hold something private.
            problems.push(format!(
                "configuration file is not valid TOML: {}",
                error.message()
            ));
            return FileConfig::default();
        }
    };
    let config = FileConfig {
        remote: keys.take("remote"),
        environment_id: keys.take("environment_id"),
        name: keys.take("name"),
        listen: keys.take("listen"),
        concurrent_requests: keys.take("concurrent_requests"),
        token_file: keys.take("token_file"),
        ca_file: keys.take("ca_file"),
        allow_insecure_http: keys.take("allow_insecure_http"),
        exit_on_stdin_close: keys.take("exit_on_stdin_close"),
        grace_period: keys.take("grace_period"),
        admin_listen: keys.take("admin_listen"),
        http_header_env: keys.take("http_header_env"),
        no_tcp: keys.take("no_tcp"),
        inherit_env: keys.take("inherit_env"),
        withhold_env: keys.take("withhold_env"),
        sandbox_floor: keys.take("sandbox_floor"),
        sandbox_roots: keys.take("sandbox_roots"),
        keep_max_secs: keys.take("keep_max_secs"),
        output_retention_bytes: keys.take("output_retention_bytes"),
        output_retention_secs: keys.take("output_retention_secs"),
        output_disk_bytes: keys.take("output_disk_bytes"),
        output_directory: keys.take("output_directory"),
        ws_auth: keys.take("ws_auth"),
        ws_token_file: keys.take("ws_token_file"),
        ws_token_sha256: keys.take("ws_token_sha256"),
        ws_shared_secret_file: keys.take("ws_shared_secret_file"),
        ws_issuer: keys.take("ws_issuer"),
        ws_audience: keys.take("ws_audience"),
        ws_max_clock_skew_seconds: keys.take("ws_max_clock_skew_seconds"),
    };
    keys.refuse_the_rest();
    config
}

/// A table whose keys are taken out one by one.
struct Keys<'a> {
    table: Table,
    known: Vec<&'static str>,
    problems: &'a mut Vec<String>,
}

impl Keys<'_> {
    fn take<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<T> {
        self.known.push(key);
        let value: Value = self.table.remove(key)?;
        match T::deserialize(value) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problems
                    .push(format!("configuration key `{key}`: {}", error.message()));
                None
            }
        }
    }

    fn refuse_the_rest(self) {
        for key in self.table.keys() {
            let nearest = self
                .known
                .iter()
                .map(|known| (edit_distance(key, known), *known))
                .min()
                .filter(|(distance, _)| *distance <= MAX_SUGGESTION_DISTANCE);
            self.problems.push(match nearest {
                Some((_, nearest)) => {
                    format!("unknown configuration key `{key}`; did you mean `{nearest}`?")
                }
                None => format!(
                    "unknown configuration key `{key}`; known keys are {}",
                    self.known.join(", ")
                ),
            });
        }
    }
}

/// Levenshtein distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (line, letter) in a.chars().enumerate() {
        let mut left = line + 1;
        let mut diagonal = line;
        for (column, other) in b.iter().enumerate() {
            let above = row.get(column + 1).copied().unwrap_or_default();
            let here = (diagonal + usize::from(letter != *other))
                .min(left + 1)
                .min(above + 1);
            if let Some(cell) = row.get_mut(column) {
                *cell = left;
            }
            diagonal = above;
            left = here;
        }
        if let Some(cell) = row.last_mut() {
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// Beyond this a suggestion is a guess.
const MAX_SUGGESTION_DISTANCE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (FileConfig, Vec<String>) {
        let mut problems = Vec::new();
        let config = parse(text, &mut problems);
        (config, problems)
    }

    #[test]
    fn keys_are_decoded() {
        let (config, problems) = parsed(
            "remote = 'https://r'\nconcurrent_requests = 4\nws_auth = 'capability-token'\n\
             http_header_env = ['A_TOKEN']\nexit_on_stdin_close = true\n",
        );
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(config.remote.as_deref(), Some("https://r"));
        assert_eq!(config.concurrent_requests, NonZeroUsize::new(4));
        assert_eq!(config.ws_auth, Some(AuthMode::CapabilityToken));
        assert_eq!(config.http_header_env, Some(vec!["A_TOKEN".to_owned()]));
        assert_eq!(config.exit_on_stdin_close, Some(true));
    }

    #[test]
    fn all_problems_are_reported_with_the_nearest_key() {
        let (_, problems) = parsed(
            "enviroment_id = 'e'\nremote-url = 'x'\nzebra_crossing_lights = 1\n\
             concurrent_requests = 0\nname = 7\n",
        );
        assert_eq!(problems.len(), 5, "{problems:?}");
        assert!(problems[0].starts_with("configuration key `name`: invalid type: integer `7`"));
        assert!(problems[1].starts_with("configuration key `concurrent_requests`: "));
        assert_eq!(
            problems[2],
            "unknown configuration key `enviroment_id`; did you mean `environment_id`?"
        );
        assert_eq!(
            problems[3],
            "unknown configuration key `remote-url`; did you mean `remote`?"
        );
        assert!(problems[4].starts_with(
            "unknown configuration key `zebra_crossing_lights`; known keys are remote, "
        ));
    }

    #[test]
    fn a_broken_file_does_not_quote_its_content() {
        let (_, problems) = parsed("remote = 'SECRET");
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("configuration file is not valid TOML: "));
        assert!(!problems[0].contains("SECRET"));
    }

    #[test]
    fn distances() {
        for (a, b, distance) in [
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "abc", 0),
            ("kitten", "sitting", 3),
            ("ab", "ba", 2),
        ] {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }
}
