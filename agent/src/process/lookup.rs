//! Which file a program's name means, with the answers of `execvp` but without its surprises.
//!
//! The C library's own lookup differs between libraries: one of them runs a file without `#!`
//! through a shell, the other reports it. Looking up here gives one behaviour, and lets the error
//! be known before the fork.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Where programs are looked for when the child has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/bin:/usr/bin";

/// Where additional executable formats are registered.
const BINFMT: &str = "/proc/sys/fs/binfmt_misc";

/// Finds `program`; the result contains a slash and is relative to `cwd` if it is not absolute.
///
/// # Errors
///
/// ENOENT, EACCES, ENOEXEC and so on, as `execvp` would report them.
pub(crate) fn find(program: &OsStr, path: Option<&OsStr>, cwd: &Path) -> io::Result<PathBuf> {
    if program.as_bytes().contains(&0) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "nul byte found in provided data",
        ));
    }
    if program.as_bytes().contains(&b'/') {
        check(&cwd.join(program))?;
        return Ok(PathBuf::from(program));
    }
    let mut denied = None;
    for dir in std::env::split_paths(path.unwrap_or(OsStr::new(DEFAULT_PATH))) {
        // An empty entry means the working directory; the dot keeps a slash in the result.
        let dir = if dir.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            dir
        };
        let candidate = dir.join(program);
        match check(&cwd.join(&candidate)) {
            Ok(()) => return Ok(candidate),
            Err(err) if err.kind() == io::ErrorKind::PermissionDenied => denied = Some(err),
            Err(err)
                if matches!(
                    err.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(err) => return Err(err),
        }
    }
    Err(denied.unwrap_or_else(|| Errno::NOENT.into()))
}

/// Whether the file could be executed.
fn check(path: &Path) -> io::Result<()> {
    if !fs::metadata(path)?.is_file() {
        return Err(Errno::ACCESS.into());
    }
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK)?;
    // A program may be executable without being readable; then only the kernel can tell.
    let Ok(mut file) = fs::OpenOptions::new()
        .read(true)
        .custom_flags(no_block())
        .open(path)
    else {
        return Ok(());
    };
    let mut magic = [0; 4];
    let read = file.read(&mut magic).unwrap_or(0);
    let known = magic.starts_with(b"#!") || magic == *b"\x7fELF";
    if (known && read >= 2) || has_other_formats() {
        Ok(())
    } else {
        Err(Errno::NOEXEC.into())
    }
}

/// Whether formats besides ELF and scripts are registered with the kernel.
fn has_other_formats() -> bool {
    fs::read_dir(BINFMT).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            name != "register" && name != "status"
        })
    })
}

fn no_block() -> i32 {
    i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn executable(dir: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn errno(result: io::Result<PathBuf>) -> Option<i32> {
        result.unwrap_err().raw_os_error()
    }

    #[test]
    fn first_executable_on_the_path_wins() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir_all(&a).unwrap();
        fs::create_dir_all(&b).unwrap();
        executable(&a, "prog", "#!/bin/sh\n", 0o644);
        let found = executable(&b, "prog", "#!/bin/sh\n", 0o755);
        let path = std::env::join_paths([&dir.path().join("none"), &a, &b]).unwrap();
        assert_eq!(
            find(OsStr::new("prog"), Some(&path), Path::new("/")).unwrap(),
            found
        );
        assert_eq!(
            errno(find(
                OsStr::new("prog"),
                Some(a.as_os_str()),
                Path::new("/")
            )),
            Some(13)
        );
        assert_eq!(
            errno(find(OsStr::new("other"), Some(&path), Path::new("/"))),
            Some(2)
        );
    }

    #[test]
    fn relative_names_count_from_the_working_directory() {
        let dir = tempfile::tempdir().unwrap();
        executable(dir.path(), "prog", "#!/bin/sh\n", 0o755);
        assert_eq!(
            find(OsStr::new("./prog"), None, dir.path()).unwrap(),
            Path::new("./prog")
        );
        assert_eq!(
            find(OsStr::new("prog"), Some(OsStr::new("")), dir.path()).unwrap(),
            Path::new("./prog")
        );
        assert!(
            find(OsStr::new("sh"), None, Path::new("/")).is_ok(),
            "on the default path"
        );
    }

    #[test]
    fn what_cannot_be_executed_is_told_before_the_fork() {
        let dir = tempfile::tempdir().unwrap();
        let find = |name: &str| find(OsStr::new(name), None, dir.path());
        assert_eq!(errno(find("./none")), Some(2));
        fs::create_dir(dir.path().join("d")).unwrap();
        assert_eq!(errno(find("./d")), Some(13));
        executable(dir.path(), "plain", "x", 0o644);
        assert_eq!(errno(find("./plain")), Some(13));
        assert_eq!(errno(find("./plain/x")), Some(20));
        if !has_other_formats() {
            executable(dir.path(), "noformat", "echo x\n", 0o755);
            assert_eq!(errno(find("./noformat")), Some(8));
        }
        assert_eq!(
            find("a\0b").unwrap_err().to_string(),
            "nul byte found in provided data"
        );
    }
}
