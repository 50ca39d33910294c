//! `tidings run`: the daemon.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use anyhow::Result;
use clap::Args;
use futures_util::future::try_join_all;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    Global,
    exit::{BadUsage, ExitStatus, Output},
    output::{brief, clean, count},
    progress::summary,
};
use crate::{
    api::{view::WatchView, watch_view},
    app::{App, config_watch, lifecycle},
    config::{FlagOverrides, host_name},
    model::{delivery::DeliveryState, job::JobId},
    telemetry,
    util::{
        process,
        units::{HumanDuration, rounded},
    },
};

/// How long requests in flight may go on when the time of `--once` is up.
const LAST_MOMENTS: Duration = Duration::from_secs(2);

const INTERRUPTED: &str = "stopped before every job was delivered; what is left goes on at the next start";

/// How long results may take to be read after a signal.
const PRINT_PATIENCE: Duration = Duration::from_secs(1);

/// The long description of the command.
pub(super) const ABOUT: &str = "Starts the daemon: it polls jobs until they finish and sends each one to the sinks.\n\n\
        It stays in the foreground and logs to stderr. SIGTERM or Ctrl-C finishes what is in flight and stops; \
        a second one stops at once. What was acknowledged is on disk, so a restart resumes where it left off. \
        Flags win over the environment, which wins over the configuration file.";

/// The arguments of `tidings run`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n  \
        # Watch two jobs, send their results to a local service, stop when both were delivered\n  \
        tidings run --once --watch job_1 --watch job_2 --webhook http://127.0.0.1:9000/hooks/jobs\n\n  \
        # Write every finished job into a folder\n  \
        tidings run --out results\n\n  \
        # A configured daemon\n  \
        tidings run --config /etc/tidings/tidings.toml\n\n\
        Exit status: 0 stopped or done; 1 failure at run time; 2 bad usage or configuration, nothing was \
        started; with --once also 1 when the time was up, 3 when every job ended but some outcome is not `completed`, \
        4 when a delivery became a dead letter.")]
