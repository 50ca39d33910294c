//! Patterns in which `*` stands for any text, even an empty one.

/// Whether `text` matches `pattern`. Takes at most time proportional to the product of both
/// lengths.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(first) = parts.next() else { return text.is_empty() };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "x"),
            ("job.*", "job.failed"),
            ("a*b*c", "a1b2c"),
            ("a*b*c", "abc"),
            ("x", "x"),
            ("**", "x"),
            ("*ab", "abab"),
            ("a*a", "aa"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("", "x"), ("x", ""), ("job.*", "jobs"), ("a*b*c", "acb"), ("a*a", "a"), ("*.x", "x")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
