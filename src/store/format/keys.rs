//! The keys of the one tree, so that any set of records changes in one atomic batch.
//!
//! | prefix | key | value |
//! | --- | --- | --- |
//! | `m` | name | sentinel, counters, counts |
//! | `i` | source, NUL, job id, and NUL and its kind if that is not the default one | the watch's number, or when it was dropped |
//! | `o` | watch number | an open [`Watch`](crate::store::Watch); nothing if it is large or of format 1, and then at `w` |
//! | `w` | watch number | a finished [`Watch`](crate::store::Watch), or an open one that is not at `o` |
//! | `g` | group number | [`Group`](crate::store::Group) |
//! | `n` | name of a group | its number |
//! | `k` | group number, source, NUL, job id | [`Member`](crate::store::Member) |
//! | `u` | group number | nothing: the event of the group is to be made |
//! | `e` | event number | [`Event`](crate::store::Event) |
//! | `d` | event number, tag of the sink | [`Delivery`](crate::store::Delivery) |
//! | `q` | the same | due time and sink: the delivery is pending |
//! | `r` | closing time, number of a watch, or of an event about no job | nothing: it is finished |
//! | `c` | source, NUL, part | a part of what was learned of the source's jobs |
//! | `a` | `sink:` or `source:`, name | [`NoticeState`](crate::store::NoticeState) |
//! | `l` | source, NUL, list | how far a list of the source was read |
//! | `s` | name of a sink | since when it is paused |
//! | `b` | segment number | how many bodies events need of it, and their bytes |
//! | `t` | dropping time, and the rest of an `i` key | nothing: remembered for its `410` |

use crate::{
    model::{group::GroupName, job::JobId},
    store::{
        DeliveryKey,
        records::{JobKey, ListKey},
    },
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
pub(in crate::store) const LIST: u8 = b'l';
pub(in crate::store) const DROPPED: u8 = b't';
pub(in crate::store) const SEGMENT: u8 = b'b';
pub(in crate::store) const GROUP: u8 = b'g';
pub(in crate::store) const GROUP_NAME: u8 = b'n';
pub(in crate::store) const MEMBER: u8 = b'k';
pub(in crate::store) const DUE_GROUP: u8 = b'u';
pub(in crate::store) const NOTICE: u8 = b'a';

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

pub(in crate::store) fn group(number: u64) -> Vec<u8> {
    numbered(GROUP, number)
}

pub(in crate::store) fn due_group(number: u64) -> Vec<u8> {
    numbered(DUE_GROUP, number)
}

pub(in crate::store) fn group_name(name: &GroupName) -> Vec<u8> {
    [&[GROUP_NAME], name.as_str().as_bytes()].concat()
}

/// The name of an `n` key.
pub(in crate::store) fn group_name_of(key: &[u8]) -> Option<GroupName> {
    std::str::from_utf8(key.get(1..)?).ok()?.parse().ok()
}

pub(in crate::store) fn member(group: u64, job: &JobKey) -> Vec<u8> {
    let mut key = numbered(MEMBER, group);
    push_id(&mut key, job);
    key
}

/// The group and the job of a `k` key.
pub(in crate::store) fn member_of(key: &[u8]) -> Option<(u64, JobKey)> {
    let (group, id) = key.get(1..)?.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*group), job_of(id)?))
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
    String::from_utf8_lossy(key.get(1..).unwrap_or_default()).replace('\0', "/")
}

fn push_id(key: &mut Vec<u8>, job: &JobKey) {
    // None of them may hold a control character, so NUL separates them for certain.
    key.extend_from_slice(job.source.as_bytes());
    key.push(0);
    key.extend_from_slice(job.job_id.as_str().as_bytes());
    if let Some(kind) = &job.kind {
        key.push(0);
        key.extend_from_slice(kind.as_bytes());
    }
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

pub(in crate::store) fn notice(subject: &str) -> Vec<u8> {
    [&[NOTICE], subject.as_bytes()].concat()
}

/// The first key of what was learned of a source's jobs; parts follow in order.
pub(in crate::store) fn curves(source: &str) -> Vec<u8> {
    [&[CURVES], source.as_bytes(), &[0]].concat()
}

pub(in crate::store) fn curves_part(source: &str, part: u16) -> Vec<u8> {
    [curves(source).as_slice(), &part.to_be_bytes()].concat()
}

pub(in crate::store) fn list_mark(list: &ListKey) -> Vec<u8> {
    [&[LIST], list.source.as_bytes(), &[0], list.list.as_bytes()].concat()
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

/// What every `i` key of a job with this id begins with when its kind is not the default one.
pub(in crate::store) fn other_kinds(source: &str, job_id: &JobId) -> Vec<u8> {
    [&[ID], source.as_bytes(), &[0], job_id.as_str().as_bytes(), &[0]].concat()
}

/// What every `i` key of a job of this source begins with whose id begins like this.
pub(in crate::store) fn ids(source: &str, prefix: &str) -> Vec<u8> {
    [&[ID], source.as_bytes(), &[0], prefix.as_bytes()].concat()
}

/// The job of an `i` key.
pub(in crate::store) fn job_of_id(key: &[u8]) -> Option<JobKey> {
    job_of(key.get(1..)?)
}

/// Reads what [`push_id`] wrote.
fn job_of(id: &[u8]) -> Option<JobKey> {
    let (source, id) = std::str::from_utf8(id).ok()?.split_once('\0')?;
    let (job_id, kind) = id.split_once('\0').map_or((id, None), |(id, kind)| (id, Some(kind.to_owned())));
    Some(JobKey { source: source.to_owned(), job_id: job_id.parse().ok()?, kind })
}

/// The time and the job of a `t` key.
pub(in crate::store) fn dropped_of(key: &[u8]) -> Option<(Time, JobKey)> {
    let (at, id) = key.get(1..)?.split_first_chunk::<8>()?;
    Some((Time(i64::from_be_bytes(*at)), job_of(id)?))
}

/// The time and the number of an `r` key.
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
