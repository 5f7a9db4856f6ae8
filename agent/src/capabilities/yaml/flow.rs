//! Flow nodes: quoted scalars, `[...]` and `{...}`, over as many lines as they take.

use super::Yaml;
use crate::capabilities::limits::YAML_DEPTH;

/// Why a flow node could not be read.
pub(super) enum Incomplete {
    /// The text ends inside.
    NeedsMore,
    /// It is wrong.
    Invalid,
}

/// Reads flow nodes: quoted scalars, `[...]`, `{...}`.
pub(super) struct Flow<'a> {
    rest: &'a str,
}

impl<'a> Flow<'a> {
    /// Reads from that text on.
    pub(super) fn new(rest: &'a str) -> Self {
        Self { rest }
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'a str {
        self.rest
    }

    /// Whether nothing but a comment is left.
    pub(super) fn at_end(&self) -> bool {
        let rest = self.rest.trim_start();
        rest.is_empty() || rest.starts_with('#')
    }

    /// A node of any kind.
    pub(super) fn node(&mut self, depth: usize) -> Result<Yaml, Incomplete> {
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

    /// A quoted scalar, which must be next.
    pub(super) fn quoted(&mut self) -> Result<Yaml, Incomplete> {
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
