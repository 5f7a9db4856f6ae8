//! The container images, built for real without a daemon and without a registry of images.
//!
//! The base is made of Debian's packages, the programs are those that were built here, and `podman`
//! keeps everything below the target directory. What the images have to do is in
//! `tests/tests/packaging`; this only builds them, and says how to run them.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    cache::{Cache, recreate},
    commands::{output, root, succeed},
};

/// The images of one run, in a storage of their own; removed when dropped.
pub(crate) struct Images {
    directory: PathBuf,
}

impl Images {
    /// Builds all images of what is in `binaries`.
    ///
    /// # Errors
    ///
    /// When the base or an image cannot be built.
    pub(crate) fn build(cache: &Cache, binaries: &Path, directory: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&directory).context("failed to make the directory for images")?;
        let images = Self { directory };
        // What an interrupted run has left.
        images.remove()?;
        images.write_scripts()?;
        succeed(
            images
                .podman()
                .args(["import", "--quiet"])
                .arg(cache.debian_base()?)
                .arg(BASE),
        )?;
        let commit = output(
            Command::new("git")
                .args(["rev-parse", "HEAD"])
                .current_dir(root()?),
        )?;
        for (target, image) in TARGETS {
            succeed(
                images
                    .podman()
                    .args(["build", "--quiet", "--layers=false", "--network=host"])
                    .args(["--ulimit=nofile=4096:4096", "--ulimit=nproc=8192:8192"])
                    .args(["--target", target])
                    .args(["--tag", image])
                    .args(["--build-arg", &format!("BASE={BASE}")])
                    .args([
                        "--build-arg",
                        concat!("VERSION=", env!("CARGO_PKG_VERSION")),
                    ])
                    .args(["--build-arg", &format!("COMMIT={}", commit.trim())])
                    .arg("--build-context")
                    .arg(format!("binaries={}", binaries.display()))
                    .arg(root()?),
            )
            .with_context(|| format!("image {target}"))?;
        }
        Ok(images)
    }

    /// A directory with a script in the place of `exec-server`, which runs it in a container that
    /// sees the temporary files of this machine.
    pub(crate) fn programs(&self) -> PathBuf {
        self.directory.join("programs")
    }

    /// A script that runs `podman` on the storage.
    pub(crate) fn podman_script(&self) -> PathBuf {
        self.directory.join("podman")
    }

    /// How large they are, for the report.
    ///
    /// # Errors
    ///
    /// When they cannot be listed.
    pub(crate) fn sizes(&self) -> Result<String> {
        let listed =
            output(
                self.podman()
                    .args(["images", "--format", "{{.Repository}} {{.Size}}"]),
            )?;
        let mut sizes: Vec<_> = listed
            .lines()
            .map(|line| line.trim_start_matches("localhost/"))
            .collect();
        sizes.sort_unstable();
        Ok(sizes.join(", "))
    }

    fn podman(&self) -> Command {
        Command::new(self.podman_script())
    }

    fn write_scripts(&self) -> Result<()> {
        let directory = self.directory.display();
        write_script(
            &self.podman_script(),
            &format!(
                "exec podman --root '{directory}/storage' --runroot '{directory}/run' \
                 --storage-driver vfs --runtime runc --cgroup-manager cgroupfs \"$@\""
            ),
        )?;
        recreate(&self.programs())?;
        // The scenarios keep files where their player does, which belong to its user and are named by
        // process ids in them; without capabilities that user is like any other.
        write_script(
            &self.programs().join("exec-server"),
            &format!(
                "exec '{directory}/podman' run --rm --interactive --network=host --pid=host \
                 --read-only --cap-drop=all --security-opt=no-new-privileges \
                 --ulimit=nofile=4096:4096 --ulimit=nproc=8192:8192 \
                 --env='RPCPLAY_*' --env='NODE_REPL_*' --env=LC_CTYPE --env=CODEX_HOME \
                 --user=0:0 --volume=\"${{TMPDIR:-/tmp}}:${{TMPDIR:-/tmp}}\" {AGENT} \"$@\""
            ),
        )
    }

    /// Ends what still runs and removes the storage.
    fn remove(&self) -> Result<()> {
        if self.podman_script().is_file() {
            let mut end = self.podman();
            succeed(end.args(["rm", "--all", "--force", "--time", "0"]))?;
        }
        for name in ["storage", "run"] {
            let part = self.directory.join(name);
            if part.exists() {
                std::fs::remove_dir_all(part).context("failed to remove the storage of images")?;
            }
        }
        Ok(())
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("xtask: {error:#}");
        }
    }
}

fn write_script(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, format!("#!/bin/sh\n{text}\n"))
        .and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(0o755)))
        .with_context(|| format!("failed to write {}", path.display()))
}

const BASE: &str = "localhost/debian-base";
const AGENT: &str = "localhost/exec-server";

/// Targets of the `Dockerfile`, and what the tests call their images.
const TARGETS: [(&str, &str); 3] = [
    ("agent", AGENT),
    ("agent-static", "localhost/exec-server-static"),
    ("cloud", "localhost/exec-cloud"),
];
