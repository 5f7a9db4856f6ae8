//! The settings of `exec-cloud`, and how they are taken from their sources.

use std::path::PathBuf;

use clap::Args;
use settings::{Kind, Layers, Program, Setting};

use super::{Failure, MISUSED, default_data_directory, serve::Options};
use crate::config::ConfigError;
use crate::store::{Store, database_file};

/// What can be set, in the order in which it is shown.
pub static PROGRAM: Program = Program {
    name: "exec-cloud",
    prefix: "EXEC_CLOUD_",
    settings: &[
        Setting::new("listen", Kind::Text).or("127.0.0.1:7700"),
        Setting::new("data_dir", Kind::Path),
        Setting::new("public_url", Kind::Text),
        Setting::new("tls_cert", Kind::Path),
        Setting::new("tls_key", Kind::Path),
        Setting::new("behind_proxy", Kind::Switch),
        Setting::new("oidc_issuer", Kind::Text),
        Setting::new("oidc_audiences", Kind::List).given_by("oidc_audience"),
        Setting::new("oidc_jwks", Kind::Path),
        Setting::new("oidc_rules", Kind::List).given_by("oidc_rule"),
        Setting::new("ca_file", Kind::Path),
        Setting::new("dev", Kind::Switch),
        Setting::new("take_over", Kind::Switch),
        Setting::new("admin_listen", Kind::Text),
        Setting::new("log_format", Kind::Text).or("text"),
        Setting::new("otlp_endpoint", Kind::Text),
        Setting::new("drain_timeout", Kind::Text).or("10s"),
        Setting::new("drain_delay", Kind::Text).or("0s"),
        Setting::new("retry_after", Kind::Text).or("500ms"),
    ],
    secrets: &[],
};

/// Where the database is, for every command.
#[derive(Debug, Args)]
pub(super) struct DataDirectory {
    /// Directory of the database; $XDG_DATA_HOME/exec-cloud or ~/.local/share/exec-cloud if not given
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// Configuration file (TOML) of the server
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

impl DataDirectory {
    /// The directory that the server of the same flags, variables and file has.
    pub(super) fn resolve(mut self) -> Result<PathBuf, Failure> {
        let lookup = lookup();
        let mut layers = Layers::open(&PROGRAM, &lookup, self.config.as_deref(), None);
        layers.value("data_dir", &mut self.data_dir);
        let problems = layers.take_problems();
        if !problems.is_empty() {
            return Err(refused(&problems));
        }
        self.data_dir.map_or_else(
            || default_data_directory().map_err(|error| Failure::configuration(&error)),
            Ok,
        )
    }

    /// Opens a database that must be there: a wrong directory must not look like an empty list.
    pub(super) async fn open_existing(self) -> Result<Store, Failure> {
        let directory = self.resolve()?;
        if !database_file(&directory).is_file() {
            return Err(Failure::configuration(&ConfigError::new(
                "there is no database in the data directory".to_owned(),
                "give the --data-dir of the server",
            )));
        }
        Ok(Store::open(&directory).await?)
    }
}

/// Puts what is in force into `options`, which holds the flags.
pub(super) fn merge(options: &mut Options, layers: &mut Layers<'_>) {
    layers.value("listen", &mut options.listen);
    layers.value("data_dir", &mut options.data.data_dir);
    layers.value("public_url", &mut options.public_url);
    layers.value("tls_cert", &mut options.tls_cert);
    layers.value("tls_key", &mut options.tls_key);
    layers.switch("behind_proxy", &mut options.behind_proxy);
    layers.value("oidc_issuer", &mut options.oidc.issuer);
    layers.list("oidc_audiences", &mut options.oidc.audiences);
    layers.value("oidc_jwks", &mut options.oidc.jwks);
    layers.list("oidc_rules", &mut options.oidc.rules);
    layers.value("ca_file", &mut options.oidc.ca_file);
    layers.switch("dev", &mut options.dev);
    layers.switch("take_over", &mut options.take_over);
    layers.value("admin_listen", &mut options.admin_listen);
    layers.value("log_format", &mut options.log_format);
    layers.value("otlp_endpoint", &mut options.otlp_endpoint);
    layers.value("drain_timeout", &mut options.drain_timeout);
    layers.value("drain_delay", &mut options.drain_delay);
    layers.value("retry_after", &mut options.retry_after);
}

/// The variables of this process.
pub(super) fn lookup() -> impl Fn(&str) -> Option<String> {
    |name| std::env::var(name).ok()
}

/// All problems, one line each.
pub(super) fn refused(problems: &[String]) -> Failure {
    Failure {
        code: MISUSED,
        text: problems.join("\n"),
    }
}
