//! What a running daemon shares. Knows nothing of HTTP.

pub mod components;
