//! The finished jobs in the data folder of a daemon.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Result, bail};

use crate::{
    cli::{console::Console, exit::BadUsage, phrases::count},
    model::job::Outcome,
    simulate::study::Subject,
    store::{OpenError, Store, StoreConfig, Watch, WatchFilter},
    util::{clock, units::Time},
};

/// The age of the oldest job that counts, in milliseconds: a week.
const BACK: i64 = 7 * 24 * 3600 * 1000;
/// Watches read at once.
const PAGE: usize = 1000;

/// Returns the jobs that finished in the last week, one subject for each source and endpoint.
///
/// # Errors
/// When the folder has no store, is in use, or has no such job.
pub(super) async fn stored(folder: &Path, console: &mut Console<'_>) -> Result<Vec<Subject>> {
    // Opening would make a store where there is none.
    if !folder.join("tidings.json").is_file() {
        let text = format!("there is no store in {}", folder.display());
        return Err(BadUsage::new(text).hint("name the data folder of a daemon with --from-store").into());
    }
    let store = match Store::open_to_read(&StoreConfig { path: folder.to_owned(), ..StoreConfig::default() })
    {
        Err(OpenError::InUse { .. }) => {
            bail!("a daemon uses the data folder {}\nhint: stop it first", folder.display())
        }
        other => other?,
    };
    let since = Time(clock::now().0.saturating_sub(BACK));
    let (mut groups, mut told, mut all) = (BTreeMap::<String, Vec<(f64, f64)>>::new(), 0_u64, 0_u64);
    let mut cursor = None;
    loop {
        let page = store.watches(&WatchFilter::default(), cursor, PAGE).await?;
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
        bail!("no watched job in {} finished in the last week", folder.display());
    }
    if told < all {
        let rest = count(all - told, "job", "jobs");
        console.note(&format!(
            "the source told no end of {rest}; the time of the poll that saw it counts instead"
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
    /// Whether the source told its end.
    told: bool,
}

/// Returns the last run of a watch if it completed or failed after `since`. A job that had finished before it was watched costs one
/// poll under any policy, and is left out.
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
