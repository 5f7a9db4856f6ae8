//! Where to connect: flags, variables and the configuration file, in this order.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use registry_client::{RegistryUrl, RendezvousUrl};
use secrecy::SecretString;
use settings::{Kind, Layers, Program, Secret, Setting, Source};

use telemetry::plan::{Found, Plan};

use crate::{args::Global, exit::Failure};

/// What can be set, in the order in which it is shown.
pub(crate) static PROGRAM: Program = Program {
    name: "execctl",
    prefix: "EXECCTL_",
    settings: &[
        Setting::new("registry", Kind::Text),
        Setting::new("environment", Kind::Text),
        Setting::new("token_file", Kind::Path),
        Setting::new("url", Kind::Text),
        Setting::new("ca_file", Kind::Path),
        Setting::new("allow_insecure_http", Kind::Switch),
        Setting::new("connect_timeout_secs", Kind::Number).or("10"),
        Setting::new("otlp_endpoint", Kind::Text),
    ],
    secrets: &[Secret {
        variable: TOKEN,
        meaning: "Token; counts before a token file that a variable or the file names",
    }],
};

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

impl Endpoint {
    /// Whether nobody on the way can read a token: by TLS, or because it stays on this machine. What
    /// is no address is refused elsewhere.
    fn is_protected(&self) -> bool {
        match self {
            Self::Registry { url, .. } => {
                RegistryUrl::parse(url).map_or(true, |url| url.require_protection().is_ok())
            }
            Self::Direct { url } => {
                RendezvousUrl::parse(url).map_or(true, |url| url.is_protected())
            }
        }
    }
}

/// Where the token comes from.
#[derive(Debug)]
pub(crate) enum Token {
    /// From a variable. Not shown by `Debug`.
    Value(SecretString),
    /// From a file.
    File(PathBuf),
}

const TOKEN: &str = "EXECCTL_TOKEN";
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST_CONNECT_TIMEOUT_SECS: u64 = 3600;

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
        Self::load_and_report(global, variables, environment).0
    }

    /// The same, and where each setting is from, in the form of `--print-config`.
    pub(crate) fn load_and_report(
        global: &Global,
        variables: &Variables,
        environment: Option<&str>,
    ) -> (Result<Self, Failure>, String) {
        Settings::with(global, variables, |settings, layers| {
            let report = layers.report();
            let config = Self::decide(settings, environment, layers);
            let problems = layers.take_problems();
            let config = match config {
                Some(config) if problems.is_empty() => Ok(config),
                _ => Err(Failure::usage(problems.join("; "))),
            };
            (config, report)
        })
    }

    /// Where spans go, and the authorities for that. What is wrong with the rest is said when that is
    /// needed.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn export(
        global: &Global,
        variables: &Variables,
    ) -> Result<(Found, Option<PathBuf>), Failure> {
        Settings::with(global, variables, |settings, layers| {
            let standard = |name: &str| std::env::var(name).ok();
            let found = Plan::find(settings.otlp_endpoint.as_deref(), &standard);
            let found = found.map_err(|problem| {
                let name = layers.name_of("otlp_endpoint");
                Failure::usage(format!("{name} cannot be used: {problem}"))
            })?;
            Ok((found, settings.ca_file))
        })
    }

    fn decide(settings: Settings, named: Option<&str>, layers: &mut Layers<'_>) -> Option<Self> {
        let endpoint = endpoint(&settings, named, layers);
        let from_flag = layers.source("token_file") == Source::Flag;
        let variable = layers.variable(TOKEN).filter(|_| !from_flag);
        let token = variable
            .map(|token| Token::Value(SecretString::from(token)))
            .or(settings.token_file.map(Token::File));
        if token.is_none() && matches!(endpoint, Some(Endpoint::Registry { .. })) {
            layers.problem(
                "no token given: use EXECCTL_TOKEN, --token-file or the configuration file",
            );
        }
        if let (Some(endpoint), Some(_), false) = (&endpoint, &token, settings.allow_insecure_http)
            && !endpoint.is_protected()
        {
            let remedy = match endpoint {
                Endpoint::Registry { .. } => {
                    "use https, or --allow-insecure-http on a network you trust"
                }
                // Which is not allowed by anything.
                Endpoint::Direct { .. } => "use wss:// or a loopback address",
            };
            layers.problem(format!("the token would travel unprotected: {remedy}"));
        }
        let connect_timeout = match settings.connect_timeout_secs {
            None => DEFAULT_CONNECT_TIMEOUT,
            Some(secs) => {
                if secs > LONGEST_CONNECT_TIMEOUT_SECS {
                    let name = layers.name_of("connect_timeout_secs");
                    layers.problem(format!(
                        "{name} must be between 0 and {LONGEST_CONNECT_TIMEOUT_SECS}"
                    ));
                }
                Duration::from_secs(secs)
            }
        };
        Some(Self {
            endpoint: endpoint?,
            token,
            ca_file: settings.ca_file,
            connect_timeout,
        })
    }
}

