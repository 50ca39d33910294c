//! A whole store as text, and back: for backups, for moving, and for going back to an older version.
//!
//! One JSON object a line. First a header; then every record in the order of its key, an open watch behind the key that says so, those that are JSON as
//! they are; then
//! every stored job with its bytes in base64; last the counts and a SHA-256 of all lines before, without which it is not whole.
//! Memory is bounded by the largest record, and eight bytes a watch. Callback secrets are among it.

mod export;
mod import;

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{OpenError, StoreError};

pub use export::Export;
pub use import::import;
pub(super) use import::{Pieces, Target, fill, write_job};

/// The newest format, with groups and events that are about no job. It is written when there are any.
const FORMAT: u32 = 2;

/// The format of the first version, which is written otherwise.
const FIRST_FORMAT: u32 = 1;

/// Why an export could not be made or taken.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file, or a folder.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is no export, or not all of one.
    #[error("line {line}: {reason}")]
    Line {
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// There is something already.
    #[error("{} is not empty; name a folder that does not exist yet, or move this one away", .0.display())]
    Taken(PathBuf),
    /// There is a store in the database already.
    #[error("the database {0} holds a store already\nhint: name one that is empty")]
    TakenDatabase(String),
    /// The database cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// What was written or taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Records.
    pub records: u64,
    /// Stored jobs.
    pub jobs: u64,
    /// Records that no version can read; they are exported as they are.
    pub unreadable: u64,
    /// Stored jobs that records tell of, and whose bytes are gone from their segment or damaged.
    pub lost: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Line {
    /// The first.
    TidingsExport { format: u32, version: String },
    /// A record of JSON.
    Record { key: String, json: Box<RawValue> },
    /// Another one.
    Bytes { key: String, base64: String },
    /// A stored job; its bytes follow.
    Job { file: String, size: u64 },
    /// The next bytes of it.
    Data(String),
    /// The last.
    End { records: u64, jobs: u64, sha256: String },
}
