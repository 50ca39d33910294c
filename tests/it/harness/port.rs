//! A port for a server that is started later, or again.

use std::net::{Ipv4Addr, TcpListener};

/// A free one, and one that the system gives to no connection meanwhile.
pub fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    std::iter::repeat_with(|| rand::random_range(12_000..32_000)).find(is_free).unwrap()
}
