//! "Did you mean": the known word nearest to what somebody typed.

/// Nearest of the known words, if one is near enough to be meant.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    known
        .into_iter()
        .map(|word| (distance(&typed, &word.to_lowercase()), word))
        .filter(|(distance, word)| *distance <= word.len().max(typed.len()).div_ceil(4))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// How many letters to add, drop, change, or swap with the next one.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let left: Vec<char> = left.chars().collect();
    let first: Vec<usize> = (0..=right.len()).collect();
    let mut rows = vec![first];
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let changed = rows[i][j] + usize::from(a != b);
            let is_swapped = i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b;
            let swapped = if is_swapped {
                rows[i - 1][j - 1] + 1
            } else {
                changed
            };
            row.push(changed.min(swapped).min(rows[i][j + 1] + 1).min(row[j] + 1));
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_word_finds_the_one_that_was_meant() {
        let known = ["showInput", "showHistory", "showHistoryOutput", "top"];
        for (typed, meant) in [
            ("showHistry", Some("showHistory")),
            ("SHOWINPUTS", Some("showInput")),
            ("tpo", Some("top")),
            ("completely-else", None),
            // A reviewer asked for `?foo=1` and was told "did you mean top?".
            ("foo", None),
            ("showHistoryInput", Some("showHistoryOutput")),
        ] {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
    }
}
