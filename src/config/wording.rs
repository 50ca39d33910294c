//! How messages list several names, and suggest the one that was probably meant.

/// Joins words in backticks: `a`, `b` or `c`, with `joint` before the last.
pub(crate) fn join_words(words: &[impl AsRef<str>], joint: &str) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{}`", word.as_ref())).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} {joint} {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// Returns a hint with the known names that are near to `name`: `did you mean …?`
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let near = nearest(name, known);
    (!near.is_empty()).then(|| format!("did you mean {}?", join_words(&near, "or")))
}

/// Returns at most two known names that are near to `name`, the nearest first.
#[must_use]
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = folded(name);
    let mut near: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|candidate| {
            let other = folded(candidate);
            let distance = strsim::damerau_levenshtein(&wanted, &other);
            let longest = wanted.chars().count().max(other.chars().count());
            // A third of the letters may differ. A word that begins with the other is near as well.
            let prefix = wanted.len().min(other.len()) >= 3
                && (other.starts_with(&wanted) || wanted.starts_with(&other));
            (distance * 3 <= longest || prefix).then_some((distance, candidate))
        })
        .collect();
    near.sort_unstable();
    let best = near.first().map_or(0, |(distance, _)| *distance);
    near.into_iter().filter(|(distance, _)| *distance <= best + 1).map(|(_, name)| name).take(2).collect()
}

/// Drops case and separators: `minInterval`, `min-interval` and `MIN_INTERVAL` mean `min_interval`.
fn folded(name: &str) -> String {
    name.chars().take(80).filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_nearest_names_come_first() {
        let known = ["min_interval", "max_interval", "interval", "deadline"];
        assert_eq!(nearest("min_intervall", known), ["min_interval"]);
        assert_eq!(nearest("minInterval", known), ["min_interval"]);
        assert_eq!(nearest("colour", known), Vec::<&str>::new());
    }

    proptest! {
        #[test]
        fn a_suggestion_never_panics(name in any::<String>(), known in proptest::collection::vec(any::<String>(), 0..8)) {
            let near = nearest(&name, known.iter().map(String::as_str));
            prop_assert!(near.len() <= 2);
            let _ = did_you_mean(&name, known.iter().map(String::as_str));
        }
    }
}
