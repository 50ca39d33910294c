//! The command line: one file a command. Client commands go through the HTTP API like anyone else.

pub mod args;
pub mod client;
pub mod complete;
pub mod completions;
pub(crate) mod config;
mod config_route;
pub mod control;
pub mod deliver;
pub mod deliveries;
pub mod demo;
pub mod events;
pub mod exit;
pub mod follow;
pub mod get;
pub mod healthcheck;
pub mod list;
pub mod output;
pub mod patience;
pub mod plot;
pub mod poll;
pub mod progress;
pub mod redeliver;
pub mod run;
mod running;
pub mod simulate;
mod simulate_store;
pub mod sink;
pub mod source;
pub mod source_test;
pub mod status;
pub mod store;
mod store_backup;
pub mod target;
mod unrouted;
pub mod unwatch;
pub mod wait;
pub mod watch;

#[cfg(test)]
mod tests;

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
};

use anyhow::Result;
use clap::{ArgAction, Args, Parser, Subcommand};

pub use exit::{BadUsage, ExitStatus};

use crate::{
    config::{FlagOverrides, Loader},
    mock::{self, cli::MockArgs},
    telemetry::LogFormat,
    util::{
        foreign::Escaped,
        secret::{Secret, SecretSource},
    },
};
use client::Client;
use config::ConfigCommand;
use output::Console;
use target::Target;

/// Tells your systems when asynchronous jobs finish.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "tidings",
    version,
    arg_required_else_help = true,
    about = "Tells your systems when asynchronous jobs finish",
    long_about = "Tells your systems when asynchronous jobs finish.\n\n\
        `tidings run` is a daemon: it polls a jobs API and sends each finished job to webhooks or to disk. The other \
        commands talk to a running daemon, or help to set one up. `tidings demo` shows all of it without a key.",
    after_long_help = "Examples:\n  \
        tidings demo\n  \
        tidings run --out results\n  \
        tidings watch job_1 job_2 --wait\n  \
        tidings list --phase watching\n\n\
        Exit status: 0 done; 1 failure at run time; 2 bad usage or configuration, nothing was started. \
        `run --once` and `watch --wait`: 3 when every job ended but some outcome is not `completed`, 4 when a \
        delivery became a dead letter.",
    after_help = "Exit status: 0 done; 1 failure; 2 bad usage or configuration; 3 and 4 see `watch --help`"
)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: Global,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// Read this configuration file (TOML, YAML or JSON by its extension)
    #[arg(
        short = 'c',
        long,
        global = true,
        value_name = "FILE",
        env = "TIDINGS_CONFIG",
        value_parser = path,
        help_heading = "Global options",
        long_help = "Read this configuration file (TOML, YAML or JSON by its extension). Without it \
        ./tidings.toml, then /etc/tidings/tidings.toml, when there is one"
    )]
    pub config: Option<PathBuf>,

    /// Ask the daemon at this address [default: the configured listen address]
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "TIDINGS_URL",
        help_heading = "Global options",
        long_help = "Ask the daemon at this address: http://host:port, host:port or unix:/path/to.sock \
        [default: the configured listen address]"
    )]
    pub url: Option<String>,

    /// Show this bearer token to the daemon; --token-file keeps it out of the list of processes
    #[arg(long, global = true, value_name = "TOKEN", env = "TIDINGS_TOKEN", hide_env_values = true,
        help_heading = "Global options", value_parser = secret)]
    pub token: Option<Secret>,

    /// Show the bearer token in this file to the daemon
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "TIDINGS_TOKEN_FILE",
        value_parser = path,
        help_heading = "Global options"
    )]
    pub token_file: Option<PathBuf>,

    /// Write log lines like this
    #[arg(long, global = true, value_enum, value_name = "FORMAT", help_heading = "Global options")]
    pub log_format: Option<LogFormat>,

    /// Print results and errors alone: no remarks, no progress; of the log only warnings and errors
    #[arg(short = 'q', long, global = true, help_heading = "Global options")]
    pub quiet: bool,

    /// Log more: -v for debug, -vv for trace
    #[arg(
        short = 'v',
        long,
        global = true,
        action = ArgAction::Count,
        conflicts_with_all = ["quiet", "log_level"],
        help_heading = "Global options"
    )]
    pub verbose: u8,

    /// Log this much: error, warn, info, debug, trace, or a filter such as `info,tidings::deliver=debug`
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "Global options")]
    pub log_level: Option<String>,
}

/// An empty variable is how many a script says "none"; clap would refuse it as a path.
#[expect(clippy::unnecessary_wraps, reason = "clap calls it as a parser that can fail")]
fn path(text: &str) -> Result<PathBuf, std::convert::Infallible> {
    Ok(text.into())
}

