//! What can go wrong with a database that another process serves.

use std::fmt;

use tokio_postgres::error::SqlState;

use crate::store::StoreError;

/// Why a statement or a connection failed.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The database cannot be reached, or went away. It may be back at any time.
    Away(String),
    /// The same, and it took all of the time to find out: a new connection would hear nothing either.
    Silent,
    /// The database answered, and refused.
    Refused { code: Option<SqlState>, reason: String },
    /// Somebody else changed what was read.
    Changed,
}

impl Fault {
    pub(super) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { code: None, reason: reason.into() }
    }

    pub(super) const fn is_away(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Silent)
    }

    /// Whether it is worth while to try again at once: a connection died, and a new one may be had.
    pub(super) const fn may_be_the_connection(&self) -> bool {
        matches!(self, Self::Away(_))
    }

    /// Whether the database may do later what it refused: it has no room, takes no writes, or another session is in the way.
    pub(super) fn may_pass(&self) -> bool {
        let code = self.code().map(SqlState::code).unwrap_or_default();
        ["53", "40", "55"].iter().any(|class| code.starts_with(class)) || matches!(code, "25006" | "57014")
    }

    pub(super) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Refused { code, .. } => code.as_ref(),
            Self::Away(_) | Self::Silent | Self::Changed => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(reason) | Self::Refused { reason, .. } => f.write_str(reason),
            Self::Silent => f.write_str("no answer in time"),
            Self::Changed => f.write_str("somebody else changed its records meanwhile"),
        }
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(from_server) = error.as_db_error() else {
            let reason = chain(&error);
            // The library hides the kinds of its errors, but not their words.
            let is_wrong =
                ["error performing TLS handshake", "invalid configuration", "authentication error"]
                    .iter()
                    .any(|start| reason.starts_with(start));
            return match is_wrong {
                true => Self::Refused { code: None, reason },
                false => Self::Away(reason),
            };
        };
        let (code, reason) = (from_server.code(), from_server.message().to_owned());
        match is_passing(code) {
            true => Self::Away(reason),
            false => Self::Refused { code: Some(code.clone()), reason },
        }
    }
}

/// Whether an error ends the connection, or refuses one, for a while: a shutdown, a start, a crash, no free place.
fn is_passing(code: &SqlState) -> bool {
    let code = code.code();
    code.starts_with("57P") || code.starts_with("08") || matches!(code, "53300" | "25P03" | "XX000" | "58000")
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        let reason = fault.to_string();
        match fault.code().map(SqlState::code) {
            Some("53100" | "53400") => Self::Full(format!("the database has no room: {reason}")),
            // A standby, or one whose operator stopped its writes.
            Some("25006") => Self::ReadOnly(format!("the database takes no writes: {reason}")),
            _ if fault.is_away() => Self::Unavailable(format!("the database cannot be reached: {reason}")),
            _ => Self::Unavailable(format!("the database refused: {reason}")),
        }
    }
}
