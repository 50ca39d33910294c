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

    /// Returns what happened and the way out, for a process that cannot begin.
    pub(super) fn with_way_out(&self) -> String {
        let text = self.to_string();
        match self.way_out(&text) {
            Some(hint) if !text.contains("\nhint: ") => format!("{text}\nhint: {hint}"),
            _ => text,
        }
    }

    fn way_out(&self, text: &str) -> Option<&'static str> {
        let Some(code) = self.code() else {
            let (_, hint) = WAYS_OUT.iter().find(|(sign, _)| text.contains(sign))?;
            return Some(hint);
        };
        match code.code() {
            "28P01" => Some("correct the user and the password in store.url or store.url_file"),
            "28000" => Some(
                "name a role that may log in in store.url or store.url_file, and allow it in the pg_hba.conf of the server",
            ),
            "3D000" => Some(
                "make it: CREATE DATABASE name OWNER user; or name another one in store.url or store.url_file",
            ),
            "42501" => Some("the user must own the database: ALTER DATABASE name OWNER TO user"),
            _ => None,
        }
    }

    pub(super) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Refused { code, .. } => code.as_ref(),
            Self::Away(_) | Self::Silent | Self::Changed => None,
        }
    }
}

/// Words of errors that the server did not send, and the way out of each.
const WAYS_OUT: [(&str, &str); 12] = [
    (
        "UnknownIssuer",
        "name the file with the authority that signed the certificate of the server: sslrootcert=FILE in store.url",
    ),
    ("certificate not valid for name", NAME),
    ("NotValidForName", NAME),
    ("certificate expired", "renew the certificate of the server, or correct the clock of this machine"),
    ("Expired", "renew the certificate of the server, or correct the clock of this machine"),
    ("server does not support TLS", "set `ssl = on` at the server, or write sslmode=prefer in store.url"),
    ("CertificateRequired", "name the certificate of the daemon: sslcert=FILE and sslkey=FILE in store.url"),
    ("error performing TLS handshake", "check sslmode, sslrootcert, sslcert and sslkey in store.url"),
    (
        "cannot be read",
        "sslrootcert, sslcert and sslkey in store.url name files in PEM that tidings may read",
    ),
    ("password missing", "write the password into the URL: postgres://USER:PASSWORD@HOST/DATABASE"),
    ("invalid configuration", "correct store.url or store.url_file"),
    (
        "authentication error",
        "let the server ask for a password with scram-sha-256 or md5, in its pg_hba.conf",
    ),
];

const NAME: &str =
    "write the host in store.url as the certificate of the server has it, or write sslmode=verify-ca";

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_start_comes_with_the_way_out() {
        let coded = |code: SqlState| Fault::Refused { code: Some(code), reason: "no".to_owned() };
        for (fault, expected) in [
            (coded(SqlState::INVALID_PASSWORD), "the user and the password"),
            (coded(SqlState::INVALID_AUTHORIZATION_SPECIFICATION), "pg_hba.conf"),
            (coded(SqlState::INVALID_CATALOG_NAME), "CREATE DATABASE"),
            (coded(SqlState::INSUFFICIENT_PRIVILEGE), "ALTER DATABASE"),
            (
                Fault::refused("error performing TLS handshake: invalid peer certificate: UnknownIssuer"),
                "sslrootcert=FILE",
            ),
            (
                Fault::refused(
                    "error performing TLS handshake: invalid peer certificate: certificate not valid for name \"db\"",
                ),
                "sslmode=verify-ca",
            ),
            (Fault::refused("error performing TLS handshake: server does not support TLS"), "ssl = on"),
            (Fault::refused("/nonexistent cannot be read: No such file or directory"), "files in PEM"),
            (Fault::refused("invalid configuration: password missing"), "USER:PASSWORD"),
        ] {
            let text = fault.with_way_out();
            let (reason, hint) = text.split_once("\nhint: ").unwrap();
            assert_eq!(reason, fault.to_string());
            assert!(hint.contains(expected), "{text}");
        }
        let known = "its schema\nhint: give tidings a database of its own";
        assert_eq!(Fault::refused(known).with_way_out(), known);
    }
}
