//! Gives the room of small bodies back: removes segments that no event needs, and moves the last bodies out of those
//! that few events need.

use std::collections::BTreeSet;

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

/// The bodies of a segment.
#[derive(Default)]
struct Content {
    live: Vec<Live>,
    /// Everything in it is accounted for: what is not live, no event needs.
    is_known: bool,
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
        let sparse = self.aside(|store| {
            store.sweep_segments()?;
            store.sparse_segments()
        });
        let (mut moved, mut bytes) = (0, 0);
        for (number, needed) in sparse.await? {
            if bytes >= MAX_MOVED {
                break;
            }
            bytes += needed;
            moved += self.empty_segment(&segments, number).await?;
        }
        Ok(moved)
    }

    /// Removes the segments that no event needs.
    pub(super) fn sweep_segments(&self) -> Result<(), StoreError> {
        let Some(segments) = self.bodies().segments() else { return Ok(()) };
        for (number, _) in segments.sealed() {
            if self.read(|records| records.segment(number))?.is_none() {
                self.bodies().remove_segment(number)?;
            }
        }
        Ok(())
    }

    /// The segments of which less than half is needed, with the bytes that are, fewest first.
    fn sparse_segments(&self) -> Result<Vec<(u64, u64)>, StoreError> {
        let Some(segments) = self.bodies().segments() else { return Ok(Vec::new()) };
        let mut sparse = Vec::new();
        for (number, size) in segments.sealed() {
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
        let content = self.aside(move |store| store.content_of(number)).await?;
        segments.moving(number);
        let mut moved = 0;
        let mut live = content.live.into_iter().peekable();
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
        if content.is_known {
            // A record that could not be read when it was removed may still count here.
            self.write(move |txn| {
                if txn.segment(number)?.is_some() {
                    txn.forget_segment(number);
                }
                Ok(())
            })
            .await?;
        }
        Ok(moved)
    }

    /// Reads which bodies of a segment events need.
    fn content_of(&self, number: u64) -> Result<Content, StoreError> {
        let Some(segments) = self.bodies().segments() else { return Ok(Content::default()) };
        let (frames, is_whole) = segments.frames(number)?;
        let mut content = Content { live: Vec::new(), is_known: is_whole };
        self.read(|records| {
            for frame in frames {
                let at = BodyPlace { segment: number, offset: frame.offset };
                match event_of(records, &frame, at)? {
                    Owner::Event(event) => content.live.push(Live { event, frame }),
                    Owner::Unknown => content.is_known = false,
                    Owner::None => {}
                }
            }
            Ok(())
        })?;
        Ok(content)
    }
}

impl SegmentUse {
    /// About the bytes that the bodies take in their segment.
    const fn taken(self) -> u64 {
        self.bytes + self.bodies * HEADER
    }
}

/// Who needs a body.
enum Owner {
    Event(u64),
    /// A record that may need it cannot be read.
    Unknown,
    None,
}

fn event_of(records: &dyn Records, frame: &Frame, at: BodyPlace) -> Result<Owner, StoreError> {
    let Some(watch) = passed_over(records.watch(frame.watch))? else {
        return Ok(if records.has_watch(frame.watch)? { Owner::Unknown } else { Owner::None });
    };
    let mut owner = Owner::None;
    for number in watch.end_events.iter().copied().collect::<BTreeSet<_>>() {
        match records.event(number) {
            Ok(Some(event)) if event.news.job().is_some_and(|job| job.at == Some(at)) => {
                return Ok(Owner::Event(number));
            }
            Ok(_) => {}
            Err(StoreError::Record(_)) => owner = Owner::Unknown,
            Err(error) => return Err(error),
        }
    }
    Ok(owner)
}
