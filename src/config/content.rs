//! The content of a configuration file, compared with the previous one. A file that lost everything
//! is hardly meant.

use std::{collections::BTreeMap, fmt};

use figment::value::{Dict, Value};

use super::wording::join_words;

/// Tables whose loss stops deliveries or polls, or sends events to the wrong sinks.
const VITAL: [&str; 3] = ["sources", "sinks", "routes"];

/// The content of a file. The text may hold secrets, so `Debug` shows none of it.
#[derive(Clone, Default)]
pub struct Content {
    text: String,
    /// The tables and keys at the top, and whether each has content.
    top: BTreeMap<String, bool>,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("top", &self.top).finish_non_exhaustive()
    }
}

impl Content {
    pub(super) fn new(text: &str, values: &Dict) -> Self {
        let filled = |value: &Value| match value {
            Value::Dict(_, table) => !table.is_empty(),
            Value::Array(_, items) => !items.is_empty(),
            _ => true,
        };
        let top = values.iter().map(|(key, value)| (key.clone(), filled(value))).collect();
        Self { text: text.to_owned(), top }
    }

    /// The bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Returns a reason if this content resembles a remainder of `before`, with a hint for those who mean it.
    #[must_use]
    pub(crate) fn loss(&self, before: &Self) -> Option<String> {
        if self.top.is_empty() && !before.top.is_empty() {
            return Some(format!(
                "the file is empty, as during a write\nhint: {}",
                meant(&["sources", "sinks"])
            ));
        }
        if self.is_cut_off(before) {
            return Some(
                "the file ends within a line of the previous one, as during a write\n\
                 hint: end the last line with a line break"
                    .to_owned(),
            );
        }
        let filled = |name: &&&str| before.top.get(**name) == Some(&true);
        let lost: Vec<&str> =
            VITAL.iter().filter(filled).filter(|name| !self.top.contains_key(**name)).copied().collect();
        let named = join_words(&lost, "and");
        (!lost.is_empty()).then(|| format!("{named} disappeared from the file\nhint: {}", meant(&lost)))
    }

    /// Whether this is the beginning of `before` up to the middle of a line.
    fn is_cut_off(&self, before: &Self) -> bool {
        let rest = before.text.strip_prefix(&self.text);
        !self.text.ends_with('\n') && rest.is_some_and(|rest| !rest.trim().is_empty())
    }
}

/// Returns how to write that there are none of `names`.
fn meant(names: &[&str]) -> String {
    let each = |table: fn(&str) -> String, list: &str| {
        let forms = names.iter().map(|name| if *name == "routes" { list.to_owned() } else { table(name) });
        forms.collect::<Vec<_>>().join(" and ")
    };
    let toml = each(|name| format!("`[{name}]` with nothing in it"), "`routes = []` above the first table");
    let yaml = each(|name| format!("`{name}: {{}}`"), "`routes: []`");
    format!("to run without them, write {toml} (YAML: {yaml}), or restart")
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
        let full = "[sources.mine]\ntype = \"custom\"\n[sinks.a]\ntype = \"disk\"\ndir = \"out\"\nmax_in_flight = 16\n\
                    [[routes]]\nto = [\"a\"]\nwhen = { source = [\"mine\"] }\n";
        let cut = |at: &str| &full[..full.find(at).unwrap() + at.len()];
        for (name, after, lost) in [
            ("the same", full, None),
            ("empty", "", Some("is empty")),
            ("a comment", "# nothing yet\n", Some("is empty")),
            ("in a value", cut("max_in_flight = 1"), Some("within a line")),
            ("after a value", cut("dir = \"out\""), Some("within a line")),
            ("without its last line break", full.trim_end(), None),
            ("a line less", cut("to = [\"a\"]\n"), None),
            ("without sinks", cut("\"custom\"\n"), Some("`sinks` and `routes` disappeared")),
            (
                "without sources",
                "routes = []\n[sinks.b]\ntype = \"disk\"\ndir = \"b\"\n",
                Some("`sources` disappeared"),
            ),
            (
                "without all",
                "[server]\ndrain = \"1s\"\n",
                Some("`sources`, `sinks` and `routes` disappeared"),
            ),
            ("on purpose", "routes = []\n[sinks]\n[sources]\n", None),
            ("without routes", cut("= 16\n"), Some("`routes` disappeared")),
            ("another sink", "routes = []\n[sinks.b]\ntype = \"disk\"\ndir = \"b\"\n[sources.mine]\n", None),
        ] {
            let found = content(after).loss(&content(full));
            assert_eq!(found.is_some(), lost.is_some(), "{name}: {found:?}");
            assert!(found.unwrap_or_default().contains(lost.unwrap_or_default()), "{name}");
        }
        assert_eq!(content("").loss(&content("")), None);
    }
}
