//! Records as bytes: one version byte, then JSON.
//!
//! JSON because a record can be read by a person, and because fields can be added without a new
//! version: a missing field takes its default, an unknown one is passed over. A change that this cannot carry
//! takes the next version, and [`decode`] learns to lift the old one.

use serde::{Serialize, de::DeserializeOwned};

use super::keys;
use crate::{
    store::{
        SegmentUse, StoreError,
        records::{JobEntry, Pending},
    },
    util::units::Time,
};

/// The version that is written.
const VERSION: u8 = 1;

pub(in crate::store) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, record).map_err(|error| StoreError::Record(error.to_string()))?;
    Ok(bytes)
}

/// The JSON of a record in the present version.
pub(in crate::store) fn json(bytes: &[u8]) -> Option<&[u8]> {
    bytes.split_first().filter(|(version, _)| **version == VERSION).map(|(_, json)| json)
}

/// A record of this JSON.
pub(in crate::store) fn versioned(json: &str) -> Vec<u8> {
    [&[VERSION], json.as_bytes()].concat()
}

pub(in crate::store) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&VERSION, json)) => {
            serde_json::from_slice(json).map_err(|error| StoreError::Record(error.to_string()))
        }
        Some((version, _)) => Err(StoreError::Record(format!(
            "it has format {version}, and this version of tidings reads format {VERSION}; use the newer version that wrote it"
        ))),
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
