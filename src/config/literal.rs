//! Warnings about texts in which nothing is filled in, against appearance: `~`, variables, and the tags of YAML.

use super::{
    file::Tags,
    node::{Node, NodeKind},
    path::{KeyPath, KeyStep},
    problems::ConfigProblem,
};

/// Tags of other programs, which a warning may name.
const KNOWN_TAGS: [&str; 7] = ["!env", "!ENV", "!env_var", "!file", "!include", "!secret", "!vault"];

/// Returns a warning for each value that is taken literally, but resembles a variable.
pub(super) fn warnings(tree: &Node, tags: &Tags) -> Vec<ConfigProblem> {
    let mut found = Vec::new();
    walk(tree, &KeyPath::default(), &mut |path, node, text| {
        if let Some(reason) = tilde(path, text).or_else(|| variable(path, text)) {
            found.push(ConfigProblem::new(node.origin.clone(), path.clone(), reason));
        }
    });
    for (path, tag) in tags {
        // A text without quotes that begins with `!` is a tag too, and may be a secret.
        let reason = if KNOWN_TAGS.contains(&tag.as_str()) {
            format!(
                "the YAML tag `{tag}` does nothing: the value is taken literally\nhint: put a secret into a file (`x_file`) or into {}",
                variable_of(path)
            )
        } else {
            "this YAML tag does nothing\nhint: put a text that begins with `!` in quotes".to_owned()
        };
        found.push(ConfigProblem::new(tree.origin_of(path), path.clone(), reason));
    }
    found.sort_by(|a, b| (&a.origin, &a.key).cmp(&(&b.origin, &b.key)));
    found
}

fn walk(node: &Node, path: &KeyPath, seen: &mut impl FnMut(&KeyPath, &Node, &str)) {
    match &node.kind {
        NodeKind::Text(text) | NodeKind::Untyped(text) => seen(path, node, text),
        NodeKind::List(items) => {
            items.iter().enumerate().for_each(|(at, item)| walk(item, &path.join(at), seen));
        }
        NodeKind::Table(entries) => entries.iter().for_each(|(key, node)| walk(node, &path.join(key), seen)),
        _ => {}
    }
}

/// Returns a reason if `text` is a path that only a shell resolves.
fn tilde(path: &KeyPath, text: &str) -> Option<String> {
    let Some(KeyStep::Key(key)) = path.0.last() else { return None };
    let is_path = ["path", "dir", "file", "listen", "admin_listen", "url"].contains(&key.as_str())
        || key.ends_with("_file");
    let text = text.strip_prefix("unix:").unwrap_or(text);
    let reason = "`~` is taken literally, as the name of a folder\nhint: write the whole path";
    (is_path && (text == "~" || text.starts_with("~/"))).then(|| reason.to_owned())
}

/// Returns a reason if `text` holds `${NAME}` or `$(NAME)`, or is `$NAME` alone or before a path. A template has its own syntax.
fn variable(path: &KeyPath, text: &str) -> Option<String> {
    if matches!(path.0.last(), Some(KeyStep::Key(key)) if key == "template") {
        return None;
    }
    let name = |rest: &str| rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    let begins = |rest: &str| rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_filled_in = text.match_indices('$').any(|(at, _)| {
        let rest = &text[at + 1..];
        match rest.chars().next() {
            Some('{' | '(') => {
                let inside = &rest[1..];
                // `${NAME:-default}` too.
                begins(inside) && inside[name(inside)..].starts_with(['}', ')', ':'])
            }
            _ => at == 0 && begins(rest) && matches!(rest[name(rest)..].chars().next(), None | Some('/')),
        }
    });
    is_filled_in.then(|| {
        format!(
            "the text is taken literally: variables are not filled in\nhint: leave the key out and set {}",
            variable_of(path)
        )
    })
}

/// Returns the variable of the environment that sets a key.
fn variable_of(path: &KeyPath) -> String {
    // The environment sets a list only as a whole.
    let keys = path.0.iter().map_while(|step| match step {
        KeyStep::Key(key) => Some(key.to_uppercase()),
        KeyStep::Index(_) => None,
    });
    format!("TIDINGS_{}", keys.collect::<Vec<_>>().join("__"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_told_from_a_text_with_a_dollar() {
        let path = KeyPath::dotted("sources.retab.api_key");
        for text in ["${KEY}", "x-${KEY_2}-y", "$KEY", "$HOME/key", "$(KEY)", "${KEY:-none}"] {
            let reason = variable(&path, text).unwrap_or_else(|| panic!("{text}"));
            assert!(reason.ends_with("TIDINGS_SOURCES__RETAB__API_KEY"), "{reason}");
        }
        for text in ["", "$", "a$b", "$1", "pa$$word", "${}", "${ KEY }", "$KEY!", "10 $", "{job_id}"] {
            assert_eq!(variable(&path, text), None, "{text}");
        }
        assert_eq!(variable(&KeyPath::dotted("sinks.a.template"), "${KEY}"), None);
    }

    #[test]
    fn a_tilde_is_only_a_folder_in_a_path() {
        for (key, text, warned) in [
            ("store.path", "~/data", true),
            ("server.listen", "unix:~/api.sock", true),
            ("sources.retab.api_key_file", "~", true),
            ("sources.retab.api_key", "~/key", false),
            ("store.path", "data~", false),
            ("store.path", "~data", false),
        ] {
            assert_eq!(tilde(&KeyPath::dotted(key), text).is_some(), warned, "{key} {text}");
        }
    }
}
