//! `execctl cp`: files and directories both ways.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use harness::{Client, Command, Complete, Copied, CopyEvent, PathUri, Recursion, download, upload};
use serde_json::json;

use crate::{
    args::{Cp, Global},
    exit::Failure,
    output::Printer,
    progress::{Progress, per_second},
    session,
    target::{Target, common_environment},
};

/// Paths given to one remote program; the executor's limit on arguments is not known.
const BATCH: usize = 200;

/// Bytes of output of the remote helper programs.
const HELPER_OUTPUT: usize = 4 << 20;

/// Prints those of its arguments that are executable, each with a NUL.
const LIST_EXECUTABLE: &str = "for f do if [ -x \"$f\" ]; then printf '%s\\0' \"$f\"; fi; done";

/// Runs the subcommand.
pub(crate) async fn cp(global: &Global, args: Cp, printer: Printer) -> Result<u8, Failure> {
    let source = Target::parse(&args.source);
    let destination = Target::parse(&args.destination);
    let progress = Progress::new(!args.quiet && !printer.is_json());
    let complete = if args.resume {
        Complete::Skip
    } else {
        Complete::Copy
    };
    let began = Instant::now();
    let copied = match (&source, &destination) {
        (Target::Local(_), Target::Local(_)) => {
            return Err(Failure::usage(
                "one of the paths must be remote: ID:/path, or :/path",
            ));
        }
        (Target::Local(local), Target::Remote { environment, path }) => {
            let send = async |client: &Client| {
                send(client, local, path, complete, &progress, printer).await
            };
            session::within(global, environment.as_deref(), send).await?
        }
        (Target::Remote { environment, path }, Target::Local(local)) => {
            let fetch = async |client: &Client| {
                fetch(client, path, local, complete, &progress, printer).await
            };
            session::within(global, environment.as_deref(), fetch).await?
        }
        (
            Target::Remote {
                environment: a,
                path: from,
            },
            Target::Remote {
                environment: b,
                path: to,
            },
        ) => {
            let environment = common_environment([a, b]).map_err(|_| {
                Failure::usage("copying between environments goes by way of this machine")
            })?;
            let copy = async |client: &Client| within(client, from, to).await;
            session::within(global, environment.as_deref(), copy).await?;
            Copied::default()
        }
    };
    let elapsed = began.elapsed();
    progress.finished(&copied, elapsed);
    if printer.is_json() {
        let object = json!({
            "type": "copied", "files": copied.files, "directories": copied.directories,
            "bytes": copied.bytes, "unchanged": copied.unchanged, "skipped": copied.skipped,
            "elapsed_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            "bytes_per_second": per_second(copied.bytes, elapsed),
        });
        printer.result(&object, "")?;
    }
    Ok(0)
}

async fn send(
    client: &Client,
    local: &str,
    remote: &str,
    complete: Complete,
    progress: &Progress,
    printer: Printer,
) -> Result<Copied, Failure> {
    let fs = client.filesystem();
    let destination = client.resolve(remote)?;
    let contents_only = is_contents_only(local);
    let into = match fs.metadata(&destination).await {
        Ok(metadata) => metadata.is_directory && !contents_only,
        Err(error) if error.is_not_found() => false,
        Err(error) => return Err(Failure::from(error).context(remote)),
    };
    if !into && remote.ends_with('/') && !contents_only && !Path::new(local).is_dir() {
        return Err(Failure::other(format!("{remote}: no such directory")));
    }
    let target = if into {
        let name = base_name(Path::new(local))?;
        join(client, &destination, &name)?
    } else {
        destination
    };
    let mut executable = Vec::new();
    let copied = upload(Path::new(local), &fs, &target, complete, &mut |event| {
        if let CopyEvent::Executable(path) = &event {
            executable.push((*path).clone());
        }
        show(&event, progress, printer);
    })
    .await
    .map_err(|error| Failure::from(error).context(&format!("failed to copy to {remote}")))?;
    mark_remote(client, &executable, printer).await;
    Ok(copied)
}

async fn fetch(
    client: &Client,
    remote: &str,
    local: &str,
    complete: Complete,
    progress: &Progress,
    printer: Printer,
) -> Result<Copied, Failure> {
    let source = client.resolve(remote)?;
    let contents_only = is_contents_only(remote);
    let mut target = PathBuf::from(local);
    if target.is_dir() && !contents_only {
        let native = source
            .to_native()
            .map_err(|error| Failure::usage(error.to_string()))?;
        target.push(base_name(&native)?);
    } else if local.ends_with('/')
        && !target.exists()
        && !client.filesystem().metadata(&source).await?.is_directory
    {
        return Err(Failure::other(format!("{local}: no such directory")));
    }
    let mut files = Vec::new();
    let copied = download(
        &client.filesystem(),
        &source,
        &target,
        complete,
        &mut |event| {
            if let CopyEvent::File { source, .. } | CopyEvent::Unchanged { source, .. } = &event {
                files.extend(PathUri::parse(source));
            }
            show(&event, progress, printer);
        },
    )
    .await
    .map_err(|error| Failure::from(error).context(remote))?;
    mark_local(client, &source, &files, &target).await;
    Ok(copied)
}

