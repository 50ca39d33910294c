//! Groups: joined, closed, and finished with one event.

use super::put_pending;
use crate::{
    model::{
        group::{GroupName, MemberEnd},
        job::group_event_id,
    },
    store::{
        BodyPlace, Delivery, DeliveryKey, Event, Group, GroupEnd, GroupRef, News, StoreError, StoredJob,
        Topic, Watch,
        records::{JobKey, Txn},
    },
    util::units::Time,
};

/// Whether a watch may belong to the group that a caller named.
pub(super) enum Joined {
    /// It does.
    Group(GroupRef),
    /// It belongs to this other group.
    Other(GroupName),
    /// The group is closed, and the job is none of its members.
    Closed,
}

/// Finds the group with this name for a job, or makes it. `watch` is the one that the job has already.
pub(super) fn join(
    txn: &mut Txn<'_>,
    watch: Option<&Watch>,
    job: &JobKey,
    name: &GroupName,
    now: Time,
) -> Result<Joined, StoreError> {
    // A group that retention dropped binds nobody.
    if let Some(present) = watch.and_then(|watch| watch.group.as_deref())
        && txn.group(present.number)?.is_some()
    {
        return Ok(match present.name == *name {
            true => Joined::Group(present.clone()),
            false => Joined::Other(present.name.clone()),
        });
    }
    let group = match txn.group_named(name)? {
        Some(group) if group.closed_at.is_some() && txn.member(group.number, job)?.is_none() => {
            return Ok(Joined::Closed);
        }
        Some(group) => group,
        None => {
            let group = Group::new(txn.next_number()?, name.clone(), now);
            txn.put_group(None, group.clone());
            group
        }
    };
    Ok(Joined::Group(GroupRef { number: group.number, name: group.name }))
}

/// Ends the growth of a group. Returns it and whether it was open; `None` when there is none.
pub(in crate::store) fn close(
    txn: &mut Txn<'_>,
    name: &GroupName,
    now: Time,
) -> Result<Option<(Group, bool)>, StoreError> {
    let Some(old) = txn.group_named(name)? else { return Ok(None) };
    if old.closed_at.is_some() {
        return Ok(Some((old, false)));
    }
    let event_id = group_event_id(name, old.number, now);
    let group = Group { closed_at: Some(now), event_id: Some(event_id), ..old.clone() };
    txn.put_group(Some(&old), group.clone());
    Ok(Some((group, true)))
}

/// Makes the event of a group whose members all ended, with a delivery to each of `sinks`. Returns `false` when the group is not
/// as it was at `revision`, so that the body is another one.
pub(in crate::store) fn finish(
    txn: &mut Txn<'_>,
    (number, revision): (u64, u64),
    (job, at): (StoredJob, Option<BodyPlace>),
    sinks: &[String],
    now: Time,
) -> Result<bool, StoreError> {
    let Some(old) = txn.group(number)?.filter(|group| group.is_due() && group.revision == revision) else {
        return Ok(false);
    };
    let Some(event_id) = old.event_id.clone() else { return Ok(false) };
    let job = StoredJob { at: at.or(job.at), ..job };
    let topic = Topic::Group(GroupRef { number, name: old.name.clone() });
    let news = News::Group(GroupEnd { event_id, finished_at: now, job });
    let event = put_jobless(txn, Event::jobless(topic, news, now), sinks, now)?;
    txn.put_group(Some(&old), Group { event: Some(event), finished_at: Some(now), ..old.clone() });
    Ok(true)
}

/// Writes an event that is about no job, with a pending delivery to each of `sinks`. Returns its number.
pub(super) fn put_jobless(
    txn: &mut Txn<'_>,
    event: Event,
    sinks: &[String],
    now: Time,
) -> Result<u64, StoreError> {
    let number = txn.next_number()?;
    for sink in sinks {
        let key = DeliveryKey::new(number, event.news.event_id(), sink);
        txn.expect_no_delivery(key);
        put_pending(txn, key, Delivery::new(&event, sink, now))?;
    }
    let closed_at = sinks.is_empty().then_some(now);
    txn.put_event(number, Event { closed_at, ..event })?;
    Ok(number)
}

/// Counts a member as removed whose watch cannot be read.
pub(super) fn forget_member(txn: &mut Txn<'_>, group: u64, job: &JobKey) -> Result<(), StoreError> {
    match txn.member(group, job)? {
        Some(member) if member.end.is_none() => {
            let end = (member.kind, Some(MemberEnd::Removed), None);
            txn.set_member(group, job.clone(), None, end)
        }
        _ => Ok(()),
    }
}
