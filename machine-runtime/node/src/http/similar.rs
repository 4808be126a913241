//! Names that somebody may have meant.

/// How many names are suggested at most.
const MOST: usize = 10;

/// Longer words are nobody's slip of the finger, and comparing them would cost.
const LONGEST: usize = 64;

/// The candidates that differ from `name` in few edits, the most similar first; all of them
/// where there are only a few.
pub(crate) fn similar<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str> + Clone,
) -> Vec<&'a str> {
    let few = candidates.clone().nth(MOST).is_none();
    let most = name.len() / 3 + 1;
    let mut found: Vec<(usize, &str)> = Vec::new();
    for candidate in candidates {
        let edits = edits(name.as_bytes(), candidate.as_bytes(), most);
        if few || edits <= most {
            let place = found.partition_point(|(other, _)| *other <= edits);
            found.insert(place, (edits, candidate));
            found.truncate(MOST);
        }
    }
    found.into_iter().map(|(_, candidate)| candidate).collect()
}

/// How many letters have to be put in, taken out, replaced or swapped with their neighbour to
/// make `b` of `a`; more than `most` if it cannot be done with so few.
fn edits(a: &[u8], b: &[u8], most: usize) -> usize {
    const TOO_MANY: usize = usize::MAX;
    if a.len().abs_diff(b.len()) > most || a.len() > LONGEST || b.len() > LONGEST {
        return TOO_MANY;
    }
    // Row `i` holds the edits from the first `i` letters of `a` to each start of `b`.
    let mut above = [0_u8; LONGEST + 1];
    let mut row = above;
    for (cell, edits) in row.iter_mut().zip(0..) {
        *cell = edits;
    }
    for (i, first) in (1..).zip(0..a.len()) {
        let before = above;
        above = row;
        row[0] = i;
        let mut least = i;
        for j in 1..=b.len() {
            let replaced = above[j - 1] + u8::from(a[first] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if first > 0 && j > 1 && a[first] == b[j - 2] && a[first - 1] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
            least = least.min(row[j]);
        }
        // A swap looks back two rows, which may be lower by the one edit of the swap.
        if usize::from(least) > most + 1 {
            return TOO_MANY;
        }
    }
    usize::from(row[b.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (a, b, count) in [
            ("", "", 0),
            ("Ready", "Ready", 0),
            ("Redy", "Ready", 1),
            ("Raedy", "Ready", 1),
            ("ready", "Ready", 1),
            ("Read", "Heady", 2),
            ("abcd", "badc", 2),
            ("", "abc", 3),
        ] {
            assert_eq!(edits(a.as_bytes(), b.as_bytes(), 9), count, "{a} {b}");
            assert_eq!(edits(b.as_bytes(), a.as_bytes(), 9), count, "{b} {a}");
        }
        assert!(edits(b"abcdef", b"uvwxyz", 3) > 3);
    }

    #[test]
    fn a_few_similar_names_are_suggested_the_best_first() {
        let names: Vec<String> = (0..100).map(|i| format!("Flight{i}Delayed")).collect();
        let found = similar("Flight7Delaid", names.iter().map(String::as_str));
        assert_eq!(found.len(), MOST);
        assert_eq!(found[0], "Flight7Delayed");
        assert!(similar(&"x".repeat(5000), names.iter().map(String::as_str)).is_empty());
    }

    #[test]
    fn all_names_are_suggested_where_they_are_few() {
        assert_eq!(
            similar("Stats", ["Gates", "Status"].into_iter()),
            ["Status", "Gates"]
        );
        assert_eq!(
            similar("nothing", ["Gates", "Status"].into_iter()),
            ["Gates", "Status"]
        );
    }
}
