//! The keys of the one tree, so that any set of records changes in one atomic batch.
//!
//! | prefix | key | value |
//! | --- | --- | --- |
//! | `m` | name | sentinel, counters, counts |
//! | `i` | source, NUL, job id | the watch's number, or when it was dropped |
//! | `o` | watch number | an open [`Watch`](crate::store::Watch); nothing if it is large or of format 1, and then at `w` |
//! | `w` | watch number | a finished [`Watch`](crate::store::Watch), or an open one that is not at `o` |
//! | `e` | event number | [`Event`](crate::store::Event) |
//! | `d` | event number, tag of the sink | [`Delivery`](crate::store::Delivery) |
//! | `q` | the same | due time and sink: the delivery is pending |
//! | `r` | closing time, watch number | nothing: the watch is finished |
//! | `c` | source, NUL, part | a part of what was learned of the source's jobs |
//! | `s` | name of a sink | since when it is paused |
//! | `b` | segment number | how many bodies events need of it, and their bytes |
//! | `t` | dropping time, source, NUL, job id | nothing: remembered for its `410` |

use crate::{
    model::job::JobId,
    store::{DeliveryKey, records::JobKey},
    util::units::Time,
};

pub(in crate::store) const ID: u8 = b'i';
pub(in crate::store) const WATCH: u8 = b'w';
pub(in crate::store) const OPEN: u8 = b'o';
pub(in crate::store) const EVENT: u8 = b'e';
pub(in crate::store) const DELIVERY: u8 = b'd';
pub(in crate::store) const PENDING: u8 = b'q';
pub(in crate::store) const CLOSED: u8 = b'r';
pub(in crate::store) const CURVES: u8 = b'c';
pub(in crate::store) const PAUSED: u8 = b's';
pub(in crate::store) const DROPPED: u8 = b't';
pub(in crate::store) const SEGMENT: u8 = b'b';

/// Random at creation and repeated in the marker beside the database.
pub(in crate::store) const SENTINEL: &[u8] = b"msentinel";
/// The next number of a watch or an event.
pub(in crate::store) const NEXT: &[u8] = b"mnext";
/// Which clock stamps the records.
pub(in crate::store) const CLOCK: &[u8] = b"mclock";
/// The records whose loss nothing else would show: what is followed and what waits to be delivered. Each with the key of how
/// many there are, which is written in the same batch.
pub(in crate::store) const COUNTED: [(u8, &[u8], &str); 2] =
    [(OPEN, b"mopen", "open watches"), (PENDING, b"mpending", "pending deliveries")];

/// A number behind its prefix.
pub(in crate::store) fn numbered(prefix: u8, number: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(9);
    key.push(prefix);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

pub(in crate::store) fn watch(number: u64) -> Vec<u8> {
    numbered(WATCH, number)
}

pub(in crate::store) fn open(number: u64) -> Vec<u8> {
    numbered(OPEN, number)
}

pub(in crate::store) fn event(number: u64) -> Vec<u8> {
    numbered(EVENT, number)
}

pub(in crate::store) fn segment(number: u64) -> Vec<u8> {
    numbered(SEGMENT, number)
}

/// The stored key of a delivery, or of its entry.
pub(in crate::store) fn delivery(prefix: u8, key: DeliveryKey) -> Vec<u8> {
    [&[prefix], key.to_bytes().as_slice()].concat()
}

/// Reads the key back from a stored key of either prefix.
pub(in crate::store) fn delivery_of(key: &[u8]) -> Option<DeliveryKey> {
    DeliveryKey::from_bytes(key.get(1..)?)
}

/// The number that a stored key ends with.
pub(in crate::store) fn number_of(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

pub(in crate::store) fn id(job: &JobKey) -> Vec<u8> {
    let mut key = vec![ID];
    push_id(&mut key, job);
    key
}

/// The source and the job of an `i` key, for display.
pub(in crate::store) fn source_and_job(key: &[u8]) -> String {
    String::from_utf8_lossy(key.get(1..).unwrap_or_default()).replacen('\0', "/", 1)
}

fn push_id(key: &mut Vec<u8>, job: &JobKey) {
    // Neither may hold a control character, so NUL separates them for certain.
    key.extend_from_slice(job.source.as_bytes());
    key.push(0);
    key.extend_from_slice(job.job_id.as_str().as_bytes());
}

/// Times before 1970 would sort behind all others; nothing here is that old.
fn time_bytes(time: Time) -> [u8; 8] {
    u64::try_from(time.0).unwrap_or(0).to_be_bytes()
}

/// A time as it is stored alone.
pub(in crate::store) fn time_of(value: &[u8]) -> Option<Time> {
    value.try_into().ok().map(|bytes| Time(i64::from_be_bytes(bytes)))
}

pub(in crate::store) fn paused(sink: &str) -> Vec<u8> {
    [&[PAUSED], sink.as_bytes()].concat()
}

/// The first key of what was learned of a source's jobs; parts follow in order.
pub(in crate::store) fn curves(source: &str) -> Vec<u8> {
    [&[CURVES], source.as_bytes(), &[0]].concat()
}

pub(in crate::store) fn curves_part(source: &str, part: u16) -> Vec<u8> {
    [curves(source).as_slice(), &part.to_be_bytes()].concat()
}

pub(in crate::store) fn closed(at: Time, watch: u64) -> Vec<u8> {
    let mut key = numbered(CLOSED, 0);
    key[1..].copy_from_slice(&time_bytes(at));
    key.extend_from_slice(&watch.to_be_bytes());
    key
}

pub(in crate::store) fn dropped(at: Time, job: &JobKey) -> Vec<u8> {
    let mut key = vec![DROPPED];
    key.extend_from_slice(&time_bytes(at));
    push_id(&mut key, job);
    key
}

/// The time and the job of a `t` key.
pub(in crate::store) fn dropped_of(key: &[u8]) -> Option<(Time, JobKey)> {
    let (at, id) = key.get(1..)?.split_first_chunk::<8>()?;
    let (source, job_id) = std::str::from_utf8(id).ok()?.split_once('\0')?;
    let job_id: JobId = job_id.parse().ok()?;
    Some((Time(i64::from_be_bytes(*at)), JobKey::new(source, &job_id)))
}

/// The time and the watch's number of an `r` key.
pub(in crate::store) fn closed_of(key: &[u8]) -> Option<(Time, u64)> {
    let (at, number) = key.get(1..)?.split_first_chunk::<8>()?;
    Some((Time(i64::from_be_bytes(*at)), number_of(number)?))
}

/// The first key of `prefix` that is not older than `time`.
pub(in crate::store) fn before(prefix: u8, time: Time) -> Vec<u8> {
    let mut key = vec![prefix];
    key.extend_from_slice(&time_bytes(time));
    key
}
