//! Checks whether a whole store holds together, record by record.

use data_encoding::HEXLOWER;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use sha2::{Digest as _, Sha256};

use super::{Found, Pairs, below, place_of};
use crate::{
    model::delivery::DeliveryState,
    store::{
        Bodies, BodyEntry, Delivery, Event, Group, Member, SegmentUse, StoreError, StoreProblem, StoredBody,
        StoredJob, Topic, Watch, WatchStage,
        format::{
            codec::{self, Record},
            keys, shown,
        },
        records::{JobKey, Membership, WatchEntries},
    },
};

/// Checks whether every record can be read and agrees with the others. With `hashes` it reads every stored job, too. It
/// changes nothing.
pub(in crate::store) fn check<P: Pairs>(
    pairs: &P,
    bodies: &Bodies,
    hashes: bool,
) -> Result<Vec<StoreProblem>, StoreError> {
    let mut check = Check { bodies, hashes, problems: Vec::new() };
    check.watches(pairs)?;
    check.ids(pairs)?;
    check.groups(pairs)?;
    check.events(pairs)?;
    check.deliveries(pairs)?;
    check.indexes(pairs)?;
    for BodyEntry { watch: number, event_id, size } in bodies.entries()? {
        if place_of(pairs, number)?.is_none() && !pairs.contains(&keys::group(number))? {
            let name = bodies.shown(number, &event_id, size, None);
            check.problem(&name, "belongs to no watch and no group; the next start removes it");
        }
    }
    Ok(check.problems)
}

struct Check<'a> {
    bodies: &'a Bodies,
    hashes: bool,
    problems: Vec<StoreProblem>,
}

