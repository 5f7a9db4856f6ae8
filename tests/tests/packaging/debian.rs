//! The Debian packages, installed into a Debian system and removed from it.
//!
//! The system is a directory; `systemctl` in it only notes what it is told.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

/// An installed system.
struct System {
    directory: TempDir,
    packages: PathBuf,
}

impl System {
    fn new() -> Result<Self> {
        let from = |name| {
            let hint = "is not set; run `cargo run -p xtask -- packaging`";
            std::env::var_os(name).with_context(|| format!("{name} {hint}"))
        };
        let directory = tempfile::tempdir()?;
        run(Command::new("tar")
            .args(["--extract", "--exclude=./dev/*", "--file"])
            .arg(from("E2E_DEBIAN")?)
            .arg("--directory")
            .arg(directory.path()))?;
        let system = Self {
            directory,
            packages: from("E2E_PACKAGES")?.into(),
        };
        fs::create_dir_all(system.path("run/systemd/system"))?;
        // Other packages have it, and the base comes without what they put into it.
        fs::create_dir_all(system.path("usr/share/man/man1"))?;
        let systemctl = system.path("usr/bin/systemctl");
        fs::write(&systemctl, "#!/bin/sh\necho \"$@\" >> /run/asked\n")?;
        fs::set_permissions(&systemctl, Permissions::from_mode(0o755))?;
        // For what writes to it.
        fs::write(system.path("dev/null"), "")?;
        Ok(system)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    /// Runs a program of the system.
    fn run(&self, command: &[&str]) -> Result<String> {
        let mut chroot = Command::new("chroot");
        chroot.arg(self.directory.path()).args(command);
        chroot.env("DEBIAN_FRONTEND", "noninteractive");
        chroot.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        run(&mut chroot)
    }

    fn install(&self) -> Result<()> {
        for entry in fs::read_dir(&self.packages)? {
            let name = entry?.file_name();
            fs::copy(self.packages.join(&name), self.path("tmp").join(&name))?;
        }
        self.run(&[
            "sh",
            "-c",
            "dpkg --force-unsafe-io --install /tmp/*.deb && rm /tmp/*.deb",
        ])?;
        Ok(())
    }

    /// What `systemctl` was told since the last call.
    fn asked(&self) -> String {
        let file = self.path("run/asked");
        let asked = fs::read_to_string(&file).unwrap_or_default();
        // There is none when nothing was asked.
        let _ = fs::remove_file(file);
        asked
    }

    /// All files, but for the books of dpkg itself.
    fn files(&self) -> Result<BTreeSet<String>> {
        let list = run(Command::new("find")
            .arg(self.directory.path())
            .args(["-printf", "/%P %m %u %l\n"]))?;
        let books = ["/var/lib/dpkg/", "/var/log/", "/var/cache/"];
        let lines = list.lines().map(str::to_owned);
        Ok(lines
            .filter(|line| !books.iter().any(|book| line.starts_with(book)))
            .collect())
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {text}{errors}");
    Ok(text)
}

const PROGRAMS: [&str; 3] = ["exec-server", "exec-cloud", "execctl"];

#[test]
fn programs_run_and_systemd_takes_the_units() -> Result<()> {
    let system = System::new()?;
    system.install()?;
    assert_eq!(system.asked(), "daemon-reload\ndaemon-reload\n");
    for program in PROGRAMS {
        let version = system.run(&[program, "--version"])?;
        let installed =
            system.run(&["dpkg-query", "--show", "--showformat=${Version}", program])?;
        assert_eq!(version.trim(), format!("{program} {installed}"));
    }
    // What the units refer to is part of systemd, which a small system lacks.
    run(Command::new("cp")
        .args(["--archive", "/usr/lib/systemd/system/."])
        .arg(system.path("usr/lib/systemd/system")))?;
    for name in ["exec-server", "exec-cloud"] {
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--root"])
            .arg(system.directory.path())
            .arg(format!("{name}.service"))
            .env("SYSTEMD_LOG_COLOR", "0")
            .output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{name}: {text}");
        for word in ["ignoring", "Unknown"] {
            ensure!(!text.contains(word), "{name}: {text}");
        }
        let unit =
            fs::read_to_string(system.path(&format!("usr/lib/systemd/system/{name}.service")))?;
        for file in [
            format!("/usr/bin/{name}"),
            format!("/etc/{name}/{name}.env"),
        ] {
            ensure!(unit.contains(&file), "{name}.service does not use {file}");
            ensure!(system.path(&file[1..]).is_file(), "no {file}");
        }
    }
    Ok(())
}

/// What comes with a program is what it prints itself.
#[test]
fn man_pages_and_completions_are_installed() -> Result<()> {
    let system = System::new()?;
    system.install()?;
    for program in PROGRAMS {
        let page = format!("/usr/share/man/man1/{program}.1.gz");
        let shown = system.run(&["gzip", "--decompress", "--stdout", &page])?;
        assert_eq!(shown, system.run(&[program, "man"])?);
        for (shell, file) in [
            ("bash", format!("bash-completion/completions/{program}")),
            ("zsh", format!("zsh/vendor-completions/_{program}")),
            ("fish", format!("fish/vendor_completions.d/{program}.fish")),
        ] {
            let file = format!("/usr/share/{file}");
            let installed = fs::read_to_string(system.path(&file[1..]))?;
            assert_eq!(installed, system.run(&[program, "completions", shell])?);
            if shell == "bash" {
                let script = format!(". {file} && complete -p {program}");
                let known = system.run(&["bash", "-c", &script])?;
                ensure!(known.contains(program), "{known}");
            }
        }
    }
    // Each of the commands has a page of its own.
    for page in [
        "exec-cloud-serve",
        "exec-cloud-token-create",
        "exec-server-sandbox",
        "execctl-run",
    ] {
        let page = format!("usr/share/man/man1/{page}.1.gz");
        ensure!(system.path(&page).is_file(), "no {page}");
    }
    Ok(())
}

/// What an operator wrote stays until it is purged, and then nothing is left.
#[test]
fn removal_leaves_the_configuration_and_purging_nothing() -> Result<()> {
    let system = System::new()?;
    let before = system.files()?;
    system.install()?;
    let options = system.path("etc/exec-server/exec-server.env");
    let written =
        "EXEC_SERVER_REMOTE_URL=https://exec.example.com\nEXEC_SERVER_ENVIRONMENT_ID=box\n";
    fs::write(&options, written)?;
    // As systemd makes it for a service with a user of its own.
    let state = system.path("var/lib/private/exec-server");
    fs::create_dir_all(&state)?;
    fs::set_permissions(
        system.path("var/lib/private"),
        Permissions::from_mode(0o700),
    )?;
    std::os::unix::fs::symlink("private/exec-server", system.path("var/lib/exec-server"))?;

    // The same again: nobody is asked, and the file stays.
    system.install()?;
    assert_eq!(fs::read_to_string(&options)?, written);
    let asked = system.asked();
    ensure!(!asked.contains("disable"), "an upgrade stops it: {asked}");

    let mut remove = vec!["dpkg", "--force-unsafe-io", "--remove"];
    remove.extend(PROGRAMS);
    system.run(&remove)?;
    let asked = system.asked();
    for name in ["exec-server", "exec-cloud"] {
        let stop = format!("disable --now {name}.service");
        ensure!(asked.contains(&stop), "{name} still runs: {asked}");
    }
    assert_eq!(fs::read_to_string(&options)?, written);
    ensure!(state.is_dir() && !system.path("usr/bin/exec-server").exists());

    let mut purge = vec!["dpkg", "--force-unsafe-io", "--purge"];
    purge.extend(PROGRAMS);
    system.run(&purge)?;
    system.asked();
    fs::remove_dir(system.path("var/lib/private"))?;
    let left: Vec<_> = system.files()?.difference(&before).cloned().collect();
    assert_eq!(left, Vec::<String>::new());
    Ok(())
}

/// The commented examples in the configuration files are what the programs take.
#[test]
fn examples_in_the_configuration_are_valid() -> Result<()> {
    let system = System::new()?;
    system.install()?;
    let authority = Path::new("etc/ssl/certs/private.pem");
    fs::create_dir_all(
        system
            .directory
            .path()
            .join(authority)
            .parent()
            .context("no parent")?,
    )?;
    for name in ["exec-server", "exec-cloud"] {
        let text = fs::read_to_string(system.path(&format!("etc/{name}/{name}.env")))?;
        let examples: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .filter(|line| line.starts_with(char::is_uppercase) && line.contains('='))
            .collect();
        ensure!(examples.len() > 2, "{text}");
        let help = match name {
            "exec-server" => system.run(&[name, "--help"])?,
            _ => system.run(&[name, "serve", "--help"])?,
        };
        for example in &examples {
            let (variable, _) = example.split_once('=').context("no value")?;
            let known = help.contains(variable) || variable == "SSL_CERT_FILE";
            ensure!(known, "{name} has no {variable}");
        }
        if name == "exec-server" {
            let mut check = vec!["env"];
            check.extend(
                examples
                    .iter()
                    .filter(|example| !example.starts_with("SSL_")),
            );
            check.extend([name, "--token-file=/etc/hostname", "--check-config"]);
            system.run(&check)?;
        }
    }
    Ok(())
}
