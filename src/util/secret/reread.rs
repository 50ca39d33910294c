//! Files that are read again when they change.
//!
//! A file may lie on a mount that hangs, or be a pipe that nobody writes. So each has a thread of its own that reads it, and
//! who needs the content waits no longer than [`ANSWER`]. Then what was known counts, until the file answers again.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::SecretError;

/// How long a file may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// The most bytes of a file.
const MAX_SIZE: u64 = 64 << 10;

/// A small file that is read again when it changes.
#[derive(Debug)]
pub struct Reread<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    path: PathBuf,
    state: Mutex<State<T>>,
    /// Somebody asks, or the file has answered.
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    /// What the file held when it was read last.
    read: Option<(Stamp, Result<T, String>)>,
    /// Why it could not be read when it was last asked.
    failure: Option<String>,
    /// Since when it is asked, without an answer so far.
    asked: Option<Instant>,
    has_thread: bool,
    is_over: bool,
}

impl<T: Clone + Send + 'static> Reread<T> {
    pub(super) fn new(path: &Path) -> Self {
        let state = State { read: None, failure: None, asked: None, has_thread: false, is_over: false };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Self(Arc::new(Shared { path: path.to_owned(), state, changed }))
    }

    /// Returns what the file holds now. While it does not answer, what it held before.
    pub(super) fn get(&self, parse: fn(&str) -> Result<T, String>) -> Result<T, SecretError> {
        let shared = &self.0;
        let mut state = shared.lock();
        if state.asked.is_none() {
            state.asked = Some(Instant::now());
            if !state.has_thread {
                let serving = Arc::clone(shared);
                let started = thread::Builder::new().name("secret-file".to_owned());
                state.has_thread = started.spawn(move || serving.serve(parse)).is_ok();
            }
            shared.changed.notify_all();
            if !state.has_thread {
                // The system grants no further thread.
                drop(state);
                shared.check(parse);
                state = shared.lock();
            }
        }
        while let Some(left) = state.asked.and_then(|asked| ANSWER.checked_sub(asked.elapsed())) {
            let waited = shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let known = state.read.as_ref().map(|(_, value)| value.clone());
        let result = match (state.asked, &state.failure, known) {
            (Some(_), _, Some(Ok(value))) => Ok(value),
            (None, None, Some(known)) => known,
            (None, Some(failure), _) => Err(failure.clone()),
            _ => Err("it does not answer; is it on a mount that hangs, or a pipe?".to_owned()),
        };
        drop(state);
        result.map_err(|reason| SecretError::new("secret", &shared.path, reason))
    }
}

impl<T> Drop for Reread<T> {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.changed.notify_all();
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks the file whenever somebody asks.
    fn serve(&self, parse: fn(&str) -> Result<T, String>) {
        loop {
            let mut state = self.lock();
            while state.asked.is_none() && !state.is_over {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.is_over {
                return;
            }
            drop(state);
            self.check(parse);
        }
    }

    /// Reads the file if it has changed. It may take for ever.
    fn check(&self, parse: fn(&str) -> Result<T, String>) {
        let known = self.lock().read.as_ref().map(|(stamp, _)| stamp.clone());
        let found = Stamp::of(&self.path).and_then(|stamp| match known {
            Some(known) if known == stamp => Ok(None),
            _ => Ok(Some((stamp, read(&self.path)?))),
        });
        let mut state = self.lock();
        state.failure = None;
        match found {
            Ok(None) => {}
            Ok(Some((stamp, text))) => {
                state.read = Some((stamp, text.and_then(|text| parse(&text))));
            }
            Err(error) => state.failure = Some(error.to_string()),
        }
        state.asked = None;
        drop(state);
        self.changed.notify_all();
    }
}

/// Reads a file, or says why its content is none.
fn read(path: &Path) -> std::io::Result<Result<String, String>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Ok(Err(format!("it is larger than {} KiB", MAX_SIZE >> 10)));
    }
    Ok(String::from_utf8(bytes).map_err(|_| "it is no UTF-8".to_owned()))
}

/// The state of a file, known without reading it. The inode changes when Kubernetes swaps the link
/// to a mounted secret. The time of the change changes even if a writer keeps the time of the
/// modification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    modified: Option<SystemTime>,
    changed: (i64, i64),
    length: u64,
    inode: u64,
}

impl Stamp {
    /// Returns the present state of a file.
    ///
    /// # Errors
    /// When the file is missing or its state cannot be read.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let data = fs::metadata(path)?;
        let changed = (data.ctime(), data.ctime_nsec());
        Ok(Self { modified: data.modified().ok(), changed, length: data.len(), inode: data.ino() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Result<String, String> {
        if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
    }

    #[test]
    fn what_a_file_holds_now_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let file = Reread::new(&path);
        let get = || file.get(whole).map_err(|error| error.to_string());
        assert!(get().unwrap_err().contains("No such file"));
        for text in ["one", "two and more"] {
            fs::write(&path, text).unwrap();
            assert_eq!(get().unwrap(), text);
        }
        for (text, reason) in [
            (Vec::new(), "it is empty"),
            (vec![0xff], "it is no UTF-8"),
            (vec![b'x'; 64 * 1024 + 1], "it is larger than 64 KiB"),
        ] {
            fs::write(&path, text).unwrap();
            assert!(get().unwrap_err().contains(reason), "{reason}");
        }
        fs::write(&path, "three").unwrap();
        assert_eq!(get().unwrap(), "three");
        fs::remove_file(&path).unwrap();
        assert!(get().unwrap_err().contains("No such file"), "a file that is gone holds nothing");
    }

    #[test]
    fn a_file_that_does_not_answer_keeps_nobody_and_what_it_held_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let pipe = |path: &Path| {
            let _ = fs::remove_file(path);
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        };
        pipe(&path);
        let unknown = Reread::new(&path);
        let error = unknown.get(whole).unwrap_err().to_string();
        assert!(error.contains("does not answer"), "{error}");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "one").unwrap();
        let file = Reread::new(&path);
        assert_eq!(file.get(whole).unwrap(), "one");
        pipe(&path);
        for _ in 0..50 {
            assert_eq!(file.get(whole).unwrap(), "one");
        }
        // Once it answers, that counts.
        fs::write(&path, "two").unwrap();
        while file.get(whole).unwrap() != "two" {}
    }
}
