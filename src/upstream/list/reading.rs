//! The reading of a list, page by page, with an eye on lists that never end.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hasher as _},
};

use super::{ListPage, ListProfile};
use crate::upstream::{Failure, Source, SourceKind};

/// The most pages of one reading.
const MAX_PAGES: usize = 100_000;

/// One reading of a list. It ends with the last page, or with an error when the pages go in a
/// circle.
#[derive(Debug)]
pub struct ListReading {
    next: Option<String>,
    /// The addresses of the pages that were read.
    asked: HashSet<u64>,
    /// What tells the last page from others: its ids.
    last: Option<u64>,
}

impl ListReading {
    /// Begins at the first page.
    #[must_use]
    pub fn new(address: String) -> Self {
        Self { next: Some(address), asked: HashSet::new(), last: None }
    }

    /// Returns whether there is another page.
    #[must_use]
    pub fn has_next(&self) -> bool {
        self.next.is_some()
    }

    /// Returns the number of pages that were requested.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.asked.len()
    }

    /// Requests the next page. There must be one. A page that failed is requested again by the next
    /// call.
    ///
    /// # Errors
    /// See [`Failure`]; an address or a page that was there before is [`Failure::Transient`].
    pub async fn next(
        &mut self,
        source: &Source,
        kind: &SourceKind,
        list: &ListProfile,
    ) -> Result<ListPage, Failure> {
        let address = self.next.as_deref().unwrap_or_default();
        if self.asked.contains(&sum(&address)) || self.asked.len() >= MAX_PAGES {
            let page = self.asked.len() + 1;
            return Err(Failure::Transient(format!(
                "the list goes in a circle: page {page} was read before"
            )));
        }
        let page = source.list_page(kind, list, address).await?;
        let ids: Vec<&str> = page.jobs.iter().map(|job| job.id.as_str()).collect();
        let ids = sum(&ids);
        if self.last == Some(ids) && !page.jobs.is_empty() {
            let page = self.asked.len() + 1;
            return Err(Failure::Transient(format!(
                "the list does not go on: page {page} repeats the last one"
            )));
        }
        self.asked.insert(sum(&address));
        self.last = Some(ids);
        self.next.clone_from(&page.next);
        Ok(page)
    }
}

fn sum(value: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
