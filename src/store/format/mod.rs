//! Format 1: the keys and values of all records, on disk in sled and in every export.

pub(super) mod codec;
pub(super) mod keys;

#[cfg(test)]
mod roundtrip;

use data_encoding::HEXLOWER;
use std::collections::BTreeMap;

use super::{BodyPlace, Delivery, Event, StoreError, StoredJob, Watch, records::Effects};

/// The size of a part of what was learned, in bytes: values over 128 KB would become files of their own.
const PART: usize = 64 << 10;

/// Keys with the values to write, and `None` for those to delete.
pub(super) type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The keys and values of `effects`.
pub(super) fn writes(effects: Effects) -> Result<Writes, StoreError> {
    let mut writes = Writes::new();
    for (number, watch) in effects.watches {
        writes.insert(keys::watch(number), watch.map(|watch| codec::encode(&watch)).transpose()?);
    }
    for (number, event) in effects.events {
        writes.insert(keys::event(number), event.map(|event| codec::encode(&event)).transpose()?);
    }
    for (key, delivery) in effects.deliveries {
        let value = delivery.map(|delivery| codec::encode(&delivery)).transpose()?;
        writes.insert(keys::delivery(keys::DELIVERY, key), value);
    }
    for (key, pending) in effects.pending {
        writes.insert(keys::delivery(keys::PENDING, key), pending.as_ref().map(codec::encode_pending));
    }
    for (job, entry) in effects.jobs {
        writes.insert(keys::id(&job), entry.map(codec::encode_job_entry));
    }
    let marker = |set: Option<()>| set.map(|()| Vec::new());
    writes.extend(effects.dropped.into_iter().map(|((at, job), set)| (keys::dropped(at, &job), marker(set))));
    writes.extend(effects.open.into_iter().map(|(number, set)| (keys::open(number), marker(set))));
    writes
        .extend(effects.closed.into_iter().map(|((at, watch), set)| (keys::closed(at, watch), marker(set))));
    for (number, left) in effects.segments {
        writes.insert(keys::segment(number), left.map(codec::encode_segment));
    }
    for (sink, since) in effects.paused {
        writes.insert(keys::paused(&sink), since.map(|since| since.0.to_be_bytes().to_vec()));
    }
    for (source, bytes) in effects.learned {
        for (part, bytes) in (0..).zip(bytes.unwrap_or_default().chunks(PART)) {
            writes.insert(keys::curves_part(&source, part), Some(bytes.to_vec()));
        }
    }
    if let Some(next) = effects.next_number {
        writes.insert(keys::NEXT.to_vec(), Some(next.to_be_bytes().to_vec()));
    }
    if let Some(mark) = effects.clock_mark {
        writes.insert(keys::CLOCK.to_vec(), Some(codec::encode(&mark)?));
    }
    Ok(writes)
}

/// A record as exports have it: without the place of a small body, which is a file there. `None` when it is no part of an
/// export.
pub(super) fn exported(key: &[u8], value: Vec<u8>) -> Result<Option<Vec<u8>>, StoreError> {
    let is_there = |job: &Option<StoredJob>| job.as_ref().is_some_and(|job| job.at.is_some());
    match key.first() {
        Some(&keys::SEGMENT) => return Ok(None),
        Some(&keys::WATCH) => {
            if let Ok(mut watch) = codec::decode::<Watch>(&value)
                && let Some(completion) = watch.completion.as_mut().filter(|end| is_there(&end.job))
            {
                completion.job.iter_mut().for_each(|job| job.at = None);
                return codec::encode(&watch).map(Some);
            }
        }
        Some(&keys::EVENT) => {
            if let Ok(mut event) = codec::decode::<Event>(&value)
                && let Some(job) = event.news.job_mut().filter(|job| job.at.is_some())
            {
                job.at = None;
                return codec::encode(&event).map(Some);
            }
        }
        _ => {}
    }
    Ok(Some(value))
}

/// The place of the small body that the record of an event names.
pub(super) fn place_in(key: &[u8], value: &[u8]) -> Option<BodyPlace> {
    let event = codec::decode::<Event>(value).ok().filter(|_| key.first() == Some(&keys::EVENT))?;
    event.news.job()?.at
}

/// Whether the value of a key is the record that the key names.
pub(super) fn is_readable(key: &[u8], value: &[u8]) -> bool {
    match key.first() {
        Some(&keys::WATCH) => codec::decode::<Watch>(value).is_ok(),
        Some(&keys::EVENT) => codec::decode::<Event>(value).is_ok(),
        Some(&keys::DELIVERY) => codec::decode::<Delivery>(value).is_ok(),
        _ => true,
    }
}

/// A key as `w:0000000000000007`: its prefix, and the rest in hexadecimal.
pub(super) fn shown(key: &[u8]) -> String {
    let (prefix, rest) = key.split_first().map_or((b'?', key), |(prefix, rest)| (*prefix, rest));
    format!("{}:{}", char::from(prefix), HEXLOWER.encode(rest))
}
