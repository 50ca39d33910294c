//! Small bodies on disk: appended to a segment, many with one write and one sync.
//!
//! The thread that commits writes the bodies of a group before it applies what the group does to the records, so no
//! record names bytes that are not durable. What a crash leaves behind the last whole group is named by no record. A
//! process begins a segment of its own, and another one when that is long enough; a segment is never written to again.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    MAX_SMALL,
    frame::{Frame, header},
};
use crate::store::{
    BodyPlace,
    files::{Held, make_private, sync_folder},
};

/// The folder of the segments in the spool.
const FOLDER: &str = "segments";

/// A segment of so many bytes is followed by another.
const MAX_SEGMENT: u64 = 16 << 20;

/// The segment that is written is given up early when it is so long and no event needs it.
const MIN_UNNEEDED: u64 = 1 << 20;

/// Bytes that are gathered for one write.
const MAX_WRITE: usize = 1 << 20;

/// Segments that stay open for reading.
const MAX_OPEN: usize = 8;

/// Readers that hold a record of before have so long to read the body from the segment that it was moved from.
const GRACE: Duration = Duration::from_secs(10);

/// A small body on its way to a segment. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::store) struct SmallBody {
    pub(in crate::store) watch: u64,
    pub(in crate::store) event_id: String,
    pub(in crate::store) bytes: Bytes,
}

/// The segments. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::store) struct Segments(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    spool: Arc<Held>,
    /// Held by the thread that commits while it writes, and by nobody else.
    active: Mutex<Option<Active>>,
    state: Mutex<State>,
}

/// The segment that is written.
#[derive(Debug)]
struct Active {
    number: u64,
    file: Arc<fs::File>,
    /// The end of the last group that is durable.
    end: u64,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the next segment.
    next: u64,
    active: Option<u64>,
    /// Every segment with its size.
    sizes: BTreeMap<u64, u64>,
    open: VecDeque<(u64, Arc<fs::File>)>,
    /// When bodies were last moved out of a segment.
    moved: BTreeMap<u64, Instant>,
    /// Out of which no body can be moved: a record that could not be read when it was removed still counts there.
    stuck: BTreeSet<u64>,
}

impl Segments {
    /// Finds the segments that are there. `is_made`: makes their folder when it is missing.
    pub(super) fn open(spool: &Arc<Held>, is_made: bool) -> io::Result<Self> {
        let folder = spool.path().join(FOLDER);
        if is_made {
            make_private(&folder)?;
        }
        let mut sizes = BTreeMap::new();
        match fs::read_dir(&folder) {
            Ok(files) => {
                for file in files {
                    let file = file?;
                    if let Some(number) = file.file_name().to_str().and_then(number_of) {
                        sizes.insert(number, file.metadata()?.len());
                    }
                }
            }
            // A version before segments left it; this one only reads.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let next = sizes.last_key_value().map_or(1, |(last, _)| last.saturating_add(1));
        let state = Mutex::new(State { next, sizes, ..State::default() });
        Ok(Self(Arc::new(Inner { spool: Arc::clone(spool), active: Mutex::default(), state })))
    }

    /// Sees to it that no segment gets a number up to `last`: records name it.
    pub(in crate::store) fn begin_after(&self, last: u64) {
        let mut state = self.state();
        state.next = state.next.max(last.saturating_add(1));
    }

    /// Appends `bodies`, makes them durable with one sync, and returns the place of each. The thread that commits calls it.
    pub(super) fn append<'a>(
        &self,
        bodies: impl Iterator<Item = &'a SmallBody>,
    ) -> io::Result<Vec<BodyPlace>> {
        let mut turn = self.0.active.lock().unwrap_or_else(PoisonError::into_inner);
        let mut active = match turn.take().filter(Active::may_grow) {
            Some(active) => active,
            None => self.begin()?,
        };
        let (places, end) = match active.write(bodies) {
            Ok(written) => written,
            Err(error) => {
                // The next group begins where the last one that is durable ended; this only gives the room back.
                let _ = active.file.set_len(active.end);
                *turn = Some(active);
                return Err(error);
            }
        };
        // After a failed sync nobody knows what is on the disk. Another segment is begun then.
        active.file.sync_data()?;
        active.end = end;
        self.state().sizes.insert(active.number, end);
        *turn = Some(active);
        Ok(places)
    }

