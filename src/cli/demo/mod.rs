//! `tidings demo`: the whole path on loopback, to see what tidings does.

mod keep;

use std::{
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use axum::http::{HeaderMap, StatusCode};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use clap::Args;
use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    exit::{ExitStatus, Output},
    global::Global,
    waiting::summary,
};
use crate::{
    api::watch_view,
    app::{App, lifecycle},
    config::Config,
    deliver::{DiskConfig, SinkConfig, WebhookConfig, webhook::sign},
    mock::{Ending, JobPlan, Mock, MockConfig},
    model::job::JobId,
    telemetry::{self, LogConfig},
    util::secret::Secret,
};

/// The long description of the command.
pub(super) const ABOUT: &str = "Shows what tidings does, without a key or a network. Starts a mock upstream, the daemon and a webhook \
        receiver on loopback, watches a few jobs until they finish, and prints each step. Leaves nothing behind. \
        With --keep it opens the page in the browser; jobs go on, and one receiver fails now and then.";

/// The arguments of `tidings demo`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        tidings demo\n  \
        tidings demo --jobs 50\n  \
        tidings demo --keep      # then see the page, and try `tidings list` from another terminal\n\n\
        Exit status: 0 every job was delivered; 1 failure at run time; 2 bad usage.")]
pub struct DemoArgs {
    /// Keep everything running afterwards, with more jobs, and open the page in the browser
    #[arg(long)]
    pub(super) keep: bool,

    /// With --keep: print the address of the page without opening it
    #[arg(long, requires = "keep")]
    pub(super) no_open: bool,

    /// Number of jobs to watch
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) jobs: u32,
}

/// Runs the demonstration.
///
/// # Errors
/// When a part cannot start, or fails.
pub(super) async fn run(args: DemoArgs, global: &Global) -> Result<ExitStatus> {
    // With --keep the page shows what fails.
    let level = if args.keep { "off" } else { "warn" };
    let quiet = LogConfig { level: level.to_owned(), format: global.log_format.unwrap_or_default() };
    let _ = telemetry::start_logging(&quiet, global.level().as_deref());
    let stop = CancellationToken::new();
    lifecycle::stop_on_signals(stop.clone())?;
    let folder = tempfile::Builder::new().prefix("tidings-demo-").tempdir()?;
    let max_jobs = MockConfig::default().max_jobs;
    let max_jobs = if args.keep { keep::JOBS_KEPT.max(args.jobs as usize) } else { max_jobs };
    let mock = Mock::start(MockConfig { max_jobs, ..MockConfig::default() }, LOOPBACK).await?;
    let receiver = TcpListener::bind(LOOPBACK).await?;
    let hook = format!("http://{}/hooks/jobs", receiver.local_addr()?);
    let secret = format!("whsec_{}", STANDARD.encode(rand::random::<[u8; 32]>()));
    let mut config = config(&mock, &hook, &secret, folder.path());
    if args.keep {
        let listener = TcpListener::bind(LOOPBACK).await?;
        let sink = keep::unsteady(&format!("http://{}/hooks/unsteady", listener.local_addr()?));
        config.sinks.insert("unsteady".to_owned(), SinkConfig::Webhook(sink));
        config.store.retention = keep::RETENTION;
        tokio::spawn(keep::receive_unsteadily(listener));
    }
    let app = App::bind_in_memory(config, stop).await?;
    let handle = app.handle();
    let api = app.addr().map(ToString::to_string).unwrap_or_default();
    say(&format!(
        "mock upstream   {}\ndaemon          http://{api}\nreceiver        {hook}\n",
        mock.base_url()
    ))?;
    let prints = Arc::new(AtomicBool::new(true));
    tokio::spawn(receive(receiver, secret, Arc::clone(&prints)));
    let daemon = tokio::spawn(app.run());
    handle.loaded().await;
    let ids = create(&mock, args.jobs)?;
    handle.watch(&ids, false).await?;
    let source = handle.default_source();
    let mut waits: FuturesUnordered<_> =
        ids.iter().map(|id| handle.finished(&source, id).map(move |watch| (id, watch))).collect();
    let mut all = true;
    while let Some((id, watch)) = waits.next().await {
        if let Some(watch) = watch? {
            say(&format!("watch    {}", summary(&watch_view(handle.state(), &watch).await?)))?;
        } else {
            all = false;
            say(&format!("watch    {id} is not done"))?;
        }
    }
    if all {
        let asked = mock.requests(None, None);
        say(&format!(
            "\n{} jobs finished and were delivered, with {asked} requests to the upstream.",
            ids.len()
        ))?;
    }
    if args.keep && all {
        prints.store(false, Ordering::Relaxed);
        let page = format!("http://{api}/");
        say(&format!(
            "\nThe page        {page}\n\n\
             Everything keeps running, with more jobs. From another terminal:\n  \
             tidings --url http://{api} list\n  \
             tidings --url http://{api} deliveries\n  \
             curl http://{api}/v1/watches\nCtrl-C stops it."
        ))?;
        if !args.no_open {
            keep::open_page(&page);
        }
        keep::make_jobs(&mock, &handle).await?;
        handle.stopping().cancelled().await;
    }
    handle.stop();
    daemon.await??;
    mock.stop().await;
    Ok(if all { ExitStatus::Done } else { ExitStatus::Failed })
}

