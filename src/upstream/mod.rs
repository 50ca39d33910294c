//! The client of a source.

mod config;

pub use config::{SourceConfig, SourceType};
