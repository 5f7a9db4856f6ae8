//! Limits of what programs may reach, from the command line through the relay to the kernel.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};

use anyhow::Result;
use testkit::{
    processes::{Agent, Cloud, Execctl},
    workspace::Workspace,
};

/// A server that answers everything with `reached`.
fn server() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut seen = Vec::new();
            let mut byte = [0];
            while !seen.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                seen.push(byte[0]);
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nreached");
        }
    });
    Ok(port)
}

/// Opens a connection to `$1`, asks for `$2` and shows what comes; without a connection, `closed`.
const FETCH: &str = r#"
exec 3<>"/dev/tcp/${1%:*}/${1##*:}" || { echo closed; exit; }
printf 'GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$2" "$3" >&3
cat <&3
"#;

#[tokio::test]
async fn program_reaches_only_the_hosts_that_it_may() -> Result<()> {
    let workspace = Workspace::new()?;
    let cloud = Cloud::start().await?;
    let _executor = Agent::start(&cloud, &workspace, &[]).await?;
    let execctl = Execctl::new(&cloud);
    let host = format!("127.0.0.1:{}", server()?);
    let proxied = format!(
        r#"fetch() {{ {FETCH} }} 2>/dev/null
        fetch "${{HTTP_PROXY#*//}}" "http://$1/" "$1""#
    );
    let direct = format!("fetch() {{ {FETCH} }} 2>/dev/null; fetch \"$1\" / \"$1\"");
    for (flags, script, target, expected) in [
        (
            &["--allow-host", "127.0.0.1"][..],
            &proxied,
            host.as_str(),
            "reached",
        ),
        (&["--allow-host", "127.0.0.1"], &direct, &host, "closed"),
        (
            &["--allow-host", "*.example.com"],
            &proxied,
            &host,
            "not_allowed_local",
        ),
        (
            &["--allow-host", "*.example.com"],
            &proxied,
            "example.com",
            "not_allowed",
        ),
        (
            &["--allow-host", "*"],
            &proxied,
            "169.254.169.254",
            "not_allowed_local",
        ),
        (&[], &direct, &host, "reached"),
    ] {
        let program = ["--", "bash", "-c", script.as_str(), "bash", target];
        let args = ["run", "-n"].iter().chain(flags).chain(&program);
        let run = execctl.run(args).await?;
        let output = String::from_utf8_lossy(&run.stdout);
        assert!(
            output.contains(expected),
            "{flags:?} {target} {output} {}",
            run.stderr
        );
    }
    let run = execctl
        .run(["run", "-n", "--allow-host", "http://x", "--", "true"])
        .await?;
    assert_ne!(run.code(), Some(0));
    assert!(
        run.stderr.contains("unsupported domain pattern syntax"),
        "{}",
        run.stderr
    );
    Ok(())
}