/// What can be set, as far as it is.
#[derive(Debug, Default)]
struct Settings {
    registry: Option<String>,
    environment: Option<String>,
    token_file: Option<PathBuf>,
    url: Option<String>,
    ca_file: Option<PathBuf>,
    allow_insecure_http: bool,
    connect_timeout_secs: Option<u64>,
    otlp_endpoint: Option<String>,
}

impl Settings {
    /// Gives `decide` what flags, variables and the file say together.
    fn with<T>(
        global: &Global,
        variables: &Variables,
        decide: impl FnOnce(Self, &mut Layers<'_>) -> T,
    ) -> T {
        let lookup = |name: &str| variables.get(name).cloned();
        let usual = default_path(variables);
        let flag = global.config.as_deref();
        let mut layers = Layers::open(&PROGRAM, &lookup, flag, usual.as_deref());
        let mut settings = Self::of(global);
        settings.merge(&mut layers);
        decide(settings, &mut layers)
    }

    fn of(global: &Global) -> Self {
        Self {
            registry: global.registry.clone(),
            environment: global.environment.clone(),
            token_file: global.token_file.clone(),
            url: global.url.clone(),
            ca_file: global.ca_file.clone(),
            allow_insecure_http: global.allow_insecure_http,
            connect_timeout_secs: global.connect_timeout_secs,
            otlp_endpoint: global.otlp_endpoint.clone(),
        }
    }

    fn merge(&mut self, layers: &mut Layers<'_>) {
        layers.value("registry", &mut self.registry);
        layers.value("environment", &mut self.environment);
        layers.value("token_file", &mut self.token_file);
        layers.value("url", &mut self.url);
        layers.value("ca_file", &mut self.ca_file);
        layers.switch("allow_insecure_http", &mut self.allow_insecure_http);
        layers.value("connect_timeout_secs", &mut self.connect_timeout_secs);
        layers.value("otlp_endpoint", &mut self.otlp_endpoint);
    }
}

/// The most specific source that names one of the two ways decides which it is.
fn endpoint(settings: &Settings, named: Option<&str>, layers: &mut Layers<'_>) -> Option<Endpoint> {
    let flag_registry = ["registry", "environment"]
        .iter()
        .any(|key| layers.source(key) == Source::Flag);
    let depth = |key| match layers.source(key) {
        Source::Flag => 0,
        Source::Variable => 1,
        Source::File => 2,
        Source::Default => 3,
    };
    let registry_depth = if flag_registry { 0 } else { depth("registry") };
    if let Some(url) = &settings.url
        && (depth("url") < registry_depth || (depth("url") == registry_depth && !flag_registry))
    {
        if named.is_some() {
            layers.problem("an environment id cannot be used with --url: write :/path");
        }
        return Some(Endpoint::Direct { url: url.clone() });
    }
    let environment = named.map(str::to_owned).or(settings.environment.clone());
    if settings.registry.is_none() {
        layers.problem(
            "no registry given: use --registry, EXECCTL_REGISTRY or the configuration file (or \
             --url for an executor that listens)",
        );
    }
    if environment.is_none() {
        layers.problem(
            "no environment given: use --environment, EXECCTL_ENVIRONMENT or the configuration file",
        );
    }
    settings
        .registry
        .clone()
        .zip(environment)
        .map(|(url, environment)| Endpoint::Registry { url, environment })
}

fn default_path(variables: &Variables) -> Option<PathBuf> {
    let base = match variables.get("XDG_CONFIG_HOME") {
        Some(directory) => PathBuf::from(directory),
        None => PathBuf::from(variables.get("HOME")?).join(".config"),
    };
    Some(base.join("execctl/config.toml"))
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
            file("registry = 'https://file'\nenvironment = 'file'\ntoken_file = '/t'\n");
        let load =
            |global: &Global, vars: &Variables| Config::load(global, vars, None).unwrap().endpoint;
        let endpoint = |url: &str, environment: &str| Endpoint::Registry {
            url: url.into(),
            environment: environment.into(),
        };
        assert_eq!(load(&global, &vars(&[])), endpoint("https://file", "file"));
        let variables = vars(&[
            ("EXECCTL_REGISTRY", "https://var"),
            ("EXECCTL_ENVIRONMENT", "var"),
        ]);
        assert_eq!(load(&global, &variables), endpoint("https://var", "var"));
        global.environment = Some("flag".into());
        assert_eq!(load(&global, &variables), endpoint("https://var", "flag"));
        let operand = Config::load(&global, &variables, Some("operand"))
            .unwrap()
            .endpoint;
        assert_eq!(operand, endpoint("https://var", "operand"));
    }

