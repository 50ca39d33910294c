//! The daemon inside the test's process.

use std::path::Path;

use serde_json::{Value, json};
use tidings::{
    api::Listen,
    app::{App, Handle, StageDied},
    config::Config,
    deliver::{DiskConfig, RetryConfig, SinkConfig, WebhookConfig, body_template},
    mock::Mock,
    util::units::Span,
};
use tokio::task::JoinHandle;

use super::{LOOPBACK, PATIENCE, eventually, http};

/// A configuration for tests: quick polls, a quick schedule, everything in `folder`, the API on any free port.
pub fn config(folder: &Path, mock: &Mock) -> Config {
    body_template::render_by(env!("CARGO_BIN_EXE_tidings").into());
    let mut config = Config::default();
    config.server.listen = LOOPBACK.to_string();
    config.server.drain = Span::secs(5);
    config.store.path = folder.join("data");
    let source = config.sources.get_mut("retab").unwrap();
    source.base_url = Some(mock.base_url());
    source.max_requests_per_second = 2000.0;
    source.not_found_grace = Some(Span::millis(300));
    source.polling.min_interval = Span::millis(20);
    source.polling.max_interval = Some(Span::millis(200));
    config
}

/// A running daemon. It must be stopped with [`Daemon::stop`], which checks that it ended well.
pub struct Daemon {
    pub url: String,
    pub handle: Handle,
    pub http: reqwest::Client,
    running: JoinHandle<Result<(), StageDied>>,
}

impl Daemon {
    pub async fn start(config: Config) -> Self {
        Self::run(App::bind(config, true).await.unwrap()).await
    }

    /// `None` while it cannot start, as when the folder is not let go yet.
    pub async fn try_start(config: Config) -> Option<Self> {
        Some(Self::run(App::bind(config, true).await.ok()?).await)
    }

    async fn run(app: App) -> Self {
        let Some(Listen::Tcp(address)) = app.addr() else { panic!("it listens on TCP") };
        let url = format!("http://{address}");
        let handle = app.handle();
        let running = tokio::spawn(app.run());
        handle.loaded().await;
        Self { url, handle, http: http(), running }
    }

    /// Registers a job, and shows the watch.
    pub async fn watch(&self, job_id: &str) -> Value {
        let (status, watch) = self.post("/v1/watches", &json!({"job_id": job_id})).await;
        assert!(status == 202 || status == 200, "{status}: {watch}");
        watch
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let response = self.http.post(format!("{}{path}", self.url)).json(body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    pub async fn get_bytes(&self, path: &str) -> (u16, Vec<u8>) {
        let response = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        (response.status().as_u16(), response.bytes().await.unwrap().to_vec())
    }

    /// The watch of a job, as soon as it looks like this.
    pub async fn until(&self, job_id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/v1/watches/retab/{}", segment(job_id));
        let wanted = &wanted;
        eventually(&format!("{job_id} {what}"), || async {
            let (status, watch) = self.get(&path).await;
            (status == 200 && wanted(&watch)).then_some(watch)
        })
        .await
    }

    /// The watch of a job once it has nothing left to do.
    pub async fn finished(&self, job_id: &str) -> Value {
        self.until(job_id, "finishes", |watch| watch["phase"] == "done" || watch["phase"] == "dead").await
    }

    /// Stops it, and checks that it ended well.
    pub async fn stop(self) {
        self.handle.stop();
        let Self { handle, running, .. } = self;
        tokio::time::timeout(PATIENCE, running).await.expect("it stops").unwrap().unwrap();
        drop(handle);
    }
}

/// An id as one segment of a path.
pub fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Shorthands for sinks.
pub trait Sinks {
    /// A webhook with a quick schedule of `retries` steps.
    fn webhook(self, name: &str, url: &str, retries: usize) -> Self;
    /// A folder.
    fn disk(self, name: &str, dir: &Path) -> Self;
}

impl Sinks for Config {
    fn webhook(mut self, name: &str, url: &str, retries: usize) -> Self {
        let mut webhook = WebhookConfig::to(url);
        webhook.retry = RetryConfig { schedule: vec![Span::millis(20); retries], jitter: 0.2 };
        self.sinks.insert(name.to_owned(), SinkConfig::Webhook(webhook));
        self
    }

    fn disk(mut self, name: &str, dir: &Path) -> Self {
        self.sinks.insert(name.to_owned(), SinkConfig::Disk(DiskConfig::to(dir)));
        self
    }
}