    /// Begins the next segment. Its name is durable before a record can tell of it.
    fn begin(&self) -> io::Result<Active> {
        // Taken before anything can fail: a file that an earlier try left is not in the way of the next one.
        let number = {
            let mut state = self.state();
            let number = state.next;
            state.next = number.saturating_add(1);
            number
        };
        let path = self.path(number);
        let file = fs::File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        sync_folder(&self.folder())?;
        let file = Arc::new(file);
        let mut state = self.state();
        state.active = Some(number);
        state.sizes.insert(number, 0);
        state.keep_open(number, Arc::clone(&file));
        Ok(Active { number, file, end: 0 })
    }

    /// Reads a body.
    pub(in crate::store) fn read(
        &self,
        place: BodyPlace,
        watch: u64,
        event_id: &str,
        size: u64,
    ) -> io::Result<Bytes> {
        let header = header(watch, event_id, size);
        // A record that says otherwise is damaged.
        let size = usize::try_from(size).ok().filter(|size| *size <= MAX_SMALL).ok_or_else(elsewhere)?;
        let mut frame = vec![0; header.len() + size];
        self.file(place.segment)?.read_exact_at(&mut frame, place.offset).map_err(cut_short)?;
        if frame[..header.len()] != header {
            return Err(elsewhere());
        }
        Ok(Bytes::from(frame).slice(header.len()..))
    }

