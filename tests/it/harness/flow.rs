//! The whole path: a mock upstream, a daemon with the webhook `app`, and the receiver behind it.

use std::path::Path;

use serde_json::Value;
use tidings::{
    config::Config,
    deliver::{Format, RetryConfig, SinkConfig, WebhookConfig},
    mock::{JobPlan, Mock},
    upstream::SourceConfig,
    util::units::HumanDuration,
};

use super::{Daemon, Receiver, Sinks, config, is_finished, mock};

/// What a [`Flow`] is made of. Everything but the daemon runs already, so that a test can name its addresses.
pub struct Setup {
    pub mock: Mock,
    pub receiver: Receiver,
    config: Config,
    source: String,
    folder: tempfile::TempDir,
}

impl Setup {
    /// The source `retab` at a mock upstream, and the sink `app` with three retries 20 ms apart.
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mock, receiver) = (mock().await, Receiver::start().await);
        let config = config(folder.path(), &mock).webhook("app", &receiver.url(), 0);
        Self { mock, receiver, config, source: "retab".to_owned(), folder }
            .schedule(&[HumanDuration::millis(20); 3])
    }

    /// Sets the schedule of `app`, without jitter.
    pub fn schedule(self, schedule: &[HumanDuration]) -> Self {
        self.app(|app| app.retry = RetryConfig { schedule: schedule.to_vec(), jitter: 0.0 })
    }

    /// Changes the webhook `app`.
    pub fn app(self, change: impl FnOnce(&mut WebhookConfig)) -> Self {
        self.change(|config| webhook(config, change))
    }

    /// Sets the format of `app`.
    pub fn format(self, format: Format) -> Self {
        self.app(|app| app.format = format)
    }

    /// Adds the sink `disk`, which writes into the folder `out`.
    pub fn disk(self) -> Self {
        let dir = self.folder.path().join("out");
        self.change(|config| *config = std::mem::take(config).disk("disk", &dir))
    }

    /// Changes the source `retab`.
    pub fn retab(self, change: impl FnOnce(&mut SourceConfig)) -> Self {
        self.change(|config| change(config.sources.get_mut("retab").unwrap()))
    }

    /// Replaces the source `retab` by this one, which is called `jobs`.
    pub fn jobs_at(mut self, source: SourceConfig) -> Self {
        "jobs".clone_into(&mut self.source);
        self.change(|config| config.sources = [("jobs".to_owned(), source)].into())
    }

    /// The folder that holds everything of the daemon.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn change(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    pub async fn start(self) -> Flow {
        let Self { mock, receiver, config, source, folder } = self;
        let daemon = Daemon::start(config.clone()).await;
        Flow { mock, receiver, daemon, config, source, folder }
    }
}

/// Stop it with [`Flow::stop`].
pub struct Flow {
    pub mock: Mock,
    pub receiver: Receiver,
    pub daemon: Daemon,
    pub config: Config,
    source: String,
    folder: tempfile::TempDir,
}

impl Flow {
    /// With the sink `app`, whose schedule is this, without jitter.
    pub async fn start(schedule: &[HumanDuration], change: impl FnOnce(&mut Config)) -> Self {
        Setup::new().await.schedule(schedule).change(change).start().await
    }

    /// With three quick retries.
    pub async fn quick(change: impl FnOnce(&mut Config)) -> Self {
        Setup::new().await.change(change).start().await
    }

    /// Stops the daemon. What is left can be changed, and start again on the same folder.
    pub async fn down(self) -> Setup {
        let Self { mock, receiver, daemon, config, source, folder } = self;
        daemon.stop().await;
        Setup { mock, receiver, config, source, folder }
    }

    /// Stops the daemon and starts it again with the configuration changed.
    pub async fn restart(self, change: impl FnOnce(&mut Config)) -> Self {
        self.down().await.change(change).start().await
    }

    /// The folder that holds everything of this daemon.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Registers a new job of this kind.
    pub async fn run(&self, plan: JobPlan) -> String {
        let job = self.mock.add_job(plan);
        self.daemon.watch(&job).await;
        job
    }

    /// Registers a new job.
    pub async fn job(&self) -> String {
        self.run(JobPlan::new()).await
    }

    /// Registers so many new jobs.
    pub async fn jobs(&self, count: usize) -> Vec<String> {
        let mut jobs = Vec::new();
        for _ in 0..count {
            jobs.push(self.job().await);
        }
        jobs
    }

    /// Waits until `wanted` holds for the watch of a job of the flow's source.
    pub async fn until(&self, job: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.daemon.until_in(&self.source, job, what, wanted).await
    }

    /// Waits until the watch of a job has nothing left to do, and checks that all its deliveries arrived.
    pub async fn done(&self, job: &str) -> Value {
        let watch = self.until(job, "is delivered", is_finished).await;
        assert_eq!(watch["phase"], "done", "{watch}");
        watch
    }

    /// The deliveries that the query names, at most 1000.
    pub async fn deliveries(&self, query: &str) -> Vec<Value> {
        let (status, page) = self.daemon.get(&format!("/v1/deliveries?limit=1000&{query}")).await;
        assert_eq!(status, 200, "{page}");
        page["data"].as_array().unwrap().clone()
    }

    /// The delivery of a watch to `app`, with its attempts.
    pub async fn delivery(&self, watch: &Value) -> Value {
        let to_app = |brief: &&Value| brief["sink"] == "app";
        let brief = watch["deliveries"].as_array().unwrap().iter().find(to_app).unwrap();
        let id = brief["id"].as_str().unwrap();
        let (status, delivery) = self.daemon.get(&format!("/v1/deliveries/{id}")).await;
        assert_eq!((status, &delivery["event_id"]), (200, &watch["event_id"]));
        delivery
    }

    /// The state of a sink.
    pub async fn sink(&self, name: &str) -> Option<Value> {
        let (status, page) = self.daemon.get("/v1/sinks").await;
        assert_eq!(status, 200, "{page}");
        page["data"].as_array().unwrap().iter().find(|sink| sink["name"] == name).cloned()
    }

    /// The state of the first source.
    pub async fn source(&self) -> Value {
        let (status, page) = self.daemon.get("/v1/sources").await;
        assert_eq!(status, 200, "{page}");
        page["data"][0].clone()
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
