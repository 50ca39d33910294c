//! How the process ends: exit statuses, and the errors that have one of their own.

use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use crate::model::job::{Outcome, Phase};
use crate::{api::view::WatchView, model::delivery::DeliveryState};

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
    /// What the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Of two results the one to end with: a failure says that not all is known, and outweighs the others.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        if self == Self::Failed || other == Self::Failed { Self::Failed } else { self.max(other) }
    }

    /// The status with this number; a failure for one that has no meaning.
    #[must_use]
    pub const fn of_code(code: u8) -> Self {
        match code {
            0 => Self::Done,
            2 => Self::Usage,
            3 => Self::NotCompleted,
            4 => Self::DeadLetter,
            _ => Self::Failed,
        }
    }

    /// The status that an error ends the process with.
    #[must_use]
    pub fn of_error(error: &anyhow::Error) -> Self {
        if error.chain().any(reader_is_gone) {
            Self::Done
        } else if error.chain().any(<dyn std::error::Error>::is::<BadUsage>) {
            Self::Usage
        } else {
            Self::Failed
        }
    }

    /// The status of a watch that ended. Of several watches the greatest counts: a dead letter outweighs
    /// an outcome that is not `completed`.
    #[must_use]
    pub fn of_watch(watch: &WatchView) -> Self {
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

/// What was asked for makes no sense; the process ends with [`ExitStatus::Usage`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadUsage(pub String);

/// Whoever read our output has seen enough, as `head` does. That is no failure of ours.
#[derive(Debug)]
struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads the output any more")
    }
}

impl std::error::Error for ReaderGone {}

/// Whether `cause` says that our reader went away. A broken pipe alone does not: a connection to the
/// daemon can break in the same way.
fn reader_is_gone(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<ReaderGone>)
}

/// Standard output that tells a reader who left from every other failure, so that `tidings list | head`
/// ends quietly.
#[derive(Debug)]
pub struct Output<W>(pub W);

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
        let error = anyhow::Error::new(BadUsage("no".to_owned())).context("while reading flags");
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
