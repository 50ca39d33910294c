//! Reads the merged tree into the configuration's types, past every mistake to the next.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use super::{
    Config,
    de::{Flaw, listed},
    hints,
    layers::from_toml_text,
    node::{Kind, Node},
    path::{KeyPath, Step},
    problems::{Problem, did_you_mean},
};
use crate::deliver::SinkConfig;

/// Mistakes in one part after which the rest of it is left alone.
const MOST_MISTAKES: usize = 200;

/// The keys at the top.
pub(super) const SECTIONS: [&str; 9] =
    ["watch", "server", "store", "log", "otlp", "callbacks", "sources", "sinks", "routes"];

/// The configuration as far as it can be read; what cannot be is in `problems` and has its default.
pub(super) fn config(mut tree: Node, problems: &mut Vec<Problem>) -> Config {
    spread(&mut tree);
    let unknown: Vec<KeyPath> = tree
        .entries()
        .filter(|(key, _)| !SECTIONS.contains(&key.as_str()))
        .map(|(key, _)| KeyPath::default().join(key))
        .collect();
    let sources: Vec<String> = names(&tree, "sources");
    let sinks: Vec<String> = names(&tree, "sinks");
    for path in unknown {
        let origin = tree.origin_of(&path);
        let name = path.to_string();
        let hint = hints::for_unknown(&name, &origin, &sources, &sinks)
            .unwrap_or_else(|| did_you_mean(&name, SECTIONS));
        problems.push(Problem::new(origin, path, format!("unknown key{hint}")));
    }
    let mut reader = Reader { tree, problems };
    Config {
        watch: reader.section("watch"),
        server: reader.section("server"),
        store: reader.section("store"),
        log: reader.section("log"),
        otlp: reader.section("otlp"),
        callbacks: reader.section("callbacks"),
        sources: reader.named("sources", Reader::part),
        sinks: reader.named("sinks", Reader::sink),
        routes: reader.routes(),
    }
}

fn names(tree: &Node, section: &str) -> Vec<String> {
    let section = tree.get(&KeyPath::dotted(section));
    section.into_iter().flat_map(Node::entries).map(|(name, _)| name.clone()).collect()
}

/// Text of the environment at a place that can only be a table or a list of tables is read as such at once, so that what
/// is in it is checked like the rest.
fn spread(tree: &mut Node) {
    let tops = ["sources", "sinks", "routes"].map(KeyPath::dotted);
    let below = ["sources", "sinks"].iter().flat_map(|section| {
        names(tree, section).into_iter().map(|name| KeyPath::dotted(section).join(&name)).collect::<Vec<_>>()
    });
    let places: Vec<KeyPath> = tops.into_iter().chain(below).collect();
    for path in places {
        let Some(node) = tree.get_mut(&path) else { continue };
        if let Kind::Untyped(text) = &node.kind
            && let Some(kind) = from_toml_text(text, &node.origin)
        {
            node.kind = kind;
        }
    }
}

