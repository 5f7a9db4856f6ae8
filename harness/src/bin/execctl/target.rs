//! Operands: `ID:PATH`, `:PATH`, or a path.

/// A path on one side or the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// On an executor; without an id, on the default environment's.
    Remote {
        environment: Option<String>,
        path: String,
    },
    /// On this machine.
    Local(String),
}

impl Target {
    /// Reads an operand of `cp`.
    ///
    /// A colon before the first slash makes it remote, as with `docker cp` and `scp`; a local name
    /// with a colon is written `./a:b`.
    pub(crate) fn parse(operand: &str) -> Self {
        match operand.split_once(':') {
            Some((environment, path))
                if !environment.contains('/') && !environment.starts_with('.') =>
            {
                Self::Remote {
                    environment: (!environment.is_empty()).then(|| environment.to_owned()),
                    path: if path.is_empty() {
                        ".".to_owned()
                    } else {
                        path.to_owned()
                    },
                }
            }
            _ => Self::Local(operand.to_owned()),
        }
    }

    /// Reads an operand of a subcommand whose paths are all remote.
    pub(crate) fn remote(operand: &str) -> (Option<String>, String) {
        match Self::parse(operand) {
            // A URI is a path, not an environment named "file".
            Self::Remote {
                environment: Some(id),
                ..
            } if id == "file" => (None, operand.to_owned()),
            Self::Remote { environment, path } => (environment, path),
            Self::Local(path) => (None, path),
        }
    }
}

/// The one environment that all operands name, if any does.
pub(crate) fn common_environment<'a>(
    operands: impl IntoIterator<Item = &'a Option<String>>,
) -> Result<Option<String>, crate::exit::Failure> {
    let mut common: Option<&String> = None;
    for environment in operands.into_iter().flatten() {
        if common.is_some_and(|other| other != environment) {
            return Err(crate::exit::Failure::usage(
                "all paths must be of one environment",
            ));
        }
        common = Some(environment);
    }
    Ok(common.cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(environment: Option<&str>, path: &str) -> Target {
        Target::Remote {
            environment: environment.map(str::to_owned),
            path: path.to_owned(),
        }
    }

    #[test]
    fn colon_before_the_first_slash_makes_an_operand_remote() {
        for (operand, expected) in [
            ("dev:/a/b", remote(Some("dev"), "/a/b")),
            ("dev:a:b", remote(Some("dev"), "a:b")),
            (":/a", remote(None, "/a")),
            ("dev:", remote(Some("dev"), ".")),
            ("./a:b", Target::Local("./a:b".into())),
            ("/a:b", Target::Local("/a:b".into())),
            ("a/b:c", Target::Local("a/b:c".into())),
            ("plain", Target::Local("plain".into())),
        ] {
            assert_eq!(Target::parse(operand), expected, "{operand}");
        }
    }

    #[test]
    fn path_of_a_remote_subcommand_needs_no_colon() {
        assert_eq!(Target::remote("/etc"), (None, "/etc".into()));
        assert_eq!(
            Target::remote("dev:/etc"),
            (Some("dev".into()), "/etc".into())
        );
        assert_eq!(Target::remote("file:///etc"), (None, "file:///etc".into()));
    }

    #[test]
    fn operands_of_two_environments_are_refused() {
        let (a, b) = (Some("a".to_owned()), Some("b".to_owned()));
        assert_eq!(common_environment([&a, &None, &a]).unwrap(), a);
        assert!(common_environment([&a, &b]).is_err());
    }
}
