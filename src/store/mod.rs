//! What is kept on disk.

mod config;

pub use config::StoreConfig;
