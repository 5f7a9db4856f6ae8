//! Whether the programs in the documents are those that are compiled and run.
//!
//! A block of Rust in a document stands below a comment that names its file,
//! `<!-- harness/examples/orchestrator.rs -->`, and is all of that file.

use std::path::Path;

use anyhow::{Context as _, Result};

/// Every block that is not its file, one line each. `files` are all files of the repository.
///
/// # Errors
///
/// When a file cannot be read.
pub(crate) fn findings(root: &Path, files: &[&str]) -> Result<Vec<String>> {
    let read = |file: &str| {
        std::fs::read_to_string(root.join(file)).with_context(|| format!("failed to read {file}"))
    };
    let mut findings = Vec::new();
    let mut quoted = Vec::new();
    for document in files.iter().filter(|file| file.ends_with(".md")) {
        for (name, block) in programs(&read(document)?) {
            let Some(name) = name else {
                findings.push(format!(
                    "{document}: a program in Rust without the file it is from"
                ));
                continue;
            };
            if !files.contains(&&*name) {
                findings.push(format!("{document}: {name} does not exist"));
            } else if read(&name)? != block {
                findings.push(format!("{document}: the program is not that of {name}"));
            }
            quoted.push(name);
        }
    }
    for example in files.iter().filter(|file| is_example(file)) {
        if !quoted.iter().any(|name| name == example) {
            findings.push(format!("{example} is in no document"));
        }
    }
    Ok(findings)
}

fn is_example(file: &str) -> bool {
    file.contains("/examples/") && file.ends_with(".rs")
}

/// The blocks of Rust, each with the name above it.
fn programs(text: &str) -> Vec<(Option<String>, String)> {
    let of_rust = blocks(text)
        .into_iter()
        .filter(|block| block.language.split(',').next() == Some("rust"));
    of_rust
        .map(|block| {
            let name = block.above.trim_end().lines().next_back();
            let name = name
                .and_then(|line| line.strip_prefix("<!-- ")?.strip_suffix(" -->"))
                .map(str::to_owned);
            (name, block.content.to_owned())
        })
        .collect()
}

/// Something between fences.
pub(crate) struct Block<'a> {
    /// The text since the block before.
    above: &'a str,
    /// What stands behind the first fence.
    pub(crate) language: &'a str,
    pub(crate) content: &'a str,
}

/// All blocks of a document.
pub(crate) fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut parts = text.split("```");
    let (mut blocks, mut above) = (Vec::new(), parts.next().unwrap_or_default());
    while let (Some(block), after) = (parts.next(), parts.next()) {
        if let Some((language, content)) = block.split_once('\n') {
            blocks.push(Block {
                above,
                language,
                content,
            });
        }
        above = after.unwrap_or_default();
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_with_the_name_above_them() {
        let text =
            "a\n<!-- x/y.rs -->\n```rust\nfn f() {}\n```\n```sh\nls\n```\n```rust,no_run\n1\n```\n";
        let expected = [
            (Some("x/y.rs".to_owned()), "fn f() {}\n".to_owned()),
            (None, "1\n".to_owned()),
        ];
        assert_eq!(programs(text), expected);
    }

    #[test]
    fn programs_that_are_not_their_file_are_found() {
        let root = std::env::temp_dir().join(format!("quotes-{}", std::process::id()));
        std::fs::create_dir_all(root.join("a/examples")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(root.join(name), text).unwrap();
        write("a/examples/one.rs", "1\n");
        let good = "<!-- a/examples/one.rs -->\n```rust\n1\n```\n";
        let found = |text: &str| {
            write("a.md", text);
            findings(&root, &["a.md", "a/examples/one.rs"]).unwrap()
        };
        assert_eq!(found(good), Vec::<String>::new());
        assert_eq!(found(&good.replace("\n1", "\n3")).len(), 1);
        assert_eq!(found("```rust\n1\n```\n").len(), 2);
        assert_eq!(found("no program").len(), 1);
        assert_eq!(found(&good.replace("one", "absent")).len(), 2);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
