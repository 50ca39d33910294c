//! The merged configuration before it has types: a tree in which every value knows where it was set.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use super::{
    layers::from_toml_text,
    path::{KeyPath, Step},
};

/// Where a value was set.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// In a file; line and column count from one and are missing where the format does not tell them.
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// Line and column of the key.
        at: Option<(usize, usize)>,
    },
    /// By a variable of the environment.
    Environment(String),
    /// By a flag of the command line.
    Flag(&'static str),
    /// Nowhere: it is built in.
    #[default]
    Default,
}

impl Origin {
    /// As a comment beside the value: without the column, which only an editor needs.
    #[must_use]
    pub fn brief(&self) -> String {
        match self {
            Self::File { path, at: Some((line, _)) } => format!("{}:{line}", path.display()),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, at: Some((line, column)) } => write!(f, "{}:{line}:{column}", path.display()),
            Self::File { path, at: None } => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value and where it was set.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub origin: Origin,
    pub kind: Kind,
}

/// What a [`Node`] holds.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Taken out because it was reported; the others keep their places.
    Gone,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    /// Text that may stand for something else: a variable of the environment has no types.
    Untyped(String),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

impl Node {
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.kind, Kind::Gone)
    }

    /// The entries of a table, none for anything else.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&String, &Self)> {
        let entries = match &self.kind {
            Kind::Table(entries) => Some(entries),
            _ => None,
        };
        entries.into_iter().flatten()
    }

    pub(super) fn get(&self, path: &KeyPath) -> Option<&Self> {
        path.0.iter().try_fold(self, |node, step| match (&node.kind, step) {
            (Kind::Table(entries), Step::Key(key)) => entries.get(key),
            (Kind::List(items), Step::Index(index)) => items.get(*index),
            _ => None,
        })
    }

    pub(super) fn get_mut(&mut self, path: &KeyPath) -> Option<&mut Self> {
        path.0.iter().try_fold(self, |node, step| match (&mut node.kind, step) {
            (Kind::Table(entries), Step::Key(key)) => entries.get_mut(key),
            (Kind::List(items), Step::Index(index)) => items.get_mut(*index),
            _ => None,
        })
    }

    /// The origin of the value at `path`, or of the nearest thing that holds it.
    pub(super) fn origin_of(&self, path: &KeyPath) -> Origin {
        let mut node = self;
        for step in &path.0 {
            let below = match (&node.kind, step) {
                (Kind::Table(entries), Step::Key(key)) => entries.get(key),
                (Kind::List(items), Step::Index(index)) => items.get(*index),
                _ => None,
            };
            let Some(below) = below else { break };
            node = below;
        }
        node.origin.clone()
    }

    /// What a table or a list holds.
    pub(super) fn children(self) -> Vec<(Step, Self)> {
        match self.kind {
            Kind::Table(entries) => entries.into_iter().map(|(key, node)| (Step::Key(key), node)).collect(),
            Kind::List(items) => {
                items.into_iter().enumerate().map(|(at, node)| (Step::Index(at), node)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// A variable of the environment that is a table or a list in TOML, as such.
    pub(super) fn spread(self) -> Self {
        let Kind::Untyped(text) = &self.kind else { return self };
        match from_toml_text(text, &self.origin) {
            Some(kind @ (Kind::Table(_) | Kind::List(_))) => Self { origin: self.origin, kind },
            _ => self,
        }
    }

    /// Every value that is no table (nor a list of tables) with its origin, under its full path.
    pub(super) fn origins(&self) -> BTreeMap<KeyPath, Origin> {
        let mut found = BTreeMap::new();
        self.collect_origins(&KeyPath::default(), &mut found);
        found
    }

    fn collect_origins(&self, path: &KeyPath, found: &mut BTreeMap<KeyPath, Origin>) {
        match &self.kind {
            Kind::Gone => {}
            Kind::Table(entries) => {
                for (key, node) in entries {
                    node.collect_origins(&path.join(key), found);
                }
            }
            Kind::List(items) if items.iter().any(|item| matches!(item.kind, Kind::Table(_))) => {
                for (index, node) in items.iter().enumerate() {
                    node.collect_origins(&path.join(index), found);
                }
            }
            _ => {
                found.insert(path.clone(), self.origin.clone());
            }
        }
    }
}
