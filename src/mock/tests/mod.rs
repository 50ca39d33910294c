//! The mock over real sockets.

mod faults;
mod jobs;
mod primitives;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{Mock, MockConfig};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A mock and a client of it.
struct Bench {
    mock: Mock,
    client: reqwest::Client,
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "a client that knows nothing of tidings")]
    async fn new(config: MockConfig) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mock = Mock::start(config, ANY).await.unwrap();
        Self { mock, client: reqwest::Client::new() }
    }

    async fn get(&self, path: &str) -> reqwest::Result<reqwest::Response> {
        self.client.get(format!("{}{path}", self.mock.base_url())).send().await
    }

    async fn post(&self, path: &str, body: &str) -> reqwest::Response {
        self.client
            .post(format!("{}{path}", self.mock.base_url()))
            .body(body.to_owned())
            .send()
            .await
            .unwrap()
    }

    async fn text(&self, path: &str) -> (u16, String) {
        let answer = self.get(path).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn code(&self, path: &str) -> u16 {
        self.text(path).await.0
    }

    async fn json(&self, path: &str) -> Value {
        let (code, text) = self.text(path).await;
        assert_eq!(code, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }
}

/// Waits for something that happens soon.
async fn until(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !happened().await {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        tokio::task::yield_now().await;
    }
}
