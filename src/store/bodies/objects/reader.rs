//! A body that is read from object storage, a piece at a time.

use std::{
    io,
    ops::Range,
    task::{Context, Poll, ready},
};

use bytes::Bytes;

use super::{Object, ObjectBodies};
use crate::store::bodies::{Coming, copy_into};

/// The most that one request reads. A slow reader holds no connection meanwhile.
const PIECE: u64 = 1 << 20;

/// A reader of a body. What it reads is of one version of the object.
#[derive(Debug)]
pub(in crate::store) struct ObjectReader {
    bodies: ObjectBodies,
    object: Object,
    /// Where the next piece begins, and where the last one ends.
    next: Range<u64>,
    /// What is left of the piece before.
    left: Bytes,
    pending: Option<Coming<Bytes>>,
}

impl ObjectReader {
    pub(super) fn new(bodies: &ObjectBodies, object: Object) -> Self {
        let next = 0..object.size;
        Self { bodies: bodies.clone(), object, next, left: Bytes::new(), pending: None }
    }

    pub(in crate::store) const fn size(&self) -> u64 {
        self.object.size
    }

    /// Reads on from the first byte of `part`, and nothing behind it.
    pub(in crate::store) fn narrow(&mut self, part: Range<u64>) {
        self.next = part.start..part.end.min(self.object.size);
        (self.left, self.pending) = (Bytes::new(), None);
    }

    /// Takes the range of the next piece; `None` at the end.
    fn step(&mut self) -> Option<Range<u64>> {
        let piece = self.next.start..self.next.end.min(self.next.start.saturating_add(PIECE));
        (!piece.is_empty()).then(|| {
            self.next.start = piece.end;
            piece
        })
    }

    /// Reads on a thread that may block.
    pub(in crate::store) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.is_empty()
            && let Some(piece) = self.step()
        {
            let (bodies, object) = (self.bodies.clone(), self.object.clone());
            self.left = self.bodies.wait(async move { bodies.piece(&object, piece).await })?;
        }
        Ok(copy_into(&mut self.left, buffer))
    }

    pub(in crate::store) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left.is_empty() && self.pending.is_none() {
            self.pending = self.step().map(|piece| {
                let (bodies, object) = (self.bodies.clone(), self.object.clone());
                Coming::new(async move {
                    let reading = bodies.clone();
                    bodies.ask(async move { reading.piece(&object, piece).await }).await
                })
            });
        }
        if let Some(pending) = &mut self.pending {
            let piece = ready!(pending.poll(cx));
            self.pending = None;
            self.left = piece?;
        }
        let size = buffer.remaining().min(self.left.len());
        buffer.put_slice(&self.left.split_to(size));
        Poll::Ready(Ok(()))
    }
}