/// Copies on the executor itself.
async fn within(client: &Client, from: &str, to: &str) -> Result<(), Failure> {
    let fs = client.filesystem();
    let source = client.resolve(from)?;
    let mut target = client.resolve(to)?;
    match fs.metadata(&target).await {
        Ok(metadata) if metadata.is_directory && !is_contents_only(from) => {
            let native = source
                .to_native()
                .map_err(|error| Failure::usage(error.to_string()))?;
            target = join(client, &target, &base_name(&native)?)?;
        }
        _ => {}
    }
    if source == target {
        // The executor would empty the file.
        return Err(Failure::usage("source and destination are the same path"));
    }
    Ok(fs.copy(&source, &target, Recursion::Recursive).await?)
}

fn show(event: &CopyEvent<'_>, progress: &Progress, printer: Printer) {
    match event {
        CopyEvent::File { source, size } => progress.file(source, *size),
        CopyEvent::Bytes(bytes) => progress.moved(*bytes),
        CopyEvent::Unchanged { source, size } => {
            progress.file(source, *size);
            progress.there(*size);
        }
        CopyEvent::Restart(bytes) => progress.moved_back(*bytes),
        CopyEvent::Skipped { source, why } => {
            if printer.is_json() {
                let object = json!({ "type": "skipped", "path": source, "reason": why });
                // The result line that follows fails in the same way, and is checked.
                let _ = printer.result(&object, "");
            } else {
                progress.suspend(|| printer.note(&format!("skipped {source}: {why}")));
            }
        }
        _ => {}
    }
}

/// Makes copied files executable on the executor, which has only programs for that.
async fn mark_remote(client: &Client, files: &[PathUri], printer: Printer) {
    let paths: Vec<String> = files.iter().filter_map(native_text).collect();
    for batch in paths.chunks(BATCH) {
        let argv = ["chmod", "+x", "--"]
            .into_iter()
            .map(str::to_owned)
            .chain(batch.iter().cloned());
        let done = async {
            client
                .start(Command::new(argv))
                .await?
                .output(HELPER_OUTPUT)
                .await
        };
        if !done.await.is_ok_and(|output| output.status.code == 0) {
            printer.note("some copied programs could not be made executable on the executor");
            return;
        }
    }
}

/// Makes local copies executable whose originals are. Without a shell there nothing happens.
async fn mark_local(client: &Client, source: &PathUri, files: &[PathUri], target: &Path) {
    let Some(root) = native_text(source) else {
        return;
    };
    let paths: Vec<String> = files.iter().filter_map(native_text).collect();
    for batch in paths.chunks(BATCH) {
        let head = ["/bin/sh", "-c", LIST_EXECUTABLE, "sh"]
            .into_iter()
            .map(str::to_owned);
        let argv = head.chain(batch.iter().cloned());
        let listed = async {
            client
                .start(Command::new(argv))
                .await?
                .output(HELPER_OUTPUT)
                .await
        };
        let Ok(output) = listed.await else { return };
        let Ok(text) = String::from_utf8(output.stdout) else {
            return;
        };
        for path in text.split_terminator('\0') {
            let Ok(relative) = Path::new(path).strip_prefix(&root) else {
                continue;
            };
            // A single file is the target itself.
            let local = if relative.as_os_str().is_empty() {
                target.to_owned()
            } else {
                target.join(relative)
            };
            make_executable(&local);
        }
    }
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    if let Ok(metadata) = std::fs::metadata(path) {
        let mode = metadata.permissions().mode();
        // Whoever may read it may execute it.
        let mode = mode | (mode & 0o444) >> 2;
        if let Err(error) = std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)) {
            tracing::debug!(error = %error, "a copied program is not executable");
        }
    }
}

fn native_text(uri: &PathUri) -> Option<String> {
    uri.to_native().ok()?.into_os_string().into_string().ok()
}

fn join(client: &Client, directory: &PathUri, name: &str) -> Result<PathUri, Failure> {
    let native = directory
        .to_native()
        .map_err(|error| Failure::usage(error.to_string()))?;
    let joined = native.join(name);
    let text = joined
        .to_str()
        .ok_or_else(|| Failure::usage("a remote path is not text"))?;
    Ok(client.resolve(text)?)
}

fn base_name(path: &Path) -> Result<String, Failure> {
    let name = match path.file_name() {
        Some(name) => Some(name.to_owned()),
        // Such as `.` or `..`.
        None => path
            .canonicalize()
            .ok()
            .and_then(|path| path.file_name().map(ToOwned::to_owned)),
    };
    name.and_then(|name| name.into_string().ok())
        .ok_or_else(|| Failure::usage(format!("{} has no name to copy it under", path.display())))
}

fn is_contents_only(path: &str) -> bool {
    path == "." || path.ends_with("/.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_dot_means_the_contents() {
        assert!(is_contents_only("a/.") && is_contents_only("."));
        assert!(!is_contents_only("a") && !is_contents_only("a/") && !is_contents_only("a."));
    }

    #[test]
    fn name_of_a_path_ignores_a_trailing_slash() {
        assert_eq!(base_name(Path::new("/a/b/")).unwrap(), "b");
        assert!(base_name(Path::new("/")).is_err());
    }
}
