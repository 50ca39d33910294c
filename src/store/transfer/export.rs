//! The whole store as text, as it is at one instant: of a daemon that runs, too.

use data_encoding::HEXLOWER;
use std::io::{self, Read as _, Write};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use super::{FIRST_FORMAT, FORMAT, Line, TransferError, Transferred};
use crate::{
    store::{
        BodyEntry, BodyPlace, BodyReader, Store, StoreError, StoredBody,
        backend::Snapshot,
        bodies::Pin,
        format::{as_first_format, codec, exported, is_readable, keys, place_in, shown},
        records::{Records, Selection},
    },
    util::units::Time,
};

/// Bytes of a stored job in one line.
const CHUNK: usize = 48 << 10;

struct Output<'a> {
    to: &'a mut dyn Write,
    hash: Sha256,
}

impl Output<'_> {
    fn line(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.hash.update(&text);
        self.to.write_all(&text)
    }
}

/// An export that has begun: it shows the store as it is now, whatever changes until it is written. Bodies that are
/// removed meanwhile stay until it ends.
pub struct Export {
    store: Store,
    snapshot: Box<dyn Snapshot>,
    _bodies: Bodies,
}

/// Keeps the bodies that the snapshot tells of.
struct Bodies {
    store: Store,
    pin: Pin,
}

impl Drop for Bodies {
    fn drop(&mut self) {
        if self.pin.let_go()
            && let Err(error) = self.store.sweep_now()
        {
            tracing::warn!(%error, "stored jobs that were kept for an export could not be removed; the next start does");
        }
    }
}

impl Store {
    /// Begins an export; `None` while another one is being written.
    #[must_use]
    pub fn begin_export(&self) -> Option<Export> {
        // The bodies first: what the snapshot tells of must not go in between.
        let bodies = Bodies { store: self.clone(), pin: self.bodies().pin()? };
        let snapshot = self.backend.snapshot();
        Some(Export { store: self.clone(), snapshot, _bodies: bodies })
    }

    /// Writes everything to `to`, as it is now.
    ///
    /// # Errors
    /// When it cannot be read or written, or another export is being written.
    pub fn export(&self, to: &mut dyn Write) -> Result<Transferred, TransferError> {
        let busy = || StoreError::Unavailable("another export is being written".to_owned());
        self.begin_export().ok_or_else(busy)?.write(to)
    }
}

impl Export {
    /// Writes everything to `to`, in bounded memory but for eight bytes a watch or group and sixteen a small body.
    ///
    /// # Errors
    /// When it cannot be read or written, or more changes meanwhile than can be kept.
    pub fn write(self, to: &mut dyn Write) -> Result<Transferred, TransferError> {
        let Self { store, mut snapshot, _bodies } = self;
        let mut out = Output { to, hash: Sha256::new() };
        let mut done = Transferred::default();
        let format = store.read(transfer_format)?;
        out.line(&Line::TidingsExport { format, version: env!("CARGO_PKG_VERSION").to_owned() })?;
        // The watches and groups, under whose numbers the bodies are stored.
        let mut owners: Vec<u64> = Vec::new();
        let mut small: Vec<BodyPlace> = Vec::new();
        loop {
            let records = snapshot.next()?;
            if records.is_empty() {
                break;
            }
            for (key, value) in records.into_iter().flat_map(|(key, value)| as_first_format(key, value)) {
                if matches!(key.first(), Some(&(keys::WATCH | keys::GROUP))) {
                    owners.extend(keys::number_of(&key));
                }
                small.extend(place_in(&key, &value));
                done.unreadable += u64::from(!is_readable(&key, &value));
                let Some(value) = exported(&key, value)? else { continue };
                out.line(&record(&key, &value))?;
                done.records += 1;
            }
        }
        // So that they can be searched.
        owners.sort_unstable();
        // The bodies need no old values to be kept.
        drop(snapshot);
        store.bodies().each(|entry| {
            // One that nothing refers to is on its way out, or its watch came after the snapshot.
            if owners.binary_search(&entry.watch).is_ok() {
                let body = store.bodies().listed(&entry);
                done.jobs += u64::from(job(&mut out, &entry.file_name(), body.read())?);
            }
            Ok::<_, TransferError>(())
        })?;
        small.sort_unstable();
        small.dedup();
        for place in small {
            let Some(segments) = store.bodies().segments() else { break };
            let (frame, bytes) = match segments.frame(place) {
                Ok(body) => body,
                Err(error) if is_lost(&error) => {
                    done.lost += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let name =
                BodyEntry { watch: frame.watch, event_id: frame.event_id, size: frame.size }.file_name();
            let body = StoredBody::in_memory(Some(bytes)).read();
            done.jobs += u64::from(job(&mut out, &name, body)?);
        }
        let sha256 = HEXLOWER.encode(&out.hash.clone().finalize());
        out.line(&Line::End { records: done.records, jobs: done.jobs, sha256 })?;
        out.to.flush()?;
        Ok(done)
    }
}

/// The lowest format that has what is stored, so that an earlier version takes what it knows, and refuses the rest. The snapshot
/// was begun before, so it holds nothing that is not there now.
fn transfer_format(records: &dyn Records) -> Result<u32, StoreError> {
    let has_groups = records.groups(None).next().transpose()?.is_some();
    let has_notices = records.notices().next().transpose()?.is_some();
    Ok(if has_groups || has_notices || has_kinds(records)? { FORMAT } else { FIRST_FORMAT })
}

/// Whether there is a job that its id alone does not name, or was one.
fn has_kinds(records: &dyn Records) -> Result<bool, StoreError> {
    for watch in records.watches(Selection::All, None) {
        if watch?.1.and_then(|watch| watch.kind).is_some_and(|kind| !kind.is_default) {
            return Ok(true);
        }
    }
    for dropped in records.dropped(Time::MAX) {
        if dropped?.1.kind.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the bytes of a stored job are gone, and not only out of reach.
fn is_lost(error: &io::Error) -> bool {
    let lost = [io::ErrorKind::NotFound, io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
    lost.contains(&error.kind())
}

fn record(key: &[u8], value: &[u8]) -> Line {
    let is_json = matches!(
        key.first(),
        Some(&(keys::WATCH | keys::EVENT | keys::DELIVERY | keys::GROUP | keys::MEMBER | keys::NOTICE))
    );
    let json = codec::json(value).filter(|_| is_json).and_then(|json| serde_json::from_slice(json).ok());
    match json {
        Some(json) => Line::Record { key: shown(key), json },
        None => Line::Bytes { key: shown(key), base64: STANDARD.encode(value) },
    }
}

/// Writes a stored job. Returns `false` when it was replaced or removed a moment ago.
fn job(out: &mut Output<'_>, file: &str, body: io::Result<BodyReader>) -> io::Result<bool> {
    let mut body = match body {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        body => body?,
    };
    out.line(&Line::Job { file: file.to_owned(), size: body.size() })?;
    let mut chunk = Vec::with_capacity(CHUNK);
    loop {
        chunk.clear();
        if (&mut body).take(CHUNK as u64).read_to_end(&mut chunk)? == 0 {
            return Ok(true);
        }
        out.line(&Line::Data(STANDARD.encode(&chunk)))?;
    }
}
