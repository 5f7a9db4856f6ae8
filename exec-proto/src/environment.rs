//! `environment/info` and `environment/status`: what the executor is, and that it lives.

use serde::{Deserialize, Serialize};

use crate::PathUri;

/// Request without parameters, answered with [`Info`].
pub const INFO: &str = "environment/info";
/// Request without parameters, answered with [`Status`].
pub const STATUS: &str = "environment/status";

/// The executor's description. Only [`Info::shell`] is needed by clients; the rest may be missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    /// The shell that commands should use.
    pub shell: Shell,
    /// Version of the executor program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor_version: Option<String>,
    /// `sha256:` and 64 hex digits, a constant of the program, not of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// Working directory of the executor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathUri>,
    /// Home directory of the executor's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_home_dir: Option<PathUri>,
    /// `linux`, `macos` or `windows`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_os: Option<String>,
    /// Directories to put in front of `PATH`.
    #[serde(default)]
    pub prepend_path_dirs: Vec<PathUri>,
    /// `TMPDIR`, when the executor has one.
    #[serde(default)]
    pub temporary_directories: Vec<PathUri>,
    /// The directory for temporary files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temp_dir: Option<PathUri>,
    /// What the executor can do beyond the basic methods.
    #[serde(default)]
    pub capabilities: Capabilities,
}

/// A shell's kind and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shell {
    /// `zsh`, `bash`, `sh`, `powershell` or `cmd`.
    pub name: String,
    /// Native path.
    pub path: String,
}

/// Feature flags. A flag that is missing on the wire is false.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Capabilities {
    /// `process/start` honours `networkProxy`.
    pub network_proxy_launch: bool,
    /// `networkProxy.proxy.reviewDomains` is understood.
    pub network_proxy_review_domains: bool,
    /// `networkProxy.proxy.credentialMasking` is understood.
    pub credential_masking: bool,
    /// `networkProxy.proxy.credentialProviders` is understood.
    pub credential_masking_custom_providers: bool,
    /// Capability discovery enforces the `sandbox` of each root.
    pub capability_discovery_sandbox: bool,
    /// `fs/watchMissing` exists.
    pub fs_watch_missing: bool,
    /// `capabilities/discoverV2` exists.
    pub capability_discovery_v2: bool,
    /// `environmentConfig/read` exists.
    pub environment_config_read: bool,
    /// `valueEnvVar` of HTTP headers works.
    pub http_header_env_vars: bool,
    /// `fs/open` accepts an enforced `sandbox`.
    pub sandboxed_file_streaming: bool,
    /// `fs/open` mode `replace` and `fs/writeBlock` exist.
    pub file_write_streaming: bool,
    /// `process/start` honours `shellSnapshot`.
    pub shell_snapshot_v2: bool,
    /// Windows container sandbox.
    pub windows_mxc: bool,
    /// Root-writable sandbox profiles keep device files intact.
    pub linux_root_write_preserves_devices: bool,
    /// Approved root-writable profiles keep their other restrictions.
    pub linux_approved_root_write_preserves_restrictions: bool,
    /// `process/closeStdin` exists. This and what follows are extensions of this project.
    pub process_stdin_close: bool,
    /// `process/resize` exists and `process/start` honours `terminal`.
    pub process_resize: bool,
    /// `process/signalGroup` exists.
    pub process_signal_group: bool,
    /// `process/terminate` honours `graceMs`.
    pub process_terminate_grace: bool,
    /// `process/list` exists.
    pub process_list: bool,
    /// `process/read` tells what was evicted.
    pub process_read_evicted: bool,
    /// `rpc/cancel` exists.
    pub request_cancel: bool,
    /// `session/close` exists.
    pub session_close: bool,
    /// `session/keep` exists.
    pub session_keep: bool,
    /// `fs/batch` exists.
    pub fs_batch: bool,
    /// `fs/batch` honours `bulkResults`.
    pub fs_batch_bulk: bool,
    /// `fs/append` exists.
    pub fs_append: bool,
    /// `fs/rename` exists.
    pub fs_rename: bool,
    /// `fs/sync` exists.
    pub fs_sync: bool,
    /// `fs/unwatchMissing` exists.
    pub fs_unwatch_missing: bool,
    /// `http/request` honours `streamRequestBody`, and `http/request/bodyChunk` exists.
    pub http_request_body_stream: bool,
    /// `http/cancel` exists.
    pub http_cancel: bool,
    /// `tcp/connect` and what belongs to it exist.
    pub tcp_streams: bool,
    /// `initialized` honours `bulk`: payloads may travel beside the JSON text.
    pub rpc_bulk: bool,
    /// `bulk` of `initialized` honours `zstd`.
    pub rpc_bulk_zstd: bool,
}

/// Liveness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// `ready`; no other value is defined.
    pub status: String,
}

impl Status {
    /// The only status there is.
    pub fn ready() -> Self {
        Self {
            status: "ready".to_owned(),
        }
    }
}
