//! The examples in `deploy/` and in the documents: what reads them takes them, and the programs start
//! as they say.

mod documents;
mod manifests;
mod monitoring;
mod programs;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// A file of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Runs a script of Python with `input` and returns what it prints.
fn python(arguments: &[&str], input: &str) -> Result<String> {
    let python = std::env::var_os("E2E_PYTHON")
        .context("E2E_PYTHON is not set; run `cargo run -p xtask -- packaging`")?;
    let mut child = Command::new(python)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let text = String::from_utf8(output.stdout)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {text}{errors}");
    Ok(text)
}

/// The documents of a YAML file.
fn yaml(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path)?;
    let script = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))";
    let json = python(&["-c", script], &text).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_str(&json)?)
}

/// All files of the Kubernetes base, but for the one that lists them.
fn manifest_files() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(repository("deploy/kubernetes"))? {
        let path = entry?.path();
        if !path.ends_with("kustomization.yaml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// All objects of the Kubernetes base.
fn objects() -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for file in manifest_files()? {
        objects.extend(yaml(&file)?);
    }
    Ok(objects)
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects
        .iter()
        .filter(|object| object["kind"] == kind)
        .collect()
}

/// What runs pods: each with its template.
fn workloads(objects: &[Value]) -> Vec<&Value> {
    let mut workloads = of_kind(objects, "Deployment");
    workloads.extend(of_kind(objects, "StatefulSet"));
    workloads
}

/// The one container of a workload.
fn container(workload: &Value) -> Result<&Value> {
    let containers = workload["spec"]["template"]["spec"]["containers"].as_array();
    let [container] = containers.context("no containers")?.as_slice() else {
        anyhow::bail!("not one container");
    };
    Ok(container)
}

/// The members of a list, none if there is no list.
fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
