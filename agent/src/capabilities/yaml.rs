//! A reader for the YAML in skill files.
//!
//! Front matter and metadata files are small, written by hand, and use a small part of YAML. This reads
//! that part: block mappings and sequences, flow sequences and mappings, plain, quoted, literal and folded
//! scalars, comments. It refuses what it does not know (anchors, aliases, tags, several documents), so
//! nothing can grow beyond its source, and nesting is bounded. In one respect it is more lenient than YAML:
//! a plain value may contain `: `, as descriptions often do.
//!
//! Scalars stay text; whoever wants a boolean compares with `true`.

use super::limits::{YAML_BYTES, YAML_DEPTH, YAML_FLOW_LINES};

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Yaml {
    /// Nothing, `~` or `null`.
    Null,
    /// Any scalar.
    Text(String),
    /// A sequence.
    List(Vec<Self>),
    /// A mapping in its order.
    Map(Vec<(String, Self)>),
}

/// YAML that cannot be read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unsupported or invalid YAML at line {line}")]
pub(crate) struct YamlError {
    line: usize,
}

impl Yaml {
    /// Reads one document.
    ///
    /// Cost: linear in the text, except for flow nodes over several lines, which are read again with
    /// each line; both are bounded.
    pub(crate) fn parse(text: &str) -> Result<Self, YamlError> {
        if text.len() > YAML_BYTES {
            return Err(YamlError { line: 0 });
        }
        let mut lines = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let content = line.trim_start_matches(' ');
            lines.push(Line {
                number: number + 1,
                indent: line.len() - content.len(),
                content: content.trim_end().to_owned(),
                raw: line.to_owned(),
            });
        }
        let mut parser = Parser { lines, at: 0 };
        let node = match parser.peek() {
            Some(line) => {
                let indent = line.indent;
                parser.block(indent, 0)?
            }
            None => Self::Null,
        };
        match parser.peek() {
            Some(line) => Err(YamlError { line: line.number }),
            None => Ok(node),
        }
    }

    /// A member of a mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(members) => members
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// A scalar's text.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a sequence.
    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// A boolean scalar.
    pub(crate) fn boolean(&self) -> Option<bool> {
        match self.text()? {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => None,
        }
    }

    fn plain(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Self::Null,
            text => Self::Text(text.to_owned()),
        }
    }
}

struct Line {
    number: usize,
    indent: usize,
    /// Without indentation and trailing space.
    content: String,
    raw: String,
}

struct Parser {
    lines: Vec<Line>,
    at: usize,
}

impl Parser {
    /// The next line that is neither blank nor a comment.
    fn peek(&mut self) -> Option<&Line> {
        while let Some(line) = self.lines.get(self.at)
            && (line.content.is_empty() || line.content.starts_with('#'))
        {
            self.at += 1;
        }
        self.lines.get(self.at)
    }

    fn error(&self) -> YamlError {
        let last = self.lines.len();
        YamlError {
            line: self.lines.get(self.at).map_or(last, |line| line.number),
        }
    }

    /// A node whose first line has that indentation.
    fn block(&mut self, indent: usize, depth: usize) -> Result<Yaml, YamlError> {
        if depth > YAML_DEPTH {
            return Err(self.error());
        }
        let Some(line) = self.peek() else {
            return Ok(Yaml::Null);
        };
        if line.content.starts_with('\t') {
            return Err(self.error());
        }
        if is_item(&line.content) {
            self.sequence(indent, depth)
        } else if split_key(&line.content).is_some() {
            self.mapping(indent, depth)
        } else {
            let content = line.content.clone();
            self.at += 1;
            self.value(&content, indent, depth)
        }
    }

