//! What each shell is told to say, and how it brings that back.
//!
//! | | capture | restored by | functions |
//! |---|---|---|---|
//! | bash | `-lc` | `-pc`, from a memory file | all |
//! | zsh | `-lc` | `-fc`, from a memory file | all, autoloaded ones too |
//! | sh | `-v -lc` | `-c`, from a variable | if it is bash; otherwise a profile with functions is not captured |
//!
//! The POSIX shell cannot list its functions, and a restored one would miss them. So it echoes the
//! profile while reading it (`-v`), and a profile that may define a function counts as one that
//! cannot be captured. It also closes descriptors of one digit only, so its state, which is small, is
//! passed as a variable that it unsets before anything else.
//!
//! Words of these scripts are quoted where the profile may have given them to an alias, and builtins
//! are named as such where it may have given them to a function.

use std::os::fd::RawFd;

/// Carries the state of a POSIX shell.
pub(super) const STATE_VARIABLE: &str = "EXEC_SERVER_SHELL_STATE";

/// A shell whose state can be captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shell {
    Bash,
    Zsh,
    /// Whatever `sh` is here.
    Posix,
}

/// What a capturing shell said, between the marks.
pub(super) struct Sections<'a> {
    /// Before the first mark, so the profile's own output.
    pub(super) noise: &'a [u8],
    /// Commands that set options.
    pub(super) options: &'a [u8],
    /// The environment of a child.
    pub(super) environ: &'a [u8],
    /// Commands that make the rest, or what such commands are made of.
    pub(super) state: &'a [u8],
}

impl Shell {
    /// By the name that clients use.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "bash" => Some(Self::Bash),
            "zsh" => Some(Self::Zsh),
            "sh" => Some(Self::Posix),
            _ => None,
        }
    }

    /// The login shell that says what the profile left behind.
    pub(super) fn capture(self, path: &str, mark: &str) -> Vec<String> {
        let script = match self {
            Self::Bash => CAPTURE_BASH,
            Self::Zsh => CAPTURE_ZSH,
            Self::Posix => CAPTURE_POSIX,
        };
        let script = script.replace("MARK", mark);
        let words = match self {
            Self::Bash | Self::Zsh => vec![path, "-lc", &script],
            // Standard error has the echo.
            Self::Posix => vec![path, "-c", "exec \"$0\" -v -lc \"$1\" 2>&1", path, &script],
        };
        words.into_iter().map(str::to_owned).collect()
    }

    /// What a restored shell is started with before its script.
    pub(super) fn flags(self) -> &'static str {
        match self {
            Self::Bash => "-pc",
            Self::Zsh => "-fc",
            Self::Posix => "-c",
        }
    }

    /// Whether the state is passed as a variable, and not as a file.
    pub(super) fn takes_variable(self) -> bool {
        self == Self::Posix
    }

    /// What a restored shell runs: `$1` is the command, the rest are its arguments. The command is
    /// evaluated after the state is back, so that it is parsed with the aliases and options.
    pub(super) fn prologue(self, state: RawFd) -> String {
        match self {
            Self::Bash => PROLOGUE_BASH,
            Self::Zsh => PROLOGUE_ZSH,
            Self::Posix => PROLOGUE_POSIX,
        }
        .replace("NUMBER", &state.to_string())
        .replace("DIGIT", if state == 9 { "8" } else { "9" })
    }

    /// The commands that bring everything but the variables back. `None` if there are none that do.
    pub(super) fn commands(self, said: &Sections<'_>) -> Option<Vec<u8>> {
        let mut commands = match self {
            Self::Bash => [said.state, said.options].concat(),
            Self::Zsh => zsh_commands(said),
            Self::Posix => match said.state.strip_prefix(b"bash\n") {
                Some(state) => [state, b"\n", said.options].concat(),
                None if may_define_functions(said.noise) => return None,
                None => [&posix_aliases(said.state)?, said.options].concat(),
            },
        };
        commands.extend_from_slice(b"\ntrue\n");
        Some(commands)
    }
}

