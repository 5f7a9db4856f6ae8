//! Which source decides: flag over variable over file over default.
//!
//! Each setting is taken once, with what the command line gave. Nothing stops at the first problem:
//! they are collected, so that a person sees all of them at once. Problems name the source and never
//! hold the value, which may be a secret in the wrong place.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use toml::{Table, Value as Toml};

use crate::{
    nearest::nearest,
    schema::{Kind, Program, Setting},
    value::Value,
};

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// The environment.
    Variable,
    /// The configuration file.
    File,
    /// Nobody has said anything.
    Default,
}

/// The sources below the command line, and what was found in all of them.
pub struct Layers<'a> {
    pub(crate) program: &'static Program,
    environment: &'a dyn Fn(&str) -> Option<String>,
    file: Table,
    directory: PathBuf,
    problems: Vec<String>,
    pub(crate) taken: BTreeMap<&'static str, Taken>,
}

/// What was decided about one setting.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) source: Source,
    /// As TOML; absent if there is no value.
    pub(crate) shown: Option<Toml>,
}

impl<'a> Layers<'a> {
    /// Reads the file, if there is one: the one of the flag, else the one that the variable names,
    /// else `usual`, which need not exist.
    pub fn open(
        program: &'static Program,
        environment: &'a dyn Fn(&str) -> Option<String>,
        flag: Option<&Path>,
        usual: Option<&Path>,
    ) -> Self {
        let mut layers = Self {
            program,
            environment,
            file: Table::new(),
            directory: PathBuf::new(),
            problems: Vec::new(),
            taken: BTreeMap::new(),
        };
        let variable = layers.variable(&program.config_variable());
        let named = flag.map(Path::to_owned).or(variable.map(PathBuf::from));
        let usual = usual.filter(|path| path.exists()).map(Path::to_owned);
        if let Some(path) = named.or(usual) {
            layers.read(&path);
        }
        layers
    }

    /// Decides about a setting with one value.
    pub fn value<T: Value>(&mut self, key: &'static str, slot: &mut Option<T>) {
        let Some(setting) = self.declared(key) else {
            return;
        };
        let mut source = Source::Flag;
        if slot.is_none() {
            (source, *slot) = self.below(setting);
        }
        let shown = slot.as_ref().map(|value| match setting.kind {
            Kind::Number => value
                .show()
                .parse()
                .map_or_else(|_| Toml::String(value.show()), Toml::Integer),
            _ => Toml::String(value.show()),
        });
        self.taken.insert(key, Taken { source, shown });
    }

    /// Decides about a setting that is on or off.
    pub fn switch(&mut self, key: &'static str, slot: &mut bool) {
        let Some(setting) = self.declared(key) else {
            return;
        };
        let mut source = Source::Flag;
        if !*slot {
            let (below, found) = self.below::<Switch>(setting);
            source = below;
            *slot = found.is_some_and(|found| found.0);
        }
        let shown = (source != Source::Default).then_some(Toml::Boolean(*slot));
        self.taken.insert(key, Taken { source, shown });
    }

    /// Decides about a setting with several values. A source that names any hides those below it.
    pub fn list<T: Value>(&mut self, key: &'static str, slot: &mut Vec<T>) {
        let Some(setting) = self.declared(key) else {
            return;
        };
        let mut source = Source::Flag;
        if slot.is_empty() {
            let (below, found) = self.below::<List<T>>(setting);
            source = below;
            *slot = found.map(|list| list.0).unwrap_or_default();
        }
        let shown = slot
            .iter()
            .map(|value| Toml::String(value.show()))
            .collect();
        let shown = (source != Source::Default).then_some(Toml::Array(shown));
        self.taken.insert(key, Taken { source, shown });
    }

    /// Where the value of a setting that was decided comes from.
    pub fn source(&self, key: &str) -> Source {
        self.taken
            .get(key)
            .map_or(Source::Default, |taken| taken.source)
    }

    /// How a person who reads a problem finds the setting: by the source that has decided.
    pub fn name_of(&self, key: &str) -> String {
        let Some(setting) = self.program.setting(key) else {
            return key.to_owned();
        };
        match self.source(key) {
            Source::Flag | Source::Default => setting.flag(),
            Source::Variable => self.program.variable(setting),
            Source::File => format!("configuration key `{key}`"),
        }
    }

