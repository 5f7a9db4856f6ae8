//! What the binary links: nothing that could read what it forwards.

#![allow(clippy::unwrap_used, reason = "failing is how a test reports")]

use std::process::Command;

fn tree(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--package",
            "server",
            "--edges",
            "normal",
        ])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn neither_ciphers_nor_streams_of_the_relay_are_linked() {
    let tree = tree(&["--prefix", "none", "--format", "{p}"]);
    let packages: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    for expected in ["relay-proto", "registry-client", "axum"] {
        assert!(
            packages.contains(&expected),
            "the tree is not what this test takes it for"
        );
    }
    for forbidden in [
        "clatter",
        "libcrux-ml-kem",
        "relay-driver",
        "harness",
        "agent",
    ] {
        assert!(!packages.contains(&forbidden), "{forbidden} is linked");
    }
}

#[test]
fn relay_proto_is_built_without_its_features() {
    let tree = tree(&["--prefix", "none", "--format", "{p} [{f}]"]);
    let mut lines = tree.lines();
    let line = lines.find(|line| line.starts_with("relay-proto ")).unwrap();
    assert!(line.contains("[]"), "features are on: {line}");
}