/// Options that change how functions are read come before them; those that could get in the way of
/// restoring, and aliases that must not be expanded meanwhile, come last.
fn zsh_commands(said: &Sections<'_>) -> Vec<u8> {
    let lines = || said.options.split(|byte| *byte == b'\n');
    let is_late = |line: &&[u8]| {
        let name = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        let name = name.strip_prefix(b"no").unwrap_or(name);
        LATE_ZSH.iter().any(|late| late.as_bytes() == name)
    };
    let early: Vec<&[u8]> = lines().filter(|line| !is_late(line)).collect();
    let late: Vec<&[u8]> = lines().filter(is_late).collect();
    let (early, late) = (early.join(&b'\n'), late.join(&b'\n'));
    [
        &early,
        &b"\n"[..],
        b"unsetopt aliases\n",
        said.state,
        b"\n",
        &late,
    ]
    .concat()
}

/// Whether what was read while the profile ran could define a function. Says yes to much that does
/// not; an `eval` could define anything.
fn may_define_functions(text: &[u8]) -> bool {
    let mut is_open = false;
    let has_parentheses = text.iter().any(|byte| match byte {
        b'(' => {
            is_open = true;
            false
        }
        b')' => is_open,
        // Between the two there may be blanks, and a line that goes on.
        b' ' | b'\t' | b'\n' | b'\\' => false,
        _ => {
            is_open = false;
            false
        }
    });
    let mut words = text.split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
    has_parentheses || words.any(|word| matches!(word, b"eval" | b"function"))
}

/// Makes commands of what `alias` prints: `name='value'`, in which each single quote is between
/// double ones or behind a backslash, and a line break is nothing special.
fn posix_aliases(text: &[u8]) -> Option<Vec<u8>> {
    let mut commands = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut quote = None;
        let mut is_escaped = false;
        let end = rest.iter().position(|byte| {
            match (quote, byte) {
                _ if is_escaped => is_escaped = false,
                (None, b'\n') => return true,
                (None, b'\\') => is_escaped = true,
                (None, b'\'' | b'"') => quote = Some(*byte),
                (Some(open), _) if open == *byte => quote = None,
                _ => {}
            }
            false
        });
        let (line, behind) = rest.split_at(end?);
        rest = behind.get(1..)?;
        let name = line.split(|byte| *byte == b'=').next()?;
        // The name is printed as it is, so it must not be anything but a name.
        let is_name = !name.is_empty()
            && name.len() < line.len()
            && name.first() != Some(&b'-')
            && name
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-.,:%@+!".contains(byte));
        if !is_name {
            return None;
        }
        commands.extend_from_slice(b"alias ");
        commands.extend_from_slice(line);
        commands.push(b'\n');
    }
    Some(commands)
}

/// Shell options come before the functions that may need them to be parsed, functions before the
/// aliases that must not be expanded in them, and `set` options last.
const CAPTURE_BASH: &str = r#"\builtin printf '\n%s\n' MARK
\builtin set +o
\builtin printf '\n%s\n' MARK
\builtin command -p cat /proc/self/environ
\builtin printf '\n%s\n' MARK
\builtin umask -p
\builtin shopt -p
\builtin declare -f
\builtin declare -Fx | while \builtin read -r _ _ name; do \builtin printf 'export -f %s\n' "$name"; done
\builtin alias -p
\builtin printf '\n%s\n' MARK
\builtin exit 0
"#;

/// `-p` keeps functions of the environment out, which come back with the others.
const PROLOGUE_BASH: &str = "\\builtin . /dev/fd/NUMBER >/dev/null 2>&1 || \
     \\builtin echo 'failed to restore shell snapshot' >&2\n\
     \\exec NUMBER<&-\n\
     \\builtin eval \"\\shift\n$1\"";

/// Once the options are told, all of them are as in a new shell, so that nothing gets in the way.
const CAPTURE_ZSH: &str = r#"'builtin' 'printf' '\n%s\n' 'MARK'
'builtin' 'set' '+o'
'builtin' 'emulate' '-R' 'zsh'
'builtin' 'unsetopt' 'aliases'
builtin printf '\n%s\n' MARK
command -p cat /proc/self/environ
builtin printf '\n%s\n' MARK
builtin print -r -- "umask $(builtin umask)"
builtin print -r -- "fpath=( ${(q)fpath[@]} )"
builtin zmodload -L
builtin hash -dL
builtin functions
builtin alias -rL
builtin alias -sL
builtin alias -gL
builtin printf '\n%s\n' MARK
builtin exit 0
"#;