    /// A variable that is set and not blank.
    pub fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|value| !value.trim().is_empty())
    }

    /// Adds a problem that only the program can see.
    pub fn problem(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    /// Whether anything is wrong so far.
    pub fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    /// Takes out what is wrong.
    pub fn take_problems(&mut self) -> Vec<String> {
        std::mem::take(&mut self.problems)
    }

    /// Settings that are declared and were not decided about: there must be none.
    pub fn forgotten(&self) -> Vec<&'static str> {
        let keys = self.program.settings.iter().map(|setting| setting.key);
        keys.filter(|key| !self.taken.contains_key(key)).collect()
    }

    fn declared(&mut self, key: &'static str) -> Option<&'static Setting> {
        let setting = self.program.setting(key);
        if setting.is_none() {
            self.problem(format!("setting `{key}` is not declared"));
        }
        setting
    }

    /// What the variable says, else the file.
    fn below<T: Layered>(&mut self, setting: &'static Setting) -> (Source, Option<T>) {
        let name = self.program.variable(setting);
        if let Some(text) = self.variable(&name) {
            let value = T::from_variable(&text);
            return (Source::Variable, self.checked(&name, value));
        }
        let Some(value) = self.file.get(setting.key) else {
            return (Source::Default, None);
        };
        let value = T::from_file(value, setting.kind).map(|mut value| {
            if matches!(setting.kind, Kind::Path | Kind::Paths) {
                value.start_at(&self.directory);
            }
            value
        });
        let name = format!("configuration key `{}`", setting.key);
        (Source::File, self.checked(&name, value))
    }

    fn checked<T>(&mut self, name: &str, value: Result<T, String>) -> Option<T> {
        value
            .map_err(|error| self.problem(format!("{name} cannot be used: {error}")))
            .ok()
    }

    fn read(&mut self, path: &Path) {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| {
            let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
            file.take(limit.saturating_add(1)).read_to_string(&mut text)
        });
        match read {
            Err(error) => {
                let kind = error.kind();
                return self.problem(format!("configuration file cannot be read: {kind}"));
            }
            Ok(length) if length > MAX_FILE_BYTES => {
                return self.problem(format!(
                    "configuration file exceeds limit of {MAX_FILE_BYTES} bytes"
                ));
            }
            Ok(_) => {}
        }
        match text.parse::<Table>() {
            Ok(table) => self.file = table,
            // The full error quotes the line, which may hold something private.
            Err(error) => {
                let line = error.span().and_then(|span| text.get(..span.start));
                let line = line.map_or(0, |before| before.matches('\n').count()) + 1;
                return self.problem(format!(
                    "configuration file is not valid TOML, line {line}: {}",
                    error.message().lines().next().unwrap_or_default()
                ));
            }
        }
        self.directory = path.parent().unwrap_or(Path::new("")).to_owned();
        let known = || self.program.settings.iter().map(|setting| setting.key);
        let unknown = self
            .file
            .keys()
            .filter(|key| self.program.setting(key).is_none())
            .map(|key| match nearest(key, known()) {
                Some(nearest) => {
                    format!("unknown configuration key `{key}`; did you mean `{nearest}`?")
                }
                None => format!(
                    "unknown configuration key `{key}`; known keys are {}",
                    known().collect::<Vec<_>>().join(", ")
                ),
            })
            .collect::<Vec<_>>();
        self.problems.extend(unknown);
    }
}

impl std::fmt::Debug for Layers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be secrets in the wrong place.
        f.debug_struct("Layers")
            .field("program", &self.program.name)
            .finish_non_exhaustive()
    }
}

/// What a variable or a key of the file can be turned into.
trait Layered: Sized {
    fn from_variable(text: &str) -> Result<Self, String>;
    fn from_file(value: &Toml, kind: Kind) -> Result<Self, String>;
    fn start_at(&mut self, directory: &Path);
}

impl<T: Value> Layered for T {
    fn from_variable(text: &str) -> Result<Self, String> {
        T::parse(text)
    }

    fn from_file(value: &Toml, kind: Kind) -> Result<Self, String> {
        match (value, kind) {
            (Toml::Integer(number), Kind::Number) => T::parse(&number.to_string()),
            (_, Kind::Number) => Err("expected a number".to_owned()),
            (Toml::String(text), _) => T::parse(text),
            _ => Err("expected a string".to_owned()),
        }
    }

    fn start_at(&mut self, directory: &Path) {
        Value::start_at(self, directory);
    }
}

/// On or off.
struct Switch(bool);

impl Layered for Switch {
    fn from_variable(text: &str) -> Result<Self, String> {
        match text.trim() {
            "true" => Ok(Self(true)),
            "false" => Ok(Self(false)),
            _ => Err(EXPECTED_SWITCH.to_owned()),
        }
    }

    fn from_file(value: &Toml, _: Kind) -> Result<Self, String> {
        value
            .as_bool()
            .map(Self)
            .ok_or_else(|| EXPECTED_SWITCH.to_owned())
    }

    fn start_at(&mut self, _: &Path) {}
}

struct List<T>(Vec<T>);

impl<T: Value> Layered for List<T> {
    fn from_variable(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(T::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn from_file(value: &Toml, _: Kind) -> Result<Self, String> {
        let expected = || "expected an array of strings".to_owned();
        let values = value.as_array().ok_or_else(expected)?;
        values
            .iter()
            .map(|value| T::parse(value.as_str().ok_or_else(expected)?))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn start_at(&mut self, directory: &Path) {
        for value in &mut self.0 {
            Value::start_at(value, directory);
        }
    }
}

/// Larger files are something else.
const MAX_FILE_BYTES: usize = 1 << 20;
const EXPECTED_SWITCH: &str = "expected true or false";

#[cfg(test)]
#[path = "layers/tests.rs"]
mod tests;
