//! The YAML of skill files as a tree of text.
//!
//! Scalars stay text; whoever wants a boolean compares with `true`. A document is bounded in bytes,
//! nesting and nodes, so that aliases cannot make it grow. In one respect this is more lenient than
//! YAML: a plain value may contain `: `, as descriptions often do.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::limits::{YAML_BYTES, YAML_DEPTH, YAML_NODES};

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

/// Why a document is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum YamlError {
    #[error("invalid YAML")]
    Invalid,
    #[error("YAML of more than {YAML_BYTES} bytes, {YAML_DEPTH} levels or {YAML_NODES} nodes")]
    TooLarge,
}

impl Yaml {
    /// Reads one document.
    pub(crate) fn parse(text: &str) -> Result<Self, YamlError> {
        if text.len() > YAML_BYTES {
            return Err(YamlError::TooLarge);
        }
        match Builder::read(text) {
            // A document that is fine as it is must not change its meaning.
            Err(YamlError::Invalid) => Builder::read(&quote_plain_values(text)),
            result => result,
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

    /// A scalar that is `true` or `false`.
    pub(crate) fn boolean(&self) -> Option<bool> {
        self.text()?.parse().ok()
    }

    /// The items of a sequence; nothing for other nodes.
    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    fn node_count(&self) -> usize {
        1 + match self {
            Self::Null | Self::Text(_) => 0,
            Self::List(items) => items.iter().map(Self::node_count).sum(),
            Self::Map(members) => members.iter().map(|(_, value)| value.node_count()).sum(),
        }
    }
}

/// Makes a tree of the events of a parser.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Yaml>,
    anchors: HashMap<usize, Yaml>,
    nodes: usize,
}

/// A collection whose end has not come yet.
enum Open {
    List(usize, Vec<Yaml>),
    Map(usize, Vec<(String, Yaml)>, Option<String>),
}

impl Builder {
    fn read(text: &str) -> Result<Yaml, YamlError> {
        let mut builder = Self::default();
        let mut documents = 0;
        for event in Parser::new_from_str(text) {
            let (event, _) = event.map_err(|_| YamlError::Invalid)?;
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(YamlError::Invalid);
                    }
                }
                Event::Scalar(text, style, anchor, _) => {
                    let is_null =
                        style == ScalarStyle::Plain && matches!(text.as_ref(), "" | "~" | "null");
                    let node = if is_null {
                        Yaml::Null
                    } else {
                        Yaml::Text(text.into_owned())
                    };
                    builder.scalar(anchor, node)?;
                }
                Event::SequenceStart(anchor, _) => builder.open(Open::List(anchor, Vec::new()))?,
                Event::MappingStart(anchor, _) => {
                    builder.open(Open::Map(anchor, Vec::new(), None))?;
                }
                Event::SequenceEnd | Event::MappingEnd => builder.close()?,
                Event::Alias(anchor) => {
                    let node = builder.anchors.get(&anchor).ok_or(YamlError::Invalid)?;
                    let (node, count) = (node.clone(), node.node_count());
                    builder.place(node, count)?;
                }
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            }
        }
        Ok(builder.root.unwrap_or(Yaml::Null))
    }

    fn open(&mut self, collection: Open) -> Result<(), YamlError> {
        if self.open.len() >= YAML_DEPTH {
            return Err(YamlError::TooLarge);
        }
        self.open.push(collection);
        Ok(())
    }

    fn close(&mut self) -> Result<(), YamlError> {
        let (anchor, node) = match self.open.pop() {
            Some(Open::List(anchor, items)) => (anchor, Yaml::List(items)),
            Some(Open::Map(anchor, members, None)) => (anchor, Yaml::Map(members)),
            _ => return Err(YamlError::Invalid),
        };
        self.keep(anchor, &node);
        self.place(node, 1)
    }

    /// A scalar is a key where a mapping waits for one, and keys are text whatever they look like.
    fn scalar(&mut self, anchor: usize, node: Yaml) -> Result<(), YamlError> {
        self.keep(anchor, &node);
        let Some(Open::Map(_, members, key @ None)) = self.open.last_mut() else {
            return self.place(node, 1);
        };
        let name = match node {
            Yaml::Text(text) => text,
            _ => "null".to_owned(),
        };
        if members.iter().any(|(other, _)| *other == name) {
            return Err(YamlError::Invalid);
        }
        *key = Some(name);
        Ok(())
    }

    fn keep(&mut self, anchor: usize, node: &Yaml) {
        // The parser numbers anchors from 1.
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
    }

    /// Puts a node that adds `count` nodes to the document where it belongs.
    fn place(&mut self, node: Yaml, count: usize) -> Result<(), YamlError> {
        self.nodes = self.nodes.saturating_add(count);
        if self.nodes > YAML_NODES {
            return Err(YamlError::TooLarge);
        }
        match self.open.last_mut() {
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map(_, members, key)) => {
                // A collection as a key has no use here.
                let key = key.take().ok_or(YamlError::Invalid)?;
                members.push((key, node));
            }
            None if self.root.is_none() => self.root = Some(node),
            None => return Err(YamlError::Invalid),
        }
        Ok(())
    }
}

/// Puts quotes around plain values that contain `: `, so that `description: Use this: when` is read
/// as its author meant it.
fn quote_plain_values(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 16);
    for line in text.lines() {
        quoted.push_str(&quote_plain_value(line));
        quoted.push('\n');
    }
    quoted
}

fn quote_plain_value(line: &str) -> Cow<'_, str> {
    let Some((key, value)) = line.split_once(": ") else {
        return Cow::Borrowed(line);
    };
    let value = value.trim();
    let is_plain =
        !value.starts_with(['"', '\'', '|', '>', '[', '{', '&', '*', '!', '#', '%', '@']);
    let is_key = !key.trim_start().starts_with(['#', '"', '\'', '[', '{']);
    if !(is_plain && is_key && value.contains(": ")) {
        return Cow::Borrowed(line);
    }
    Cow::Owned(format!("{key}: '{}'", value.replace('\'', "''")))
}

#[cfg(test)]
mod tests;
