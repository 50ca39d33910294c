//! The command `tidings`: arguments, runtime, exit status.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Duration,
};

use clap::Parser as _;
use tidings::{
    app::runtime,
    cli::{Cli, ExitStatus, complete},
    deliver::encode::template,
    telemetry,
    util::{foreign::escape_lines, process},
};

/// How long the end waits for whoever reads the log.
const LAST_LINES: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // Before anything is read or started: a template is rendered in a process of its own.
    if let Some(status) = template::serve() {
        return status;
    }
    process::allow_core_dumps(false);
    complete::answer();
    let cli = Cli::parse();
    let result = if cli.is_service() { serve(cli) } else { execute(cli) };
    let status = result.unwrap_or_else(|error| report(&error));
    telemetry::flush(LAST_LINES);
    status.into()
}

/// A service answers others for a long time: neither its log nor a shortage of the machine may stop it.
fn serve(cli: Cli) -> anyhow::Result<ExitStatus> {
    runtime::prepare_service()?;
    telemetry::log_in_background()?;
    execute(cli)
}

fn execute(cli: Cli) -> anyhow::Result<ExitStatus> {
    let runtime = runtime::start_runtime(cli.is_service())?;
    // The panic has been told; unwinding further would wait for threads that may never end.
    let result = catch_unwind(AssertUnwindSafe(|| runtime.block_on(cli.execute())));
    // A thread that still reads stdin or a disk keeps nobody waiting.
    runtime.shutdown_background();
    result.unwrap_or(Ok(ExitStatus::Failed))
}

/// One message with the chain of causes, and the status it ends with.
fn report(error: &anyhow::Error) -> ExitStatus {
    let status = ExitStatus::of_error(error);
    if status != ExitStatus::Done {
        let text = format!("{error:#}");
        telemetry::say(&format!("tidings: {}", escape_lines(&text)));
    }
    status
}