    fn sequence(&mut self, indent: usize, depth: usize) -> Result<Yaml, YamlError> {
        let mut items = Vec::new();
        while let Some(line) = self.peek()
            && line.indent == indent
            && is_item(&line.content)
        {
            let rest = line.content.strip_prefix('-').unwrap_or_default();
            let inner = rest.trim_start_matches(' ');
            let inner_indent = indent + 1 + rest.len() - inner.len();
            let content = inner.to_owned();
            if content.is_empty() || content.starts_with('#') {
                self.at += 1;
                items.push(self.nested(indent, false, depth)?);
            } else if is_item(&content) || split_key(&content).is_some() {
                // The item is a block that begins on this line: read it as if the dash were a space.
                if let Some(line) = self.lines.get_mut(self.at) {
                    line.indent = inner_indent;
                    line.content = content;
                }
                items.push(self.block(inner_indent, depth + 1)?);
            } else {
                self.at += 1;
                items.push(self.value(&content, indent, depth)?);
            }
        }
        self.ends_at(indent)?;
        Ok(Yaml::List(items))
    }

    fn mapping(&mut self, indent: usize, depth: usize) -> Result<Yaml, YamlError> {
        let mut members: Vec<(String, Yaml)> = Vec::new();
        while let Some(line) = self.peek()
            && line.indent == indent
            && !is_item(&line.content)
        {
            let Some((key, rest)) = split_key(&line.content) else {
                return Err(self.error());
            };
            if members.iter().any(|(known, _)| *known == key) {
                return Err(self.error());
            }
            self.at += 1;
            let value = if rest.is_empty() || rest.starts_with('#') {
                self.nested(indent, true, depth)?
            } else {
                self.value(&rest, indent, depth)?
            };
            members.push((key, value));
        }
        self.ends_at(indent)?;
        Ok(Yaml::Map(members))
    }

    /// After a block, the next line must belong to an outer one.
    fn ends_at(&mut self, indent: usize) -> Result<(), YamlError> {
        match self.peek() {
            Some(line) if line.indent > indent => Err(self.error()),
            _ => Ok(()),
        }
    }

    /// The node below a key or a dash that has nothing beside it.
    fn nested(
        &mut self,
        indent: usize,
        sequence_may_align: bool,
        depth: usize,
    ) -> Result<Yaml, YamlError> {
        match self.peek() {
            Some(line) if line.indent > indent => {
                let inner = line.indent;
                self.block(inner, depth + 1)
            }
            Some(line) if sequence_may_align && line.indent == indent && is_item(&line.content) => {
                self.sequence(indent, depth + 1)
            }
            _ => Ok(Yaml::Null),
        }
    }

    /// A value that begins on the line before `self.at`, whose block has that indentation.
    fn value(&mut self, first: &str, indent: usize, depth: usize) -> Result<Yaml, YamlError> {
        match first.as_bytes().first() {
            Some(b'|' | b'>') => self.block_scalar(first, indent).map(Yaml::Text),
            Some(b'"' | b'\'' | b'[' | b'{') => {
                let mut text = first.to_owned();
                for _ in 0..YAML_FLOW_LINES {
                    let mut flow = Flow { rest: &text };
                    match flow.node(depth) {
                        Ok(node) if flow.at_end() => return Ok(node),
                        Ok(_) => return Err(self.error()),
                        Err(Incomplete::Invalid) => return Err(self.error()),
                        Err(Incomplete::NeedsMore) => {}
                    }
                    // It goes on on the next line, if that one is part of the value.
                    match self.lines.get(self.at) {
                        Some(line) if line.content.is_empty() => text.push('\n'),
                        Some(line) if line.indent > indent => {
                            if !text.ends_with('\n') {
                                text.push(' ');
                            }
                            text.push_str(&line.content);
                        }
                        _ => return Err(self.error()),
                    }
                    self.at += 1;
                }
                Err(self.error())
            }
            Some(b'&' | b'*' | b'!' | b'@' | b'`' | b'%' | b'?' | b',' | b']' | b'}') => {
                Err(self.error())
            }
            _ => {
                let mut text = without_comment(first).to_owned();
                let commented = text.len() != first.len();
                while !commented
                    && let Some(line) = self.peek()
                    && line.indent > indent
                {
                    text.push(' ');
                    text.push_str(without_comment(&line.content));
                    self.at += 1;
                }
                Ok(Yaml::plain(&text))
            }
        }
    }

