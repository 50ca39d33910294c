//! The content of a configuration file, compared with the content before: a file that lost everything was hardly meant to.

use std::{collections::BTreeMap, fmt};

use figment::value::Dict;
use sha2::{Digest as _, Sha256};

/// Tables whose disappearance stops deliveries or polls.
const VITAL: [&str; 2] = ["sources", "sinks"];

/// What a file said. The text may hold secrets, so `Debug` shows none of it.
#[derive(Clone, Default)]
pub struct Content {
    text: String,
    /// The tables and keys at the top, and whether anything is in them.
    top: BTreeMap<String, bool>,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("top", &self.top).finish_non_exhaustive()
    }
}

impl Content {
    pub(super) fn new(text: &str, values: &Dict) -> Self {
        let filled = |value: &figment::value::Value| value.as_dict().is_none_or(|table| !table.is_empty());
        let top = values.iter().map(|(key, value)| (key.clone(), filled(value))).collect();
        Self { text: text.to_owned(), top }
    }

    /// A fingerprint of the bytes of a file.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(self.text.as_bytes())
    }

    /// Why this content looks like what is left of `before`, and what to write where it is meant; `None` where it does not.
    #[must_use]
    pub fn loss(&self, before: &Self) -> Option<String> {
        if self.top.is_empty() && !before.top.is_empty() {
            return Some(format!(
                "the file is empty, which looks like a write in progress; {}",
                meant(&VITAL)
            ));
        }
        if self.is_cut_off(before) {
            return Some(
                "the file ends within a line that went on before, which looks like a write in progress; \
                 where this is all of it, end the file with a line break"
                    .to_owned(),
            );
        }
        let filled = |name: &&&str| before.top.get(**name) == Some(&true);
        let lost: Vec<&str> =
            VITAL.iter().filter(filled).filter(|name| !self.top.contains_key(**name)).copied().collect();
        let named = lost.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ");
        (!lost.is_empty()).then(|| {
            format!("{named} disappeared from the file, which looks like a mistake; {}", meant(&lost))
        })
    }

    /// Whether it is the beginning of `before` up to the middle of a line.
    fn is_cut_off(&self, before: &Self) -> bool {
        let rest = before.text.strip_prefix(&self.text);
        !self.text.ends_with('\n') && rest.is_some_and(|rest| !rest.trim().is_empty())
    }
}

/// How to say that nothing is what is meant.
fn meant(names: &[&str]) -> String {
    let each = |form: fn(&str) -> String| names.iter().map(|name| form(name)).collect::<Vec<_>>();
    let toml = each(|name| format!("[{name}]")).join(" and ");
    let yaml = each(|name| format!("{name}: {{}}")).join(" and ");
    format!("to run without any, write `{toml}` with nothing in it (YAML: `{yaml}`), or restart")
}

/// What tells one content of a file from another.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::file;

    fn content(text: &str) -> Content {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tidings.toml");
        std::fs::write(&path, text).unwrap();
        file::read(&path, Path::new("tidings.toml")).unwrap().content
    }

    #[test]
    fn what_is_left_of_a_file_is_told_from_a_change() {
        let full = "[sources.mine]\ntype = \"custom\"\n[sinks.a]\ntype = \"disk\"\ndir = \"out\"\nmax_in_flight = 16\n";
        let cut = |at: &str| &full[..full.find(at).unwrap() + at.len()];
        for (name, after, lost) in [
            ("the same", full, None),
            ("empty", "", Some("is empty")),
            ("a comment", "# nothing yet\n", Some("is empty")),
            ("in a value", cut("max_in_flight = 1"), Some("within a line")),
            ("after a value", cut("dir = \"out\""), Some("within a line")),
            ("without its last line break", full.trim_end(), None),
            ("a line less", cut("dir = \"out\"\n"), None),
            ("without sinks", cut("\"custom\"\n"), Some("`sinks` disappeared")),
            ("without sources", "[sinks.b]\ntype = \"disk\"\ndir = \"b\"\n", Some("`sources` disappeared")),
            ("without both", "[server]\ndrain = \"1s\"\n", Some("`sources` and `sinks` disappeared")),
            ("on purpose", "[sinks]\n[sources]\n", None),
            ("another sink", "[sinks.b]\ntype = \"disk\"\ndir = \"b\"\n[sources.mine]\n", None),
        ] {
            let found = content(after).loss(&content(full));
            assert_eq!(found.is_some(), lost.is_some(), "{name}: {found:?}");
            assert!(found.unwrap_or_default().contains(lost.unwrap_or_default()), "{name}");
        }
        assert_eq!(content("").loss(&content("")), None);
    }
}
