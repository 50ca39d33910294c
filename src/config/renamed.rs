//! Keys with a new spelling. The old one stays valid, and everything behind this module sees only the new one.

use super::{
    node::{Node, NodeKind, Origin},
    path::KeyPath,
    problems::ConfigProblem,
};

/// A key that was renamed.
pub(super) struct Renamed {
    pub section: &'static str,
    pub old: &'static str,
    pub new: &'static str,
}

pub(super) const RENAMED: [Renamed; 2] = [
    Renamed { section: "server", old: "hosts", new: "allowed_hosts" },
    Renamed { section: "server", old: "quit", new: "shutdown" },
];

/// Gives each renamed key its new spelling. Reports both spellings in one layer; of two layers the later wins, as usual.
pub(super) fn accept(tree: &mut Node, problems: &mut Vec<ConfigProblem>) {
    for Renamed { section, old, new } in RENAMED {
        let Some(table) = tree.get_mut(&KeyPath::dotted(section)) else { continue };
        // A variable of the environment may hold the whole table.
        if let NodeKind::Untyped(_) = table.kind {
            *table = table.clone().spread();
        }
        let NodeKind::Table(entries) = &mut table.kind else { continue };
        let Some(value) = entries.remove(old) else { continue };
        match entries.get(new) {
            Some(known) if layer(&known.origin) == layer(&value.origin) => {
                let reason =
                    format!("`{new}` is set as well ({})\nhint: keep one of the two", known.origin.brief());
                problems.push(ConfigProblem::new(value.origin, KeyPath::dotted(section).join(old), reason));
            }
            Some(known) if layer(&known.origin) > layer(&value.origin) => {}
            _ => {
                entries.insert(new.to_owned(), value);
            }
        }
    }
}

fn layer(origin: &Origin) -> u8 {
    match origin {
        Origin::Default => 0,
        Origin::File { .. } => 1,
        Origin::Environment(_) => 2,
        Origin::Flag(_) => 3,
    }
}
