//! `tidings run`: the daemon.

mod once;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use super::{
    exit::{BadUsage, ExitStatus},
    global::Global,
};
use crate::{
    app::{App, config_watch, lifecycle, standby::StandbyStart},
    config::{FlagOverrides, Loaded, Loader, host_name},
    model::job::JobId,
    state::handle::Reloads,
    store::StoreKind,
    telemetry,
    util::{process, units::HumanDuration},
};

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
        tidings run --config /etc/tidings/tidings.toml\n\n  \
        # A second process that takes over when the first one ends\n  \
        tidings run --standby --listen 127.0.0.1:8788\n\n\
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
    pub(super) listen: Option<String>,

    /// Accept requests under this name too; may be repeated
    #[arg(
        long,
        value_name = "NAME",
        value_parser = host_name,
        long_help = "Accept requests whose `Host` holds this name; may be repeated. Adds to \
        `server.allowed_hosts`, where other flags override"
    )]
    pub(super) allowed_host: Vec<String>,

    /// Keep the daemon's state in this folder [default: data]
    #[arg(
        long,
        value_name = "DIR",
        long_help = "Keep the daemon's state in this folder. One daemon at a time: \
        a second one is refused [default: data]"
    )]
    pub(super) data_dir: Option<PathBuf>,

    /// Send events to this URL too, by a sink named `webhook`
    #[arg(long, value_name = "URL")]
    pub(super) webhook: Option<String>,

    /// Write finished jobs to this folder too, by a sink named `disk`
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,

    /// Watch this job from the start; may be repeated
    #[arg(long, value_name = "JOB_ID")]
    pub(super) watch: Vec<JobId>,

    /// Watch what is given, deliver it, and exit
    #[arg(
        long,
        long_help = "Watch what is given with --watch or in the configuration, deliver it, and exit; \
        the exit status tells the result"
    )]
    pub(super) once: bool,

    /// With --once: give up after this long, even if jobs are open [default: wait for ever]
    #[arg(
        long,
        value_name = "DURATION",
        requires = "once",
        long_help = "With --once: give up after this long with exit status 1, and name the open jobs. They are on disk, \
        and the next start resumes them. Requests in flight get two more seconds [default: wait for ever]"
    )]
    pub(super) timeout: Option<HumanDuration>,

    /// Read the configuration file again whenever it changes
    #[arg(
        long,
        conflicts_with = "once",
        long_help = "Read the configuration file again whenever its content changes, also when it is a mounted \
        ConfigMap. A file with a mistake changes nothing. SIGHUP and `tidings reload` do the same on request"
    )]
    pub(super) watch_config: bool,

    /// Wait while another process holds the data folder, and take over when it ends
    #[arg(
        long,
        conflicts_with = "once",
        long_help = "While another process holds the data folder, wait and take over within 5s after it ended, however it ended. \
        A standby serves /healthz (200), /readyz (503, `standby`) and /metrics, refuses every other request, and touches neither the \
        folder nor a source or sink. Each process needs an address of its own. On a free folder it starts at once. The file system \
        of the folder must have working file locks (flock); on a network, see docs/guide/standby.md"
    )]
    pub(super) standby: bool,
}