#[expect(clippy::unnecessary_wraps, reason = "clap calls it as a parser that can fail")]
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the daemon
    #[command(long_about = run::ABOUT)]
    Run(run::RunArgs),
    /// Show the whole path at work, without a key or a network
    #[command(long_about = demo::ABOUT)]
    Demo(demo::DemoArgs),
    /// Run only the mock upstream, to try out integrations
    Mock(MockArgs),
    /// Show how the running daemon is, on one screen
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
    /// Wait until jobs, or all open ones, have finished
    #[command(long_about = wait::ABOUT)]
    Wait(wait::WaitArgs),
    /// Poll jobs now
    #[command(long_about = poll::ABOUT)]
    Poll(poll::PollArgs),
    /// End watches
    #[command(long_about = unwatch::ABOUT)]
    Unwatch(unwatch::UnwatchArgs),
    /// List deliveries, or show one
    #[command(long_about = deliveries::ABOUT)]
    Deliveries(deliveries::DeliveriesArgs),
    /// Send deliveries again
    #[command(long_about = redeliver::ABOUT)]
    Redeliver(redeliver::RedeliverArgs),
    /// Deliver past events to a sink that never got them
    #[command(long_about = deliver::ABOUT)]
    Deliver(deliver::DeliverArgs),
    /// Print events as they happen, or list those that no sink took
    #[command(long_about = events::ABOUT)]
    Events(events::EventsArgs),
    /// Show the sinks, or test one
    #[command(subcommand)]
    Sink(sink::SinkCommand),
    /// Show the sources and what was learned of their jobs, or test one
    #[command(subcommand)]
    Source(source::SourceCommand),
    /// Check, show or describe the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Compute what polling policies cost, without a network
    #[command(long_about = simulate::ABOUT)]
    Simulate(simulate::SimulateArgs),
    /// Count, check, export or import the data folder of a stopped daemon; back up a running one
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Have the running daemon read its configuration again
    #[command(long_about = control::RELOAD)]
    Reload(control::ReloadArgs),
    /// Ask the running daemon to end, where it allows that
    #[command(long_about = control::QUIT)]
    Quit(control::QuitArgs),
    /// Check whether the daemon is ready, for a container's HEALTHCHECK
    #[command(long_about = healthcheck::ABOUT)]
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Print a completion script for a shell
    #[command(long_about = completions::ABOUT)]
    Completions(completions::CompletionsArgs),
}

/// The columns of the terminal, or what fits a page where there is none.
fn width(stdout: &io::Stdout) -> usize {
    let columns = rustix::termios::tcgetwinsize(stdout).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { output::WIDTH } else { columns }
}

/// What the configuration says of the daemon that client commands talk to.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Where it listens.
    pub listen: String,
    /// The token it asks for.
    pub token: Option<SecretSource>,
}

/// The one place where client commands learn the configured address. It is asked only when no URL is
/// given, so that a broken configuration file stands in nobody's way who names the daemon.
///
/// # Errors
/// When the configuration cannot be loaded.
fn defaults(global: &Global) -> Result<Defaults> {
    // A client needs none of the daemon's secrets but the token, and may not be allowed to see them.
    let needed = ["server.listen", "server.token", "server.token_file"];
    let loader = global.loader(global.overrides()).only(&needed);
    let server = loader.load().map_err(|error| BadUsage(error.to_string()))?.config.server;
    let token = SecretSource::of(server.token.as_ref(), server.token_file.as_deref());
    Ok(Defaults { listen: server.listen, token })
}

impl Global {
    /// What the flags that every command takes say of the configuration.
    #[must_use]
    pub fn overrides(&self) -> FlagOverrides {
        FlagOverrides {
            config: self.config.clone().filter(|path| !path.as_os_str().is_empty()),
            log_level: self.level(),
            log_format: self.log_format,
            ..FlagOverrides::default()
        }
    }

    /// The log level that the flags ask for.
    #[must_use]
    pub fn level(&self) -> Option<String> {
        let short = match (self.quiet, self.verbose) {
            (true, _) => Some("warn"),
            (false, 0) => None,
            (false, 1) => Some("debug"),
            (false, _) => Some("trace"),
        };
        self.log_level.clone().or_else(|| short.map(str::to_owned))
    }

    /// The loader of the configuration of this process.
    #[must_use]
    pub fn loader(&self, flags: FlagOverrides) -> Loader {
        Loader::from_process(flags)
    }

