//! Exit statuses, and the errors that have a status of their own.

use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use super::client::ClientError;
use crate::{
    api::view::WatchView,
    app::StartError,
    model::{
        delivery::DeliveryState,
        job::{Outcome, Phase},
    },
    store::{OpenError, TransferError},
};

/// The exit statuses of every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ExitStatus {
    /// Done.
    Done = 0,
    /// A failure at run time.
    Failed = 1,
    /// Bad usage or bad configuration; nothing was started.
    Usage = 2,
    /// Every job ended, but some outcome is not `completed`.
    NotCompleted = 3,
    /// Every job ended, and a delivery became a dead letter.
    DeadLetter = 4,
}

impl ExitStatus {
    #[must_use]
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// Returns the status of two results together. A failure outweighs the others: some results are unknown.
    #[must_use]
    pub(crate) fn worse(self, other: Self) -> Self {
        if self == Self::Failed || other == Self::Failed { Self::Failed } else { self.max(other) }
    }

    /// Returns the status that an error ends the process with.
    #[must_use]
    pub fn of_error(error: &anyhow::Error) -> Self {
        if error.chain().any(reader_is_gone) {
            Self::Done
        } else if error.chain().any(is_bad_usage) {
            Self::Usage
        } else {
            Self::Failed
        }
    }

    /// Returns the status of a finished watch. Of several watches the greatest counts: a dead letter outweighs an outcome that
    /// is not `completed`.
    #[must_use]
    pub(crate) fn of_watch(watch: &WatchView) -> Self {
        let dead = watch.deliveries.iter().any(|delivery| delivery.state == DeliveryState::Dead);
        if dead || watch.phase == Phase::Dead {
            Self::DeadLetter
        } else if watch.outcome == Some(Outcome::Completed) {
            Self::Done
        } else {
            Self::NotCompleted
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

/// A mistake in the command line or the configuration; the process ends with [`ExitStatus::Usage`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct BadUsage {
    text: String,
    hint: Option<String>,
}

impl BadUsage {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), hint: None }
    }

    /// Adds a way out, which names the flag or the key that is meant.
    #[must_use]
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Adds a way out if there is one.
    #[must_use]
    pub(crate) fn maybe_hint(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }
}

/// Returns the message of an error with its causes, and the way out on a line of its own: `hint: …`.
#[must_use]
pub fn message(error: &anyhow::Error) -> String {
    let hint = error.chain().find_map(|cause| {
        let usage = cause.downcast_ref::<BadUsage>().and_then(|error| error.hint.as_deref());
        usage.or_else(|| cause.downcast_ref::<ClientError>().and_then(ClientError::hint))
    });
    match hint {
        Some(hint) => format!("{error:#}\nhint: {hint}"),
        None => format!("{error:#}"),
    }
}

/// Whether `cause` is a mistake of the caller: found here, or by the daemon in a command that did not ask for the sources.
fn is_bad_usage(cause: &(dyn std::error::Error + 'static)) -> bool {
    let is_wrong_database = |error: &OpenError| {
        matches!(error, OpenError::Database { .. } | OpenError::Held { .. } | OpenError::Bodies { .. })
    };
    cause.is::<BadUsage>()
        || cause
            .downcast_ref()
            .is_some_and(|error| ClientError::misses_source(error) || matches!(error, ClientError::Token))
        || cause.downcast_ref().is_some_and(is_wrong_database)
        || cause
            .downcast_ref()
            .is_some_and(|error| matches!(error, StartError::Store(error) if is_wrong_database(error)))
        || cause
            .downcast_ref()
            .is_some_and(|error| matches!(error, TransferError::Open(error) if is_wrong_database(error)))
}

/// The reader of our output has seen enough, as `head` does. The command has not failed.
#[derive(Debug)]
struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reader of the output is gone")
    }
}

impl std::error::Error for ReaderGone {}

/// Whether `cause` is a reader that went away. A broken pipe alone is not enough: a connection to the daemon can break in the
/// same way.
fn reader_is_gone(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<ReaderGone>)
}

/// Standard output that marks the failure of a reader who left, so that `tidings list | head` ends quietly.
#[derive(Debug)]
pub(crate) struct Output<W>(pub(crate) W);

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(name_broken_pipe)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(name_broken_pipe)
    }
}

fn name_broken_pipe(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::BrokenPipe { io::Error::other(ReaderGone) } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_who_left_is_no_failure_but_a_broken_connection_is() {
        let closed = writeln!(Output(Closed), "hello").unwrap_err();
        let error = anyhow::Error::new(closed).context("while printing");
        assert_eq!(ExitStatus::of_error(&error), ExitStatus::Done);

        let network = anyhow::Error::new(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(ExitStatus::of_error(&network), ExitStatus::Failed);
    }

    #[test]
    fn bad_usage_is_found_below_its_context() {
        let error = anyhow::Error::new(BadUsage::new("no")).context("while reading flags");
        assert_eq!(ExitStatus::of_error(&error), ExitStatus::Usage);
        assert_eq!(ExitStatus::of_error(&anyhow::anyhow!("boom")), ExitStatus::Failed);
    }

    #[test]
    fn a_dead_letter_outweighs_an_outcome() {
        assert!(ExitStatus::DeadLetter > ExitStatus::NotCompleted);
        assert!(ExitStatus::NotCompleted > ExitStatus::Done);
        assert_eq!(ExitStatus::DeadLetter.code(), 4);
        assert_eq!(ExitStatus::NotCompleted.code(), 3);
    }
}
