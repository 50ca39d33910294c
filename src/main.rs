//! The command `tidings`: arguments, runtime, exit status.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use tidings::{
    cli::{Cli, ExitStatus, complete},
    deliver::body_template,
    foreign::escape_lines,
};
use tokio::runtime::{Builder, Runtime};

fn main() -> ExitCode {
    // Before anything is read or started: a template is rendered in a process of its own.
    if let Some(status) = body_template::serve() {
        return status;
    }
    complete::answer();
    let cli = Cli::parse();
    let result = runtime(&cli).map_err(anyhow::Error::from).and_then(|runtime| {
        let result = runtime.block_on(cli.execute());
        // A thread that still reads stdin or a disk keeps nobody waiting.
        runtime.shutdown_background();
        result
    });
    result.unwrap_or_else(|error| report(&error)).into()
}

/// A client command asks a few things and ends, which needs no threads.
fn runtime(cli: &Cli) -> io::Result<Runtime> {
    let mut builder =
        if cli.is_service() { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    builder.enable_all().build()
}

/// One message with the chain of causes, and the status it ends with.
fn report(error: &anyhow::Error) -> ExitStatus {
    let status = ExitStatus::of_error(error);
    if status != ExitStatus::Done {
        // When stderr is closed there is nowhere left to say so; the status still tells.
        let text = format!("{error:#}");
        let _ = writeln!(io::stderr(), "tidings: {}", escape_lines(&text));
    }
    status
}
