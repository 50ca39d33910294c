//! When to look next.

mod config;

pub use config::{PollingConfig, Strategy};
