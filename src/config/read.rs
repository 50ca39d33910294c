//! Reads the merged tree into the types of the configuration. Continues after each mistake.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use super::{
    Config,
    de::ValueError,
    hints,
    layers::from_toml_text,
    node::{Node, NodeKind},
    path::{KeyPath, KeyStep},
    problems::{ConfigProblem, with_hint, with_maybe_hint},
    wording::{did_you_mean, join_words},
};
use crate::deliver::SinkConfig;

/// The most mistakes that are reported of one part.
const MOST_MISTAKES: usize = 200;

/// The keys at the top.
pub(super) const SECTIONS: [&str; 11] =
    ["watch", "server", "page", "store", "log", "otlp", "callbacks", "budgets", "sources", "sinks", "routes"];

/// Reads the configuration. A part with mistakes, which go to `problems`, has its default.
pub(super) fn config(mut tree: Node, problems: &mut Vec<ConfigProblem>) -> Config {
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
        let hint =
            hints::for_unknown(&name, &origin, &sources, &sinks).or_else(|| did_you_mean(&name, SECTIONS));
        problems.push(ConfigProblem::new(origin, path, with_maybe_hint("unknown key", hint)));
    }
    let mut reader = Reader { tree, problems };
    Config {
        watch: reader.section("watch"),
        server: reader.section("server"),
        page: reader.section("page"),
        store: reader.section("store"),
        log: reader.section("log"),
        otlp: reader.section("otlp"),
        callbacks: reader.section("callbacks"),
        budgets: reader.named("budgets", Reader::part),
        sources: reader.named("sources", Reader::part),
        sinks: reader.named("sinks", Reader::sink),
        routes: reader.routes(),
    }
}

fn names(tree: &Node, section: &str) -> Vec<String> {
    let section = tree.get(&KeyPath::dotted(section));
    section.into_iter().flat_map(Node::entries).map(|(name, _)| name.clone()).collect()
}

/// Reads text of the environment as TOML where only a table or a list of tables fits, so that its content is checked too.
fn spread(tree: &mut Node) {
    let tops = ["budgets", "sources", "sinks", "routes"].map(KeyPath::dotted);
    let below = ["budgets", "sources", "sinks"].iter().flat_map(|section| {
        names(tree, section).into_iter().map(|name| KeyPath::dotted(section).join(&name)).collect::<Vec<_>>()
    });
    let places: Vec<KeyPath> = tops.into_iter().chain(below).collect();
    for path in places {
        let Some(node) = tree.get_mut(&path) else { continue };
        if let NodeKind::Untyped(text) = &node.kind
            && let Some(kind) = from_toml_text(text, &node.origin)
        {
            node.kind = kind;
        }
    }
}

struct Reader<'a> {
    tree: Node,
    problems: &'a mut Vec<ConfigProblem>,
}

