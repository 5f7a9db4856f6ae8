//! Where to connect: flags, variables and the configuration file, in this order.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::SecretString;
use toml::{Table, Value};

use crate::{args::Global, exit::Failure};

/// What was decided.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) endpoint: Endpoint,
    pub(crate) token: Option<Token>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) connect_timeout: Duration,
}

/// The two ways to an executor.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// Through a registry.
    Registry { url: String, environment: String },
    /// Directly.
    Direct { url: String },
}

/// Where the token comes from.
#[derive(Debug)]
pub(crate) enum Token {
    /// From a variable. Not shown by `Debug`.
    Value(SecretString),
    /// From a file.
    File(PathBuf),
}

/// Keys of the configuration file.
const KEYS: [&str; 6] = [
    "registry",
    "environment",
    "token_file",
    "url",
    "ca_file",
    "connect_timeout_secs",
];

const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest configuration file worth reading.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Variables, as far as they matter here.
pub(crate) type Variables = HashMap<String, String>;

/// The variables of this process.
pub(crate) fn variables() -> Variables {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, value)| {
            !value.is_empty()
                && (name.starts_with("EXECCTL_")
                    || matches!(name.as_str(), "HOME" | "XDG_CONFIG_HOME"))
        })
        .collect()
}

impl Config {
    /// Decides. `environment` comes from an operand such as `ID:/path` and beats everything else.
    ///
    /// # Errors
    ///
    /// All problems at once, as one usage failure.
    pub(crate) fn load(
        global: &Global,
        variables: &Variables,
        environment: Option<&str>,
    ) -> Result<Self, Failure> {
        let mut problems = Vec::new();
        let file = read_file(global, variables, &mut problems).unwrap_or_default();
        let variable = |name: &str| variables.get(name).cloned();
        let from_file = |key: &str, problems: &mut Vec<String>| match file.get(key) {
            None => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => {
                problems.push(format!("configuration key {key} is not a string"));
                None
            }
        };

        // The flags of one way switch off lower sources of the other way.
        let flag_registry = global.registry.is_some() || global.environment.is_some();
        let url = global.url.clone().or_else(|| {
            let lower = variable("EXECCTL_URL").or_else(|| {
                let registry_set = variables.contains_key("EXECCTL_REGISTRY");
                from_file("url", &mut problems).filter(|_| !registry_set)
            });
            lower.filter(|_| !flag_registry)
        });
        let named = environment.map(str::to_owned);
        let endpoint = if let Some(url) = url {
            if named.is_some() {
                problems.push("an environment id cannot be used with --url: write :/path".into());
            }
            Some(Endpoint::Direct { url })
        } else {
            let registry = global
                .registry
                .clone()
                .or_else(|| variable("EXECCTL_REGISTRY"))
                .or_else(|| from_file("registry", &mut problems));
            let environment = named
                .or_else(|| global.environment.clone())
                .or_else(|| variable("EXECCTL_ENVIRONMENT"))
                .or_else(|| from_file("environment", &mut problems));
            if registry.is_none() {
                problems.push(
                    "no registry given: use --registry, EXECCTL_REGISTRY or the configuration file \
                     (or --url for an executor that listens)"
                        .into(),
                );
            }
            if environment.is_none() {
                problems.push(
                    "no environment given: use --environment, EXECCTL_ENVIRONMENT or the \
                     configuration file"
                        .into(),
                );
            }
            registry
                .zip(environment)
                .map(|(url, environment)| Endpoint::Registry { url, environment })
        };

        let token = match &global.token_file {
            Some(path) => Some(Token::File(path.clone())),
            None => variable("EXECCTL_TOKEN")
                .map(|token| Token::Value(SecretString::from(token)))
                .or_else(|| variable("EXECCTL_TOKEN_FILE").map(|path| Token::File(path.into())))
                .or_else(|| {
                    from_file("token_file", &mut problems).map(|path| Token::File(path.into()))
                }),
        };
        if token.is_none() && matches!(endpoint, Some(Endpoint::Registry { .. })) {
            problems.push(
                "no token given: use EXECCTL_TOKEN, --token-file or the configuration file".into(),
            );
        }

        let ca_file = global
            .ca_file
            .clone()
            .or_else(|| variable("EXECCTL_CA_FILE").map(PathBuf::from))
            .or_else(|| from_file("ca_file", &mut problems).map(PathBuf::from));
        let connect_timeout = match (
            global.connect_timeout_secs,
            file.get("connect_timeout_secs"),
        ) {
            (Some(secs), _) => Duration::from_secs(secs),
            (None, None) => DEFAULT_CONNECT_TIMEOUT,
            (None, Some(value)) => {
                let secs = value.as_integer().and_then(|secs| u64::try_from(secs).ok());
                match secs.filter(|secs| *secs <= 3600) {
                    Some(secs) => Duration::from_secs(secs),
                    None => {
                        problems.push(
                            "configuration key connect_timeout_secs is not a number of 0 to 3600"
                                .into(),
                        );
                        DEFAULT_CONNECT_TIMEOUT
                    }
                }
            }
        };
        match endpoint {
            Some(endpoint) if problems.is_empty() => Ok(Self {
                endpoint,
                token,
                ca_file,
                connect_timeout,
            }),
            _ => Err(Failure::usage(problems.join("; "))),
        }
    }
}

