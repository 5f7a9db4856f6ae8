//! Whether the links of the documents lead somewhere.
//!
//! Files and headings of this repository have to exist. What is elsewhere is only looked at as text:
//! a check must not depend on the network.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Every link that leads nowhere, one line each. `files` are all files of the repository.
///
/// # Errors
///
/// When a document cannot be read.
pub(crate) fn findings(root: &Path, files: &[&str]) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for file in files.iter().filter(|file| file.ends_with(".md")) {
        let text = std::fs::read_to_string(root.join(file))
            .with_context(|| format!("failed to read {file}"))?;
        texts.push((*file, text));
    }
    Ok(inspect(files, &texts))
}

fn inspect(files: &[&str], texts: &[(&str, String)]) -> Vec<String> {
    let known: BTreeSet<PathBuf> = files
        .iter()
        .flat_map(|file| Path::new(file).ancestors())
        .map(Path::to_owned)
        .collect();
    let documents: BTreeMap<PathBuf, Document> = texts
        .iter()
        .map(|(file, text)| (PathBuf::from(file), Document::read(text)))
        .collect();
    let mut findings = Vec::new();
    let mut count = 0;
    for (file, document) in &documents {
        count += document.links.len();
        for (line, link) in &document.links {
            if let Err(problem) = check(file, link, &known, &documents) {
                findings.push(format!("{}:{line}: {problem}", file.display()));
            }
        }
    }
    if count == 0 {
        findings.push("the documents have no links: this check looks at nothing".to_owned());
    }
    findings
}

/// What a document offers to others, and what it refers to.
#[derive(Debug, Default)]
struct Document {
    anchors: BTreeSet<String>,
    links: Vec<(usize, Link)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Link {
    /// Something to follow.
    Target(String),
    /// The name of a document in a text.
    Mention(String),
    /// A target that is given somewhere else in the document, and is not.
    Undefined(String),
}

impl Document {
    fn read(text: &str) -> Self {
        let mut document = Self::default();
        let (mut names, mut uses) = (BTreeSet::new(), Vec::new());
        let mut fence: Option<&str> = None;
        for (line, number) in text.lines().zip(1..) {
            let start = line.trim_start();
            match fence {
                Some(end) if start.starts_with(end) => fence = None,
                Some(_) => {}
                None if start.starts_with("```") => fence = Some("```"),
                None if start.starts_with("~~~") => fence = Some("~~~"),
                None => {
                    if let Some(heading) = heading(line) {
                        document.add_anchor(&anchor(heading));
                    }
                    let (prose, code) = parts(line);
                    let mut found: Vec<Link> = code.into_iter().filter_map(mention).collect();
                    if let Some((name, target)) = definition(&prose) {
                        names.insert(name.to_lowercase());
                        found.push(Link::Target(target.to_owned()));
                    } else {
                        found.extend(targets(&prose).into_iter().map(Link::Target));
                        uses.extend(references(&prose).map(|name| (number, name)));
                    }
                    let found = found.into_iter().map(|link| (number, link));
                    document.links.extend(found);
                }
            }
        }
        for (number, name) in uses {
            if !names.contains(&name.to_lowercase()) {
                document.links.push((number, Link::Undefined(name)));
            }
        }
        document
    }

