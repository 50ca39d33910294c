//! The merged configuration before it has types: a tree in which every value has its origin.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use super::{
    layers::from_toml_text,
    path::{KeyPath, KeyStep},
};

/// The origin of a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A file. Line and column count from one, and are missing where the format does not tell them.
    File {
        /// The file, as the user names it.
        path: PathBuf,
        /// The line and the column of the key.
        at: Option<(usize, usize)>,
    },
    /// A variable of the environment.
    Environment(String),
    /// A flag of the command line.
    Flag(&'static str),
    /// The defaults.
    #[default]
    Default,
}

impl Origin {
    /// Returns the origin for a comment, without the column, which only an editor needs.
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

/// A value with its origin.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub origin: Origin,
    pub kind: NodeKind,
}

/// The content of a [`Node`].
#[derive(Clone, Debug)]
pub(super) enum NodeKind {
    /// A value that was removed because it was reported. The others keep their places.
    Gone,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    /// Text that may be another type: variables of the environment have no types.
    Untyped(String),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

impl Node {
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.kind, NodeKind::Gone)
    }

    /// Returns the entries of a table, none for any other node.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&String, &Self)> {
        let entries = match &self.kind {
            NodeKind::Table(entries) => Some(entries),
            _ => None,
        };
        entries.into_iter().flatten()
    }

    pub(super) fn get(&self, path: &KeyPath) -> Option<&Self> {
        path.0.iter().try_fold(self, |node, step| match (&node.kind, step) {
            (NodeKind::Table(entries), KeyStep::Key(key)) => entries.get(key),
            (NodeKind::List(items), KeyStep::Index(index)) => items.get(*index),
            _ => None,
        })
    }

    pub(super) fn get_mut(&mut self, path: &KeyPath) -> Option<&mut Self> {
        path.0.iter().try_fold(self, |node, step| match (&mut node.kind, step) {
            (NodeKind::Table(entries), KeyStep::Key(key)) => entries.get_mut(key),
            (NodeKind::List(items), KeyStep::Index(index)) => items.get_mut(*index),
            _ => None,
        })
    }

    /// Returns the origin of the value at `path`, or of the nearest table or list around it.
    pub(super) fn origin_of(&self, path: &KeyPath) -> Origin {
        let mut node = self;
        for step in &path.0 {
            let below = match (&node.kind, step) {
                (NodeKind::Table(entries), KeyStep::Key(key)) => entries.get(key),
                (NodeKind::List(items), KeyStep::Index(index)) => items.get(*index),
                _ => None,
            };
            let Some(below) = below else { break };
            node = below;
        }
        node.origin.clone()
    }

    /// Returns the children of a table or a list.
    pub(super) fn children(self) -> Vec<(KeyStep, Self)> {
        match self.kind {
            NodeKind::Table(entries) => {
                entries.into_iter().map(|(key, node)| (KeyStep::Key(key), node)).collect()
            }
            NodeKind::List(items) => {
                items.into_iter().enumerate().map(|(at, node)| (KeyStep::Index(at), node)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Reads a variable of the environment that is a table or a list in TOML as such.
    pub(super) fn spread(self) -> Self {
        let NodeKind::Untyped(text) = &self.kind else { return self };
        match from_toml_text(text, &self.origin) {
            Some(kind @ (NodeKind::Table(_) | NodeKind::List(_))) => Self { origin: self.origin, kind },
            _ => self,
        }
    }

    /// Returns the origin of every value that is no table and no list of tables, by its full path.
    pub(super) fn origins(&self) -> BTreeMap<KeyPath, Origin> {
        let mut found = BTreeMap::new();
        self.collect_origins(&KeyPath::default(), &mut found);
        found
    }

    fn collect_origins(&self, path: &KeyPath, found: &mut BTreeMap<KeyPath, Origin>) {
        match &self.kind {
            NodeKind::Gone => {}
            NodeKind::Table(entries) => {
                for (key, node) in entries {
                    node.collect_origins(&path.join(key), found);
                }
            }
            NodeKind::List(items) if items.iter().any(|item| matches!(item.kind, NodeKind::Table(_))) => {
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