fn read_file(global: &Global, variables: &Variables, problems: &mut Vec<String>) -> Option<Table> {
    let named = global
        .config
        .clone()
        .or_else(|| variables.get("EXECCTL_CONFIG").map(PathBuf::from));
    let path = named.clone().or_else(|| default_path(variables))?;
    let text = match std::fs::metadata(&path) {
        Ok(metadata) if metadata.len() > MAX_FILE_BYTES => {
            problems.push(format!(
                "configuration file {} is too large",
                path.display()
            ));
            return None;
        }
        Ok(_) => std::fs::read_to_string(&path),
        Err(error) => Err(error),
    };
    let text = match text {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return None;
        }
        Err(error) => {
            problems.push(format!("configuration file {}: {error}", path.display()));
            return None;
        }
    };
    parse_file(&text, &path, problems)
}

fn parse_file(text: &str, path: &Path, problems: &mut Vec<String>) -> Option<Table> {
    let table: Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            // The library's full text quotes the line, which may hold something private.
            let error: toml::de::Error = error;
            problems.push(format!(
                "configuration file {}: {}",
                path.display(),
                error.message()
            ));
            return None;
        }
    };
    for key in table.keys().filter(|key| !KEYS.contains(&key.as_str())) {
        problems.push(format!(
            "configuration file {}: unknown key {key}, did you mean {}?",
            path.display(),
            nearest(key)
        ));
    }
    Some(table)
}

fn default_path(variables: &Variables) -> Option<PathBuf> {
    let base = match variables.get("XDG_CONFIG_HOME") {
        Some(directory) => PathBuf::from(directory),
        None => PathBuf::from(variables.get("HOME")?).join(".config"),
    };
    Some(base.join("execctl/config.toml"))
}

