//! The whole path: a mock upstream, a daemon with the webhook `app`, and the receiver behind it.

use serde_json::Value;
use tidings::{
    config::Config,
    deliver::{RetryConfig, SinkConfig, WebhookConfig},
    mock::{JobPlan, Mock},
    util::units::Span,
};

use super::{Daemon, Receiver, Sinks, config, mock};

/// Stop it with [`Flow::stop`].
pub struct Flow {
    pub mock: Mock,
    pub receiver: Receiver,
    pub daemon: Daemon,
    pub config: Config,
    folder: tempfile::TempDir,
}

impl Flow {
    /// With the sink `app`, whose schedule is this, without jitter.
    pub async fn start(schedule: &[Span], change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mock, receiver) = (mock().await, Receiver::start().await);
        let mut config = config(folder.path(), &mock).webhook("app", &receiver.url(), 0);
        webhook(&mut config, |app| app.retry = RetryConfig { schedule: schedule.to_vec(), jitter: 0.0 });
        change(&mut config);
        let daemon = Daemon::start(config.clone()).await;
        Self { mock, receiver, daemon, config, folder }
    }

    /// Stops the daemon and starts it again on the same folder, with the configuration changed.
    pub async fn restart(self, change: impl FnOnce(&mut Config)) -> Self {
        let Self { mock, receiver, daemon, mut config, folder } = self;
        daemon.stop().await;
        change(&mut config);
        let daemon = Daemon::start(config.clone()).await;
        Self { mock, receiver, daemon, config, folder }
    }

    /// A new job, registered.
    pub async fn job(&self) -> String {
        let job = self.mock.add_job(JobPlan::new());
        self.daemon.watch(&job).await;
        job
    }

    /// New jobs, registered.
    pub async fn jobs(&self, count: usize) -> Vec<String> {
        let mut jobs = Vec::new();
        for _ in 0..count {
            jobs.push(self.job().await);
        }
        jobs
    }

    /// The deliveries that the query names, at most 1000.
    pub async fn deliveries(&self, query: &str) -> Vec<Value> {
        let (status, page) = self.daemon.get(&format!("/v1/deliveries?limit=1000&{query}")).await;
        assert_eq!(status, 200, "{page}");
        page["data"].as_array().unwrap().clone()
    }

    /// How a sink is.
    pub async fn sink(&self, name: &str) -> Option<Value> {
        let (status, page) = self.daemon.get("/v1/sinks").await;
        assert_eq!(status, 200, "{page}");
        page["data"].as_array().unwrap().iter().find(|sink| sink["name"] == name).cloned()
    }

    pub async fn stop(self) {
        self.daemon.stop().await;
        drop(self.folder);
    }
}

/// Changes the webhook `app`.
pub fn webhook(config: &mut Config, change: impl FnOnce(&mut WebhookConfig)) {
    let Some(SinkConfig::Webhook(app)) = config.sinks.get_mut("app") else { panic!("there is a sink `app`") };
    change(app);
}
