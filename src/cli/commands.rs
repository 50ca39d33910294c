//! The tree of commands, as clap parses it.

use clap::{Parser, Subcommand};

use super::{
    completions, config, control, deliver, deliveries, demo, events, get, global::Global, group, healthcheck,
    list, poll, reconcile, redeliver, replicas, run, simulate, sink, source, status, store, unwatch, wait,
    watch,
};
use crate::mock::cli::MockArgs;

/// Tells your systems when asynchronous jobs finish.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "tidings",
    version,
    arg_required_else_help = true,
    about = "Tells your systems when asynchronous jobs finish",
    long_about = "Tells your systems when asynchronous jobs finish.\n\n\
        `tidings run` is a daemon: it polls a jobs API and sends each finished job to webhooks or to disk. The other \
        commands talk to a running daemon, or help to set one up. `tidings demo` shows the whole path without a key.",
    after_long_help = "Examples:\n  \
        tidings demo\n  \
        tidings run --out results\n  \
        tidings watch job_1 job_2 --wait\n  \
        tidings list --phase watching\n\n\
        Exit status: 0 done; 1 failure at run time; 2 bad usage or configuration, nothing was started. \
        `run --once`, `watch --wait` and `wait`: 3 when every job finished but some outcome is not `completed`, 4 when \
        a delivery became a dead letter.",
    after_help = "Exit status: 0 done; 1 failure; 2 bad usage or configuration; 3 and 4 see `watch --help`"
)]
pub struct Cli {
    /// The flags that every command takes.
    #[command(flatten)]
    pub(super) global: Global,

    /// The command.
    #[command(subcommand)]
    pub(super) command: Command,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon
    #[command(long_about = run::ABOUT)]
    Run(run::RunArgs),
    /// Show the whole path, without a key or a network
    #[command(long_about = demo::ABOUT)]
    Demo(demo::DemoArgs),
    /// Run only the mock upstream, to try out integrations
    Mock(MockArgs),
    /// Show the state of the running daemon on one screen
    #[command(long_about = status::ABOUT)]
    Status(status::StatusArgs),
    /// Register jobs with the running daemon
    #[command(long_about = watch::ABOUT)]
    Watch(watch::WatchArgs),
    /// List watches
    #[command(long_about = list::ABOUT)]
    List(list::ListArgs),
    /// Show a watch, or its finished job
    #[command(long_about = get::ABOUT)]
    Get(get::GetArgs),
    /// Wait until jobs have finished, by default all open ones
    #[command(long_about = wait::ABOUT)]
    Wait(wait::WaitArgs),
    /// Poll jobs now
    #[command(long_about = poll::ABOUT)]
    Poll(poll::PollArgs),
    /// End watches
    #[command(long_about = unwatch::ABOUT)]
    Unwatch(unwatch::UnwatchArgs),
    /// List groups of watches, show one, or end its growth
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// List deliveries, or show one
    #[command(long_about = deliveries::ABOUT)]
    Deliveries(deliveries::DeliveriesArgs),
    /// Send deliveries again
    #[command(long_about = redeliver::ABOUT)]
    Redeliver(redeliver::RedeliverArgs),
    /// Recover jobs that have finished while nobody watched them
    #[command(long_about = reconcile::ABOUT)]
    Reconcile(reconcile::ReconcileArgs),
    /// Deliver past events to a sink that never got them
    #[command(long_about = deliver::ABOUT)]
    Deliver(deliver::DeliverArgs),
    /// Print events as they happen, or list those that no sink took
    #[command(long_about = events::ABOUT)]
    Events(events::EventsArgs),
    /// Show the sinks, or test, pause or empty one
    #[command(subcommand)]
    Sink(sink::SinkCommand),
    /// Show the sources and the durations of their jobs, or test one
    #[command(subcommand)]
    Source(source::SourceCommand),
    /// Show the replicas that share the daemon's database
    #[command(long_about = replicas::ABOUT)]
    Replicas(replicas::ReplicasArgs),
    /// Check, show or describe the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Compute the cost of polling policies, without a network
    #[command(long_about = simulate::ABOUT)]
    Simulate(simulate::SimulateArgs),
    /// Count, check, export or import the store: the data folder of a stopped daemon, or its database; back up a running one
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Make the running daemon read its configuration again
    #[command(long_about = control::RELOAD)]
    Reload(control::ReloadArgs),
    /// Stop the running daemon, if its configuration allows that
    #[command(alias = "quit", long_about = control::SHUTDOWN)]
    Shutdown(control::ShutdownArgs),
    /// Check whether the daemon is ready, for a container's HEALTHCHECK
    #[command(long_about = healthcheck::ABOUT)]
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Print a completion script for a shell
    #[command(long_about = completions::ABOUT)]
    Completions(completions::CompletionsArgs),
}

impl Cli {
    /// Whether the command serves requests and may use every core.
    #[must_use]
    pub fn is_service(&self) -> bool {
        matches!(self.command, Command::Run(_) | Command::Demo(_) | Command::Mock(_))
    }

    /// Whether the command prints a job, a store or a script unchanged.
    pub(super) fn prints_bytes(&self) -> bool {
        match &self.command {
            Command::Get(args) => args.job,
            Command::Store(store::StoreCommand::Export(_)) | Command::Completions(_) => true,
            _ => false,
        }
    }
}
