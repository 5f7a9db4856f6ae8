//! Proxy variables: those that a command gets, and those that it was given by others.

use std::ffi::OsStr;

use url::Url;

use crate::environment::Variables;

/// Writes the variables that lead to the proxy over whatever was there.
///
/// `socks` is the port of the SOCKS proxy, if there is one; `local` whether local binding is allowed.
pub(super) fn set(variables: &mut Variables, http: u16, socks: Option<u16>, local: bool) {
    let http = format!("http://127.0.0.1:{http}");
    let all = socks.map_or_else(
        || http.clone(),
        |port| format!("socks5h://127.0.0.1:{port}"),
    );
    let direct = if local { LOCAL } else { "" };
    let groups: [(&[&str], &str); 4] = [
        (&HTTP, &http),
        (&ALL, &all),
        (&NONE, direct),
        (&["CODEX_NETWORK_PROXY_ACTIVE"], "1"),
    ];
    let mut put = |name: &str, value: &str| variables.insert(name.into(), value.into());
    for (names, value) in groups {
        for name in names {
            put(name, value);
        }
    }
    put(
        "CODEX_NETWORK_ALLOW_LOCAL_BINDING",
        if local { "1" } else { "0" },
    );
    for name in ["ELECTRON_GET_USE_PROXY", "NODE_USE_ENV_PROXY"] {
        put(
            name,
            if name.starts_with("NODE") {
                "1"
            } else {
                "true"
            },
        );
    }
}

/// Why variables name no proxy that a command could be confined to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoProxy {
    #[error("managed proxy mode requires proxy environment variables")]
    Missing,
    #[error("managed proxy mode requires parseable loopback proxy endpoints")]
    NotLoopback,
}

/// The loopback ports that proxy variables name. Empty values count as absent.
pub(super) fn proxy_ports(variables: &Variables) -> Result<Vec<u16>, NoProxy> {
    let mut ports = Vec::new();
    for name in HTTP.iter().chain(&ALL) {
        let value = variables.get(OsStr::new(name));
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            continue;
        };
        let port = value.to_str().and_then(loopback_port);
        ports.push(port.ok_or(NoProxy::NotLoopback)?);
    }
    ports.sort_unstable();
    ports.dedup();
    if ports.is_empty() {
        return Err(NoProxy::Missing);
    }
    Ok(ports)
}

/// The port of an address like `http://127.0.0.1:3128`. The scheme may be left out.
fn loopback_port(value: &str) -> Option<u16> {
    let url = if value.contains("://") {
        Url::parse(value)
    } else {
        Url::parse(&format!("http://{value}"))
    }
    .ok()?;
    let is_loopback = matches!(url.host_str()?, "127.0.0.1" | "localhost");
    let port = url.port_or_known_default().or_else(|| {
        let is_socks = url.scheme().starts_with("socks");
        is_socks.then_some(1080)
    })?;
    (is_loopback && port != 0).then_some(port)
}

const HTTP: [&str; 21] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
    "WS_PROXY",
    "WSS_PROXY",
    "ws_proxy",
    "wss_proxy",
    "YARN_HTTP_PROXY",
    "YARN_HTTPS_PROXY",
    "npm_config_http_proxy",
    "npm_config_https_proxy",
    "npm_config_proxy",
    "NPM_CONFIG_HTTP_PROXY",
    "NPM_CONFIG_HTTPS_PROXY",
    "NPM_CONFIG_PROXY",
    "BUNDLE_HTTP_PROXY",
    "BUNDLE_HTTPS_PROXY",
    "PIP_PROXY",
    "DOCKER_HTTP_PROXY",
    "DOCKER_HTTPS_PROXY",
];

const ALL: [&str; 4] = ["ALL_PROXY", "all_proxy", "FTP_PROXY", "ftp_proxy"];

/// What is reached without a proxy.
const NONE: [&str; 6] = [
    "NO_PROXY",
    "no_proxy",
    "npm_config_noproxy",
    "NPM_CONFIG_NOPROXY",
    "YARN_NO_PROXY",
    "BUNDLE_NO_PROXY",
];

const LOCAL: &str = "localhost,127.0.0.1,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16";

#[cfg(test)]
mod tests {
    use super::*;

    fn variables<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Variables {
        let own = |(name, value): (&str, &str)| (name.into(), value.into());
        pairs.into_iter().map(own).collect()
    }

    #[test]
    fn a_command_gets_every_variable_and_no_old_value() {
        let mut set_by_client = variables([("https_proxy", "http://evil"), ("NO_PROXY", "*")]);
        set(&mut set_by_client, 1, Some(2), false);
        assert_eq!(set_by_client.len(), 21 + 4 + 6 + 4);
        for (name, value) in &set_by_client {
            let expected = match name.to_str().unwrap() {
                name if HTTP.contains(&name) => "http://127.0.0.1:1",
                name if ALL.contains(&name) => "socks5h://127.0.0.1:2",
                name if NONE.contains(&name) => "",
                "CODEX_NETWORK_ALLOW_LOCAL_BINDING" => "0",
                "ELECTRON_GET_USE_PROXY" => "true",
                _ => "1",
            };
            assert_eq!(value, expected, "{name:?}");
        }
        set(&mut set_by_client, 1, None, true);
        assert_eq!(set_by_client[OsStr::new("ALL_PROXY")], "http://127.0.0.1:1");
        assert_eq!(set_by_client[OsStr::new("no_proxy")], LOCAL);
        let flag = OsStr::new("CODEX_NETWORK_ALLOW_LOCAL_BINDING");
        assert_eq!(set_by_client[flag], "1");
    }

    #[test]
    fn ports_of_others_are_on_loopback() {
        let ports = |pairs: &[(&str, &str)]| proxy_ports(&variables(pairs.iter().copied()));
        assert_eq!(
            ports(&[
                ("HTTP_PROXY", "http://127.0.0.1:3128"),
                ("https_proxy", "localhost:3128"),
                ("ALL_PROXY", "socks5h://127.0.0.1"),
                ("FTP_PROXY", ""),
                ("PATH", "/bin"),
            ]),
            Ok(vec![1080, 3128])
        );
        assert_eq!(
            ports(&[("PATH", "/bin"), ("NO_PROXY", "*")]),
            Err(NoProxy::Missing)
        );
        for value in [
            "http://proxy.example:3128",
            "http://127.0.0.2:1",
            "http://[::1]:1",
            "http://127.0.0.1:0",
            "http://127.0.0.1.evil.example:1",
            "http://127.0.0.1@evil.example:1",
            "::",
            "ftp",
        ] {
            let found = ports(&[("HTTP_PROXY", "http://127.0.0.1:1"), ("ALL_PROXY", value)]);
            assert_eq!(found, Err(NoProxy::NotLoopback), "{value}");
        }
    }
}
