//! Jobs that a daemon has seen end, from its data folder.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Result, bail};

use super::{
    exit::BadUsage,
    output::{Console, count},
};
use crate::{
    model::job::Outcome,
    simulate::study::Subject,
    store::{OpenError, Store, StoreConfig, Watch, WatchFilter},
    util::{clock, units::Time},
};

/// How far back jobs are taken from, in milliseconds: a week.
const BACK: i64 = 7 * 24 * 3600 * 1000;
/// Watches read at once.
const PAGE: usize = 1000;

/// The jobs that ended in the last week, one subject for each source and endpoint.
///
/// # Errors
/// When the folder has no store, is in use, or has no such job.
pub(super) fn stored(folder: &Path, console: &mut Console<'_>) -> Result<Vec<Subject>> {
    // Opening would make a store where there is none.
    if !folder.join("tidings.json").is_file() {
        let text = format!("there is no store in {}; name the data folder of a daemon", folder.display());
        return Err(BadUsage(text).into());
    }
    let store = Store::open_to_read(&StoreConfig { path: folder.to_owned(), ..StoreConfig::default() });
    let store = match store {
        Err(OpenError::InUse(_)) => {
            bail!("a daemon uses the data folder {}; stop it, and ask again", folder.display())
        }
        other => other?,
    };
    let since = Time(clock::now().0.saturating_sub(BACK));
    let (mut groups, mut told, mut all) = (BTreeMap::<String, Vec<(f64, f64)>>::new(), 0_u64, 0_u64);
    let mut cursor = None;
    loop {
        let page = store.watches(&WatchFilter::default(), cursor, PAGE)?;
        for watch in page.entries {
            let Some(run) = finished(&watch, since) else { continue };
            all += 1;
            told += u64::from(run.told);
            let endpoint = watch.endpoint.as_deref().unwrap_or("unknown endpoint");
            groups.entry(format!("{} {endpoint}", watch.source)).or_default().push((run.made, run.takes));
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    if all == 0 {
        bail!("no job in {} ended in the last week while it was watched", folder.display());
    }
    if told < all {
        let rest = count(all - told, "job", "jobs");
        console.note(&format!(
            "of {rest} the source did not tell the end; the time at which it was noticed stands for it"
        ));
    }
    let subject = |(name, jobs): (String, Vec<(f64, f64)>)| {
        let number = count(u64::try_from(jobs.len()).unwrap_or(u64::MAX), "job", "jobs");
        Ok(Subject::measured(&format!("{name} ({number})"), jobs)?)
    };
    groups.into_iter().map(subject).collect()
}

/// A run of a job, in seconds.
struct Run {
    made: f64,
    takes: f64,
    /// The source told when it ended.
    told: bool,
}

/// The last run of a watch, if it came to an end of its own since then. One that had ended before it was watched
/// costs one poll under any policy, and is left out.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of our time fit")]
fn finished(watch: &Watch, since: Time) -> Option<Run> {
    let end = watch.current_completion()?;
    let own = matches!(end.outcome, Outcome::Completed | Outcome::Failed);
    // Of a job that was watched again, only the last run is stored.
    let made = if watch.end_events.len() > 1 { watch.registered_at } else { watch.created_at };
    let at = end.ended_at.map_or(end.noticed_at, |at| Time(at.0.saturating_sub(end.clock_ahead)));
    (own && at >= since && at > made).then(|| Run {
        made: (made.0 - since.0) as f64 / 1e3,
        takes: (at.0 - made.0) as f64 / 1e3,
        told: end.ended_at.is_some(),
    })
}