/// The descriptor is closed while the shell still has its own options; its copy has one digit, and
/// can be closed whatever they are.
const PROLOGUE_ZSH: &str = "exec DIGIT</dev/fd/NUMBER; state=NUMBER; exec {state}<&-; unset state\n\
     'builtin' '.' '/dev/fd/DIGIT' >/dev/null 2>&1 || \
     'builtin' 'echo' 'failed to restore shell snapshot' >&2\n\
     'builtin' 'exec' DIGIT<&-\n\
     'builtin' 'eval' \"'builtin' 'shift'\n$1\"";

/// Functions must not be in the way; those of bash are told before that.
const CAPTURE_POSIX: &str = r#"\exec 2>/dev/null; \set +v
\unset -f command printf umask
\printf '\n%s\n' MARK
\printf 'umask %s\n' "$(\umask)"
\set +o
\printf '\n%s\n' MARK
\command -p cat /proc/self/environ
\printf '\n%s\n' MARK
case ${BASH_VERSION-} in
?*)
\printf 'bash\n'
\builtin shopt -p
\builtin declare -f
\builtin declare -Fx | while \builtin read -r _ _ name; do \printf 'export -f %s\n' "$name"; done
\builtin alias -p
;;
*) \unset -f alias; \alias;;
esac
\printf '\n%s\n' MARK
\exit 0
"#;

/// `command` takes from `eval` that a failure ends the shell.
const PROLOGUE_POSIX: &str = "\\command eval \"\\unset EXEC_SERVER_SHELL_STATE\n\
     $EXEC_SERVER_SHELL_STATE\" >/dev/null 2>&1 || \
     \\echo 'failed to restore shell snapshot' >&2\n\
     \\eval \"\\shift\n$1\"";

/// Options of zsh that are set last, by the names that `set +o` uses, without a leading `no`.
const LATE_ZSH: [&str; 10] = [
    "aliases",
    "allexport",
    "errexit",
    "errreturn",
    "exec",
    "sourcetrace",
    "typesettounset",
    "unset",
    "verbose",
    "xtrace",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_of_functions_are_suspected() {
        for text in [
            "f() { :; }",
            "f ( ) {\n}",
            "f (\\\n) { :; }",
            "eval \"$(tool init)\"",
            "x=1;eval $x",
            "function f {",
            "alias def='f()'",
        ] {
            assert!(may_define_functions(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "export PATH=$(tool) evaluate=1 functions=2",
            "if [ \"$(id -u)\" -eq 0 ]; then x=$((1 + 2)); fi",
            "case $x in (a) y;; b) z;; esac; (cd /; ls)",
        ] {
            assert!(!may_define_functions(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn aliases_are_cut_at_line_breaks_outside_of_quotes() {
        let text = "ll='ls -l'\nq='it'\"'\"'s\ntwo'\nb='it'\\''s'\ne=''\n";
        let expected =
            "alias ll='ls -l'\nalias q='it'\"'\"'s\ntwo'\nalias b='it'\\''s'\nalias e=''\n";
        let commands = posix_aliases(text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(commands).unwrap(), expected);
        assert_eq!(posix_aliases(b"").unwrap(), b"");
        for text in [
            "a;b='x'\n",
            "$(x)='y'\n",
            "='x'\n",
            "a\n",
            "-a='x'\n",
            "a='x\n",
            "a='x'",
        ] {
            assert_eq!(posix_aliases(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn options_of_zsh_that_get_in_the_way_come_last() {
        let said = Sections {
            noise: b"",
            options: b"set +o noaliases\nset -o extendedglob\nset -o errexit\nset +o nounset\nset -o noglob\n",
            environ: b"",
            state: b"f () {\n}",
        };
        let commands = Shell::Zsh.commands(&said).unwrap();
        let expected = "set -o extendedglob\nset -o noglob\n\nunsetopt aliases\nf () {\n}\n\
                        set +o noaliases\nset -o errexit\nset +o nounset\ntrue\n";
        assert_eq!(String::from_utf8(commands).unwrap(), expected);
    }
}