fn nearest(key: &str) -> &'static str {
    KEYS.into_iter()
        .min_by_key(|known| distance(key, known))
        .unwrap_or_default()
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let substitution = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> Variables {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn file(text: &str) -> (tempfile::TempDir, Global) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        (
            directory,
            Global {
                config: Some(path),
                ..Global::default()
            },
        )
    }

    #[test]
    fn flag_beats_variable_beats_file() {
        let (_directory, mut global) =
            file("registry = 'http://file'\nenvironment = 'file'\ntoken_file = '/t'\n");
        let load =
            |global: &Global, vars: &Variables| Config::load(global, vars, None).unwrap().endpoint;
        let endpoint = |url: &str, environment: &str| Endpoint::Registry {
            url: url.into(),
            environment: environment.into(),
        };
        assert_eq!(load(&global, &vars(&[])), endpoint("http://file", "file"));
        let variables = vars(&[
            ("EXECCTL_REGISTRY", "http://var"),
            ("EXECCTL_ENVIRONMENT", "var"),
        ]);
        assert_eq!(load(&global, &variables), endpoint("http://var", "var"));
        global.environment = Some("flag".into());
        assert_eq!(load(&global, &variables), endpoint("http://var", "flag"));
        let operand = Config::load(&global, &variables, Some("operand"))
            .unwrap()
            .endpoint;
        assert_eq!(operand, endpoint("http://var", "operand"));
    }

    #[test]
    fn flag_of_one_way_beats_lower_sources_of_the_other() {
        let (_directory, mut global) = file("url = 'ws://file'\ntoken_file = '/t'\n");
        let direct = |url: &str| Endpoint::Direct { url: url.into() };
        assert_eq!(
            Config::load(&global, &vars(&[]), None).unwrap().endpoint,
            direct("ws://file")
        );
        global.registry = Some("http://flag".into());
        global.environment = Some("flag".into());
        let endpoint = Config::load(&global, &vars(&[("EXECCTL_URL", "ws://var")]), None)
            .unwrap()
            .endpoint;
        assert!(matches!(endpoint, Endpoint::Registry { .. }));
        let mut global = Global {
            url: Some("ws://flag".into()),
            ..Global::default()
        };
        let variables = vars(&[
            ("EXECCTL_REGISTRY", "http://var"),
            ("EXECCTL_ENVIRONMENT", "var"),
        ]);
        assert_eq!(
            Config::load(&global, &variables, None).unwrap().endpoint,
            direct("ws://flag")
        );
        global.url = None;
        assert!(
            Config::load(&global, &variables, None).is_err(),
            "a token is missing"
        );
    }

    #[test]
    fn unknown_key_is_refused_with_the_nearest_name() {
        let (_directory, global) = file("regsitry = 'http://x'\n");
        let failure = Config::load(&global, &vars(&[]), None).unwrap_err();
        assert_eq!(failure.code, crate::exit::USAGE);
        assert!(
            failure
                .message
                .contains("unknown key regsitry, did you mean registry?"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let (_directory, global) = file("connect_timeout_secs = -1\nenvironment = 3\n");
        let message = Config::load(&global, &vars(&[]), None).unwrap_err().message;
        for part in [
            "no registry",
            "environment is not a string",
            "connect_timeout_secs",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn missing_default_file_is_fine_and_missing_named_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().to_str().unwrap().to_owned();
        let variables = vars(&[("HOME", &home), ("EXECCTL_URL", "ws://127.0.0.1:1")]);
        assert!(Config::load(&Global::default(), &variables, None).is_ok());
        let global = Global {
            config: Some(directory.path().join("none")),
            ..Global::default()
        };
        assert!(Config::load(&global, &variables, None).is_err());
    }

    #[test]
    fn default_file_is_found_in_the_home_directory() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join(".config/execctl");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(
            folder.join("config.toml"),
            "url = 'ws://127.0.0.1:1'\nconnect_timeout_secs = 3\n",
        )
        .unwrap();
        let home = directory.path().to_str().unwrap().to_owned();
        let config = Config::load(&Global::default(), &vars(&[("HOME", &home)]), None).unwrap();
        assert_eq!(config.connect_timeout, Duration::from_secs(3));
    }

    #[test]
    fn token_is_not_shown() {
        let variables = vars(&[
            ("EXECCTL_URL", "ws://127.0.0.1:1"),
            ("EXECCTL_TOKEN", "s3cr3t"),
        ]);
        let config = Config::load(&Global::default(), &variables, None).unwrap();
        assert!(config.token.is_some());
        assert!(!format!("{config:?}").contains("s3cr3t"));
    }

    #[test]
    fn broken_file_is_reported_without_its_contents() {
        let (_directory, global) = file("token_file = 's3cr3t\n");
        let message = Config::load(&global, &vars(&[]), None).unwrap_err().message;
        assert!(!message.contains("s3cr3t"), "{message}");
    }
}
