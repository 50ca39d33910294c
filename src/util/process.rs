//! What the process takes from the system: threads, descriptors, and whether its memory may be dumped.

use std::{
    io, panic,
    sync::mpsc,
    thread::{self, available_parallelism},
    time::Duration,
};

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use tokio::runtime::{Builder, Runtime};

/// Most of the work is waiting: more workers than this would only cost threads on a large machine.
const MAX_WORKERS: usize = 4;

/// Threads for work that blocks: files, name resolution, rendering. Further work waits for one of them.
const MAX_BLOCKING: usize = 64;

/// An idle thread for blocking work ends after this.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Threads that are there beside the workers as soon as the daemon runs: the main thread's helpers, the log, the store's writer,
/// sled's eight, and two for blocking work.
const OWN_THREADS: usize = 14;

/// The share of the descriptors that the requests of one source, or one sink, may take. A source has as many for polls as for
/// results, and a result takes a file, too.
const IN_FLIGHT_SHARE: usize = 16;

/// So many requests may be in flight anyway.
const MIN_IN_FLIGHT: usize = 4;

/// Takes what a service needs from the system: all descriptors that it may have, and the certainty that its threads will start.
///
/// # Errors
/// When the system grants fewer threads than are needed. Nothing hangs then: sled and tokio would wait for threads that never
/// come.
pub fn prepare_service() -> io::Result<()> {
    raise_descriptor_limit();
    check_threads(workers() + OWN_THREADS)
}

fn workers() -> usize {
    available_parallelism().map_or(1, usize::from).min(MAX_WORKERS)
}

/// The runtime of this process. A service gets workers; a client command asks a few things and ends, which needs no threads.
///
/// # Errors
/// When the system refuses what it needs.
pub fn start_runtime(service: bool) -> io::Result<Runtime> {
    if !service {
        return Builder::new_current_thread().enable_all().build();
    }
    // A worker that does not start panics, and the unwinding would wait for the others for ever.
    let usual = panic::take_hook();
    panic::set_hook(Box::new(|panic| {
        crate::telemetry::say(&format!("the start failed: {}", crate::store::panic_text(panic.payload())));
        end_at_once();
    }));
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers())
        .max_blocking_threads(MAX_BLOCKING)
        .thread_keep_alive(KEEP_ALIVE)
        .enable_all()
        .build();
    panic::set_hook(usual);
    runtime.inspect(|runtime| drop(runtime.spawn(keep_one_thread())))
}

/// Keeps one thread for blocking work alive: where the system refuses a further one later, work waits for it and goes on.
async fn keep_one_thread() {
    loop {
        // Nothing is expected of it but that a thread runs it.
        let _ = tokio::task::spawn_blocking(|| {}).await;
        tokio::time::sleep(KEEP_ALIVE / 3).await;
    }
}

/// Starts `count` threads at once and ends them again.
fn check_threads(count: usize) -> io::Result<()> {
    let mut started = Vec::with_capacity(count);
    let mut refused = None;
    for _ in 0..count {
        let (release, held) = mpsc::channel::<()>();
        // It ends when `release` is dropped.
        match thread::Builder::new().spawn(move || while held.recv().is_ok() {}) {
            Ok(thread) => started.push((release, thread)),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let there = started.len();
    for (release, thread) in started {
        drop(release);
        // It has nothing that could panic.
        let _ = thread.join();
    }
    refused.map_or(Ok(()), |error| {
        let text = format!(
            "the system grants {there} of the {count} threads that are needed: {error}\nhint: raise the limit that holds here: \
             the container's pids limit, TasksMax= of the unit, or `ulimit -u`"
        );
        Err(io::Error::new(error.kind(), text))
    })
}

/// Writes what is left of the log, for a moment, and ends the process with status 1.
pub(crate) fn end_at_once() -> ! {
    crate::telemetry::flush(Duration::from_millis(200));
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that ends without draining, when just that is asked for"
    )]
    std::process::exit(1)
}

/// Raises the soft limit of descriptors to the hard one.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Where that is forbidden, what is there must do: connections are bounded by it.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}

/// How many descriptors the process may have open.
#[must_use]
pub(crate) fn descriptor_limit() -> usize {
    getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// How many requests one source, or one sink, may have in flight: what the configuration allows, within a share of the
/// descriptors. Beyond it a request would fail for want of one, and its peer would get the blame.
#[must_use]
pub(crate) fn in_flight(configured: usize) -> usize {
    share(configured, descriptor_limit())
}

fn share(configured: usize, descriptors: usize) -> usize {
    configured.min((descriptors / IN_FLIGHT_SHARE).max(MIN_IN_FLIGHT))
}

/// Sets whether the kernel may dump the memory of this process, and another process of the same user may read it. Keys and
/// tokens are in it.
pub fn allow_core_dumps(allowed: bool) {
    let behavior = if allowed { DumpableBehavior::Dumpable } else { DumpableBehavior::NotDumpable };
    // A kernel without it refuses; there is nothing else to do about it.
    let _ = set_dumpable_behavior(behavior);
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn requests_in_flight_fit_the_descriptors() {
        for (configured, descriptors, fit) in [
            (32, 1024, 32),
            (1_000_000, 1024, 64),
            (32, 128, 8),
            (16, 20, 4),
            (1, 20, 1),
            (1_000_000, usize::MAX, 1_000_000),
        ] {
            assert_eq!(share(configured, descriptors), fit, "{configured} of {descriptors}");
        }
    }
}