/// Any free port of the loopback interface.
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn say(text: &str) -> io::Result<()> {
    let mut out = Output(io::stdout());
    writeln!(out, "{text}")?;
    out.flush()
}

fn config(mock: &Mock, hook: &str, secret: &str, folder: &Path) -> Config {
    let mut webhook = WebhookConfig::to(hook);
    webhook.secret = Some(Secret::new(secret));
    let mut config = Config::default();
    LOOPBACK.to_string().clone_into(&mut config.server.listen);
    config.sinks.insert("receiver".to_owned(), SinkConfig::Webhook(webhook));
    config.sinks.insert("folder".to_owned(), SinkConfig::Disk(DiskConfig::to(folder.join("out"))));
    if let Some(source) = config.sources.get_mut("retab") {
        source.base_url = Some(mock.base_url());
    }
    config
}

/// Creates jobs of a few seconds; every fourth fails.
fn create(mock: &Mock, count: u32) -> Result<Vec<JobId>> {
    let plan = |index: u32| {
        let ending = if index % 4 == 3 { Ending::Failed } else { Ending::Completed };
        JobPlan::new().lasting(Duration::from_millis(400 + u64::from(index % 8) * 350)).ending(ending)
    };
    (0..count).map(|index| Ok(mock.add_job(plan(index)).parse()?)).collect()
}

/// Serves the receiver, which checks the signature and, while `prints` is set, prints the event.
async fn receive(listener: TcpListener, secret: String, prints: Arc<AtomicBool>) {
    let taken = move |headers: HeaderMap, body: Bytes| {
        if prints.load(Ordering::Relaxed) {
            // A closed stdout does not end the demonstration.
            let _ = say(&describe(&headers, &body, &secret));
        }
        async { StatusCode::NO_CONTENT }
    };
    let router = axum::Router::new().route("/hooks/jobs", axum::routing::post(taken));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "demo receiver failed");
    }
}

fn describe(headers: &HeaderMap, body: &[u8], secret: &str) -> String {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("?");
    let event: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
    let expected =
        sign::signature(&Secret::new(secret), header("webhook-id"), header("webhook-timestamp"), body);
    let genuine = expected.is_ok_and(|expected| header("webhook-signature") == expected);
    let signature = if genuine { "signature checked" } else { "SIGNATURE WRONG" };
    format!(
        "webhook  {} of {} ({} bytes, {}, {signature})",
        text("type"),
        text("job_id"),
        body.len(),
        text("id")
    )
}
