//! The way of the log to stderr: a bounded queue and one thread that writes. A reader who does not read costs lines, never the
//! work of whoever logs them.

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

/// Bytes of lines that wait, and as many that are being written.
const CAPACITY: usize = 1 << 20;

/// How often a stderr that takes nothing now is tried again, where it says so instead of blocking.
const RETRY: Duration = Duration::from_millis(20);

/// The queue of this process, once it has one.
static QUEUE: OnceLock<Arc<LogQueue>> = OnceLock::new();

/// Lines that were dropped. It belongs to the process, as stderr does.
static DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the name is a constant, and a test makes it")]
    IntCounter::new(
        "tidings_log_lines_dropped_total",
        "Log lines that were dropped because stderr was not read or could not be written.",
    )
    .expect("a metric's name is valid")
});

/// Returns the counter of log lines that were dropped. It belongs to the process, as stderr does.
#[must_use]
pub fn lines_dropped() -> IntCounter {
    DROPPED.clone()
}

/// Has everything that is logged from now on written by a thread of its own.
///
/// # Errors
/// When that thread cannot be started.
pub fn log_in_background() -> io::Result<()> {
    // A descriptor of our own: whoever holds the lock of std's stderr may be blocked there.
    let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() else { return Ok(()) };
    let queue = LogQueue::start(File::from(stderr), DROPPED.clone())?;
    // A second call changes nothing.
    let _ = QUEUE.set(queue);
    // The usual hook writes to stderr itself.
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
        // When stderr is closed there is nowhere left to say so.
        None => drop(io::stderr().write_all(line.as_bytes())),
    }
}

/// Waits until everything logged so far is written, `within` at most.
pub fn flush(within: Duration) {
    if let Some(queue) = queue() {
        queue.flush(within);
    }
}

pub(super) fn queue() -> Option<&'static Arc<LogQueue>> {
    QUEUE.get()
}

#[derive(Default)]
struct State {
    /// Whole lines.
    waiting: Vec<u8>,
    lines: u64,
    /// The thread is writing what it took.
    writing: bool,
    /// Lines dropped since the log last said so.
    dropped: u64,
}

/// Lines on their way to a writer.
pub(super) struct LogQueue {
    state: Mutex<State>,
    changed: Condvar,
    dropped: IntCounter,
}

impl LogQueue {
    /// Starts the thread that writes to `out`. It ends with the process.
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

    /// Waits until everything is written. Returns whether that is so.
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
            let mut to_tell = 0;
            if written.is_ok() {
                to_tell = std::mem::take(&mut state.dropped);
            } else {
                state.dropped += count;
                self.dropped.inc_by(count);
            }
            drop(state);
            if to_tell > 0 {
                tracing::warn!(lines = to_tell, "log lines dropped: stderr was not read");
            }
            self.changed.notify_all();
        }
    }

    /// Waits for lines, and takes all of them.
    fn take(&self) -> (Vec<u8>, u64) {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.writing = true;
        (std::mem::take(&mut state.waiting), std::mem::take(&mut state.lines))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The layer that makes the lines writes each with one call.
impl Write for &LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Like [`Write::write_all`], also for a stderr that somebody has made non-blocking.
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

    /// A writer that takes a piece when it is let, and passes it on.
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
        assert!(!queue.flush(Duration::from_millis(1)), "nobody has read yet");
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
