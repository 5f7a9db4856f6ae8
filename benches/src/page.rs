//! Puts what was measured into a page between two marks, and the picture beside the page.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::report::Report;

/// Replaces what stands between the marks of `page`, and writes the picture to the same name with the
/// extension `svg`.
///
/// # Errors
///
/// When the page cannot be read or written, or has no marks.
pub fn write(page: &Path, report: &Report) -> Result<()> {
    let text = fs::read_to_string(page).with_context(|| page.display().to_string())?;
    let replaced = replace(&text, &report.to_string());
    let replaced = replaced.with_context(|| format!("{} has no {BEGIN}", page.display()))?;
    fs::write(page, replaced)?;
    fs::write(page.with_extension("svg"), report.plot()?)?;
    Ok(())
}

fn replace(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

const BEGIN: &str = "<!-- measured -->";
const END: &str = "<!-- end of what was measured -->";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let new = replace(&page, "| new |\n").unwrap();
        assert_eq!(new, format!("a\n{BEGIN}\n\n| new |\n\n{END}\nb\n"));
        assert_eq!(replace("nothing", "new"), None);
    }
}
