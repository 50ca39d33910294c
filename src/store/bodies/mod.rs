//! The bodies of finished jobs.

mod measure;
mod spool;
mod usage;

pub(super) use spool::Pin;
pub use spool::{Incoming, Spool};