    /// A literal or folded scalar; `header` is its `|` or `>` with indicators.
    fn block_scalar(&mut self, header: &str, indent: usize) -> Result<String, YamlError> {
        let header = without_comment(header);
        let mut indicators = header.chars().skip(1);
        let (mut keep, mut strip, mut given) = (false, false, None);
        for indicator in &mut indicators {
            match indicator {
                '+' => keep = true,
                '-' => strip = true,
                '1'..='9' => given = indicator.to_digit(10),
                _ => return Err(self.error()),
            }
        }
        let mut body: Vec<String> = Vec::new();
        let mut inner = given
            .and_then(|digit| usize::try_from(digit).ok())
            .map(|n| indent + n);
        while let Some(line) = self.lines.get(self.at) {
            if line.content.is_empty() {
                body.push(String::new());
            } else if line.indent > indent || inner.is_some_and(|inner| line.indent >= inner) {
                let inner = *inner.get_or_insert(line.indent);
                match line.raw.get(inner..) {
                    Some(text) if line.indent >= inner => body.push(text.to_owned()),
                    _ => return Err(self.error()),
                }
            } else {
                break;
            }
            self.at += 1;
        }
        let trailing = body.iter().rev().take_while(|line| line.is_empty()).count();
        let kept = body.len() - trailing;
        let text = body.get(..kept).unwrap_or_default();
        let mut scalar = if header.starts_with('|') {
            text.join("\n")
        } else {
            fold(text)
        };
        if !strip && !scalar.is_empty() {
            scalar.push('\n');
        }
        if keep {
            scalar.extend(std::iter::repeat_n('\n', trailing));
        }
        Ok(scalar)
    }
}

/// Joins lines with spaces; blank lines become line breaks, and lines with more indentation stay.
fn fold(lines: &[String]) -> String {
    let mut text = String::new();
    let mut breaks = 0;
    let mut previous_is_verbatim = true;
    for line in lines {
        if line.is_empty() {
            breaks += 1;
            continue;
        }
        let verbatim = line.starts_with([' ', '\t']);
        if !text.is_empty() {
            if breaks > 0 {
                text.extend(std::iter::repeat_n('\n', breaks));
            } else {
                text.push(if verbatim || previous_is_verbatim {
                    '\n'
                } else {
                    ' '
                });
            }
        }
        text.push_str(line);
        previous_is_verbatim = verbatim;
        breaks = 0;
    }
    text
}

fn is_item(content: &str) -> bool {
    content == "-" || content.starts_with("- ")
}

/// Splits `key: value` or `key:`.
fn split_key(content: &str) -> Option<(String, String)> {
    if content.starts_with(['"', '\'']) {
        let mut flow = Flow { rest: content };
        let Ok(Yaml::Text(key)) = flow.quoted() else {
            return None;
        };
        let rest = flow.rest.trim_start().strip_prefix(':')?;
        return (rest.is_empty() || rest.starts_with(' ')).then(|| (key, rest.trim().to_owned()));
    }
    if content.starts_with([
        '[', '{', '#', '&', '*', '!', '|', '>', '@', '`', '%', '?', ',',
    ]) {
        return None;
    }
    let end = match content.find(": ") {
        Some(end) => end,
        None if content.ends_with(':') => content.len() - 1,
        None => return None,
    };
    let (key, rest) = content.split_at(end);
    let rest = rest.strip_prefix(':').unwrap_or(rest);
    Some((key.trim_end().to_owned(), rest.trim().to_owned()))
}

/// A plain value without the comment behind it.
fn without_comment(text: &str) -> &str {
    text.find(" #").map_or(text, |at| &text[..at]).trim_end()
}

/// Why a flow node could not be read.
enum Incomplete {
    /// The text ends inside.
    NeedsMore,
    /// It is wrong.
    Invalid,
}

/// Reads flow nodes: quoted scalars, `[...]`, `{...}`.
struct Flow<'a> {
    rest: &'a str,
}