pub struct RunArgs {
    /// Serve the API at this address, `unix:/path/to.sock` for a socket [default: 127.0.0.1:8787]
    #[arg(
        long,
        value_name = "ADDR",
        long_help = "Serve the API at this address: host:port (port 0 takes any \
        free one), [::]:port for every interface, or unix:/path/to.sock. Anything but loopback or a socket needs `server.token_file` \
        [default: 127.0.0.1:8787]"
    )]
    pub listen: Option<String>,

    /// Accept requests under this name too; may be repeated
    #[arg(
        long,
        value_name = "NAME",
        value_parser = host_name,
        long_help = "Accept requests whose `Host` holds this name; may be repeated. It adds to `server.hosts`, \
        where the other flags override"
    )]
    pub allowed_host: Vec<String>,

    /// Keep the daemon's state in this folder [default: data]
    #[arg(
        long,
        value_name = "DIR",
        long_help = "Keep the daemon's state in this folder. One daemon at a time: \
        a second one is refused [default: data]"
    )]
    pub data_dir: Option<PathBuf>,

    /// Send events to this URL too, by a sink named `webhook`
    #[arg(long, value_name = "URL")]
    pub webhook: Option<String>,

    /// Write finished jobs to this folder too, by a sink named `disk`
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Watch this job from the start; may be repeated
    #[arg(long, value_name = "JOB_ID")]
    pub watch: Vec<JobId>,

    /// Watch what is given, deliver it, and exit
    #[arg(
        long,
        long_help = "Watch what is given with --watch or in the configuration, deliver it, and exit; \
        the exit status tells how it went"
    )]
    pub once: bool,

    /// With --once: give up after this long, whatever is still open [default: wait for ever]
    #[arg(
        long,
        value_name = "DURATION",
        requires = "once",
        long_help = "With --once: give up after this long with exit status 1, and say what is still open. It is on disk \
        and goes on at the next start. Requests in flight get two more seconds [default: wait for ever]"
    )]
    pub timeout: Option<HumanDuration>,

    /// Read the configuration file again whenever it changes
    #[arg(
        long,
        conflicts_with = "once",
        long_help = "Read the configuration file again whenever its content changes, also when it is a mounted \
        ConfigMap. With a mistake in it everything stays as it is. SIGHUP and `tidings reload` do the same when asked to"
    )]
    pub watch_config: bool,
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// When it cannot start, or ends by a failure.
pub async fn run(args: RunArgs, global: &Global) -> Result<ExitStatus> {
    let stop = CancellationToken::new();
    lifecycle::stop_on_signals(stop.clone())?;
    // Without the daemon's reload a hang-up means what it always does: the terminal is gone.
    let hangups = (!args.once).then(lifecycle::hangups).transpose()?;
    let loader = global.loader(args.overrides(global));
    let loaded = loader.load().map_err(|error| BadUsage(error.to_string()))?;
    let level = telemetry::start_logging(&loaded.config.log, global.level().as_deref());
    let config = loaded.config.clone();
    process::allow_core_dumps(config.server.core_dumps);
    if args.once && config.watch.is_empty() {
        let text =
            "--once has nothing to watch; name jobs with --watch, or with `watch` in the configuration";
        return Err(BadUsage(text.to_owned()).into());
    }
    if args.watch_config && loaded.file.is_none() {
        let text = "--watch-config has nothing to watch; name a file with --config";
        return Err(BadUsage(text.to_owned()).into());
    }
    let file = loaded.file.as_ref().map(|path| path.display().to_string());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = file, data = %config.store.path.display(), "starting");
    loaded.warn();
    if config.sinks.is_empty() {
        tracing::info!("no sink is configured; finished jobs are kept for callbacks and for GET …/job only");
    }
    for (name, source) in &config.sources {
        // A server of one's own may ask for no key; the public one does.
        if source.base_url.is_none() && source.api_key.is_none() && source.api_key_file.is_none() {
            tracing::warn!(
                source = name,
                "no key is configured; set RETAB_API_KEY or sources.{name}.api_key_file"
            );
        }
    }
    let ids = config.watch.clone();
    // A run that ends by itself needs no port of its own, unless somebody wants to look on.
    let serve = !args.once || args.listen.is_some();
    let app = tokio::select! {
        app = App::bind_until(config, serve, stop.child_token()) => app?,
        () = stop.cancelled() => {
            tracing::info!("stopped while the store was being opened; nothing was started");
            return if args.once { Err(anyhow::anyhow!(INTERRUPTED)) } else { Ok(ExitStatus::Done) };
        }
    };
    lifecycle::tell_service_manager(app.handle());
    let Some(hangups) = hangups else { return once(app, &ids, args.timeout, &stop).await };
    lifecycle::reload_on_hangup(hangups, app.handle());
    if let Some(file) = loaded.file.clone().filter(|_| args.watch_config) {
        tokio::spawn(config_watch::watch(file, loaded.content.bytes().to_owned(), app.handle()));
    }
    app.reloading(loader, level, &loaded).run().await?;
    Ok(ExitStatus::Done)
}

/// How a run that ends by itself came to its end.
enum Ended {
    /// Nothing is left to do.
    Settled,
    /// A signal came first, or the daemon ended by itself.
    Stopped,
    /// The time was up.
    OutOfTime(HumanDuration),
}

