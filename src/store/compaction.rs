//! Gives the room of small bodies back: removes segments that no event needs, and moves the last bodies out of those
//! that few events need.

use super::{
    BodyPlace, SegmentUse, Store, StoreError,
    bodies::{Frame, Segments, SmallBody},
    records::{Records, passed_over},
    rules::bodies::{CopiedBody, move_body},
};

/// One round moves so many bytes at most, so that it costs a bounded share of the disk.
const MAX_MOVED: u64 = 16 << 20;

/// Bodies and bytes that one write moves.
const GROUP: usize = 64;
const GROUP_BYTES: usize = 1 << 20;

/// About what a body takes in a segment beside its bytes.
const HEADER: u64 = 64;

/// A body that an event needs.
struct Live {
    event: u64,
    frame: Frame,
}

impl Store {
    /// Removes segments that no event needs, and moves bodies out of segments of which less than half is needed. Returns
    /// how many bodies it moved. A bounded number a call.
    ///
    /// # Errors
    /// When the spool or the store cannot be read or written.
    pub async fn compact_bodies(&self) -> Result<u64, StoreError> {
        let Some(segments) = self.bodies().segments().cloned() else { return Ok(0) };
        // What an export needs stays where it is.
        if self.bodies().are_pinned() {
            return Ok(0);
        }
        self.sweep_segments().await?;
        let sparse = self.aside(Self::sparse_segments).await?;
        let (mut moved, mut bytes) = (0, 0);
        for (number, needed) in sparse {
            if bytes >= MAX_MOVED {
                break;
            }
            bytes += needed;
            moved += self.empty_segment(&segments, number).await?;
        }
        Ok(moved)
    }

    /// Removes the segments that no event needs. The thread that commits reads which those are: what it has not made durable
    /// yet, it may lose.
    pub(super) async fn sweep_segments(&self) -> Result<(), StoreError> {
        let Some(segments) = self.bodies().segments() else { return Ok(()) };
        let sealed = segments.sealed();
        if sealed.is_empty() {
            return Ok(());
        }
        let unneeded = self.write(move |txn| {
            let mut unneeded = Vec::new();
            for (number, _) in sealed {
                unneeded.extend(txn.segment(number)?.is_none().then_some(number));
            }
            Ok(unneeded)
        });
        let unneeded = unneeded.await?;
        self.aside(move |store| {
            for number in unneeded {
                store.bodies().remove_segment(number)?;
            }
            Ok(())
        })
        .await
    }

    /// The segments of which less than half is needed, with the bytes that are, fewest first.
    fn sparse_segments(&self) -> Result<Vec<(u64, u64)>, StoreError> {
        let Some(segments) = self.bodies().segments() else { return Ok(Vec::new()) };
        let mut sparse = Vec::new();
        for (number, size) in segments.movable() {
            if let Some(left) = self.read(|records| records.segment(number))?
                && left.taken() < size / 2
            {
                sparse.push((number, left.taken()));
            }
        }
        sparse.sort_by_key(|(_, needed)| *needed);
        Ok(sparse)
    }

    /// Moves every body that an event needs out of a segment. Returns how many there were.
    async fn empty_segment(&self, segments: &Segments, number: u64) -> Result<u64, StoreError> {
        let live = self.aside(move |store| store.live_in(number)).await?;
        segments.moving(number, !live.is_empty());
        let mut moved = 0;
        let mut live = live.into_iter().peekable();
        while live.peek().is_some() {
            let (mut group, mut bodies, mut bytes) = (Vec::new(), Vec::new(), 0);
            while bodies.len() < GROUP
                && bytes < GROUP_BYTES
                && let Some(Live { event, frame }) = live.next()
            {
                let from = BodyPlace { segment: number, offset: frame.offset };
                let body = segments.read(from, frame.watch, &frame.event_id, frame.size)?;
                bytes += body.len();
                bodies.push(SmallBody { watch: frame.watch, event_id: frame.event_id, bytes: body });
                group.push((event, from));
            }
            let write = self.write_with(bodies, move |txn, places| {
                let mut moved = 0;
                for ((event, from), to) in group.into_iter().zip(places) {
                    moved += u64::from(move_body(txn, CopiedBody { event, from, to: *to })?);
                    txn.end_operation()?;
                }
                Ok(moved)
            });
            moved += write.await?;
        }
        Ok(moved)
    }

    /// Reads which bodies of a segment events need.
    fn live_in(&self, number: u64) -> Result<Vec<Live>, StoreError> {
        let Some(segments) = self.bodies().segments() else { return Ok(Vec::new()) };
        let frames = segments.frames(number)?;
        let mut live = Vec::new();
        self.read(|records| {
            for frame in frames {
                let at = BodyPlace { segment: number, offset: frame.offset };
                live.extend(event_of(records, &frame, at)?.map(|event| Live { event, frame }));
            }
            Ok(())
        })?;
        Ok(live)
    }
}

impl SegmentUse {
    /// About the bytes that the bodies take in their segment.
    const fn taken(self) -> u64 {
        self.bytes + self.bodies * HEADER
    }
}

/// The event that needs a body. What cannot be read stays where it is.
fn event_of(records: &dyn Records, frame: &Frame, at: BodyPlace) -> Result<Option<u64>, StoreError> {
    let events = match passed_over(records.watch(frame.watch))? {
        Some(watch) => watch.end_events,
        // The body of a group.
        None => passed_over(records.group(frame.watch))?.and_then(|group| group.event).into_iter().collect(),
    };
    for number in events {
        let event = passed_over(records.event(number))?;
        if event.is_some_and(|event| event.news.job().is_some_and(|job| job.at == Some(at))) {
            return Ok(Some(number));
        }
    }
    Ok(None)
}
