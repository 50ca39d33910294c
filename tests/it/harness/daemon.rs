//! The daemon inside the test's process.

use std::path::Path;

use tidings::{
    app::{App, TaskDied},
    config::Config,
    deliver::{DiskConfig, RetryConfig, SinkConfig, WebhookConfig, encode::template},
    mock::Mock,
    schedule::{PollingConfig, Strategy},
    state::handle::Handle,
    util::{listen::Listen, units::HumanDuration},
};
use tokio::task::JoinHandle;

use super::{Api, LOOPBACK, PATIENCE};

/// A configuration for tests: quick polls, a quick schedule, everything in `folder`, the API on any free port.
pub fn config(folder: &Path, mock: &Mock) -> Config {
    template::render_by(env!("CARGO_BIN_EXE_tidings").into());
    let mut config = Config::default();
    config.server.listen = LOOPBACK.to_string();
    config.server.drain = HumanDuration::secs(5);
    config.store.path = folder.join("data");
    let source = config.sources.get_mut("retab").unwrap();
    source.base_url = Some(mock.base_url());
    source.max_requests_per_second = 2000.0;
    source.not_found_grace = Some(HumanDuration::millis(300));
    source.polling.min_interval = HumanDuration::millis(20);
    source.polling.max_interval = Some(HumanDuration::millis(200));
    config
}

/// A polling so seldom that only a hint makes a poll.
pub fn polled_seldom() -> PollingConfig {
    let hour = HumanDuration::secs(3600);
    PollingConfig {
        strategy: Strategy::Fixed,
        interval: hour,
        max_interval: Some(hour),
        min_interval: HumanDuration::millis(1),
        ..PollingConfig::default()
    }
}

/// A running daemon. It must be stopped with [`Daemon::stop`], which checks that it ended well.
pub struct Daemon {
    pub api: Api,
    pub handle: Handle,
    running: JoinHandle<Result<(), TaskDied>>,
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
        Self { api: Api::at(url), handle, running }
    }

    /// Stops it, and checks that it ended well.
    pub async fn stop(self) {
        self.handle.stop();
        let Self { handle, running, .. } = self;
        tokio::time::timeout(PATIENCE, running).await.expect("it stops").unwrap().unwrap();
        drop(handle);
    }
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
        webhook.retry = RetryConfig { schedule: vec![HumanDuration::millis(20); retries], jitter: 0.2 };
        self.sinks.insert(name.to_owned(), SinkConfig::Webhook(webhook));
        self
    }

    fn disk(mut self, name: &str, dir: &Path) -> Self {
        self.sinks.insert(name.to_owned(), SinkConfig::Disk(DiskConfig::to(dir)));
        self
    }
}