struct Reader<'a> {
    tree: Node,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, path: KeyPath, reason: impl Into<String>) {
        let origin = self.tree.origin_of(&path);
        self.problems.push(Problem::new(origin, path, reason));
    }

    fn section<T: DeserializeOwned + Default>(&mut self, name: &str) -> T {
        let path = KeyPath::dotted(name);
        if self.tree.get(&path).is_none() {
            return T::default();
        }
        self.part(&path).unwrap_or_default()
    }

    /// The entries of a table of named parts.
    fn named<T>(
        &mut self,
        section: &str,
        mut read: impl FnMut(&mut Self, &KeyPath) -> Option<T>,
    ) -> BTreeMap<String, T> {
        let path = KeyPath::dotted(section);
        match self.tree.get(&path).map(|node| &node.kind) {
            None | Some(Kind::Table(_)) => {}
            Some(_) => self.problem(path.clone(), format!("expected tables such as [{section}.NAME]")),
        }
        let names = names(&self.tree, section);
        names.into_iter().filter_map(|name| read(self, &path.join(&name)).map(|part| (name, part))).collect()
    }

    /// A sink, whose `type` says which keys it has.
    fn sink(&mut self, path: &KeyPath) -> Option<SinkConfig> {
        let kinds = ["webhook", "disk"];
        if !matches!(self.tree.get(path).map(|node| &node.kind), Some(Kind::Table(_))) {
            self.problem(path.clone(), "expected a table with a `type`");
            return None;
        }
        let tag = path.join("type");
        let kind = self.tree.get_mut(&tag).map(|node| std::mem::replace(&mut node.kind, Kind::Gone));
        match kind {
            Some(Kind::Text(kind) | Kind::Untyped(kind)) => match kind.as_str() {
                "webhook" => self.part(path).map(SinkConfig::Webhook),
                "disk" => self.part(path).map(SinkConfig::Disk),
                _ => {
                    let hint = did_you_mean(&kind, kinds);
                    self.problem(
                        tag,
                        format!("it is not a kind of sink; there are {}{hint}", listed(&kinds, "and")),
                    );
                    None
                }
            },
            Some(_) => {
                self.problem(tag, format!("expected {} in quotes", listed(&kinds, "or")));
                None
            }
            None => {
                self.problem(path.clone(), "`type` is missing; write type = \"webhook\" or type = \"disk\"");
                None
            }
        }
    }

    fn routes<T: DeserializeOwned + Default>(&mut self) -> Vec<T> {
        let path = KeyPath::dotted("routes");
        let count = match self.tree.get(&path).map(|node| &node.kind) {
            None => 0,
            Some(Kind::List(items)) => items.len(),
            Some(_) => {
                self.problem(path.clone(), "expected a list of tables, each under its own [[routes]]");
                0
            }
        };
        // One that cannot be read keeps its place, so that the numbers of the others stay right.
        (0..count).map(|index| self.part(&path.join(index)).unwrap_or_default()).collect()
    }

    /// Reads what is at `path`, taking out each value that is wrong and reading on.
    fn part<T: DeserializeOwned>(&mut self, path: &KeyPath) -> Option<T> {
        let origin = self.tree.origin_of(path);
        let mut part = self.tree.get(path)?.clone();
        let mut filled: Vec<KeyPath> = Vec::new();
        for _ in 0..MOST_MISTAKES {
            let error = match serde_path_to_error::deserialize(part.clone()) {
                Ok(read) => return Some(read),
                Err(error) => error,
            };
            let at = place(&part, error.path());
            let flaw = error.into_inner();
            if let Flaw::Missing(key) = flaw {
                let missing = at.join(key);
                if part.get(&missing).is_none() {
                    self.problem(joined(path, &at), format!("`{key}` is missing"));
                }
                // Something has to stand there for the rest to be read.
                let Some(Node { kind: Kind::Table(entries), .. }) = part.get_mut(&at) else { return None };
                if filled.contains(&missing) {
                    return None;
                }
                entries
                    .insert(key.to_owned(), Node { origin: origin.clone(), kind: Kind::Text(String::new()) });
                filled.push(missing);
                continue;
            }
            if !filled.iter().any(|filled| at.within(filled)) {
                self.report(path, &part, &at, &flaw);
            }
            if at.0.is_empty() {
                return None;
            }
            part.get_mut(&at)?.kind = Kind::Gone;
        }
        None
    }

    fn report(&mut self, path: &KeyPath, part: &Node, at: &KeyPath, flaw: &Flaw) {
        let full = joined(path, at);
        let reason = match (flaw, at.0.last()) {
            (Flaw::UnknownKey { known }, Some(Step::Key(key))) => {
                let known = known.iter().copied();
                format!("unknown key{}", did_you_mean(key, known))
            }
            (Flaw::Variant { found, known }, _) => {
                format!("{flaw}{}", did_you_mean(found, known.iter().copied()))
            }
            _ => flaw.to_string(),
        };
        self.problems.push(Problem::new(part.origin_of(at), full, reason));
    }
}

fn joined(path: &KeyPath, below: &KeyPath) -> KeyPath {
    KeyPath(path.0.iter().chain(&below.0).cloned().collect())
}

/// Where in `part` serde was. It does not see what was taken out of lists, and it goes into text of the
/// environment that was read as TOML, where the text is the place.
fn place(part: &Node, path: &serde_path_to_error::Path) -> KeyPath {
    let mut node = part;
    let mut steps = Vec::new();
    for segment in path {
        let step = match (segment, &node.kind) {
            (Segment::Map { key }, Kind::Table(entries)) if entries.contains_key(key) => Step::from(key),
            (Segment::Seq { index }, Kind::List(items)) => {
                let there = items.iter().enumerate().filter(|(_, item)| !item.is_gone());
                let Some((index, _)) = there.into_iter().nth(*index) else { break };
                Step::Index(index)
            }
            _ => break,
        };
        let Some(below) = node.get(&KeyPath(vec![step.clone()])) else { break };
        steps.push(step);
        node = below;
    }
    KeyPath(steps)
}
