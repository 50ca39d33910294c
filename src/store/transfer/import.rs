//! Makes a store out of an export.

mod folder;

pub(in crate::store) use folder::write_job;

use std::{
    collections::HashSet,
    io::{self, BufRead},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::{FIRST_FORMAT, FORMAT, Line, TransferError, Transferred};
use crate::store::{
    BodyEntry, StoreConfig, StoreKind,
    format::{codec, is_readable, keys, of_first_format},
    postgres,
};

/// The longest line that is read: no record is that large.
const MAX_LINE: u64 = 64 << 20;

/// What is wrong with a file that goes on after its last line.
const AFTER_THE_END: &str = "there is more after the end of the export; the file may hold two exports, as after \
                             `tidings store export - >> FILE`\nhint: put each export into a file of its own, and import \
                             one of them";

/// A store that is made.
pub(in crate::store) trait Target {
    /// Takes a record.
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), TransferError>;

    /// Takes a stored job, whose bytes come in pieces; none after the last.
    fn job(&mut self, job: &BodyEntry, next: Pieces<'_>) -> Result<(), TransferError>;
}

/// The next piece of a stored job.
pub(in crate::store) type Pieces<'a> = &'a mut dyn FnMut() -> Result<Option<Vec<u8>>, TransferError>;

/// Makes the store of an export: in `config.path`, or in a database. It must be empty or missing, and when anything goes wrong
/// nothing is left.
///
/// # Errors
/// See [`TransferError`].
pub fn import(from: &mut dyn BufRead, config: &StoreConfig) -> Result<Transferred, TransferError> {
    match config.kind {
        StoreKind::Sled => folder::import(from, config),
        StoreKind::Postgres => postgres::import(from, config),
    }
}

/// The lines of an export.
struct Lines<'a> {
    from: &'a mut dyn BufRead,
    hash: Sha256,
    /// Of the lines before the last.
    before: Sha256,
    number: u64,
}

impl Lines<'_> {
    fn wrong(&self, reason: impl Into<String>) -> TransferError {
        TransferError::Line { line: self.number, reason: reason.into() }
    }

    fn next(&mut self) -> Result<Line, TransferError> {
        self.number += 1;
        let mut text = Vec::new();
        io::Read::take(&mut *self.from, MAX_LINE).read_until(b'\n', &mut text)?;
        if !text.ends_with(b"\n") {
            return Err(self.wrong("the export ends here; it is not whole"));
        }
        self.before = self.hash.clone();
        self.hash.update(&text);
        serde_json::from_slice(&text)
            .map_err(|error| self.wrong(format!("it is no line of an export: {error}")))
    }

    /// Checks that only white space follows the last line.
    fn end(&mut self) -> Result<(), TransferError> {
        loop {
            self.number += 1;
            let mut text = Vec::new();
            match io::Read::take(&mut *self.from, MAX_LINE).read_until(b'\n', &mut text)? {
                0 => return Ok(()),
                _ if text.iter().all(u8::is_ascii_whitespace) => {}
                _ => return Err(self.wrong(AFTER_THE_END)),
            }
        }
    }
}

/// Reads an export into a store.
pub(in crate::store) fn fill(
    from: &mut dyn BufRead,
    into: &mut dyn Target,
) -> Result<Transferred, TransferError> {
    let mut lines = Lines { from, hash: Sha256::new(), before: Sha256::new(), number: 0 };
    match lines.next()? {
        Line::TidingsExport { format: FIRST_FORMAT..=FORMAT, .. } => {}
        Line::TidingsExport { format, version } => {
            return Err(lines.wrong(format!(
                "it has format {format}, made by tidings {version}; this version reads formats up to {FORMAT}. Use that version"
            )));
        }
        _ => return Err(lines.wrong("it does not begin as an export does")),
    }
    let (mut done, mut open) = (Transferred::default(), HashSet::new());
    loop {
        match lines.next()? {
            Line::TidingsExport { .. } => return Err(lines.wrong("a second header")),
            Line::Record { key, json } => {
                let value = codec::versioned(json.get());
                done.unreadable += u64::from(unshown(&key).is_some_and(|key| !is_readable(&key, &value)));
                put(into, unshown(&key).ok_or_else(|| lines.wrong("its key is none"))?, value, &mut open)?;
                done.records += 1;
            }
            Line::Bytes { key, base64 } => {
                let value = STANDARD.decode(base64).map_err(|error| lines.wrong(error.to_string()))?;
                put(into, unshown(&key).ok_or_else(|| lines.wrong("its key is none"))?, value, &mut open)?;
                done.records += 1;
            }
            Line::Job { file, size } => {
                take_job(&mut lines, into, &file, size)?;
                done.jobs += 1;
            }
            Line::Data(_) => return Err(lines.wrong("bytes that belong to no job")),
            Line::End { records, jobs, sha256 } => {
                let told = (records, jobs) == (done.records, done.jobs);
                if !told || sha256 != HEXLOWER.encode(&lines.before.clone().finalize()) {
                    return Err(lines.wrong("the export was changed, or is not whole"));
                }
                lines.end()?;
                return Ok(done);
            }
        }
    }
}

/// Puts a record in its place. `open` are the open watches, whose keys come before their records.
fn put(
    into: &mut dyn Target,
    key: Vec<u8>,
    value: Vec<u8>,
    open: &mut HashSet<u64>,
) -> Result<(), TransferError> {
    if key.first() == Some(&keys::OPEN) {
        open.extend(keys::number_of(&key));
    }
    let (key, value) = of_first_format(key, value, |number| open.contains(&number))?;
    into.put(key, value)
}

fn take_job(
    lines: &mut Lines<'_>,
    into: &mut dyn Target,
    name: &str,
    size: u64,
) -> Result<(), TransferError> {
    let plain = name.strip_suffix(".json").unwrap_or_default();
    let is_plain = plain.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let parts = plain.split_once('-').filter(|_| is_plain);
    let Some((Ok(watch), event_id)) = parts.map(|(watch, id)| (u64::from_str_radix(watch, 16), id)) else {
        return Err(lines.wrong("that is no name of a stored job"));
    };
    let job = BodyEntry { watch, event_id: event_id.to_owned(), size };
    let mut left = size;
    into.job(&job, &mut || {
        if left == 0 {
            return Ok(None);
        }
        let Line::Data(text) = lines.next()? else {
            return Err(lines.wrong("bytes of a stored job are missing"));
        };
        let bytes = STANDARD.decode(text).map_err(|error| lines.wrong(error.to_string()))?;
        let longer = || lines.wrong("the stored job is longer than it says");
        left = left.checked_sub(bytes.len() as u64).ok_or_else(longer)?;
        Ok(Some(bytes))
    })
}

/// Reads a key that [`shown`](crate::store::format::shown) wrote.
fn unshown(text: &str) -> Option<Vec<u8>> {
    let (prefix, rest) = text.split_once(':')?;
    let [prefix] = prefix.as_bytes() else { return None };
    Some([&[*prefix], HEXLOWER.decode(rest.as_bytes()).ok()?.as_slice()].concat())
}
