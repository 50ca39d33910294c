//! The local HTTP API.

mod config;
pub mod view;

pub use config::ServerConfig;
