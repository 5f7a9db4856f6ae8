//! Deny patterns: which paths they match when a command starts.
//!
//! `*` and `?` stay within a name, `**` crosses directories, `{a,b}` and `[..]` are as usual; hidden
//! names match like others. A pattern is looked for below its longest prefix without wildcards, which
//! must not be the root directory, because the whole host would have to be read.

use std::collections::VecDeque;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use self::pattern::Pattern;
use super::refusal::Refusal;
use super::view::{Kind, View, resolve};

mod pattern;

/// A pattern with an absolute base.
#[derive(Debug)]
pub(crate) struct DenyGlob {
    prefix: PathBuf,
    pattern: Pattern,
}

impl DenyGlob {
    /// Parses an absolute pattern.
    pub(crate) fn parse(pattern: &str) -> Result<Self, Refusal> {
        let refuse = || {
            Refusal::Unenforceable(format!(
                "unreadable glob `{pattern}` cannot be safely expanded; \
                 use a pattern with a non-root directory prefix"
            ))
        };
        let mut prefix = PathBuf::from("/");
        for name in pattern.split('/').filter(|name| !name.is_empty()) {
            if name.contains(['*', '?', '[', '{', '\\']) {
                break;
            }
            prefix.push(name);
        }
        if prefix.parent().is_none() {
            return Err(refuse());
        }
        let pattern = Pattern::parse(&with_literal_brackets(pattern)).ok_or_else(refuse)?;
        Ok(Self { prefix, pattern })
    }

    /// The matching paths below the prefix, which is followed if it is a link. Directories that match
    /// are not entered, since all of them is denied; links to directories are not entered.
    ///
    /// # Errors
    ///
    /// [`Refusal::Unenforceable`] when there are too many matches or names, or a directory cannot be
    /// examined.
    pub(crate) fn expand(
        &self,
        view: &impl View,
        max_depth: Option<usize>,
    ) -> Result<Vec<PathBuf>, Refusal> {
        let unreadable = |err: io::Error| {
            Refusal::Unenforceable(format!("a deny glob cannot be expanded: {err}"))
        };
        let base = resolve(view, &self.prefix).map_err(unreadable)?;
        let mut found = Vec::new();
        let mut reader = self.pattern.reader();
        let start = reader.start();
        let start = reader.read(&start, self.prefix.as_os_str().as_bytes());
        if reader.is_match(&start) && base.kind.is_some() {
            found.push(base.path);
            return Ok(found);
        }
        if base.kind != Some(Kind::Directory) {
            return Ok(found);
        }
        let mut examined = 0;
        let mut queue = VecDeque::from([(base.path, start, 1)]);
        while let Some((real, directory, depth)) = queue.pop_front() {
            let names = match view.names(&real) {
                Ok(names) => names,
                // It is gone, so nothing in it can be read.
                Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
                // What the executor's user may not list, commands may not list either.
                Err(err) if err.kind() == io::ErrorKind::PermissionDenied => continue,
                Err(err) => return Err(unreadable(err)),
            };
            let directory = reader.read(&directory, b"/");
            for name in names {
                examined += 1;
                if examined > MAX_EXAMINED {
                    return Err(Refusal::Unenforceable(format!(
                        "a deny glob has to examine more than {MAX_EXAMINED} paths"
                    )));
                }
                let (real, named) = (real.join(&name), reader.read(&directory, name.as_bytes()));
                if reader.is_match(&named) {
                    if found.len() == MAX_MATCHES {
                        return Err(Refusal::Unenforceable(format!(
                            "a deny glob matched more than {MAX_MATCHES} paths"
                        )));
                    }
                    found.push(real);
                } else if max_depth.is_none_or(|max| depth < max)
                    && view.kind(&real).map_err(unreadable)? == Some(Kind::Directory)
                {
                    queue.push_back((real, named, depth + 1));
                }
            }
        }
        Ok(found)
    }
}

/// The pattern with each `[` that is never closed as a literal.
fn with_literal_brackets(pattern: &str) -> String {
    let mut text = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('[') {
        text.push_str(before);
        // A `]` that comes first belongs to the class.
        let closed = after
            .char_indices()
            .skip(1)
            .any(|(_, symbol)| symbol == ']');
        text.push_str(if closed { "[" } else { "[[]" });
        rest = after;
    }
    text.push_str(rest);
    text
}

/// A pattern relative to a directory.
pub(crate) fn join(base: &Path, pattern: &str) -> Option<String> {
    let base = base.to_str()?;
    let escaped: String = base
        .chars()
        .flat_map(|symbol| {
            let special = matches!(symbol, '*' | '?' | '[' | ']' | '{' | '}' | '\\');
            special.then_some('\\').into_iter().chain([symbol])
        })
        .collect();
    Some(format!("{}/{pattern}", escaped.trim_end_matches('/')))
}

/// Matches of one pattern. Each is a mount.
const MAX_MATCHES: usize = 8192;

/// Names that one pattern may look at before it is refused.
const MAX_EXAMINED: usize = 2_000_000;