    /// Of two headings that are the same, the second has a number.
    fn add_anchor(&mut self, anchor: &str) {
        if self.anchors.insert(anchor.to_owned()) {
            return;
        }
        let numbered = (1..).map(|n| format!("{anchor}-{n}"));
        for candidate in numbered {
            if self.anchors.insert(candidate) {
                return;
            }
        }
    }
}

fn check(
    file: &Path,
    link: &Link,
    known: &BTreeSet<PathBuf>,
    documents: &BTreeMap<PathBuf, Document>,
) -> Result<(), String> {
    let directory = file.parent().unwrap_or(Path::new(""));
    let target = match link {
        Link::Undefined(name) => return Err(format!("[{name}] is not defined")),
        Link::Mention(name) => {
            let beside = within(directory, name).is_some_and(|path| known.contains(&path));
            let exists = beside || known.contains(Path::new(name)) || ELSEWHERE.contains(&&**name);
            return if exists {
                Ok(())
            } else {
                Err(format!("`{name}` does not exist"))
            };
        }
        Link::Target(target) => target,
    };
    if let Some((scheme, rest)) = target.split_once(':') {
        return external(scheme, rest).map_err(|problem| format!("{target}: {problem}"));
    }
    let (path, fragment) = match target.split_once('#') {
        Some((path, fragment)) => (path, Some(fragment)),
        None => (target.as_str(), None),
    };
    let path = match path {
        "" => file.to_owned(),
        path => within(directory, path).ok_or(format!("{target} leads out of the repository"))?,
    };
    if !known.contains(&path) {
        return Err(format!("{target} does not exist"));
    }
    match fragment {
        None => Ok(()),
        Some(fragment) => {
            let document = documents.get(&path);
            let found = document.is_some_and(|document| document.anchors.contains(fragment));
            found
                .then_some(())
                .ok_or(format!("{target}: there is no such heading"))
        }
    }
}

/// `path` as seen from `directory`, without `.` and `..`; nothing if it leads out.
fn within(directory: &Path, path: &str) -> Option<PathBuf> {
    let mut whole = PathBuf::new();
    for component in directory.join(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                if !whole.pop() {
                    return None;
                }
            }
            Component::Normal(name) => whole.push(name),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(whole)
}

fn external(scheme: &str, rest: &str) -> Result<(), &'static str> {
    let is_wrong = |c: char| c.is_whitespace() || "<>\"\\^`{|}".contains(c);
    if rest.contains(is_wrong) {
        return Err("a character that no address has");
    }
    match scheme {
        "https" | "http" => {
            let rest = rest.strip_prefix("//").ok_or("no `//`")?;
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let host = host.split(':').next().unwrap_or_default();
            let is_name = |part: &str| {
                !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            };
            if host.contains('.') && host.split('.').all(is_name) {
                Ok(())
            } else {
                Err("no host")
            }
        }
        "mailto" if rest.contains('@') => Ok(()),
        _ => Err("an address of no known kind"),
    }
}

/// The text of a heading.
fn heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    let level = line.len() - text.len();
    ((1..=6).contains(&level) && text.starts_with(' ')).then(|| text.trim())
}

/// What a heading is called in an address, as forges make it.
fn anchor(heading: &str) -> String {
    let mut text = heading.to_owned();
    // Of a link in it, only its text counts.
    while let Some((before, rest)) = text.split_once("](") {
        let after = rest.split_once(')').map_or("", |(_, after)| after);
        text = format!("{before}{after}").replacen('[', "", 1);
    }
    text.to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// A line without what is code in it, and that code.
fn parts(line: &str) -> (String, Vec<&str>) {
    let (mut prose, mut code) = (String::new(), Vec::new());
    let mut rest = line;
    while let Some(at) = rest.find('`') {
        let (before, from) = rest.split_at(at);
        prose.push_str(before);
        let inner = from.trim_start_matches('`');
        let ticks = &from[..from.len() - inner.len()];
        match closing(inner, ticks) {
            Some(end) => {
                code.push(&inner[..end]);
                rest = &inner[end + ticks.len()..];
            }
            None => {
                prose.push_str(ticks);
                rest = inner;
            }
        }
    }
    prose.push_str(rest);
    (prose, code)
}

/// Where as many backticks as `ticks` has, and not more, end a piece of code.
fn closing(inner: &str, ticks: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = inner[from..].find('`') {
        let start = from + at;
        let run = inner[start..].len() - inner[start..].trim_start_matches('`').len();
        if run == ticks.len() {
            return Some(start);
        }
        from = start + run;
    }
    None
}

fn mention(code: &str) -> Option<Link> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "./_-".contains(c);
    (code.ends_with(".md") && code.chars().all(is_name)).then(|| Link::Mention(code.to_owned()))
}

