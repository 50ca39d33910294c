//! Finds the watch of a job by its id and its kind.
//!
//! The id alone is the key of a job of the default kind. Another kind may become the default one: the
//! watches of before keep their keys, and the name of the kind in a watch decides.

use crate::{
    model::job::{JobId, Kind},
    store::{
        StoreError, Watch,
        records::{JobEntry, JobKey},
    },
};

/// What is known of a job of one kind.
pub(in crate::store) struct IdentifiedJob {
    /// Its key, or the one that its watch would get.
    pub(in crate::store) key: JobKey,
    /// Its kind, as its watch records or would record it.
    pub(in crate::store) kind: Option<Kind>,
    pub(in crate::store) entry: Option<JobEntry>,
    pub(in crate::store) watch: Option<Watch>,
}

/// Finds what is known of a job. `read` returns the entry at a key, and the watch that it leads to.
pub(in crate::store) fn identify(
    source: &str,
    job_id: &JobId,
    kind: Option<&Kind>,
    mut read: impl FnMut(&JobKey) -> Result<(Option<JobEntry>, Option<Watch>), StoreError>,
) -> Result<IdentifiedJob, StoreError> {
    let plain = JobKey::new(source, job_id, None);
    let Some(kind) = kind else {
        let (entry, watch) = read(&plain)?;
        return Ok(IdentifiedJob { key: plain, kind: None, entry, watch });
    };
    let own = JobKey { kind: Some(kind.name.clone()), ..plain.clone() };
    let order = if kind.is_default { [&plain, &own] } else { [&own, &plain] };
    let (mut first, mut is_taken) = (None, false);
    for (at, key) in order.into_iter().enumerate() {
        let (entry, watch) = match read(key) {
            // A damaged record at the other key is that of another job, as far as anybody can tell.
            Err(StoreError::Record(_)) if at > 0 => (Some(JobEntry::Watch(0)), None),
            read => read?,
        };
        let is_plain = key.kind.is_none();
        if let Some(watch) = watch {
            let is_its = watch.kind.as_ref().map_or(kind.is_default, |known| known.name == kind.name);
            if is_its {
                let kind = watch.kind.clone().or_else(|| Some(kind.clone()));
                return Ok(IdentifiedJob { key: key.clone(), kind, entry, watch: Some(watch) });
            }
            is_taken |= is_plain;
        } else if at == 0 || (matches!(entry, Some(JobEntry::Dropped(_))) && first.is_none()) {
            let is_known = !is_plain || kind.is_default;
            first = first.or(entry.filter(|_| is_known).map(|entry| (key.clone(), entry)));
        }
    }
    let key = if kind.is_default && !is_taken { plain } else { own };
    let (key, entry) = match first {
        // The tombstone of a job that comes back is at its key.
        Some((known, entry)) if known == key || matches!(entry, JobEntry::Dropped(_)) => (known, Some(entry)),
        _ => (key, None),
    };
    let kind = Kind { name: kind.name.clone(), is_default: key.kind.is_none() };
    Ok(IdentifiedJob { key, kind: Some(kind), entry, watch: None })
}
