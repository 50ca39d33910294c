//! Runs a command: hands it its streams and, if it needs one, a client of the daemon.

use std::io::{self, IsTerminal as _};

use anyhow::Result;

use super::{
    commands::{Cli, Command},
    completions, config,
    console::{Console, WIDTH},
    control, deliver, deliveries, demo, events,
    exit::{ExitStatus, Output},
    get, group, healthcheck, list, poll, reconcile, redeliver, replicas, run, simulate, sink, source, status,
    store, unwatch, wait, watch,
};
use crate::{mock, util::foreign::Escaped};

/// Returns the columns of the terminal, or of a page if there is none.
fn width(stdout: &io::Stdout) -> usize {
    let columns = rustix::termios::tcgetwinsize(stdout).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { WIDTH } else { columns }
}

impl Cli {
    /// Runs the command with the streams of the process.
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
            out: &mut Output(stdout.lock()),
            err: &mut io::stderr(),
            input: &mut io::BufReader::new(io::stdin()),
        };
        let status = self.ask(&mut console).await?;
        console.out.flush()?;
        Ok(status)
    }

    /// Runs a client command. Escapes its output, unless that is bytes for a file or a pipe.
    ///
    /// # Errors
    /// When it fails; [`ExitStatus::of_error`] tells the status.
    pub(super) async fn ask(&self, console: &mut Console<'_>) -> Result<ExitStatus> {
        let mut escaped;
        let out: &mut dyn io::Write = if self.prints_bytes() && !console.live {
            &mut *console.out
        } else {
            escaped = Escaped(&mut *console.out);
            &mut escaped
        };
        let (err, input) = (&mut Escaped(&mut *console.err), &mut *console.input);
        self.dispatch(&mut Console { out, err, input, ..*console }).await
    }

    async fn dispatch(&self, console: &mut Console<'_>) -> Result<ExitStatus> {
        if let Command::Completions(args) = &self.command {
            return completions::run(args, console);
        }
        if let Command::Simulate(args) = &self.command {
            return simulate::run(args, console).await;
        }
        if let Command::Config(command) = &self.command {
            return config::run(command, &self.global, console).await;
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
            Command::Shutdown(_) => control::shutdown(&client).await,
            Command::List(args) => list::run(args, &client, console).await,
            Command::Get(args) => get::run(args, &client, console).await,
            Command::Poll(args) => poll::run(args, &client, console).await,
            Command::Unwatch(args) => unwatch::run(args, &client, console).await,
            Command::Group(command) => group::run(command, &client, console).await,
            Command::Deliveries(args) => deliveries::run(args, &client, console).await,
            Command::Redeliver(args) => redeliver::run(args, &client, console).await,
            Command::Reconcile(args) => reconcile::run(args, &client, console).await,
            Command::Deliver(args) => deliver::run(args, &client, console).await,
            Command::Events(args) => events::run(args, &client, console).await,
            Command::Replicas(args) => replicas::run(args, &client, console).await,
            Command::Sink(command) => sink::run(command, &client, console).await,
            Command::Healthcheck(_) => healthcheck::run(&client).await,
            Command::Run(_)
            | Command::Demo(_)
            | Command::Mock(_)
            | Command::Config(_)
            | Command::Simulate(_)
            | Command::Source(_)
            | Command::Store(_)
            | Command::Completions(_) => anyhow::bail!("this command needs no daemon"),
        }
    }
}
