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

/// The most workers. Tasks mostly wait, so more would only cost threads on a large machine.
const MAX_WORKERS: usize = 4;

/// The most threads for blocking work: files, name resolution, rendering. Further work waits for a free one.
const MAX_BLOCKING: usize = 64;

/// The time after which an idle thread for blocking work ends.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Threads of a running daemon beside its workers: the main thread's helpers, the log, the store's writer, sled's eight, and
/// two for blocking work.
const OWN_THREADS: usize = 14;

/// Raises the limit of descriptors, and checks that all threads of a service can start.
///
/// # Errors
/// When the system grants too few threads. Without this check sled and tokio would wait for threads that never start.
pub fn prepare_service() -> io::Result<()> {
    process::raise_descriptor_limit();
    check_threads(workers() + OWN_THREADS)
}

fn workers() -> usize {
    available_parallelism().map_or(1, usize::from).min(MAX_WORKERS)
}

/// Builds the runtime of this process: with workers for a service, on the main thread alone for a client command.
///
/// # Errors
/// When the system refuses what it needs.
pub fn start_runtime(service: bool) -> io::Result<Runtime> {
    if !service {
        return Builder::new_current_thread().enable_all().build();
    }
    // A worker that fails to start panics, and the unwinding would wait for the other workers for ever.
    let usual = panic::take_hook();
    panic::set_hook(Box::new(|panic| {
        telemetry::say(&format!("start failed: {}", panic_text(panic.payload())));
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

/// Keeps one thread for blocking work alive. If the system later refuses further ones, work still gets done on it.
async fn keep_one_thread() {
    loop {
        // The task has nothing to do but to keep its thread.
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
        // The thread has nothing that could panic.
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

/// Flushes the log for 200 ms at most, and ends the process with status 1.
pub(crate) fn end_at_once() -> ! {
    telemetry::flush(Duration::from_millis(200));
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that ends without draining, when just that is asked for"
    )]
    std::process::exit(1)
}
