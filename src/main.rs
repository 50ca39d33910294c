//! The command `tidings`: arguments, runtime, exit status.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Duration,
};

use clap::{CommandFactory as _, Parser as _};
use tidings::{
    app::runtime,
    cli::{self, Cli, ExitStatus, complete},
    deliver::encode::template,
    telemetry,
    util::{foreign::escape_lines, process},
};

/// The longest wait for the reader of the log at the end.
const LAST_LINES: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // A template is rendered in a process of its own, which must read and start nothing else.
    if let Some(status) = template::serve() {
        return status;
    }
    process::allow_core_dumps(false);
    complete::answer(Cli::command);
    let cli = Cli::parse();
    let result = if cli.is_service() { serve(cli) } else { execute(cli) };
    let status = result.unwrap_or_else(|error| report(&error));
    telemetry::flush(LAST_LINES);
    status.into()
}

/// Runs a command that serves requests. Neither a slow reader of the log nor a short limit of the machine may stop it.
fn serve(cli: Cli) -> anyhow::Result<ExitStatus> {
    runtime::prepare_service()?;
    telemetry::log_in_background()?;
    execute(cli)
}

fn execute(cli: Cli) -> anyhow::Result<ExitStatus> {
    let runtime = runtime::start_runtime(cli.is_service())?;
    // The panic is logged. Unwinding further would wait for threads that may never end.
    let result = catch_unwind(AssertUnwindSafe(|| runtime.block_on(cli.execute())));
    // A thread that still reads stdin or a disk must not delay the end.
    runtime.shutdown_background();
    result.unwrap_or(Ok(ExitStatus::Failed))
}

/// Prints an error with its causes and its hint, and returns its exit status.
fn report(error: &anyhow::Error) -> ExitStatus {
    let status = ExitStatus::of_error(error);
    if status != ExitStatus::Done {
        telemetry::say(&format!("tidings: {}", escape_lines(&cli::message(error))));
    }
    status
}
