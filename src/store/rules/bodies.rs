//! Moves small bodies from one segment to another.

use crate::store::{BodyPlace, StoreError, records::Txn};

/// A body that was copied.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct CopiedBody {
    /// The number of its event.
    pub(in crate::store) event: u64,
    pub(in crate::store) from: BodyPlace,
    pub(in crate::store) to: BodyPlace,
}

/// Records the new place of a body. Returns `false` when its event is gone, or names another place by now.
pub(in crate::store) fn move_body(txn: &mut Txn<'_>, copied: CopiedBody) -> Result<bool, StoreError> {
    let CopiedBody { event: number, from, to } = copied;
    let Some(old) = txn.event(number)? else { return Ok(false) };
    let mut event = old.clone();
    let Some(job) = event.news.job_mut().filter(|job| job.at == Some(from)) else { return Ok(false) };
    job.at = Some(to);
    let watch = event.topic.watch();
    txn.replace_event(number, &old, event)?;
    if let Some(watch) = watch
        && let Some(mut watch) = txn.watch(watch)?
        && let Some(job) = watch.completion.as_mut().and_then(|completion| completion.job.as_mut())
        && job.at == Some(from)
    {
        job.at = Some(to);
        txn.put_watch(watch)?;
    }
    Ok(true)
}
