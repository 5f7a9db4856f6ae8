//! The user's shell and home directory, from the password file.
//!
//! The file is read directly: name service modules would need a C library call and a statically
//! linked program has none. A user that is not in the file falls back to the shells on `PATH`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use exec_proto::environment::Shell;

/// What the password file says about the executor's user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct User {
    pub(super) home: Option<PathBuf>,
    pub(super) shell: Option<PathBuf>,
}

impl User {
    pub(super) fn current() -> Self {
        let uid = rustix::process::getuid().as_raw();
        std::fs::read("/etc/passwd")
            .map(|file| Self::find(&file, uid))
            .unwrap_or_default()
    }

    fn find(passwd: &[u8], uid: u32) -> Self {
        let uid = uid.to_string();
        for line in passwd.split(|byte| *byte == b'\n') {
            let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
            if let [_, _, found, _, _, home, shell, ..] = fields.as_slice()
                && *found == uid.as_bytes()
            {
                let path = |bytes: &[u8]| {
                    (!bytes.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(bytes)))
                };
                return Self {
                    home: path(home),
                    shell: path(shell),
                };
            }
        }
        Self::default()
    }
}

/// The login shell if it is one that clients know, else bash or zsh, else `/bin/sh`.
/// `$SHELL` is not consulted: it may be that of whoever started the service.
pub(super) fn detect(user: &User, path: Option<&OsStr>) -> Shell {
    if let Some(login) = &user.shell
        && let Some(name) = known_name(login)
        && login.exists()
    {
        return shell(name, login);
    }
    let fallbacks = [
        ("bash", ["/bin/bash", "/usr/bin/bash"].as_slice()),
        ("zsh", ["/bin/zsh"].as_slice()),
    ];
    for (name, places) in fallbacks {
        let on_path = path
            .into_iter()
            .flat_map(std::env::split_paths)
            .map(|dir| dir.join(name));
        let found = on_path
            .filter(|candidate| candidate.is_absolute())
            .chain(places.iter().map(PathBuf::from))
            .find(|candidate| candidate.is_file());
        if let Some(found) = found {
            return shell(name, &found);
        }
    }
    shell("sh", Path::new("/bin/sh"))
}

fn known_name(shell: &Path) -> Option<&'static str> {
    match shell.file_name()?.to_str()? {
        "zsh" => Some("zsh"),
        "bash" => Some("bash"),
        "sh" => Some("sh"),
        "pwsh" | "powershell" => Some("powershell"),
        "cmd" => Some("cmd"),
        _ => None,
    }
}

fn shell(name: &str, path: &Path) -> Shell {
    Shell {
        name: name.to_owned(),
        path: path.to_string_lossy().into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/bash\nbroken\nu:x:1000:1000::/home/u:\n";

    #[test]
    fn user_is_found_by_number() {
        let root = User::find(PASSWD, 0);
        assert_eq!(root.home.as_deref(), Some(Path::new("/root")));
        assert_eq!(root.shell.as_deref(), Some(Path::new("/bin/bash")));
        let user = User::find(PASSWD, 1000);
        assert_eq!((user.home.is_some(), user.shell), (true, None));
        assert_eq!(User::find(PASSWD, 7), User::default());
    }

    #[test]
    fn unknown_or_missing_login_shell_falls_back() {
        let dir = tempfile::tempdir().unwrap();
        let bash = dir.path().join("bash");
        std::fs::write(&bash, "").unwrap();
        for login in ["/usr/sbin/nologin", "/no/such/zsh"] {
            let user = User {
                home: None,
                shell: Some(login.into()),
            };
            let found = detect(&user, Some(dir.path().as_os_str()));
            assert_eq!(
                (found.name.as_str(), found.path),
                ("bash", bash.to_str().unwrap().into())
            );
        }
    }

    #[test]
    fn login_shell_that_exists_wins() {
        let user = User {
            home: None,
            shell: Some("/bin/sh".into()),
        };
        assert_eq!(detect(&user, None), shell("sh", Path::new("/bin/sh")));
    }
}
