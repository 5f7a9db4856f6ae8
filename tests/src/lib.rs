//! Unpublished end-to-end and interop tests with the real binaries.

/// The content of all blocks of `language` in a document.
pub fn blocks<'a>(text: &'a str, language: &str) -> impl Iterator<Item = &'a str> {
    let blocks = text.split("```").skip(1).step_by(2);
    blocks.filter_map(move |block| {
        let (first, content) = block.split_once('\n')?;
        (first == language).then_some(content)
    })
}
