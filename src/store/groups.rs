//! Groups: closed, finished, found and listed.

use super::{
    Group, Listing, Member, NewBody, Store, StoreError,
    records::{JobKey, passed_over},
    rules::{
        groups,
        registration::{self, Registered, Registration},
    },
};
use crate::{model::group::GroupName, util::units::Time};

/// Groups whose events are made in one go.
const MAX_DUE: usize = 100;

/// Members that one write of retention drops, so that callers never wait long behind it.
pub(super) const MAX_MEMBERS: usize = 500;

impl Store {
    /// Registers as [`register`](Self::register) does, and closes the groups that the registrations name, in the same commit.
    /// When one of them is refused, no group is closed. Returns the names of those that are closed.
    ///
    /// # Errors
    /// See [`register`](Self::register).
    pub async fn register_and_close(
        &self,
        registrations: Vec<Registration>,
        now: Time,
    ) -> Result<(Vec<Registered>, Vec<GroupName>), StoreError> {
        let mut names: Vec<_> = registrations.iter().filter_map(|one| one.group.clone()).collect();
        names.sort_unstable();
        names.dedup();
        self.write(move |txn| {
            let registered = registration::register_all(txn, registrations, now)?;
            if registered.iter().any(Registered::is_refusal) {
                return Ok((registered, Vec::new()));
            }
            for name in &names {
                groups::close(txn, name, now)?;
                txn.end_operation()?;
            }
            Ok((registered, names))
        })
        .await
    }

    /// Ends the growth of a group. Returns it and whether it was open until now; `None` when there is none of this name.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn close_group(
        &self,
        name: &GroupName,
        now: Time,
    ) -> Result<Option<(Group, bool)>, StoreError> {
        let name = name.clone();
        self.write(move |txn| groups::close(txn, &name, now)).await
    }

    /// Makes the event of a group that is closed and whose members all ended, with a delivery to each of `sinks`. `body` tells of
    /// the group as it was at `revision`. Returns `false` when it has changed since.
    pub async fn finish_group(
        &self,
        (number, revision): (u64, u64),
        body: &NewBody,
        sinks: &[String],
        now: Time,
    ) -> bool {
        self.write_until_durable_with(body.small.as_ref(), || {
            let (job, sinks) = (body.job.clone(), sinks.to_vec());
            move |txn, places| {
                groups::finish(txn, (number, revision), (job, places.first().copied()), &sinks, now)
            }
        })
        .await
    }

    /// Returns the group with this name.
    ///
    /// # Errors
    /// When the store cannot be read, and [`StoreError::Record`] when the record of this group alone cannot.
    pub async fn group(&self, name: &GroupName) -> Result<Option<Group>, StoreError> {
        let name = name.clone();
        self.get(move |records| match records.group_named(&name)? {
            Some(number) => records.group(number),
            None => Ok(None),
        })
        .await
    }

    /// Returns groups behind this name, by their names, and the name to go on from.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn groups(
        &self,
        after: Option<GroupName>,
        limit: usize,
    ) -> Result<Listing<Group, GroupName>, StoreError> {
        self.scan(move |records| {
            let mut listing = Listing { entries: Vec::new(), next: None };
            for entry in records.groups(after.as_ref()) {
                let (name, group) = entry?;
                listing.entries.extend(group);
                if listing.entries.len() == limit {
                    listing.next = Some(name);
                    break;
                }
            }
            Ok(listing)
        })
        .await
    }

    /// Returns the groups whose event is to be made: a bounded number, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn due_groups(&self) -> Result<Vec<Group>, StoreError> {
        self.scan(|records| {
            let mut due = Vec::new();
            for number in records.due_groups().take(MAX_DUE) {
                due.extend(passed_over(records.group(number?))?);
            }
            Ok(due)
        })
        .await
    }

    /// Returns the members of a group behind this job, by source and id, and the job to go on from.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn members(
        &self,
        group: u64,
        after: Option<MemberKey>,
        limit: usize,
    ) -> Result<Listing<Member, MemberKey>, StoreError> {
        self.scan(move |records| {
            let mut listing = Listing { entries: Vec::new(), next: None };
            let after = after.as_ref().map(|MemberKey(job)| job);
            for entry in records.members(group, after) {
                let (job, member) = entry?;
                listing.entries.extend(member);
                if listing.entries.len() == limit {
                    listing.next = Some(MemberKey(job));
                    break;
                }
            }
            Ok(listing)
        })
        .await
    }

    /// Drops the members of a group, a bounded number a write.
    pub(super) async fn drop_members(&self, group: u64) -> Result<(), StoreError> {
        loop {
            let members = self.scan(move |records| {
                let jobs = records.members(group, None).take(MAX_MEMBERS);
                jobs.map(|entry| entry.map(|(job, _)| job)).collect::<Result<Vec<_>, _>>()
            });
            let members = members.await?;
            if members.is_empty() {
                return Ok(());
            }
            self.write(move |txn| {
                for job in members {
                    txn.delete_member(group, job);
                    txn.end_operation()?;
                }
                Ok(())
            })
            .await?;
        }
    }
}

/// The place of a member in the list of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberKey(JobKey);

impl MemberKey {
    /// Returns the place as text, for the cursor of a page.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        super::format::keys::member(0, &self.0)
    }

    /// Reads the place back. Returns `None` if the bytes are none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        super::format::keys::member_of(bytes).map(|(_, job)| Self(job))
    }
}