    #[test]
    fn flag_of_one_way_beats_lower_sources_of_the_other() {
        let (_directory, mut global) = file("url = 'wss://file'\ntoken_file = '/t'\n");
        let direct = |url: &str| Endpoint::Direct { url: url.into() };
        assert_eq!(
            Config::load(&global, &vars(&[]), None).unwrap().endpoint,
            direct("wss://file")
        );
        global.registry = Some("https://flag".into());
        global.environment = Some("flag".into());
        let endpoint = Config::load(&global, &vars(&[("EXECCTL_URL", "wss://var")]), None)
            .unwrap()
            .endpoint;
        assert!(matches!(endpoint, Endpoint::Registry { .. }));
        let mut global = Global {
            url: Some("wss://flag".into()),
            ..Global::default()
        };
        let variables = vars(&[
            ("EXECCTL_REGISTRY", "https://var"),
            ("EXECCTL_ENVIRONMENT", "var"),
        ]);
        assert_eq!(
            Config::load(&global, &variables, None).unwrap().endpoint,
            direct("wss://flag")
        );
        global.url = None;
        assert!(
            Config::load(&global, &variables, None).is_err(),
            "a token is missing"
        );
    }

    #[test]
    fn a_token_travels_unprotected_only_where_it_is_allowed() {
        for (line, is_refused) in [
            ("registry = 'http://host'", true),
            (
                "registry = 'http://host'\nallow_insecure_http = true",
                false,
            ),
            ("registry = 'http://127.0.0.1:8080'", false),
            ("registry = 'https://host'", false),
            ("url = 'ws://host:1'", true),
            ("url = 'ws://host:1'\nallow_insecure_http = true", false),
            ("url = 'ws://[::1]:1'", false),
        ] {
            for token in ["token_file = '/t'", ""] {
                // Without a registry there may be none.
                if token.is_empty() && line.starts_with("registry") {
                    continue;
                }
                let (_directory, global) = file(&format!("{line}\nenvironment = 'e'\n{token}\n"));
                let loaded = Config::load(&global, &vars(&[]), None);
                let is_refused = is_refused && !token.is_empty();
                assert_eq!(loaded.is_err(), is_refused, "{line} {token}");
                if let Err(failure) = loaded {
                    assert!(
                        failure.message.contains("unprotected"),
                        "{}",
                        failure.message
                    );
                }
            }
        }
    }

    #[test]
    fn unknown_key_is_refused_with_the_nearest_name() {
        let (_directory, global) = file("regsitry = 'https://x'\n");
        let failure = Config::load(&global, &vars(&[]), None).unwrap_err();
        assert_eq!(failure.code, crate::exit::USAGE);
        assert!(
            failure
                .message
                .contains("unknown configuration key `regsitry`; did you mean `registry`?"),
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
            "`environment` cannot be used: expected a string",
            "connect_timeout_secs",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn every_setting_is_taken_from_all_sources() {
        let nothing = |_: &str| None;
        let mut layers = Layers::open(&PROGRAM, &nothing, None, None);
        Settings::default().merge(&mut layers);
        assert_eq!(layers.forgotten(), [""; 0]);
        assert_eq!(layers.take_problems(), [""; 0]);
    }

    #[test]
    fn report_says_where_settings_are_from_and_shows_no_token() {
        let (_directory, global) = file("url = 'wss://127.0.0.1:1'\nconnect_timeout_secs = 3\n");
        let variables = vars(&[("EXECCTL_TOKEN", "s3cr3t"), ("EXECCTL_CA_FILE", "/ca")]);
        let (config, report) = Config::load_and_report(&global, &variables, None);
        assert!(config.is_ok());
        assert_eq!(
            report,
            "# Settings of execctl in force.\n\
             # registry: not set\n\
             # environment: not set\n\
             # token_file: not set\n\
             url = \"wss://127.0.0.1:1\" # file\n\
             ca_file = \"/ca\" # variable EXECCTL_CA_FILE\n\
             # allow_insecure_http: not set\n\
             connect_timeout_secs = 3 # file\n\
             # otlp_endpoint: not set\n\
             # Token; counts before a token file that a variable or the file names: set by variable \
             EXECCTL_TOKEN, not shown\n"
        );
    }

    #[test]
    fn missing_default_file_is_fine_and_missing_named_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().to_str().unwrap().to_owned();
        let variables = vars(&[("HOME", &home), ("EXECCTL_URL", "wss://127.0.0.1:1")]);
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
            "url = 'wss://127.0.0.1:1'\nconnect_timeout_secs = 3\n",
        )
        .unwrap();
        let home = directory.path().to_str().unwrap().to_owned();
        let config = Config::load(&Global::default(), &vars(&[("HOME", &home)]), None).unwrap();
        assert_eq!(config.connect_timeout, Duration::from_secs(3));
    }

    #[test]
    fn token_is_not_shown() {
        let variables = vars(&[
            ("EXECCTL_URL", "wss://127.0.0.1:1"),
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