/// Watches the given jobs to their end, and stops.
async fn once(
    app: App,
    ids: &[JobId],
    limit: Option<HumanDuration>,
    stop: &CancellationToken,
) -> Result<ExitStatus> {
    let handle = app.handle();
    let mut daemon = tokio::spawn(app.run());
    let source = handle.default_source();
    let settled = async {
        handle.loaded().await;
        // Those that ended before are polled again: a retry may have begun a new run.
        handle.watch(ids, false).await?;
        try_join_all(ids.iter().map(|id| handle.finished(&source, id))).await
    };
    let ended = tokio::select! {
        biased;
        watches = settled => {
            watches?;
            if handle.stopping().is_cancelled() { Ended::Stopped } else { Ended::Settled }
        }
        done = &mut daemon => {
            done??;
            Ended::Stopped
        }
        span = out_of_time(limit) => Ended::OutOfTime(span),
    };
    handle.stop();
    if !daemon.is_finished() {
        match ended {
            // What is in flight is repeated at the next start, like after any other end.
            Ended::OutOfTime(_) => {
                if let Ok(done) = timeout(LAST_MOMENTS, daemon).await {
                    done??;
                } else {
                    tracing::warn!("requests in flight were cut off; the next start repeats them");
                }
            }
            Ended::Settled | Ended::Stopped => daemon.await??,
        }
    }
    let mut status = ExitStatus::Done;
    let (mut lines, mut open) = (Vec::new(), 0);
    for id in ids {
        let watch = handle.find(&source, id)?;
        let view = watch.map(|watch| watch_view(handle.state(), &watch)).transpose()?;
        lines.push(match view {
            Some(view) if view.phase.is_final() => {
                status = status.max(ExitStatus::of_watch(&view));
                summary(&view) + "\n"
            }
            view => {
                open += 1;
                format!("{} is not done{}\n", clean(id.as_str()), still_open(view.as_ref()))
            }
        });
    }
    print(lines.concat(), stop).await?;
    let jobs = count(open, "job is", "jobs are");
    match ended {
        Ended::Settled => Ok(status),
        Ended::Stopped => anyhow::bail!(INTERRUPTED),
        Ended::OutOfTime(HumanDuration(limit)) => {
            anyhow::bail!("{jobs} not done after {}; what is left goes on at the next start", rounded(limit))
        }
    }
}

/// Waits until the time is up; for ever without a limit.
async fn out_of_time(limit: Option<HumanDuration>) -> HumanDuration {
    match limit {
        Some(span) => {
            tokio::time::sleep(span.0).await;
            span
        }
        None => std::future::pending().await,
    }
}

/// What is left to do for a watch, as an addition to a sentence.
fn still_open(view: Option<&WatchView>) -> String {
    let Some(view) = view else { return String::new() };
    let pending = view.deliveries.iter().filter(|one| one.state == DeliveryState::Pending);
    let sinks: Vec<&str> = pending.map(|one| one.sink.as_str()).collect();
    let doing = match &view.status {
        _ if !sinks.is_empty() => format!("delivering to {}", sinks.join(", ")),
        Some(status) => format!("{}, {status}", view.phase),
        None => view.phase.to_string(),
    };
    let error =
        view.last_error.as_deref().map(|error| format!(": {}", brief(error, 200))).unwrap_or_default();
    clean(&format!(" ({doing}){error}"))
}

/// Prints, and gives up a moment after a signal: whoever holds the other end may not read.
async fn print(text: String, stop: &CancellationToken) -> Result<()> {
    let printing = tokio::task::spawn_blocking(move || {
        let mut out = Output(io::stdout());
        out.write_all(text.as_bytes())?;
        out.flush()
    });
    tokio::select! {
        printed = printing => Ok(printed??),
        () = async {
            stop.cancelled().await;
            tokio::time::sleep(PRINT_PATIENCE).await;
        } => anyhow::bail!("stdout was not read"),
    }
}

impl RunArgs {
    fn overrides(&self, global: &Global) -> FlagOverrides {
        FlagOverrides {
            listen: self.listen.clone(),
            allowed_hosts: self.allowed_host.clone(),
            data_dir: self.data_dir.clone(),
            webhook: self.webhook.clone(),
            out: self.out.clone(),
            watch: self.watch.iter().map(ToString::to_string).collect(),
            ..global.overrides()
        }
    }
}