impl Flow<'_> {
    fn at_end(&self) -> bool {
        let rest = self.rest.trim_start();
        rest.is_empty() || rest.starts_with('#')
    }

    fn node(&mut self, depth: usize) -> Result<Yaml, Incomplete> {
        if depth > YAML_DEPTH {
            return Err(Incomplete::Invalid);
        }
        self.skip_space();
        match self.rest.as_bytes().first() {
            None => Err(Incomplete::NeedsMore),
            Some(b'"' | b'\'') => self.quoted(),
            Some(b'[') => {
                self.advance(1);
                let mut items = Vec::new();
                loop {
                    self.skip_space();
                    if self.eat(']') {
                        return Ok(Yaml::List(items));
                    }
                    items.push(self.node(depth + 1)?);
                    self.separator(']')?;
                }
            }
            Some(b'{') => {
                self.advance(1);
                let mut members = Vec::new();
                loop {
                    self.skip_space();
                    if self.eat('}') {
                        return Ok(Yaml::Map(members));
                    }
                    let Yaml::Text(key) = self.node(depth + 1)? else {
                        return Err(Incomplete::Invalid);
                    };
                    self.skip_space();
                    let value = if self.eat(':') {
                        self.member(depth)?
                    } else {
                        Yaml::Null
                    };
                    members.push((key, value));
                    self.separator('}')?;
                }
            }
            Some(b'&' | b'*' | b'!' | b'#' | b',' | b']' | b'}' | b'|' | b'>' | b'@' | b'`') => {
                Err(Incomplete::Invalid)
            }
            Some(_) => Ok(self.plain()),
        }
    }

    /// The value of a member, which may be missing.
    fn member(&mut self, depth: usize) -> Result<Yaml, Incomplete> {
        self.skip_space();
        if self.rest.starts_with([',', '}']) {
            Ok(Yaml::Null)
        } else {
            self.node(depth + 1)
        }
    }

    /// A comma, or the closing bracket, which is left.
    fn separator(&mut self, close: char) -> Result<(), Incomplete> {
        self.skip_space();
        if self.rest.is_empty() {
            Err(Incomplete::NeedsMore)
        } else if self.eat(',') || self.rest.starts_with(close) {
            Ok(())
        } else {
            Err(Incomplete::Invalid)
        }
    }

    fn plain(&mut self) -> Yaml {
        let bytes = self.rest.as_bytes();
        let is_end = |at: usize| match bytes.get(at) {
            Some(b',' | b'[' | b']' | b'{' | b'}' | b'\n') | None => true,
            Some(b':') => matches!(
                bytes.get(at + 1),
                Some(b' ' | b',' | b'}' | b']' | b'\n') | None
            ),
            _ => false,
        };
        let end = (0..bytes.len())
            .find(|at| is_end(*at))
            .unwrap_or(bytes.len());
        let text = self.rest.get(..end).unwrap_or_default().trim_end();
        let node = Yaml::plain(text);
        self.advance(end);
        node
    }

    fn quoted(&mut self) -> Result<Yaml, Incomplete> {
        let mut chars = self.rest.char_indices();
        let quote = chars.next().map_or('"', |(_, quote)| quote);
        let mut text = String::new();
        while let Some((at, char)) = chars.next() {
            match char {
                '\'' if quote == '\'' && self.rest[at + 1..].starts_with('\'') => {
                    chars.next();
                    text.push('\'');
                }
                char if char == quote => {
                    self.advance(at + 1);
                    return Ok(Yaml::Text(text));
                }
                '\\' if quote == '"' => {
                    let (_, escape) = chars.next().ok_or(Incomplete::NeedsMore)?;
                    let digits = match escape {
                        'n' => Err('\n'),
                        't' => Err('\t'),
                        'r' => Err('\r'),
                        '0' => Err('\0'),
                        'e' => Err('\u{1b}'),
                        '"' | '\\' | '/' | ' ' => Err(escape),
                        'x' => Ok(2),
                        'u' => Ok(4),
                        'U' => Ok(8),
                        _ => return Err(Incomplete::Invalid),
                    };
                    text.push(match digits {
                        Err(char) => char,
                        Ok(count) => {
                            let mut code = 0u32;
                            for _ in 0..count {
                                let (_, digit) = chars.next().ok_or(Incomplete::NeedsMore)?;
                                let digit = digit.to_digit(16).ok_or(Incomplete::Invalid)?;
                                code = code << 4 | digit;
                            }
                            char::from_u32(code).ok_or(Incomplete::Invalid)?
                        }
                    });
                }
                char => text.push(char),
            }
        }
        Err(Incomplete::NeedsMore)
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, char: char) -> bool {
        match self.rest.strip_prefix(char) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests;
