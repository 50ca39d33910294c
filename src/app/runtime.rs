//! The threads of the process, and its end without draining.

use std::{
    io, panic,
    sync::mpsc,
    thread::{self, available_parallelism},
    time::Duration,
};

use tokio::runtime::{Builder, Runtime};

use crate::{
    telemetry,
    util::{panic::panic_text, process},
};

/// Most of the work is waiting: more workers than this would only cost threads on a large machine.
const MAX_WORKERS: usize = 4;

/// Threads for work that blocks: files, name resolution, rendering. Further work waits for one of them.
const MAX_BLOCKING: usize = 64;

/// An idle thread for blocking work ends after this.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Threads that are there beside the workers as soon as the daemon runs: the main thread's helpers, the log, the store's writer,
/// sled's eight, and two for blocking work.
const OWN_THREADS: usize = 14;

/// Takes what a service needs from the system: all descriptors that it may have, and the certainty that its threads will start.
///
/// # Errors
/// When the system grants fewer threads than are needed. Nothing hangs then: sled and tokio would wait for threads that never
/// come.
pub fn prepare_service() -> io::Result<()> {
    process::raise_descriptor_limit();
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
        telemetry::say(&format!("the start failed: {}", panic_text(panic.payload())));
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
    telemetry::flush(Duration::from_millis(200));
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that ends without draining, when just that is asked for"
    )]
    std::process::exit(1)
}
