//! The log queue: a bounded queue, and one thread that writes to stderr. A stalled reader of stderr
//! costs lines, and never blocks a task that logs.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd as _,
    panic,
    sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use prometheus::IntCounter;

/// The largest size of queued lines in bytes. As many bytes may be in writing.
const CAPACITY: usize = 1 << 20;

/// The pause before the next write to a non-blocking stderr that is full.
const RETRY: Duration = Duration::from_millis(20);

/// The queue of this process; unset until [`log_in_background`].
static QUEUE: OnceLock<Arc<LogQueue>> = OnceLock::new();

/// The number of dropped lines. A process has one, as it has one stderr.
static DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the name is a constant, and a test makes it")]
    IntCounter::new(
        "tidings_log_lines_dropped_total",
        "Log lines that were dropped because stderr was not read or could not be written.",
    )
    .expect("a metric's name is valid")
});

/// Returns the counter of dropped log lines.
#[must_use]
pub fn lines_dropped() -> IntCounter {
    DROPPED.clone()
}

/// Starts a thread that writes all later log lines.
///
/// # Errors
/// Returns an error when the thread cannot be started.
pub fn log_in_background() -> io::Result<()> {
    // Our own descriptor: another thread may hold the lock of std's stderr while it is blocked.
    let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() else { return Ok(()) };
    let queue = LogQueue::start(File::from(stderr), DROPPED.clone())?;
    // A second call has no effect.
    let _ = QUEUE.set(queue);
    // The default hook writes to stderr itself, past the queue.
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        say(&format!("tidings: panic at {place}: {}", crate::util::panic::panic_text(panic.payload())));
    }));
    Ok(())
}

/// Writes a line for people to stderr, in the order of the log.
pub fn say(line: &str) {
    let line = format!("{line}\n");
    match queue() {
        Some(queue) => queue.push(line.as_bytes()),
        // There is no other place to report a closed stderr.
        None => drop(io::stderr().write_all(line.as_bytes())),
    }
}

/// Waits until all queued lines are written, for at most `within`.
pub fn flush(within: Duration) {
    if let Some(queue) = queue() {
        queue.flush(within);
    }
}

pub(super) fn queue() -> Option<&'static Arc<LogQueue>> {
    QUEUE.get()
}

#[derive(Default)]
struct QueueState {
    /// Queued bytes, always whole lines.
    waiting: Vec<u8>,
    lines: u64,
    /// Whether the thread is writing the lines that it took.
    writing: bool,
    /// Dropped lines that the log has not mentioned yet.
    dropped: u64,
}

/// Log lines on their way to stderr.
pub(super) struct LogQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
    dropped: IntCounter,
}

impl LogQueue {
    /// Starts the thread that writes to `out`. The thread ends with the process.
    fn start(out: impl Write + Send + 'static, dropped: IntCounter) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self { state: Mutex::default(), changed: Condvar::new(), dropped });
        let draining = Arc::clone(&queue);
        thread::Builder::new().name("log".to_owned()).spawn(move || draining.drain(out))?;
        Ok(queue)
    }

    /// Queues a line, or drops and counts it when there is no room.
    fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() + line.len() > CAPACITY {
            state.dropped += 1;
            self.dropped.inc();
            return;
        }
        state.waiting.extend_from_slice(line);
        state.lines += 1;
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until all lines are written. Returns `false` when `within` passes first.
    fn flush(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut state = self.lock();
        while state.writing || !state.waiting.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn drain(&self, mut out: impl Write) {
        loop {
            let (lines, count) = self.take();
            let written = write_all(&mut out, &lines);
            let mut state = self.lock();
            state.writing = false;
            let mut unreported = 0;
            if written.is_ok() {
                unreported = std::mem::take(&mut state.dropped);
            } else {
                state.dropped += count;
                self.dropped.inc_by(count);
            }
            drop(state);
            if unreported > 0 {
                tracing::warn!(lines = unreported, "log lines dropped: stderr was not read");
            }
            self.changed.notify_all();
        }
    }

    /// Waits for lines and takes all of them.
    fn take(&self) -> (Vec<u8>, u64) {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.writing = true;
        (std::mem::take(&mut state.waiting), std::mem::take(&mut state.lines))
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Queues each `write` as one line; the formatting layer writes each line with one call.
impl Write for &LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes all bytes as [`Write::write_all`] does, also to a non-blocking stderr.
fn write_all(out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            #[expect(clippy::disallowed_methods, reason = "this thread does nothing but write")]
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    const MOMENT: Duration = Duration::from_secs(20);

    /// A writer that waits for a permit before each write, and sends the bytes to the test.
    struct Gate {
        open: Receiver<io::Result<()>>,
        came: Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.open.recv().unwrap()?;
            self.came.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gate() -> (Arc<LogQueue>, Sender<io::Result<()>>, Receiver<Vec<u8>>) {
        let ((open, opened), (came, received)) = (mpsc::channel(), mpsc::channel());
        let counter = IntCounter::new("dropped", "Dropped.").unwrap();
        (LogQueue::start(Gate { open: opened, came }, counter).unwrap(), open, received)
    }

    #[test]
    fn a_reader_who_does_not_read_costs_lines_and_no_time() {
        let (queue, open, came) = gate();
        queue.push(b"first\n");
        while !queue.lock().writing {
            thread::yield_now();
        }
        let line = [b'x'; 1024];
        for _ in 0..CAPACITY / line.len() + 5 {
            queue.push(&line);
        }
        assert_eq!(queue.dropped.get(), 5);
        assert!(!queue.flush(Duration::from_millis(1)), "no line is written yet");
        open.send(Ok(())).unwrap();
        open.send(Ok(())).unwrap();
        assert!(queue.flush(MOMENT));
        assert_eq!((came.recv().unwrap(), came.recv().unwrap().len()), (b"first\n".to_vec(), CAPACITY));
        // There is room again.
        open.send(Ok(())).unwrap();
        queue.push(b"last\n");
        assert!(queue.flush(MOMENT));
        assert_eq!((came.recv().unwrap(), queue.dropped.get()), (b"last\n".to_vec(), 5));
    }

    #[test]
    fn a_stderr_that_blocks_is_tried_again_and_one_that_fails_costs_its_lines() {
        let (queue, open, came) = gate();
        open.send(Err(io::ErrorKind::WouldBlock.into())).unwrap();
        open.send(Ok(())).unwrap();
        queue.push(b"late\n");
        assert!(queue.flush(MOMENT));
        assert_eq!((came.recv().unwrap(), queue.dropped.get()), (b"late\n".to_vec(), 0));
        open.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        queue.push(b"lost\n");
        assert!(queue.flush(MOMENT));
        assert_eq!(queue.dropped.get(), 1);
    }
}
