//! Which known name somebody may have meant.

/// The known name that is nearest to `name`, unless all are far away.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|known| (edit_distance(name, known), known))
        .min()
        .filter(|(distance, _)| *distance <= MAX_DISTANCE)
        .map(|(_, known)| known)
}

/// Levenshtein distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (line, letter) in a.chars().enumerate() {
        let mut left = line + 1;
        let mut diagonal = line;
        for (column, other) in b.iter().enumerate() {
            let above = row.get(column + 1).copied().unwrap_or_default();
            let here = (diagonal + usize::from(letter != *other))
                .min(left + 1)
                .min(above + 1);
            if let Some(cell) = row.get_mut(column) {
                *cell = left;
            }
            diagonal = above;
            left = here;
        }
        if let Some(cell) = row.last_mut() {
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// Beyond this a suggestion is a guess.
const MAX_DISTANCE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, distance) in [
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "abc", 0),
            ("kitten", "sitting", 3),
            ("ab", "ba", 2),
        ] {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }

    #[test]
    fn only_a_near_name_is_suggested() {
        let known = || ["remote", "environment_id"].into_iter();
        assert_eq!(nearest("enviroment_id", known()), Some("environment_id"));
        assert_eq!(nearest("remote-url", known()), Some("remote"));
        assert_eq!(nearest("zebra_crossing_lights", known()), None);
    }
}
