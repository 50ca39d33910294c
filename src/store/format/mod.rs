//! The keys and values of all records, on disk in sled. An export has them as format 1 does, where an open watch has its
//! record with those of all watches.

pub(super) mod codec;
mod compact;
pub(super) mod keys;

#[cfg(test)]
mod roundtrip;

use data_encoding::HEXLOWER;
use std::collections::BTreeMap;

use super::{
    BodyPlace, Delivery, Event, Group, Member, NoticeState, StoreError, StoredJob, Watch,
    records::{Effects, WatchEntries},
};

/// The size of a part of what was learned, in bytes: values over 128 KB would become files of their own.
const PART: usize = 64 << 10;

/// The largest record in the key of an open watch. A start reads all of these, and sixteen in one page of sled must stay below
/// the size at which the page becomes a file.
const MAX_OPEN: usize = 4 << 10;

/// Keys with the values to write, and `None` for those to delete.
pub(super) type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The keys and values of `effects`.
pub(super) fn writes(effects: Effects) -> Result<Writes, StoreError> {
    let mut writes = Writes::new();
    for (number, watch) in effects.watches {
        let value = watch.as_ref().map(|watch| codec::encode_watch(watch)).transpose()?;
        let is_open = watch.is_some_and(|watch| WatchEntries::of(&watch).is_open);
        let is_small = value.as_ref().is_some_and(|value| value.len() <= MAX_OPEN);
        let (open, other) = match is_open {
            true if is_small => (value, None),
            true => (Some(Vec::new()), value),
            false => (None, value),
        };
        writes.insert(keys::open(number), open);
        writes.insert(keys::watch(number), other);
    }
    for (number, group) in effects.groups {
        writes.insert(keys::group(number), group.map(|group| codec::encode(&group)).transpose()?);
    }
    for ((group, job), member) in effects.members {
        let value = member.map(|member| codec::encode(&member)).transpose()?;
        writes.insert(keys::member(group, &job), value);
    }
    for (name, number) in effects.group_names {
        writes.insert(keys::group_name(&name), number.map(|number| number.to_be_bytes().to_vec()));
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
    writes
        .extend(effects.closed.into_iter().map(|((at, watch), set)| (keys::closed(at, watch), marker(set))));
    writes.extend(effects.due_groups.into_iter().map(|(group, set)| (keys::due_group(group), marker(set))));
    for (number, left) in effects.segments {
        writes.insert(keys::segment(number), left.map(codec::encode_segment));
    }
    for (sink, since) in effects.paused {
        writes.insert(keys::paused(&sink), since.map(|since| since.0.to_be_bytes().to_vec()));
    }
    for (subject, state) in effects.notices {
        writes.insert(keys::notice(&subject), state.map(|state| codec::encode(&state)).transpose()?);
    }
    for (source, bytes) in effects.learned {
        for (part, bytes) in (0..).zip(bytes.unwrap_or_default().chunks(PART)) {
            writes.insert(keys::curves_part(&source, part), Some(bytes.to_vec()));
        }
    }
    for (list, mark) in effects.list_marks {
        let value = mark.map(|mark| codec::encode(&mark)).transpose()?;
        writes.insert(keys::list_mark(&list), value);
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
        // Format 1 has no value in the key of an open watch.
        Some(&keys::OPEN) if value.is_empty() => true,
        Some(&(keys::WATCH | keys::OPEN)) => codec::decode::<Watch>(value).is_ok(),
        Some(&keys::EVENT) => codec::decode::<Event>(value).is_ok(),
        Some(&keys::DELIVERY) => codec::decode::<Delivery>(value).is_ok(),
        Some(&keys::GROUP) => codec::decode::<Group>(value).is_ok(),
        Some(&keys::MEMBER) => codec::decode::<Member>(value).is_ok(),
        Some(&keys::NOTICE) => codec::decode::<NoticeState>(value).is_ok(),
        _ => true,
    }
}

/// A key as `w:0000000000000007`: its prefix, and the rest in hexadecimal.
pub(super) fn shown(key: &[u8]) -> String {
    let (prefix, rest) = key.split_first().map_or((b'?', key), |(prefix, rest)| (*prefix, rest));
    format!("{}:{}", char::from(prefix), HEXLOWER.encode(rest))
}

/// A record as format 1 has it: the record of an open watch stands with those of all watches, and its key is there, too.
pub(super) fn as_first_format(key: Vec<u8>, value: Vec<u8>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let number = match key.first() {
        Some(&keys::OPEN) if !value.is_empty() => keys::number_of(&key),
        _ => None,
    };
    let Some(number) = number else {
        let is_watch = key.first() == Some(&keys::WATCH);
        let json = is_watch.then(|| codec::watch_as_json(&value)).flatten();
        return vec![(key, json.unwrap_or(value))];
    };
    let record = codec::watch_as_json(&value).unwrap_or(value);
    vec![(key, Vec::new()), (keys::watch(number), record)]
}

/// Where a record of format 1 belongs. `is_open` tells whether the key of an open watch came before.
pub(super) fn of_first_format(
    key: Vec<u8>,
    value: Vec<u8>,
    is_open: impl FnOnce(u64) -> bool,
) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
    let number = keys::number_of(&key).filter(|_| key.first() == Some(&keys::WATCH));
    let Some(number) = number.filter(|number| is_open(*number)) else { return Ok((key, value)) };
    let value = match codec::decode::<Watch>(&value) {
        Ok(watch) => codec::encode_watch(&watch)?,
        Err(_) => value,
    };
    let is_small = !value.is_empty() && value.len() <= MAX_OPEN;
    Ok((if is_small { keys::open(number) } else { key }, value))
}
