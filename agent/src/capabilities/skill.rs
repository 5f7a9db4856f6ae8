//! What a skill says about itself: the front matter of `SKILL.md` and the metadata file beside it.

use std::path::Path;

use exec_proto::capabilities::{Skill, SkillDependencies, SkillFiles, SkillPolicy, SkillTool};

use super::limits::SKILL_NAME_CHARS;
use super::yaml::Yaml;

/// Describes a skill, whose name is put behind `namespace`. `None` if it does not describe itself well
/// enough to be offered: no front matter, no description, a name that is too long.
///
/// A metadata file that cannot be read as such counts as absent.
pub(crate) fn describe(files: &SkillFiles, namespace: Option<&str>) -> Option<Skill> {
    let front = Yaml::parse(&front_matter(&files.instructions.contents)?).ok()?;
    let path = files.instructions.path.to_native().ok()?;
    let name = one_line(front.get("name"))
        .or_else(|| directory_name(&path))
        .filter(|name| name.chars().count() <= SKILL_NAME_CHARS)?;
    let description = one_line(front.get("description"))?;
    let short_description = front
        .get("metadata")
        .and_then(|metadata| one_line(metadata.get("short-description")));
    let metadata = files
        .metadata
        .as_ref()
        .and_then(|file| Yaml::parse(&file.contents).ok());
    let metadata = metadata.unwrap_or(Yaml::Null);
    Some(Skill {
        name: match namespace {
            Some(namespace) => format!("{namespace}:{name}"),
            None => name,
        },
        description,
        short_description,
        path: files.instructions.path.clone(),
        dependencies: metadata.get("dependencies").and_then(dependencies),
        policy: metadata.get("policy").and_then(policy),
    })
}

/// The lines between the first line, which must be `---`, and the next such line.
fn front_matter(contents: &str) -> Option<String> {
    let mut lines = contents.lines();
    if lines.next()?.trim_end() != "---" {
        return None;
    }
    let mut front = String::new();
    for line in lines {
        if line.trim_end() == "---" {
            return Some(front);
        }
        front.push_str(line);
        front.push('\n');
    }
    None
}

/// A scalar with its white space collapsed, if anything is left of it.
fn one_line(node: Option<&Yaml>) -> Option<String> {
    let words: Vec<&str> = node?.text()?.split_whitespace().collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn directory_name(path: &Path) -> Option<String> {
    path.parent()?.file_name()?.to_str().map(str::to_owned)
}

/// Tools without type or value are left out.
fn dependencies(node: &Yaml) -> Option<SkillDependencies> {
    let tool = |item: &Yaml| {
        let member = |key| one_line(item.get(key));
        Some(SkillTool {
            kind: member("type")?,
            value: member("value")?,
            description: member("description"),
            transport: member("transport"),
            command: member("command"),
            url: member("url"),
            oauth_callback_port: None,
        })
    };
    let tools: Vec<_> = node.get("tools")?.items().iter().filter_map(tool).collect();
    (!tools.is_empty()).then_some(SkillDependencies { tools })
}

fn policy(node: &Yaml) -> Option<SkillPolicy> {
    let Yaml::Map(_) = node else { return None };
    let products = node.get("products").map(Yaml::items).unwrap_or_default();
    Some(SkillPolicy {
        allow_implicit_invocation: node
            .get("allow_implicit_invocation")
            .and_then(Yaml::boolean),
        products: products
            .iter()
            .filter_map(|item| one_line(Some(item)))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use exec_proto::PathUri;
    use exec_proto::capabilities::CapabilityFile;

    use super::*;

    fn run(contents: &str, metadata: Option<&str>) -> Option<Skill> {
        let file = |name: &str, contents: &str| CapabilityFile {
            path: PathUri::parse(&format!("file:///skills/dir/{name}")).unwrap(),
            contents: contents.to_owned(),
        };
        let files = SkillFiles {
            instructions: file("SKILL.md", contents),
            metadata: metadata.map(|contents| file("agents/openai.yaml", contents)),
        };
        describe(&files, None)
    }

    #[test]
    fn front_matter_gives_name_and_description() {
        let table = [
            (
                "---\nname: demo\ndescription: Does it.\n---\nBody\n",
                "demo",
                "Does it.",
            ),
            (
                "---\r\nname: crlf\r\ndescription: d\r\n---\r\nx",
                "crlf",
                "d",
            ),
            ("---\ndescription: no name\n---\n", "dir", "no name"),
            (
                "---\nname: n\ndescription: >\n  folded\n  text\nlicense: MIT\n---\n",
                "n",
                "folded text",
            ),
            (
                "---\nname: n\ndescription: Use this: when\n---\n",
                "n",
                "Use this: when",
            ),
            ("---\nname: 5\ndescription: true\n---\n", "5", "true"),
        ];
        for (contents, name, description) in table {
            let skill = run(contents, None).unwrap();
            assert_eq!(
                (skill.name.as_str(), skill.description.as_str()),
                (name, description)
            );
            assert_eq!(
                (skill.short_description, skill.dependencies, skill.policy),
                (None, None, None)
            );
        }
        let short = "---\nname: n\ndescription: d\nmetadata:\n  short-description: 's: t'\n---\n";
        assert_eq!(run(short, None).unwrap().short_description.unwrap(), "s: t");
    }

    #[test]
    fn what_does_not_describe_itself_is_not_offered() {
        let long = format!("---\nname: {}\ndescription: d\n---\n", "n".repeat(65));
        for contents in [
            "no front matter",
            "---\nname: n\ndescription: d\n",
            "\n---\nname: n\ndescription: d\n---\n",
            "---\nname: n\n---\n",
            "---\nname: n\ndescription: \"\"\n---\n",
            "---\nname: [n\ndescription: d\n---\n",
            "---\nname: n\ndescription: [a, b]\n---\n",
            &long,
        ] {
            assert_eq!(run(contents, None), None, "{contents:?}");
        }
    }

    #[test]
    fn metadata_gives_dependencies_and_policy() {
        let skill = "---\nname: n\ndescription: d\n---\n";
        let metadata = "dependencies:\n  tools:\n    - type: mcp\n      value: foo\n      url: \"https://x/y\"\n    - value: no type\npolicy:\n  allow_implicit_invocation: false\n  products: [codex, chatgpt]\n";
        let found = run(skill, Some(metadata)).unwrap();
        let tools = found.dependencies.unwrap().tools;
        assert_eq!(tools.len(), 1);
        assert_eq!(
            (tools[0].kind.as_str(), tools[0].value.as_str()),
            ("mcp", "foo")
        );
        assert_eq!(
            (tools[0].url.as_deref(), &tools[0].command),
            (Some("https://x/y"), &None)
        );
        let policy = found.policy.unwrap();
        assert_eq!(policy.allow_implicit_invocation, Some(false));
        assert_eq!(policy.products, ["codex", "chatgpt"]);
        let found = run(skill, Some("dependencies:\n  tools: []\npolicy: {}\n")).unwrap();
        assert_eq!(found.dependencies, None);
        assert_eq!(found.policy.unwrap().allow_implicit_invocation, None);
        let found = run(skill, Some("a: [b")).unwrap();
        assert_eq!((found.dependencies, found.policy), (None, None));
    }
}
