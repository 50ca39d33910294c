//! The client of a source: the light status, the full job, and what can go wrong with either.

mod answer;
mod client;
mod config;
mod profile;

pub use answer::{Answer, Class};
pub use client::{Failure, JobStream, Source, SourceError};
pub use config::{SourceConfig, SourceType};
pub use profile::Profile;
