//! What every flow needs: a daemon (in this process, or as the real binary), receivers, a client.
//!
//! Nothing here sleeps to wait for something: [`eventually`] looks again until a condition holds and fails after
//! [`PATIENCE`], which a passing test never uses up.

#![allow(dead_code, unused_imports, reason = "each flow uses a part of it")]

mod api;
mod daemon;
mod flow;
mod h2;
mod home;
mod port;
mod postgres;
mod process;
mod pulse;
mod receiver;
mod s3;
pub mod script;
mod site;
mod tls;

use std::{fmt::Debug, future::Future, time::Duration};

pub use api::{Api, is_finished, segment};
pub use daemon::{Daemon, Sinks, config, polled_seldom};
pub use flow::{Flow, Setup, webhook};
pub use h2::{Call, Relay, serve_h2};
pub use home::{Home, write_config};
pub use port::free_port;
pub use postgres::Postgres;
pub use process::{Process, binary, once};
pub use pulse::Pulse;
pub use receiver::{Receiver, Reply, Request};
pub use s3::{S3, Wire};
pub use site::{Answer, Site};
use tidings::{
    mock::{Mock, MockConfig},
    model::job::JobId,
};
pub use tls::{Authority, Pair, TlsReceiver, acceptor};

/// After this a condition will not come true any more.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Any free port of this machine alone.
pub const LOOPBACK: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Serves on any free port of this machine, until the task is aborted.
pub async fn serve(router: axum::Router) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
}

/// Looks again and again until `probe` finds something.
pub async fn eventually<T, F, P>(what: &str, mut probe: P) -> T
where
    P: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs these at the same time: each waits for its schedules most of the time.
pub async fn together<F: Future<Output = ()> + Send + 'static>(flows: impl IntoIterator<Item = F>) {
    let mut running: tokio::task::JoinSet<()> = flows.into_iter().collect();
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

/// A mock upstream whose jobs take 100 ms unless they say otherwise.
pub async fn mock() -> Mock {
    let config = MockConfig { duration: Duration::from_millis(100), jitter: 0.0, ..MockConfig::default() };
    Mock::start(config, LOOPBACK).await.unwrap()
}

/// A job id.
pub fn id(text: impl AsRef<str>) -> JobId {
    text.as_ref().parse().unwrap()
}

/// A client as an application would have one.
pub fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Shows what was not expected.
pub fn show(value: &impl Debug) -> String {
    format!("{value:#?}")
}
