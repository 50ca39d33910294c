//! Records as bytes: one version byte, then JSON.
//!
//! JSON because a record can be read by a person, and because fields can be added without a new
//! version: a missing field takes its default, an unknown one is passed over. Watches are many, so most of them have
//! [`compact`] fields instead, as version 2. A change that neither can carry takes the next version, and [`decode`] learns
//! to lift the old ones.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{compact, keys};
use crate::{
    store::{
        ClockMark, Delivery, Event, Group, ListMark, Member, NoticeState, SegmentUse, StoreError, Watch,
        records::{JobEntry, Pending},
    },
    util::units::Time,
};

/// The version of JSON.
const VERSION: u8 = 1;

/// A record that has a version byte.
pub(in crate::store) trait Record: DeserializeOwned {
    /// Reads what a version other than JSON holds. `None`: this record has no such version.
    fn of_version(_version: u8, _bytes: &[u8]) -> Option<Result<Self, StoreError>> {
        None
    }
}

impl Record for Watch {
    fn of_version(version: u8, bytes: &[u8]) -> Option<Result<Self, StoreError>> {
        (version == compact::VERSION).then(|| compact::decode(bytes))
    }
}

impl Record for Group {}
impl Record for Member {}
impl Record for NoticeState {}
impl Record for Event {}
impl Record for Delivery {}
impl Record for ClockMark {}
impl Record for ListMark {}

/// The part of an event that names its watch.
#[derive(Deserialize)]
pub(in crate::store) struct Owned {
    pub(in crate::store) watch: u64,
}

impl Record for Owned {}

/// The value of a watch.
pub(in crate::store) fn encode_watch(watch: &Watch) -> Result<Vec<u8>, StoreError> {
    compact::encode(watch).map_or_else(|| encode(watch), Ok)
}

pub(in crate::store) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, record).map_err(|error| StoreError::Record(error.to_string()))?;
    Ok(bytes)
}

/// The JSON of a record that is JSON.
pub(in crate::store) fn json(bytes: &[u8]) -> Option<&[u8]> {
    bytes.split_first().filter(|(version, _)| **version == VERSION).map(|(_, json)| json)
}

/// The value of a watch as version 1 of the format has it: as JSON.
pub(in crate::store) fn watch_as_json(bytes: &[u8]) -> Option<Vec<u8>> {
    match json(bytes) {
        Some(_) => Some(bytes.to_vec()),
        None => encode(&decode::<Watch>(bytes).ok()?).ok(),
    }
}

/// A record of this JSON.
pub(in crate::store) fn versioned(json: &str) -> Vec<u8> {
    [&[VERSION], json.as_bytes()].concat()
}

pub(in crate::store) fn decode<T: Record>(bytes: &[u8]) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&VERSION, json)) => {
            serde_json::from_slice(json).map_err(|error| StoreError::Record(error.to_string()))
        }
        Some((version, rest)) => T::of_version(*version, rest).unwrap_or_else(|| {
            Err(StoreError::Record(format!(
                "it has format {version}, which this version of tidings does not read; use the newer version that wrote it"
            )))
        }),
        None => Err(StoreError::Record("it is empty".to_owned())),
    }
}

/// The value of an `i` key.
pub(in crate::store) fn encode_job_entry(entry: JobEntry) -> Vec<u8> {
    match entry {
        JobEntry::Watch(number) => [b"+".as_slice(), &number.to_be_bytes()].concat(),
        JobEntry::Dropped(at) => [b"-".as_slice(), &at.0.to_be_bytes()].concat(),
    }
}

/// Reads the value of an `i` key.
pub(in crate::store) fn job_entry(value: &[u8]) -> Result<JobEntry, StoreError> {
    match value {
        [b'+', number @ ..] => match keys::number_of(number) {
            Some(number) => Ok(JobEntry::Watch(number)),
            None => Err(StoreError::Record("an index entry has no number".to_owned())),
        },
        _ => Ok(JobEntry::Dropped(value.get(1..).and_then(keys::time_of).unwrap_or(Time(0)))),
    }
}

/// The value of a `q` key.
pub(in crate::store) fn encode_pending(pending: &Pending) -> Vec<u8> {
    [&pending.due.0.to_be_bytes(), pending.sink.as_bytes()].concat()
}

/// Reads the value of a `q` key. The sink's name is there even if the delivery cannot be read.
pub(in crate::store) fn pending(value: &[u8]) -> Option<Pending> {
    let (due, sink) = value.split_first_chunk::<8>()?;
    let sink = String::from_utf8_lossy(sink).into_owned();
    Some(Pending { due: Time(i64::from_be_bytes(*due)), sink })
}

/// The value of a `b` key.
pub(in crate::store) fn encode_segment(left: SegmentUse) -> Vec<u8> {
    [left.bodies.to_be_bytes(), left.bytes.to_be_bytes()].concat()
}

/// Reads the value of a `b` key.
pub(in crate::store) fn segment(value: &[u8]) -> Option<SegmentUse> {
    let (bodies, bytes) = value.split_first_chunk::<8>()?;
    let (bodies, bytes) = (u64::from_be_bytes(*bodies), u64::from_be_bytes(bytes.try_into().ok()?));
    Some(SegmentUse { bodies, bytes })
}
