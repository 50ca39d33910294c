//! The keys of the one tree, so that any set of records changes in one atomic batch.
//!
//! | prefix | key | value |
//! | --- | --- | --- |
//! | `m` | name | sentinel, counters, counts |
//! | `i` | source, NUL, job id | the watch's number, or when it was dropped |
//! | `w` | watch number | [`Watch`](super::Watch) |
//! | `o` | watch number | nothing: the watch is being followed |
//! | `e` | event number | [`Event`](super::Event) |
//! | `d` | event number, tag of the sink | [`Delivery`](super::Delivery) |
//! | `q` | the same | due time and sink: the delivery is pending |
//! | `r` | closing time, watch number | nothing: the watch is finished |
//! | `c` | source, NUL, part | a part of what was learned of the source's jobs |
//! | `s` | name of a sink | since when it is paused |
//! | `t` | dropping time, source, NUL, job id | nothing: remembered for its `410` |

use data_encoding::BASE32_NOPAD;
use sha2::{Digest as _, Sha256};

use crate::{model::job::JobId, util::units::Time};

pub(super) const ID: u8 = b'i';
pub(super) const WATCH: u8 = b'w';
pub(super) const OPEN: u8 = b'o';
pub(super) const EVENT: u8 = b'e';
pub(super) const DELIVERY: u8 = b'd';
pub(super) const PENDING: u8 = b'q';
pub(super) const CLOSED: u8 = b'r';
pub(super) const CURVES: u8 = b'c';
pub(super) const PAUSED: u8 = b's';
pub(super) const DROPPED: u8 = b't';

/// Random at creation and repeated in the marker beside the database.
pub(super) const SENTINEL: &[u8] = b"msentinel";
/// The next number of a watch or an event.
pub(super) const NEXT: &[u8] = b"mnext";
/// Which clock stamps the records.
pub(super) const CLOCK: &[u8] = b"mclock";
/// The records whose loss nothing else would show: what is followed and what waits to be delivered. Each with the key of how
/// many there are, which is written in the same batch.
pub(super) const COUNTED: [(u8, &[u8], &str); 2] =
    [(OPEN, b"mopen", "open watches"), (PENDING, b"mpending", "pending deliveries")];

/// A delivery's key: the event it carries and a tag of the sink it goes to. Its public id spells it out,
/// so finding a delivery by id needs no index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey {
    /// The event's number.
    pub event: u64,
    /// The first bytes of SHA-256 over the event's id and the sink's name.
    pub tag: [u8; 8],
}

impl DeliveryKey {
    /// The key of an event's delivery to `sink`.
    #[must_use]
    pub fn new(event: u64, event_id: &str, sink: &str) -> Self {
        let digest = Sha256::new().chain_update(event_id).chain_update([0]).chain_update(sink).finalize();
        let mut tag = [0; 8];
        tag.copy_from_slice(&digest[..8]);
        Self { event, tag }
    }

    /// The public id, `dlv_…`.
    #[must_use]
    pub fn id(&self) -> String {
        let mut bytes = self.event.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.tag);
        format!("dlv_{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }

    /// Reads a public id; `None` when it is none.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        let text = id.strip_prefix("dlv_")?.to_ascii_uppercase();
        Self::from_bytes(&BASE32_NOPAD.decode(text.as_bytes()).ok()?)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (event, tag) = bytes.split_first_chunk::<8>()?;
        Some(Self { event: u64::from_be_bytes(*event), tag: tag.try_into().ok()? })
    }

    /// Reads the key back from a stored key of either prefix.
    pub(super) fn of_stored(key: &[u8]) -> Option<Self> {
        Self::from_bytes(key.get(1..)?)
    }

    pub(super) fn key(&self, prefix: u8) -> Vec<u8> {
        let mut key = vec![prefix];
        key.extend_from_slice(&self.event.to_be_bytes());
        key.extend_from_slice(&self.tag);
        key
    }
}

/// A number behind its prefix.
pub(super) fn numbered(prefix: u8, number: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(9);
    key.push(prefix);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

pub(super) fn watch(number: u64) -> Vec<u8> {
    numbered(WATCH, number)
}

pub(super) fn open(number: u64) -> Vec<u8> {
    numbered(OPEN, number)
}

pub(super) fn event(number: u64) -> Vec<u8> {
    numbered(EVENT, number)
}

pub(super) fn deliveries_of(event: u64) -> Vec<u8> {
    numbered(DELIVERY, event)
}

/// The number that a stored key ends with.
pub(super) fn number_of(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

pub(super) fn id(source: &str, job_id: &JobId) -> Vec<u8> {
    let mut key = vec![ID];
    push_id(&mut key, source, job_id);
    key
}

/// The source and the job of an `i` key, for display.
pub(super) fn source_and_job(key: &[u8]) -> String {
    String::from_utf8_lossy(key.get(1..).unwrap_or_default()).replacen('\0', "/", 1)
}

fn push_id(key: &mut Vec<u8>, source: &str, job_id: &JobId) {
    // Neither may hold a control character, so NUL separates them for certain.
    key.extend_from_slice(source.as_bytes());
    key.push(0);
    key.extend_from_slice(job_id.as_str().as_bytes());
}

/// Times before 1970 would sort behind all others; nothing here is that old.
fn time_bytes(time: Time) -> [u8; 8] {
    u64::try_from(time.0).unwrap_or(0).to_be_bytes()
}

/// A time as it is stored alone.
pub(super) fn time_of(value: &[u8]) -> Option<Time> {
    value.try_into().ok().map(|bytes| Time(i64::from_be_bytes(bytes)))
}

pub(super) fn paused(sink: &str) -> Vec<u8> {
    [&[PAUSED], sink.as_bytes()].concat()
}

/// The first key of what was learned of a source's jobs; parts follow in order.
pub(super) fn curves(source: &str) -> Vec<u8> {
    [&[CURVES], source.as_bytes(), &[0]].concat()
}

pub(super) fn curves_part(source: &str, part: u16) -> Vec<u8> {
    [curves(source).as_slice(), &part.to_be_bytes()].concat()
}

pub(super) fn closed(at: Time, watch: u64) -> Vec<u8> {
    let mut key = numbered(CLOSED, 0);
    key[1..].copy_from_slice(&time_bytes(at));
    key.extend_from_slice(&watch.to_be_bytes());
    key
}

pub(super) fn dropped(at: Time, source: &str, job_id: &JobId) -> Vec<u8> {
    let mut key = vec![DROPPED];
    key.extend_from_slice(&time_bytes(at));
    push_id(&mut key, source, job_id);
    key
}

/// The `i` key that a `t` key remembers.
pub(super) fn id_of_dropped(key: &[u8]) -> Option<Vec<u8>> {
    let mut id = vec![ID];
    id.extend_from_slice(key.get(9..)?);
    Some(id)
}

/// The first key of `prefix` that is not older than `time`.
pub(super) fn before(prefix: u8, time: Time) -> Vec<u8> {
    let mut key = vec![prefix];
    key.extend_from_slice(&time_bytes(time));
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_id_spells_its_key() {
        let key = DeliveryKey::new(7, "evt_abc", "app");
        assert_eq!(DeliveryKey::parse(&key.id()), Some(key));
        assert_eq!(DeliveryKey::of_stored(&key.key(DELIVERY)), Some(key));
        assert_ne!(key, DeliveryKey::new(7, "evt_abc", "archive"));
        for bad in ["", "dlv_", "dlv_!!", "evt_aaaa", &key.id()[..20]] {
            assert_eq!(DeliveryKey::parse(bad), None, "{bad}");
        }
    }
}
