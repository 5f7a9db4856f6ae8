//! What can be set. A program declares one list; everything else is derived from it.

/// A program and its settings.
#[derive(Debug)]
pub struct Program {
    /// As it is typed.
    pub name: &'static str,
    /// What its variables begin with, such as `EXEC_SERVER_`.
    pub prefix: &'static str,
    /// What can be set.
    pub settings: &'static [Setting],
    /// Secrets that variables can hold.
    pub secrets: &'static [Secret],
}

/// One setting: a key in the file, a variable and a flag.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Key in the file.
    pub key: &'static str,
    /// What kind of value it has.
    pub kind: Kind,
    /// Default as a person would type it; empty if there is none.
    pub default: &'static str,
    /// Whether the value is left out when settings are shown.
    pub is_masked: bool,
    argument: Option<&'static str>,
    variable: Option<&'static str>,
}

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A string, also one of a fixed set, an address, or a length of time such as `5s`.
    Text,
    /// A string; in the file, a relative path starts at the file's directory.
    Path,
    /// An integer.
    Number,
    /// `true` or `false`; the flag alone is `true`.
    Switch,
    /// An array of strings; separated by commas in a variable.
    List,
    /// The same, of paths.
    Paths,
}

/// A variable whose value is a secret.
#[derive(Debug, Clone, Copy)]
pub struct Secret {
    /// Its name.
    pub variable: &'static str,
    /// What it is.
    pub meaning: &'static str,
}

impl Program {
    /// The setting with this key.
    pub fn setting(&self, key: &str) -> Option<&'static Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }

    /// The setting that this argument of the command line gives.
    pub fn setting_of_argument(&self, id: &str) -> Option<&'static Setting> {
        self.settings
            .iter()
            .find(|setting| setting.argument() == id)
    }

    /// The variable that gives a setting.
    pub fn variable(&self, setting: &Setting) -> String {
        match setting.variable {
            Some(name) => name.to_owned(),
            None => format!("{}{}", self.prefix, setting.key.to_ascii_uppercase()),
        }
    }

    /// The variable that names the configuration file.
    pub fn config_variable(&self) -> String {
        format!("{}CONFIG", self.prefix)
    }
}

impl Setting {
    /// A setting whose argument and variable are named after its key.
    pub const fn new(key: &'static str, kind: Kind) -> Self {
        Self {
            key,
            kind,
            default: "",
            is_masked: false,
            argument: None,
            variable: None,
        }
    }

    /// Names the argument's id, where it is not the key.
    #[must_use]
    pub const fn given_by(mut self, argument: &'static str) -> Self {
        self.argument = Some(argument);
        self
    }

    /// Names the variable, where it does not follow from the key.
    #[must_use]
    pub const fn in_variable(mut self, variable: &'static str) -> Self {
        self.variable = Some(variable);
        self
    }

    /// Says what applies when nobody says anything.
    #[must_use]
    pub const fn or(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }

    /// Leaves the value out when settings are shown.
    #[must_use]
    pub const fn masked(mut self) -> Self {
        self.is_masked = true;
        self
    }

    /// Id of the argument.
    pub fn argument(&self) -> &'static str {
        self.argument.unwrap_or(self.key)
    }

    /// The flag as it is typed.
    pub fn flag(&self) -> String {
        format!("--{}", self.argument().replace('_', "-"))
    }
}
