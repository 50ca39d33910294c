//! The list of a profile: its path, its array, and how an item is read.

use std::sync::Arc;

use super::NextPage;
use crate::{
    upstream::{Profile, Template},
    util::json_slice::Pointers,
};

/// The most bytes of a cursor, or of the URL of a page, as the page writes it.
const MAX_CURSOR: usize = 16 << 10;

/// The list of jobs of an API.
#[derive(Clone, Debug, PartialEq)]
pub struct ListProfile {
    /// The path, with its query.
    pub path: Template,
    /// The pointer to the array.
    pub at: String,
    /// The pointer to the id in an item.
    pub id_at: Vec<String>,
    /// The way to the next page.
    pub next: NextPage,
    /// Whether newer jobs come before older ones.
    pub newest_first: bool,
    /// Whether the items hold the results of their jobs.
    pub has_results: bool,
    /// The profile by which an item is read, as if it were a status body.
    pub item: Profile,
    /// The pointers into a page, beside its items.
    pub(super) around: Arc<Pointers>,
}

impl ListProfile {
    /// Creates the list of a profile, newest jobs first. `item` reads its items.
    #[must_use]
    pub fn new(path: Template, at: String, id_at: String, next: NextPage, item: Profile) -> Self {
        let cursors = next.pointers().iter().map(|pointer| (pointer.as_str(), MAX_CURSOR));
        let around = Arc::new(Pointers::new(cursors.chain([(at.as_str(), 0)])));
        Self { path, at, id_at: vec![id_at], next, newest_first: true, has_results: false, item, around }
    }

    /// Returns the names of the variables of its path.
    pub fn vars(&self) -> impl Iterator<Item = &str> {
        self.path.names()
    }
}
