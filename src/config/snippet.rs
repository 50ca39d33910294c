//! The line of a syntax error with a caret, without secrets: a missing quote is the commonest
//! mistake beside a pasted key.

/// Returns the line at `at`, and a caret below the column.
pub(super) fn masked(text: &str, (line, column): (usize, usize)) -> String {
    let shown = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let shown: String = mask(shown).chars().map(|c| if c == '\t' { ' ' } else { c }).take(160).collect();
    let number = line.to_string();
    let gutter = " ".repeat(number.len());
    let caret = " ".repeat(column.saturating_sub(1).min(160));
    format!("{gutter} |\n{number} | {shown}\n{gutter} | {caret}^")
}

/// Hides letters and digits of a line's value, whatever its key is: a secret may be pasted
/// anywhere.
fn mask(line: &str) -> String {
    let trimmed = line.trim();
    let is_header = trimmed.starts_with('[') && !trimmed.contains(['"', '\'', ',', '=']);
    if trimmed.starts_with('#') || is_header {
        return line.to_owned();
    }
    let Some(at) = line.find(['=', ':']) else {
        return strike(line);
    };
    let (key, value) = line.split_at(at);
    let name = key.trim().trim_matches(['"', '\'']);
    let name = name.rsplit('.').next().unwrap_or(name);
    let plain = name.len() <= 40 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if plain { format!("{key}{}", strike(value)) } else { strike(line) }
}

fn strike(text: &str) -> String {
    text.chars().map(|c| if c.is_alphanumeric() || "_-+/".contains(c) { '*' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_line_shows_its_shape_and_no_secret() {
        insta::assert_snapshot!(masked("a\napi_key = sk-live_1 \"x\"", (2, 11)), @r#"
          |
        2 | api_key = ********* "*"
          |           ^
        "#);
        for line in [
            "type = whsec_abc",
            "whsec_abc",
            "app = { secret = \"whsec_abc",
            "  \"whsec_abc",
            "server.token = whsec_abc",
        ] {
            assert!(!masked(line, (1, 1)).contains("abc"), "{line}");
        }
    }
}
