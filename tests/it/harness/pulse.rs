//! How far a budget may seem to be exceeded where requests arrive: a process that a busy machine does not let run takes all that
//! arrived meanwhile at once.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

const EVERY: Duration = Duration::from_millis(5);
const SECOND: Duration = Duration::from_secs(1);

/// Notes when it could run, every few milliseconds.
pub struct Pulse {
    beats: Arc<Mutex<Vec<Instant>>>,
    task: JoinHandle<()>,
}

impl Pulse {
    pub fn start() -> Self {
        let beats = Arc::new(Mutex::new(vec![Instant::now()]));
        let kept = Arc::clone(&beats);
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                kept.lock().unwrap().push(Instant::now());
            }
        });
        Self { beats, task }
    }

    /// Checks that no second has more requests than `rate` and `burst`, one under way at each of its ends, and as many as the
    /// time around it may have bunched up in which this process could not run. Returns the most in any second.
    pub fn kept_to(&self, arrived: &[Instant], rate: f64, burst: f64) -> usize {
        let (beats, mut arrived, mut most) = (self.beats.lock().unwrap().clone(), arrived.to_vec(), 0);
        arrived.sort_unstable();
        for (first, begin) in arrived.iter().copied().enumerate() {
            let after = arrived.partition_point(|other| *other < begin + SECOND);
            let (count, silent) = (after - first, silent(&beats, begin, begin + SECOND));
            let allowed = rate * (1.0 + silent.as_secs_f64()) + burst + 2.0;
            let times =
                || arrived[first..after].iter().map(|at| (*at - begin).as_millis()).collect::<Vec<_>>();
            #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
            let is_kept = count as f64 <= allowed;
            assert!(
                is_kept,
                "{count} requests in a second, {rate} and {burst} at once allowed, {silent:?} without this process; \
                 after ms: {:?}",
                times()
            );
            most = most.max(count);
        }
        most
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// For how long nothing ran between two instants, and in the half second before: what each pause between two beats has above the
/// usual.
fn silent(beats: &[Instant], from: Instant, to: Instant) -> Duration {
    let begin = beats.partition_point(|beat| *beat + SECOND / 2 < from).saturating_sub(1);
    let end = (beats.partition_point(|beat| *beat <= to) + 1).min(beats.len());
    beats[begin..end].windows(2).map(|pair| (pair[1] - pair[0]).saturating_sub(EVERY * 2)).sum()
}