/// Runs the daemon until a signal or a request stops it.
///
/// # Errors
/// When it cannot start, or a part of it fails.
pub(super) async fn run(args: RunArgs, global: &Global) -> Result<ExitStatus> {
    let stop = CancellationToken::new();
    lifecycle::stop_on_signals(stop.clone())?;
    // Without reloads a hang-up keeps its usual meaning: the terminal is gone.
    let hangups = (!args.once).then(lifecycle::hangups).transpose()?;
    let loader = Loader::from_process(args.overrides(global));
    let loaded = loader.load().map_err(|error| BadUsage::new(error.to_string()))?;
    let level = telemetry::start_logging(&loaded.config.log, global.level().as_deref());
    let config = loaded.config.clone();
    process::allow_core_dumps(config.server.core_dumps);
    args.check(&loaded)?;
    log_start(&loaded);
    // A database is shared by replicas, which wait for each other.
    if args.standby || config.store.kind == StoreKind::Postgres && !args.once {
        let standby = StandbyStart::new(loader, level, &loaded, stop.child_token());
        args.reload_on_request(hangups, &loaded, &standby.reloads());
        let Some(app) = Box::pin(standby.bind()).await? else {
            tracing::info!("stopped while another process had the store");
            return Ok(ExitStatus::Done);
        };
        return match Box::pin(app.run()).await {
            Err(died) if died.is_store_lost() && !stop.is_cancelled() => {
                tracing::warn!("another replica owns the work; beginning again to pass requests on to it");
                Err(lifecycle::begin_again()).context("this replica cannot begin again")
            }
            ended => ended.map(|()| ExitStatus::Done).map_err(Into::into),
        };
    }
    let ids = config.watch.clone();
    // A run that ends by itself needs no port, unless the command line names one.
    let serve = !args.once || args.listen.is_some();
    let bound = App::bind_until(config, serve, stop.child_token());
    let Some(app) = stop.run_until_cancelled(bound).await else {
        tracing::info!("stopped while the store was being opened");
        return if args.once { Err(anyhow::anyhow!(once::INTERRUPTED)) } else { Ok(ExitStatus::Done) };
    };
    let app = app?;
    lifecycle::tell_service_manager(app.handle());
    if args.once {
        return once::run(app, &ids, args.timeout, &stop).await;
    }
    args.reload_on_request(hangups, &loaded, &app.handle().reloads());
    app.reloading(loader, level, &loaded).run().await?;
    Ok(ExitStatus::Done)
}

fn log_start(loaded: &Loaded) {
    let config = &loaded.config;
    let file = loaded.file.as_ref().map(|path| path.display().to_string());
    let (version, data) = (env!("CARGO_PKG_VERSION"), config.store.path.display());
    tracing::info!(version, config = file, %data, database = config.store.database_shown(), "starting");
    loaded.warn();
    if config.sinks.is_empty() {
        tracing::info!("no sink is configured; finished jobs are kept for callbacks and for GET …/job only");
    }
    for (name, source) in &config.sources {
        // A server of the operator may need no key; the public one does.
        if source.base_url.is_none() && source.api_key.is_none() && source.api_key_file.is_none() {
            tracing::warn!(
                source = name,
                "no key is configured; set RETAB_API_KEY or sources.{name}.api_key_file"
            );
        }
    }
}

impl RunArgs {
    /// Checks that the flags fit the configuration.
    fn check(&self, loaded: &Loaded) -> Result<(), BadUsage> {
        if self.once && loaded.config.watch.is_empty() {
            let hint = "name jobs with --watch, or with `watch` in the configuration";
            return Err(BadUsage::new("--once has no jobs to watch").hint(hint));
        }
        if self.standby && loaded.config.store.kind == StoreKind::Postgres {
            let hint = "start it without --standby, or set store.type = \"sled\"";
            return Err(
                BadUsage::new("--standby waits for a data folder, and store.type is postgres").hint(hint)
            );
        }
        if self.watch_config && loaded.file.is_none() {
            return Err(
                BadUsage::new("--watch-config has no file to watch").hint("name a file with --config")
            );
        }
        Ok(())
    }

    /// Reloads at a hang-up, and with `--watch-config` when the file changes.
    fn reload_on_request(&self, hangups: Option<Signal>, loaded: &Loaded, reloads: &Reloads) {
        if let Some(hangups) = hangups {
            lifecycle::reload_on_hangup(hangups, reloads.clone());
        }
        if let Some(file) = loaded.file.clone().filter(|_| self.watch_config) {
            let known = loaded.content.bytes().to_owned();
            tokio::spawn(config_watch::watch(file, known, reloads.clone()));
        }
    }

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