/// `[name]: target`
fn definition(prose: &str) -> Option<(&str, &str)> {
    let (name, target) = prose.strip_prefix('[')?.split_once("]: ")?;
    (!name.contains(']')).then(|| (name, target.trim()))
}

/// What links and pictures of a line lead to.
fn targets(prose: &str) -> Vec<String> {
    let mut found = Vec::new();
    let inline = prose.split("](").skip(1);
    for rest in inline {
        let target = match rest.strip_prefix('<') {
            Some(rest) => rest.split('>').next(),
            None => rest.split([')', ' ']).next(),
        };
        found.extend(target.map(str::to_owned));
    }
    for (before, after) in [("<http", '>'), ("href=\"", '"'), ("src=\"", '"')] {
        for rest in prose.split(before).skip(1) {
            let whole = format!("{}{rest}", before.strip_prefix('<').unwrap_or_default());
            found.extend(whole.split(after).next().map(str::to_owned));
        }
    }
    found
}

/// The names in `[text][name]`.
fn references(prose: &str) -> impl Iterator<Item = String> {
    prose
        .split("][")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(']')?.0.to_owned()))
}

/// Documents of others that are spoken of.
const ELSEWHERE: &[&str] = &["AGENTS.md"];

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let there = "# One\n## One\n## `a_b`, or [c](here.md): d!\n".to_owned();
        let files = ["docs/here.md", "docs/picture.svg", "there.md"];
        let texts = [("docs/here.md", text.to_owned()), ("there.md", there)];
        // The link of the other one leads nowhere.
        let mut problems = inspect(&files, &texts);
        assert_eq!(
            problems.pop().as_deref(),
            Some("there.md:3: here.md does not exist")
        );
        problems
    }

    #[test]
    fn what_exists_is_no_finding() {
        let text = "[a](../there.md) ![b](picture.svg) [c](../there.md#one) [d](../there.md#one-1)\n\
            [e](../there.md#a_b-or-c-d) [f](#self) [g](..) [h](https://example.com/x?y#z)\n\
            # Self\n[i][ref] `there.md` `../there.md` `AGENTS.md`\n\n[ref]: ../there.md \n\
            ```\n[not](a-link.md)\n```\n`[nor](this.md)` and ``[`this`](one.md)``\n";
        assert_eq!(problems(text), Vec::<String>::new());
    }

    #[test]
    fn what_leads_nowhere_is_found_with_its_line() {
        for (link, problem) in [
            ("[a](absent.md)", "absent.md does not exist"),
            ("![a](absent.svg)", "absent.svg does not exist"),
            (
                "[a](../there.md#two)",
                "../there.md#two: there is no such heading",
            ),
            ("[a](#absent)", "#absent: there is no such heading"),
            (
                "[a](picture.svg#x)",
                "picture.svg#x: there is no such heading",
            ),
            (
                "[a](../../there.md)",
                "../../there.md leads out of the repository",
            ),
            ("[a](/there.md)", "/there.md leads out of the repository"),
            ("[a](https:/example.com)", "https:/example.com: no `//`"),
            ("[a](https://)", "https://: no host"),
            ("<http://exa..mple>", "http://exa..mple: no host"),
            (
                "[a](ftp://example.com)",
                "ftp://example.com: an address of no known kind",
            ),
            ("[a][b]", "[b] is not defined"),
            ("[b]: absent.md", "absent.md does not exist"),
            ("see `absent.md`", "`absent.md` does not exist"),
            ("<a href=\"absent\">", "absent does not exist"),
        ] {
            let expected = format!("docs/here.md:2: {problem}");
            assert_eq!(problems(&format!("\n{link}\n")), [expected], "{link}");
        }
    }

    #[test]
    fn documents_without_links_are_a_finding() {
        assert_eq!(inspect(&["a.md"], &[("a.md", "text".to_owned())]).len(), 1);
    }
}