    /// A client of the daemon that the flags, the environment or the configuration name.
    ///
    /// # Errors
    /// When they contradict each other, or the configuration or the token's file cannot be read.
    pub fn client(&self) -> Result<Client> {
        // An empty variable is how many a script says "none".
        let url = self.url.as_deref().filter(|url| !url.trim().is_empty());
        let token = self.token.as_ref().filter(|token| !token.expose().is_empty());
        let file = self.token_file.as_deref().filter(|path| !path.as_os_str().is_empty());
        if token.is_some() && file.is_some() {
            let text = "give the daemon's token once: by --token or TIDINGS_TOKEN, or by --token-file or TIDINGS_TOKEN_FILE";
            return Err(BadUsage(text.to_owned()).into());
        }
        let given = SecretSource::of(token, file);
        let (address, source) = if let Some(url) = url {
            (url.to_owned(), given)
        } else {
            let defaults = defaults(self)?;
            // A configured token is for the configured address only.
            (defaults.listen, given.or(defaults.token))
        };
        let token = source.map(|source| source.get()).transpose()?;
        Ok(Client::new(Target::parse(&address)?, token)?)
    }
}

impl Cli {
    /// Whether the command serves requests itself and deserves every core, rather than asking a few things
    /// of a daemon.
    #[must_use]
    pub fn is_service(&self) -> bool {
        matches!(self.command, Command::Run(_) | Command::Demo(_) | Command::Mock(_))
    }

    /// Does what was asked for, with the streams of the process.
    ///
    /// # Errors
    /// When it fails; [`ExitStatus::of_error`] tells the status.
    pub async fn execute(self) -> Result<ExitStatus> {
        match self.command {
            Command::Run(args) => return run::run(args, &self.global).await,
            Command::Demo(args) => return demo::run(args, &self.global).await,
            Command::Mock(args) => return mock::cli::run(args).await.map(|()| ExitStatus::Done),
            _ => {}
        }
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let mut console = Console {
            live: stdout.is_terminal() && stderr.is_terminal() && !self.global.quiet,
            quiet: self.global.quiet,
            width: width(&stdout),
            out: &mut exit::Output(stdout.lock()),
            err: &mut io::stderr(),
            input: &mut io::BufReader::new(io::stdin()),
        };
        let status = self.ask(&mut console).await?;
        console.out.flush()?;
        Ok(status)
    }

    /// Does what a client command asks for. What it prints is escaped, unless it is bytes for a file or a pipe.
    ///
    /// # Errors
    /// When it fails; [`ExitStatus::of_error`] tells the status.
    pub async fn ask(&self, console: &mut Console<'_>) -> Result<ExitStatus> {
        let mut escaped;
        let out: &mut dyn io::Write = if self.prints_bytes() && !console.live {
            &mut *console.out
        } else {
            escaped = Escaped(&mut *console.out);
            &mut escaped
        };
        let (err, input) = (&mut Escaped(&mut *console.err), &mut *console.input);
        self.answer(&mut Console { out, err, input, ..*console }).await
    }

    /// Whether the command prints a job, a store or a script as it is.
    fn prints_bytes(&self) -> bool {
        match &self.command {
            Command::Get(args) => args.job,
            Command::Store(store::StoreCommand::Export(_)) | Command::Completions(_) => true,
            _ => false,
        }
    }

    async fn answer(&self, console: &mut Console<'_>) -> Result<ExitStatus> {
        if let Command::Completions(args) = &self.command {
            return completions::run(args, console);
        }
        if let Command::Simulate(args) = &self.command {
            return simulate::run(args, console);
        }
        if let Command::Config(command) = &self.command {
            return running::run(command, &self.global, console).await;
        }
        if let Command::Source(command) = &self.command {
            return source::run(command, &self.global, console).await;
        }
        if let Command::Store(command) = &self.command {
            return store::run(command, &self.global, console).await;
        }
        let client = self.global.client()?;
        match &self.command {
            Command::Status(args) => status::run(args, &client, console).await,
            Command::Watch(args) => watch::run(args, &client, console).await,
            Command::Wait(args) => wait::run(args, &client, console).await,
            Command::Reload(_) => control::reload(&client, console).await,
            Command::Quit(_) => control::quit(&client).await,
            Command::List(args) => list::run(args, &client, console).await,
            Command::Get(args) => get::run(args, &client, console).await,
            Command::Poll(args) => poll::run(args, &client, console).await,
            Command::Unwatch(args) => unwatch::run(args, &client, console).await,
            Command::Deliveries(args) => deliveries::run(args, &client, console).await,
            Command::Redeliver(args) => redeliver::run(args, &client, console).await,
            Command::Deliver(args) => deliver::run(args, &client, console).await,
            Command::Events(args) => events::run(args, &client, console).await,
            Command::Sink(command) => sink::run(command, &client, console).await,
            Command::Healthcheck(_) => healthcheck::run(&client).await,
            Command::Run(_)
            | Command::Demo(_)
            | Command::Mock(_)
            | Command::Config(_)
            | Command::Simulate(_)
            | Command::Source(_)
            | Command::Store(_)
            | Command::Completions(_) => anyhow::bail!("this command asks nothing of a daemon"),
        }
    }
}
