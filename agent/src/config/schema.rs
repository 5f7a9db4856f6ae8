//! The settings of `exec-server`, and how they are taken from their sources.

use settings::{Kind, Layers, Program, Secret, Setting};

use crate::cli::Options;

/// What can be set, in the order in which it is shown.
pub static PROGRAM: Program = Program {
    name: "exec-server",
    prefix: "EXEC_SERVER_",
    settings: &[
        Setting::new("remote", Kind::Text).in_variable("EXEC_SERVER_REMOTE_URL"),
        Setting::new("environment_id", Kind::Text),
        Setting::new("connect", Kind::Text),
        Setting::new("connect_token_file", Kind::Path),
        Setting::new("name", Kind::Text),
        Setting::new("listen", Kind::Text).or("ws://127.0.0.1:0"),
        Setting::new("token_file", Kind::Path),
        Setting::new("registration_bearer_stdin", Kind::Switch),
        Setting::new("executor_credential_stdin", Kind::Switch),
        Setting::new("ca_file", Kind::Path),
        Setting::new("allow_insecure_http", Kind::Switch),
        Setting::new("exit_on_stdin_close", Kind::Switch),
        Setting::new("grace_period", Kind::Text).or("5s"),
        Setting::new("admin_listen", Kind::Text),
        Setting::new("log_format", Kind::Text).or("text"),
        Setting::new("otlp_endpoint", Kind::Text),
        Setting::new("concurrent_requests", Kind::Number).or("64"),
        Setting::new("http_header_env", Kind::List),
        Setting::new("no_tcp", Kind::Switch),
        Setting::new("inherit_env", Kind::List),
        Setting::new("withhold_env", Kind::List),
        Setting::new("sandbox_floor", Kind::Text),
        Setting::new("sandbox_roots", Kind::Paths).given_by("sandbox_root"),
        Setting::new("command_memory_max", Kind::Number),
        Setting::new("command_pids_max", Kind::Number),
        Setting::new("command_cpu_max", Kind::Number),
        Setting::new("command_cgroup", Kind::Path),
        Setting::new("keep_max_secs", Kind::Number).or("86400"),
        Setting::new("output_retention_bytes", Kind::Number).or("1048576"),
        Setting::new("output_retention_secs", Kind::Number).or("80"),
        Setting::new("output_disk_bytes", Kind::Number).or("1073741824"),
        Setting::new("output_directory", Kind::Path),
        Setting::new("ws_auth", Kind::Text),
        Setting::new("ws_token_file", Kind::Path),
        Setting::new("ws_token_sha256", Kind::Text).masked(),
        Setting::new("ws_shared_secret_file", Kind::Path),
        Setting::new("ws_issuer", Kind::Text),
        Setting::new("ws_audience", Kind::Text),
        Setting::new("ws_max_clock_skew_seconds", Kind::Number).or("30"),
    ],
    secrets: &[
        Secret {
            variable: "EXEC_SERVER_TOKEN",
            meaning: "Registry token",
        },
        Secret {
            variable: "CODEX_API_KEY",
            meaning: "The same, if the former is not set",
        },
    ],
};

/// Puts what is in force into `options`, which holds the flags.
pub(super) fn merge(options: &mut Options, layers: &mut Layers<'_>) {
    layers.value("remote", &mut options.remote);
    layers.value("environment_id", &mut options.environment_id);
    layers.value("connect", &mut options.connect);
    layers.value("connect_token_file", &mut options.connect_token_file);
    layers.value("name", &mut options.name);
    layers.value("listen", &mut options.listen);
    layers.value("token_file", &mut options.token_file);
    let slot = &mut options.registration_bearer_stdin;
    layers.switch("registration_bearer_stdin", slot);
    let slot = &mut options.executor_credential_stdin;
    layers.switch("executor_credential_stdin", slot);
    layers.value("ca_file", &mut options.ca_file);
    layers.switch("allow_insecure_http", &mut options.allow_insecure_http);
    layers.switch("exit_on_stdin_close", &mut options.exit_on_stdin_close);
    layers.value("grace_period", &mut options.grace_period);
    layers.value("admin_listen", &mut options.admin_listen);
    layers.value("log_format", &mut options.log_format);
    layers.value("otlp_endpoint", &mut options.otlp_endpoint);
    layers.value("concurrent_requests", &mut options.concurrent_requests);
    layers.list("http_header_env", &mut options.http_header_env);
    layers.switch("no_tcp", &mut options.no_tcp);
    layers.list("inherit_env", &mut options.inherit_env);
    layers.list("withhold_env", &mut options.withhold_env);
    layers.value("sandbox_floor", &mut options.sandbox_floor);
    layers.list("sandbox_roots", &mut options.sandbox_root);
    layers.value("command_memory_max", &mut options.command_memory_max);
    layers.value("command_pids_max", &mut options.command_pids_max);
    layers.value("command_cpu_max", &mut options.command_cpu_max);
    layers.value("command_cgroup", &mut options.command_cgroup);
    layers.value("keep_max_secs", &mut options.keep_max_secs);
    let slot = &mut options.output_retention_bytes;
    layers.value("output_retention_bytes", slot);
    layers.value("output_retention_secs", &mut options.output_retention_secs);
    layers.value("output_disk_bytes", &mut options.output_disk_bytes);
    layers.value("output_directory", &mut options.output_directory);
    layers.value("ws_auth", &mut options.ws_auth);
    layers.value("ws_token_file", &mut options.ws_token_file);
    layers.value("ws_token_sha256", &mut options.ws_token_sha256);
    layers.value("ws_shared_secret_file", &mut options.ws_shared_secret_file);
    layers.value("ws_issuer", &mut options.ws_issuer);
    layers.value("ws_audience", &mut options.ws_audience);
    let slot = &mut options.ws_max_clock_skew_seconds;
    layers.value("ws_max_clock_skew_seconds", slot);
}
