//! The reading of a list, page by page, with an eye on lists that never end.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hasher as _},
};

use super::{ListPage, ListProfile};
use crate::upstream::{Failure, Source, SourceKind};

/// The most pages of one reading.
const MAX_PAGES: usize = 100_000;

/// A repeated page of so few jobs can be one that moved, while the list was read.
const FEW: usize = 2;

/// A reading of a list, from its first page to its last. It notices a list that goes in a circle by
/// its addresses and by what its pages show. A list that moves meanwhile repeats parts of pages.
#[derive(Debug)]
pub struct ListReading {
    next: Option<String>,
    /// The addresses of the pages that were read.
    asked: HashSet<u64>,
    /// The sets of ids that these pages showed.
    shown: HashSet<u64>,
    /// Whether the last page with jobs showed those of an earlier one.
    has_repeated: bool,
}

impl ListReading {
    /// Begins at the first page.
    #[must_use]
    pub fn new(address: String) -> Self {
        Self { next: Some(address), asked: HashSet::new(), shown: HashSet::new(), has_repeated: false }
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
        let address = self.next.clone().unwrap_or_default();
        if self.asked.contains(&sum(&address)) {
            return Err(self.circle());
        }
        if self.asked.len() >= MAX_PAGES {
            return Err(Failure::Transient(format!("the list has more than {MAX_PAGES} pages")));
        }
        let page = source.list_page(kind, list, &address).await?;
        let ids = page.jobs.iter().map(|job| job.id.as_str()).collect();
        self.note(&address, ids)?;
        self.next.clone_from(&page.next);
        Ok(page)
    }

    /// Records a page by its address and the ids on it.
    fn note(&mut self, address: &str, mut ids: Vec<&str>) -> Result<(), Failure> {
        if !ids.is_empty() {
            ids.sort_unstable();
            let repeats = self.shown.contains(&sum(&ids));
            if repeats && (ids.len() > FEW || self.has_repeated) {
                return Err(self.circle());
            }
            self.shown.insert(sum(&ids));
            self.has_repeated = repeats;
        }
        self.asked.insert(sum(&address));
        Ok(())
    }

    fn circle(&self) -> Failure {
        let page = self.asked.len() + 1;
        Failure::Transient(format!("the list goes in a circle: page {page} repeats an earlier one"))
    }
}

fn sum(value: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads pages of these ids, each under its own address. Returns the page that is refused.
    fn circle(pages: &[&[&str]]) -> Option<usize> {
        let mut reading = ListReading::new(String::new());
        let mut pages = pages.iter().enumerate();
        pages.find_map(|(at, ids)| reading.note(&format!("?cursor={at}"), ids.to_vec()).err().map(|_| at + 1))
    }

    #[test]
    fn a_circle_under_ever_new_addresses_is_noticed() {
        let (abc, def, ghi): (&[_], &[_], &[_]) = (&["a", "b", "c"], &["d", "e", "f"], &["g", "h", "i"]);
        assert_eq!(circle(&[abc, abc]), Some(2));
        assert_eq!(circle(&[abc, def, abc]), Some(3));
        assert_eq!(circle(&[abc, def, ghi, def]), Some(4), "it need not begin at the first page");
        assert_eq!(circle(&[abc, def, &["c", "a", "b"]]), Some(3), "in whatever order");
        assert_eq!(circle(&[abc, &[], &[], abc]), Some(4), "behind empty pages");
        assert_eq!(circle(&[&["a"], &["b"], &["a"], &["b"]]), Some(4));
        assert_eq!(circle(&[&["a"], &[], &["a"], &[], &["a"]]), Some(5));
    }

    #[test]
    fn a_list_that_moves_while_it_is_read_is_no_circle() {
        let (abc, cde): (&[_], &[_]) = (&["a", "b", "c"], &["c", "d", "e"]);
        assert_eq!(circle(&[abc, &["b", "c", "d"], cde, &["e"]]), None);
        assert_eq!(circle(&[abc, &[], cde, &[], &[], &["f"]]), None, "nor are empty pages");
        assert_eq!(circle(&[&["a"], &["a"], &["b"], &["c"], &["c"], &["d"]]), None);
        assert_eq!(circle(&[&["a"], &[], &["a"], &[], &["b"]]), None);
    }
}
