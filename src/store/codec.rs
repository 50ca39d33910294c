//! Records as bytes: one version byte, then JSON.
//!
//! JSON because a record can be read by a person in trouble, and because fields can be added without a new
//! version: a missing field takes its default, an unknown one is passed over. A change that this cannot carry
//! takes the next version, and [`decode`] learns to lift the old one.

use serde::{Serialize, de::DeserializeOwned};

use super::StoreError;

/// The version that is written.
const VERSION: u8 = 1;

pub(super) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, record).map_err(|error| StoreError::Record(error.to_string()))?;
    Ok(bytes)
}

/// The JSON of a record in the present version.
pub(super) fn json(bytes: &[u8]) -> Option<&[u8]> {
    bytes.split_first().filter(|(version, _)| **version == VERSION).map(|(_, json)| json)
}

/// A record of this JSON.
pub(super) fn versioned(json: &str) -> Vec<u8> {
    [&[VERSION], json.as_bytes()].concat()
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
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