impl Reader<'_> {
    fn problem(&mut self, path: KeyPath, reason: impl Into<String>) {
        let origin = self.tree.origin_of(&path);
        self.problems.push(ConfigProblem::new(origin, path, reason));
    }

    fn section<T: DeserializeOwned + Default>(&mut self, name: &str) -> T {
        let path = KeyPath::dotted(name);
        if self.tree.get(&path).is_none() {
            return T::default();
        }
        self.part(&path).unwrap_or_default()
    }

    /// Reads the entries of a table of named parts.
    fn named<T>(
        &mut self,
        section: &str,
        mut read: impl FnMut(&mut Self, &KeyPath) -> Option<T>,
    ) -> BTreeMap<String, T> {
        let path = KeyPath::dotted(section);
        match self.tree.get(&path).map(|node| &node.kind) {
            None | Some(NodeKind::Table(_)) => {}
            Some(_) => self.problem(path.clone(), format!("expected tables such as [{section}.NAME]")),
        }
        let names = names(&self.tree, section);
        names.into_iter().filter_map(|name| read(self, &path.join(&name)).map(|part| (name, part))).collect()
    }

    /// Reads a sink, whose `type` decides its keys.
    fn sink(&mut self, path: &KeyPath) -> Option<SinkConfig> {
        let kinds = ["webhook", "disk"];
        if !matches!(self.tree.get(path).map(|node| &node.kind), Some(NodeKind::Table(_))) {
            self.problem(path.clone(), "expected a table with a `type`");
            return None;
        }
        let tag = path.join("type");
        let kind = self.tree.get_mut(&tag).map(|node| std::mem::replace(&mut node.kind, NodeKind::Gone));
        match kind {
            Some(NodeKind::Text(kind) | NodeKind::Untyped(kind)) => match kind.as_str() {
                "webhook" => self.part(path).map(SinkConfig::Webhook),
                "disk" => self.part(path).map(SinkConfig::Disk),
                _ => {
                    let reason = format!("it is no type of sink: expected {}", join_words(&kinds, "or"));
                    self.problem(tag, with_maybe_hint(reason, did_you_mean(&kind, kinds)));
                    None
                }
            },
            Some(_) => {
                self.problem(tag, format!("expected {} in quotes", join_words(&kinds, "or")));
                None
            }
            None => {
                let hint = "write type = \"webhook\" or type = \"disk\"";
                self.problem(path.clone(), with_hint("`type` is missing", hint));
                None
            }
        }
    }

    fn routes<T: DeserializeOwned + Default>(&mut self) -> Vec<T> {
        let path = KeyPath::dotted("routes");
        let count = match self.tree.get(&path).map(|node| &node.kind) {
            None => 0,
            Some(NodeKind::List(items)) => items.len(),
            Some(_) => {
                self.problem(path.clone(), "expected a list of tables, each under its own [[routes]]");
                0
            }
        };
        // A route that cannot be read keeps its place, so that the numbers of the others stay
        // right.
        (0..count).map(|index| self.part(&path.join(index)).unwrap_or_default()).collect()
    }

    /// Reads the value at `path`. Removes each wrong value, reports it and continues.
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
            let error = error.into_inner();
            if let ValueError::Missing(key) = error {
                let missing = at.join(key);
                if part.get(&missing).is_none() {
                    self.problem(joined(path, &at), format!("`{key}` is missing"));
                }
                // A placeholder, so that the rest can be read.
                let Some(Node { kind: NodeKind::Table(entries), .. }) = part.get_mut(&at) else {
                    return None;
                };
                if filled.contains(&missing) {
                    return None;
                }
                entries.insert(
                    key.to_owned(),
                    Node { origin: origin.clone(), kind: NodeKind::Text(String::new()) },
                );
                filled.push(missing);
                continue;
            }
            if !filled.iter().any(|filled| at.within(filled)) {
                self.report(path, &part, &at, &error);
            }
            if at.0.is_empty() {
                return None;
            }
            part.get_mut(&at)?.kind = NodeKind::Gone;
        }
        None
    }

    fn report(&mut self, path: &KeyPath, part: &Node, at: &KeyPath, error: &ValueError) {
        let full = joined(path, at);
        let reason = match (error, at.0.last()) {
            (ValueError::UnknownKey { known }, Some(KeyStep::Key(key))) => {
                let known = known.iter().copied();
                with_maybe_hint("unknown key", did_you_mean(key, known))
            }
            (ValueError::Variant { found, known }, _) => {
                with_maybe_hint(error, did_you_mean(found, known.iter().copied()))
            }
            _ => error.to_string(),
        };
        self.problems.push(ConfigProblem::new(part.origin_of(at), full, reason));
    }
}

fn joined(path: &KeyPath, below: &KeyPath) -> KeyPath {
    KeyPath(path.0.iter().chain(&below.0).cloned().collect())
}

/// Returns the position of serde in `part`. Serde does not see values that were removed from lists,
/// and it reads text of the environment as TOML, where the text is the position.
fn place(part: &Node, path: &serde_path_to_error::Path) -> KeyPath {
    let mut node = part;
    let mut steps = Vec::new();
    for segment in path {
        let step = match (segment, &node.kind) {
            (Segment::Map { key }, NodeKind::Table(entries)) if entries.contains_key(key) => {
                KeyStep::from(key)
            }
            (Segment::Seq { index }, NodeKind::List(items)) => {
                let there = items.iter().enumerate().filter(|(_, item)| !item.is_gone());
                let Some((index, _)) = there.into_iter().nth(*index) else { break };
                KeyStep::Index(index)
            }
            _ => break,
        };
        let Some(below) = node.get(&KeyPath(vec![step.clone()])) else { break };
        steps.push(step);
        node = below;
    }
    KeyPath(steps)
}