    /// Checks that a body is there, without reading it.
    pub(super) fn check(&self, place: BodyPlace, watch: u64, event_id: &str, size: u64) -> io::Result<()> {
        let file = self.file(place.segment)?;
        let frame = Frame::read(&file, place.offset)?.ok_or_else(elsewhere)?;
        if (frame.watch, frame.event_id.as_str(), frame.size) != (watch, event_id, size) {
            return Err(elsewhere());
        }
        if file.metadata()?.len() < frame.end() {
            return Err(cut_short(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    /// Returns the header and the bytes of the body at a place.
    pub(in crate::store) fn frame(&self, place: BodyPlace) -> io::Result<(Frame, Bytes)> {
        let frame = Frame::read(&*self.file(place.segment)?, place.offset)?.ok_or_else(elsewhere)?;
        let bytes = self.read(place, frame.watch, &frame.event_id, frame.size)?;
        Ok((frame, bytes))
    }

    /// Returns the bodies of a segment, up to its end or to what is no body.
    pub(in crate::store) fn frames(&self, number: u64) -> io::Result<Vec<Frame>> {
        let file = self.file(number)?;
        let length = file.metadata()?.len();
        let (mut frames, mut offset) = (Vec::new(), 0);
        while let Some(frame) = Frame::read(&file, offset)?.filter(|frame| frame.end() <= length) {
            offset = frame.end();
            frames.push(frame);
        }
        Ok(frames)
    }

    /// Returns the segments that are not written any more, each with its size.
    pub(in crate::store) fn sealed(&self) -> Vec<(u64, u64)> {
        let state = self.state();
        let sealed = state.sizes.iter().filter(|(number, _)| Some(**number) != state.active);
        sealed.map(|(number, size)| (*number, *size)).collect()
    }

    /// Returns the segment that is written, and its path below the spool.
    pub(in crate::store) fn active(&self) -> Option<(PathBuf, Arc<fs::File>)> {
        let turn = self.0.active.lock().unwrap_or_else(PoisonError::into_inner);
        turn.as_ref().map(|active| (shown(active.number), Arc::clone(&active.file)))
    }

    /// Returns those of them out of which bodies can be moved, each with its size.
    pub(in crate::store) fn movable(&self) -> Vec<(u64, u64)> {
        let mut sealed = self.sealed();
        let state = self.state();
        sealed.retain(|(number, _)| !state.stuck.contains(number));
        sealed
    }

    /// Notes that bodies are moved out of a segment: it stays until no reader can want it any more. `any`: there are some.
    /// A segment that counts bodies of which none can be moved is not read again.
    pub(in crate::store) fn moving(&self, number: u64, any: bool) {
        let mut state = self.state();
        if any {
            state.moved.insert(number, Instant::now());
        } else {
            state.stuck.insert(number);
        }
    }

    /// Removes a segment, unless it is written, or bodies were moved out of it a moment ago. Returns whether it is gone.
    pub(super) fn remove(&self, number: u64) -> io::Result<bool> {
        let mut state = self.state();
        let is_read = state.moved.get(&number).is_some_and(|at| at.elapsed() < GRACE);
        if state.active == Some(number) || is_read {
            return Ok(false);
        }
        match fs::remove_file(self.path(number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        state.sizes.remove(&number);
        state.moved.remove(&number);
        state.stuck.remove(&number);
        state.open.retain(|(open, _)| *open != number);
        Ok(true)
    }

    /// Ends the segment `number`, which no event needs, if it is written and long enough for its room to matter. The thread
    /// that commits calls it, after a commit: nothing of a later group is in it.
    pub(in crate::store) fn end_unneeded(&self, number: u64) {
        let mut turn = self.0.active.lock().unwrap_or_else(PoisonError::into_inner);
        if turn.take_if(|active| active.number == number && active.end >= MIN_UNNEEDED).is_some() {
            self.state().active = None;
        }
    }

    /// Returns the bytes of all segments on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.state().sizes.values().sum()
    }

    fn file(&self, number: u64) -> io::Result<Arc<fs::File>> {
        let mut state = self.state();
        if let Some((_, file)) = state.open.iter().find(|(open, _)| *open == number) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(fs::File::open(self.path(number))?);
        state.keep_open(number, Arc::clone(&file));
        Ok(file)
    }

    fn folder(&self) -> PathBuf {
        self.0.spool.path().join(FOLDER)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder().join(name(number))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins another segment with the next body.
    #[cfg(test)]
    pub(super) fn seal(&self) {
        self.0.active.lock().unwrap().take();
        self.state().active = None;
    }

    /// Ends the time for which a segment stays after bodies were moved out of it.
    #[cfg(test)]
    pub(super) fn end_grace(&self) {
        self.state().moved.clear();
    }
}

impl Active {
    /// Whether more bodies may follow. One that somebody cut has lost bodies, and must not pass for whole.
    fn may_grow(&self) -> bool {
        self.end < MAX_SEGMENT && self.file.metadata().is_ok_and(|data| data.len() >= self.end)
    }

    /// Writes `bodies` behind the last group. Returns their places, and where they end.
    fn write<'a>(&self, bodies: impl Iterator<Item = &'a SmallBody>) -> io::Result<(Vec<BodyPlace>, u64)> {
        let (mut places, mut gathered, mut written) = (Vec::new(), Vec::new(), self.end);
        for SmallBody { watch, event_id, bytes } in bodies {
            let offset = written + gathered.len() as u64;
            places.push(BodyPlace { segment: self.number, offset });
            gathered.extend_from_slice(&header(*watch, event_id, bytes.len() as u64));
            gathered.extend_from_slice(bytes);
            if gathered.len() >= MAX_WRITE {
                self.file.write_all_at(&gathered, written)?;
                written += gathered.len() as u64;
                gathered.clear();
            }
        }
        self.file.write_all_at(&gathered, written)?;
        Ok((places, written + gathered.len() as u64))
    }
}

impl State {
    fn keep_open(&mut self, number: u64, file: Arc<fs::File>) {
        self.open.truncate(MAX_OPEN - 1);
        self.open.push_front((number, file));
    }
}

/// The name of the file of a segment.
pub(super) fn name(number: u64) -> String {
    format!("{number:016x}.seg")
}

/// The name of that file below the spool, for people.
pub(super) fn shown(number: u64) -> PathBuf {
    PathBuf::from(FOLDER).join(name(number))
}

fn number_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_suffix(".seg")?, 16).ok()
}

fn elsewhere() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its segment holds something else in its place")
}

fn cut_short(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "its segment was cut short"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(watch: u64, bytes: &[u8]) -> SmallBody {
        SmallBody { watch, event_id: format!("evt_{watch}"), bytes: Bytes::copy_from_slice(bytes) }
    }

    fn open(folder: &tempfile::TempDir) -> Segments {
        Segments::open(&Arc::new(Held::open(folder.path()).unwrap()), true).unwrap()
    }

    fn append(segments: &Segments, bodies: &[SmallBody]) -> Vec<BodyPlace> {
        segments.append(bodies.iter()).unwrap()
    }

    fn read(segments: &Segments, place: BodyPlace, body: &SmallBody) -> io::Result<Bytes> {
        segments.read(place, body.watch, &body.event_id, body.bytes.len() as u64)
    }

    #[test]
    fn bodies_come_back_from_their_places_and_a_start_begins_another_segment() {
        let folder = tempfile::tempdir().unwrap();
        let segments = open(&folder);
        let bodies = [body(1, b"{}"), body(2, b""), body(3, &vec![b'x'; MAX_SMALL])];
        let places = append(&segments, &bodies);
        assert!(places.iter().all(|place| place.segment == 1), "{places:?}");
        let again = open(&folder);
        let later = append(&again, &bodies[..1]);
        assert_eq!(later, [BodyPlace { segment: 2, offset: 0 }]);
        for segments in [&segments, &again] {
            for (place, body) in places.iter().zip(&bodies) {
                assert_eq!(read(segments, *place, body).unwrap(), body.bytes);
                segments.check(*place, body.watch, &body.event_id, body.bytes.len() as u64).unwrap();
            }
        }
        assert_eq!(again.frames(1).unwrap().len(), 3);
        assert_eq!(again.sealed().len(), 1);
        assert_eq!(again.bytes(), folder_bytes(&folder));
    }

    fn folder_bytes(folder: &tempfile::TempDir) -> u64 {
        let files = fs::read_dir(folder.path().join(FOLDER)).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    }

    #[test]
    fn a_place_with_other_bytes_is_no_body() {
        let folder = tempfile::tempdir().unwrap();
        let segments = open(&folder);
        let bodies = [body(1, b"one"), body(2, b"two")];
        let places = append(&segments, &bodies);
        for (place, other) in [(places[0], &bodies[1]), (places[1], &body(2, b"more"))] {
            let error = read(&segments, place, other).unwrap_err();
            assert!(
                matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof),
                "{error}"
            );
            segments.check(place, other.watch, &other.event_id, other.bytes.len() as u64).unwrap_err();
        }
        let gone = BodyPlace { segment: 9, offset: 0 };
        assert_eq!(read(&segments, gone, &bodies[0]).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_torn_tail_costs_nothing_that_was_durable_before() {
        let folder = tempfile::tempdir().unwrap();
        let segments = open(&folder);
        let bodies = [body(1, b"one"), body(2, b"two")];
        let places = append(&segments, &bodies);
        let path = folder.path().join(shown(1)).parent().unwrap().join(name(1));
        let whole = fs::read(&path).unwrap();
        let second = usize::try_from(places[1].offset).unwrap();
        for length in second..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let segments = open(&folder);
            assert_eq!(read(&segments, places[0], &bodies[0]).unwrap(), "one");
            read(&segments, places[1], &bodies[1]).unwrap_err();
            assert_eq!(segments.frames(1).unwrap().len(), 1, "{length}");
        }
    }

    #[test]
    fn a_segment_in_use_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let segments = open(&folder);
        append(&segments, &[body(1, b"one")]);
        assert!(!segments.remove(1).unwrap(), "it is written");
        segments.seal();
        segments.moving(1, true);
        assert!(!segments.remove(1).unwrap(), "somebody may read it");
        segments.end_grace();
        assert!(segments.remove(1).unwrap());
        assert_eq!((segments.bytes(), folder_bytes(&folder)), (0, 0));
        assert!(segments.remove(1).unwrap(), "it is gone");
    }
}