impl Check<'_> {
    fn problem(&mut self, at: &str, what: impl Into<String>) {
        self.problems.push(StoreProblem { at: at.to_owned(), what: what.into() });
    }

    fn decoded<T: Record>(&mut self, key: &[u8], value: &[u8]) -> Option<T> {
        let reason = match codec::decode(value) {
            Ok(record) => return Some(record),
            Err(StoreError::Record(reason)) => reason,
            Err(error) => error.to_string(),
        };
        self.problem(&shown(key), format!("cannot be read: {reason}"));
        None
    }

    /// Names the jobs whose watches cannot be found by their ids, or cannot be read.
    fn ids<P: Pairs>(&mut self, db: &P) -> Result<(), StoreError> {
        for entry in db.ascending(below([keys::ID])) {
            let (key, value) = entry?;
            let at = keys::source_and_job(&key);
            let Some(value) = value.strip_prefix(b"+") else {
                if !value.starts_with(b"-") {
                    self.problem(&at, "has an index entry that cannot be read; `tidings unwatch` removes it");
                }
                continue;
            };
            let Some(number) = keys::number_of(value) else {
                self.problem(&at, "has an index entry that cannot be read; `tidings unwatch` removes it");
                continue;
            };
            match place_of(db, number)?.map(|(_, bytes)| bytes) {
                Some(bytes) if codec::decode::<Watch>(&bytes).is_err() => {
                    let what =
                        format!("is watch {number}, which cannot be read; `tidings unwatch` removes it");
                    self.problem(&at, what);
                }
                Some(_) => {}
                None => self.problem(&at, format!("is watch {number}, which is missing")),
            }
        }
        Ok(())
    }

    fn watches<P: Pairs>(&mut self, db: &P) -> Result<(), StoreError> {
        // Format 1 has nothing in the key of an open watch.
        let records = |entry: &Found<P>| entry.as_ref().map_or(true, |(_, value)| !value.is_empty());
        let open = db.ascending(below([keys::OPEN])).filter(records);
        for entry in db.ascending(below([keys::WATCH])).chain(open) {
            let (key, value) = entry?;
            let (Some(number), Some(watch)) = (keys::number_of(&key), self.decoded::<Watch>(&key, &value))
            else {
                continue;
            };
            let at = shown(&key);
            let lacks = |this: &mut Self, there: bool, what: &str| {
                if !there {
                    this.problem(&at, format!("of job {} {what}", watch.job_id));
                }
            };
            let index = db.get(&keys::id(&JobKey::of(&watch)))?;
            let named = index.as_deref().and_then(|value| value.strip_prefix(b"+")).and_then(keys::number_of);
            lacks(self, named == Some(number), "is not found by its id: the API does not know it");
            let open = db.contains(&keys::open(number))?;
            lacks(
                self,
                open == (watch.stage != WatchStage::Finished),
                "is open, or not, against its record: it may not be followed",
            );
            if let Some(closed) = watch.closed_at {
                let there = db.contains(&keys::closed(closed, number))?;
                lacks(self, there, "is finished and has no date: retention never drops it");
            }
            self.membership(db, &at, number, &watch)?;
            for event in watch.all_events() {
                let there = db.contains(&keys::event(event))?;
                lacks(self, there, &format!("names event {event}, which is missing"));
            }
            let mut pending = 0;
            for event in watch.all_events() {
                for pair in db.ascending(below(keys::numbered(keys::DELIVERY, event))) {
                    let delivery = codec::decode::<Delivery>(&pair?.1);
                    pending += u32::from(delivery.is_ok_and(|one| one.state == DeliveryState::Pending));
                }
            }
            let counts = format!("counts {} pending deliveries, and there are {pending}", watch.pending);
            lacks(self, pending == watch.pending, &counts);
        }
        Ok(())
    }

    /// Holds what the group of a watch knows of it against its record.
    fn membership<P: Pairs>(
        &mut self,
        db: &P,
        at: &str,
        number: u64,
        watch: &Watch,
    ) -> Result<(), StoreError> {
        let Some(Membership { group, job, end, .. }) = WatchEntries::of(watch).membership else {
            return Ok(());
        };
        let record = db.get(&keys::group(group))?.map(|value| codec::decode::<Group>(&value));
        // After its event a group changes no more, and retention drops it before some of its watches.
        let Some(Ok(Group { event: None, .. })) = record else { return Ok(()) };
        let member =
            db.get(&keys::member(group, &job))?.and_then(|value| codec::decode::<Member>(&value).ok());
        if member.is_none_or(|member| member.end != end.map(|(end, _)| end)) {
            let what =
                format!("of job {} counts in its group otherwise than it is (watch {number})", watch.job_id);
            self.problem(at, what);
        }
        Ok(())
    }

    fn groups<P: Pairs>(&mut self, db: &P) -> Result<(), StoreError> {
        for entry in db.ascending(below([keys::GROUP])) {
            let (key, value) = entry?;
            let (Some(number), Some(group)) = (keys::number_of(&key), self.decoded::<Group>(&key, &value))
            else {
                continue;
            };
            let at = shown(&key);
            let named = db.get(&keys::group_name(&group.name))?.and_then(|value| keys::number_of(&value));
            if named != Some(number) {
                self.problem(&at, format!("group {} is not found by its name", group.name));
            }
            if db.contains(&keys::due_group(number))? != group.is_due() {
                self.problem(
                    &at,
                    format!("group {} waits for its event, or not, against its record", group.name),
                );
            }
            let mut counted = Group::new(number, group.name.clone(), group.created_at);
            for entry in db.ascending(below(keys::numbered(keys::MEMBER, number))) {
                let (key, value) = entry?;
                if let Some(member) = self.decoded::<Member>(&key, &value) {
                    counted.count(None, member.end);
                }
            }
            if (counted.open, &counted.counts) != (group.open, &group.counts) && group.event.is_none() {
                let (open, members) = (counted.open, counted.members());
                let what = format!(
                    "group {} counts {} open of {} members, and there are {open} of {members}",
                    group.name,
                    group.open,
                    group.members()
                );
                self.problem(&at, what);
            }
            if let Some(event) = group.event
                && !db.contains(&keys::event(event))?
            {
                self.problem(&at, format!("group {} names event {event}, which is missing", group.name));
            }
        }
        for pair in db.ascending(below([keys::MEMBER])) {
            let (key, _) = pair?;
            if let Some((group, job)) = keys::member_of(&key)
                && !db.contains(&keys::group(group))?
            {
                let what = format!("is job {} of group {group}, which is missing", job.job_id);
                self.problem(&shown(&key), what);
            }
        }
        Ok(())
    }

    /// Checks what an event is about: its watch or its group is there, and one about no job has a date once it is settled.
    fn topic<P: Pairs>(&mut self, db: &P, key: &[u8], event: &Event) -> Result<(), StoreError> {
        let at = shown(key);
        match &event.topic {
            Topic::Job(job) if place_of(db, job.watch)?.is_none() => {
                self.problem(&at, format!("belongs to watch {}, which is missing", job.watch));
            }
            Topic::Group(group) if !db.contains(&keys::group(group.number))? => {
                self.problem(&at, format!("belongs to group {}, which is missing", group.name));
            }
            Topic::Job(_) | Topic::Group(_) | Topic::Daemon => {}
        }
        let Some(number) = keys::number_of(key).filter(|_| event.topic.job().is_none()) else {
            return Ok(());
        };
        let is_pending = db.ascending(below(keys::numbered(keys::PENDING, number))).next().is_some();
        let has_date = match event.closed_at {
            Some(at) => db.contains(&keys::closed(at, number))?,
            None => false,
        };
        if is_pending == has_date {
            self.problem(&at, "is settled, or not, against its date: retention may never drop it");
        }
        Ok(())
    }

    fn events<P: Pairs>(&mut self, db: &P) -> Result<(), StoreError> {
        let mut needed: BTreeMap<u64, SegmentUse> = BTreeMap::new();
        for entry in db.ascending(below([keys::EVENT])) {
            let (key, value) = entry?;
            let Some(event) = self.decoded::<Event>(&key, &value) else { continue };
            self.topic(db, &key, &event)?;
            if let Some(job) = event.news.job() {
                self.body(event.topic.owner(), event.news.event_id(), job);
                if let Some(at) = job.at {
                    let needed = needed.entry(at.segment).or_default();
                    (needed.bodies, needed.bytes) =
                        (needed.bodies + 1, needed.bytes.saturating_add(job.size));
                }
            }
        }
        self.segments(db, &needed)
    }

    /// Holds the count of each segment against the events that name it.
    fn segments<P: Pairs>(&mut self, db: &P, needed: &BTreeMap<u64, SegmentUse>) -> Result<(), StoreError> {
        let mut counted = BTreeMap::new();
        for entry in db.ascending(below([keys::SEGMENT])) {
            let (key, value) = entry?;
            counted.extend(keys::number_of(&key).zip(codec::segment(&value)));
        }
        let numbers: BTreeSet<u64> = counted.keys().chain(needed.keys()).copied().collect();
        for number in numbers {
            let of = |uses: &BTreeMap<u64, SegmentUse>| uses.get(&number).copied().unwrap_or_default();
            let (counted, needed) = (of(&counted), of(needed));
            // One that counts too many is removed later; an event that could not be read when it was removed still counts.
            if counted.bodies < needed.bodies {
                let shown = self.bodies.shown_segment(number);
                let (counted, needed) = (counted.bodies, needed.bodies);
                let what = format!(
                    "counts {counted} stored jobs, and events name {needed}: it may be removed too early"
                );
                self.problem(&shown, what);
            }
        }
        Ok(())
    }

    /// The stored job of an event.
    fn body(&mut self, watch: u64, event_id: &str, job: &StoredJob) {
        let stored = self.bodies.get(watch, event_id, job);
        let measured = match self.hashes {
            true => digest(&stored).map(|(size, sha256)| (size, sha256 == job.sha256)),
            false => stored.size().map(|size| (size, true)),
        };
        let what = match measured {
            Err(error) => {
                format!("cannot be read ({error}): what waits to be delivered of it fails")
            }
            Ok((size, _)) if size != job.size => format!("has {size} bytes instead of {}", job.size),
            Ok((_, false)) => "has other bytes than were fetched".to_owned(),
            Ok(_) => return,
        };
        let what = format!("the stored job of event {event_id} {what}");
        let shown = self.bodies.shown(watch, event_id, job.size, job.at);
        self.problem(&shown, what);
    }

    fn deliveries<P: Pairs>(&mut self, db: &P) -> Result<(), StoreError> {
        for entry in db.ascending(below([keys::DELIVERY])) {
            let (key, value) = entry?;
            let Some(at) = keys::delivery_of(&key) else { continue };
            let Some(delivery) = self.decoded::<Delivery>(&key, &value) else { continue };
            if !db.contains(&keys::event(at.event))? {
                self.problem(&at.id(), format!("carries event {}, which is missing", at.event));
            }
            if db.contains(&keys::delivery(keys::PENDING, at))? != (delivery.state == DeliveryState::Pending)
            {
                self.problem(&at.id(), "waits, or not, against its record: it may not be attempted");
            }
        }
        Ok(())
    }

    /// What leads to records that are not there.
    fn indexes<P: Pairs>(&mut self, db: &P) -> Result<(), StoreError> {
        for prefix in [keys::OPEN, keys::CLOSED] {
            for pair in db.ascending(below([prefix])) {
                let (key, _) = pair?;
                if let Some(number) = keys::number_of(&key)
                    && place_of(db, number)?.is_none()
                    && !(prefix == keys::CLOSED && db.contains(&keys::event(number))?)
                {
                    self.problem(&shown(&key), format!("leads to watch {number}, which is missing"));
                }
            }
        }
        for pair in db.ascending(below([keys::PENDING])) {
            let (key, _) = pair?;
            if let Some(at) = keys::delivery_of(&key)
                && !db.contains(&keys::delivery(keys::DELIVERY, at))?
            {
                self.problem(&at.id(), "waits, and is missing");
            }
        }
        Ok(())
    }
}

fn digest(body: &StoredBody) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let size = io::copy(&mut body.read()?, &mut hash)?;
    Ok((size, HEXLOWER.encode(&hash.finalize())))
}
