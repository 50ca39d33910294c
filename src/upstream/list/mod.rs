//! The list of jobs of a source: its pages, its items, and the way from one page to the next.
//!
//! An item is evidence that a job exists, and of the state that it was in. What it says is read as a
//! status body is; its id is never taken for anything but an id.

mod config;
mod next;
mod page;
mod profile;
mod reading;

#[cfg(test)]
mod tests;

pub use config::{DiscoverConfig, ListFilter, ListNext, Since};
pub use next::NextPage;
pub use page::{ListPage, ListedJob};
pub use profile::ListProfile;
pub use reading::ListReading;
