//! What is generated from the command line and the list of settings: the hints of the help,
//! completions for shells, man pages, and a program's part of `docs/configuration.md`.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::PathBuf,
};

use clap::{Arg, Args, Command};
use clap_complete::Shell;

use crate::schema::{Kind, Program, Setting};

/// Prints completions for a shell.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
For bash: put the output into ~/.local/share/bash-completion/completions/PROGRAM, for zsh into a
file _PROGRAM in a directory of $fpath, for fish into ~/.config/fish/completions/PROGRAM.fish.")]
pub struct Completions {
    /// Which shell
    pub shell: Shell,
}

/// Prints the man page.
#[derive(Debug, Clone, Args)]
pub struct Manual {
    /// Write it, and a page for each subcommand, into this directory instead
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

impl Completions {
    /// Writes them to standard output.
    ///
    /// # Errors
    ///
    /// When that is not possible.
    pub fn run(&self, mut command: Command) -> io::Result<()> {
        // The library panics where it cannot write, so it gets a buffer.
        let name = command.get_name().to_owned();
        let mut buffer = Vec::new();
        clap_complete::generate(self.shell, &mut command, name, &mut buffer);
        io::stdout().lock().write_all(&buffer)
    }
}

impl Manual {
    /// Writes it to standard output, or all of it into the directory.
    ///
    /// # Errors
    ///
    /// When that is not possible.
    pub fn run(&self, command: Command) -> io::Result<()> {
        match &self.directory {
            Some(directory) => clap_mangen::generate_to(command, directory),
            None => {
                // As in the files: there is no page for the command `help`.
                let command = command.disable_help_subcommand(true);
                clap_mangen::Man::new(command).render(&mut io::stdout().lock())
            }
        }
    }
}

/// Adds variable, key and default to the help of each argument that is a setting.
#[must_use]
pub fn describe(command: Command, program: &'static Program) -> Command {
    let names: Vec<String> = command
        .get_subcommands()
        .map(|subcommand| subcommand.get_name().to_owned())
        .collect();
    let command = command.mut_args(|argument| match setting_of(&argument, program) {
        Some(setting) => {
            let help = help_of(&argument);
            let mut help = format!("{help} [env: {}]", program.variable(setting));
            if !setting.default.is_empty() {
                let _ = write!(help, " [default: {}]", setting.default);
            }
            argument.help(help)
        }
        None => argument,
    });
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |subcommand| describe(subcommand, program))
    })
}

/// The program's part of `docs/configuration.md`.
pub fn reference(command: &Command, program: &'static Program) -> String {
    let mut text = format!(
        "# {}\n\nFile: `--config FILE` or `{}`.\n\n\
         | Key | Flag | Variable | Value | Default | Meaning |\n\
         | --- | --- | --- | --- | --- | --- |\n",
        program.name,
        program.config_variable()
    );
    for setting in program.settings {
        let argument = find(command, setting.argument());
        let meaning = argument.map(help_of).unwrap_or_default();
        let value = argument.map_or_else(String::new, |argument| value_of(argument, setting));
        let default = match setting.default {
            "" => String::new(),
            default => format!("`{default}`"),
        };
        let _ = writeln!(
            text,
            "| `{}` | `{}` | `{}` | {value} | {default} | {} |",
            setting.key,
            setting.flag(),
            program.variable(setting),
            cell(&meaning)
        );
    }
    let mut others = Vec::new();
    flags_alone(command, program, &mut others);
    if !others.is_empty() {
        text.push_str("\n| Only a flag | Meaning |\n| --- | --- |\n");
        for argument in others {
            let flag = argument.get_long().unwrap_or_default();
            let _ = writeln!(text, "| `--{flag}` | {} |", cell(&help_of(argument)));
        }
    }
    if !program.secrets.is_empty() {
        text.push_str("\n| Only a variable | Meaning |\n| --- | --- |\n");
        for secret in program.secrets {
            let _ = writeln!(text, "| `{}` | {} |", secret.variable, cell(secret.meaning));
        }
    }
    text
}

/// Arguments that look like settings and are not declared, and settings without an argument: there
/// must be none of either. `others` are arguments that are no settings.
pub fn undeclared(command: &Command, program: &'static Program, others: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for setting in program.settings {
        if find(command, setting.argument()).is_none() {
            found.push(format!("`{}` has no argument", setting.key));
        }
    }
    let mut flags = Vec::new();
    flags_alone(command, program, &mut flags);
    for argument in flags {
        let id = argument.get_id().as_str();
        if !others.contains(&id) {
            found.push(format!("argument `{id}` is no setting"));
        }
    }
    found
}

/// Flags of the command that can configure it, and have no key.
fn flags_alone<'a>(command: &'a Command, program: &'static Program, found: &mut Vec<&'a Arg>) {
    let settled = command
        .get_arguments()
        .any(|argument| setting_of(argument, program).is_some());
    if settled {
        found.extend(
            command
                .get_arguments()
                .filter(|argument| {
                    let id = argument.get_id().as_str();
                    argument.get_long().is_some()
                        && setting_of(argument, program).is_none()
                        && !BUILT_IN.contains(&id)
                        && !found
                            .iter()
                            .any(|other| other.get_id() == argument.get_id())
                })
                .collect::<Vec<_>>(),
        );
    }
}

fn setting_of(argument: &Arg, program: &'static Program) -> Option<&'static Setting> {
    let id = argument.get_id().as_str();
    argument.get_long()?;
    program.setting_of_argument(id)
}

/// The argument, of the command or of the first subcommand that has it.
fn find<'a>(command: &'a Command, id: &str) -> Option<&'a Arg> {
    command
        .get_arguments()
        .find(|argument| argument.get_id() == id && argument.get_long().is_some())
        .or_else(|| {
            command
                .get_subcommands()
                .find_map(|subcommand| find(subcommand, id))
        })
}

/// The help without what [`describe`] adds.
fn help_of(argument: &Arg) -> String {
    let help = argument.get_help().map(ToString::to_string);
    let help = help.unwrap_or_default();
    match help.find(" [env: ") {
        Some(end) => help[..end].to_owned(),
        None => help,
    }
}

fn value_of(argument: &Arg, setting: &Setting) -> String {
    let names: Vec<String> = argument
        .get_possible_values()
        .iter()
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    match setting.kind {
        Kind::Switch => "`true`, `false`".to_owned(),
        Kind::Number => "number".to_owned(),
        Kind::List | Kind::Paths => "array of strings".to_owned(),
        Kind::Text | Kind::Path if !names.is_empty() => names.join(", "),
        Kind::Text => "string".to_owned(),
        Kind::Path => "path".to_owned(),
    }
}

/// A text as the cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
        .replace('<', "&lt;")
        .replace('*', "\\*")
        .replace('\n', " ")
}

const BUILT_IN: [&str; 2] = ["help", "version"];

#[cfg(test)]
#[path = "generate/tests.rs"]
mod tests;
