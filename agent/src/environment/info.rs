//! The executor's description of itself.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use exec_proto::PathUri;
use exec_proto::environment::{Capabilities, Info};

use super::Variables;
use super::shell::{self, User};

/// What this program can do. A flag is true only if the feature exists and is tested.
const CAPABILITIES: Capabilities = Capabilities {
    network_proxy_launch: true,
    network_proxy_review_domains: true,
    credential_masking: false,
    credential_masking_custom_providers: false,
    capability_discovery_sandbox: true,
    fs_watch_missing: true,
    capability_discovery_v2: true,
    environment_config_read: true,
    http_header_env_vars: true,
    sandboxed_file_streaming: true,
    file_write_streaming: true,
    shell_snapshot_v2: true,
    windows_mxc: false,
    linux_root_write_preserves_devices: false,
    linux_approved_root_write_preserves_restrictions: false,
    process_stdin_close: true,
    process_resize: true,
    process_signal_group: true,
    process_terminate_grace: true,
    process_list: true,
    process_read_evicted: true,
    request_cancel: true,
    session_close: true,
    session_keep: true,
    fs_batch: true,
    fs_batch_bulk: true,
    fs_append: true,
    fs_rename: true,
    fs_sync: true,
    fs_unwatch_missing: true,
    http_request_body_stream: true,
    http_cancel: true,
    tcp_streams: true,
    rpc_bulk: true,
    rpc_bulk_zstd: true,
};

/// Names the program towards clients that keep settings by provider: a constant of the program,
/// the same on every host.
const PROVIDER: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

pub(super) fn describe(variables: &Variables, cwd: &Path, user: &User) -> Info {
    let temporary = variables.get(OsStr::new("TMPDIR"));
    // An empty value names the working directory, as in the reference.
    let temp_dir = temporary.map_or_else(|| PathBuf::from("/tmp"), |dir| cwd.join(dir));
    let path = variables.get(OsStr::new("PATH")).map(OsString::as_os_str);
    Info {
        shell: shell::detect(user, path),
        executor_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        provider_id: Some(provider_id()),
        cwd: PathUri::from_native(cwd),
        user_home_dir: home_dir(variables, user).and_then(PathUri::from_native),
        platform_os: Some(std::env::consts::OS.to_owned()),
        prepend_path_dirs: Vec::new(),
        temporary_directories: temporary
            .filter(|dir| !dir.is_empty())
            .and_then(|dir| PathUri::from_native(&cwd.join(dir)))
            .into_iter()
            .collect(),
        temp_dir: PathUri::from_native(&temp_dir),
        capabilities: CAPABILITIES,
    }
}

pub(super) fn home_dir<'a>(variables: &'a Variables, user: &'a User) -> Option<&'a Path> {
    match variables.get(OsStr::new("HOME")) {
        Some(home) if !home.is_empty() => Some(Path::new(home)),
        _ => user.home.as_deref(),
    }
}

fn provider_id() -> String {
    use std::fmt::Write as _;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, PROVIDER.as_bytes());
    digest
        .as_ref()
        .iter()
        .fold(String::from("sha256:"), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
