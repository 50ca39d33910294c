//! A body in a segment: a header that names it, and its bytes behind that.

use std::{fs, io, os::unix::fs::FileExt as _};

use sha2::{Digest as _, Sha256};

/// The first bytes of a frame.
const MAGIC: &[u8; 4] = b"body";

/// The magic, the watch, the size, and the length of the event's id.
const FIXED: usize = 4 + 8 + 8 + 2;

/// The sum of the header at its end.
const SUM: usize = 8;

/// A longer id is none.
const MAX_ID: usize = 1 << 10;

/// The header of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Frame {
    /// Where it begins in its segment.
    pub(in crate::store) offset: u64,
    pub(in crate::store) watch: u64,
    pub(in crate::store) event_id: String,
    /// The size of the body in bytes.
    pub(in crate::store) size: u64,
}

/// Returns the header of a body.
pub(super) fn header(watch: u64, event_id: &str, size: u64) -> Vec<u8> {
    let id = &event_id.as_bytes()[..event_id.len().min(MAX_ID)];
    let mut header = Vec::with_capacity(FIXED + id.len() + SUM);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&watch.to_be_bytes());
    header.extend_from_slice(&size.to_be_bytes());
    header.extend_from_slice(&u16::try_from(id.len()).unwrap_or(u16::MAX).to_be_bytes());
    header.extend_from_slice(id);
    let sum = sum(&header);
    header.extend_from_slice(&sum);
    header
}

fn sum(header: &[u8]) -> [u8; SUM] {
    let hash = Sha256::digest(header);
    std::array::from_fn(|at| hash[at])
}

impl Frame {
    /// Reads the header at `offset`; `None` where no whole one is.
    pub(super) fn read(file: &fs::File, offset: u64) -> io::Result<Option<Self>> {
        let mut fixed = [0; FIXED];
        if !filled(file, &mut fixed, offset)? || fixed[..4] != *MAGIC {
            return Ok(None);
        }
        let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|n| fixed[at + n]));
        let length = usize::from(u16::from_be_bytes([fixed[FIXED - 2], fixed[FIXED - 1]]));
        if length > MAX_ID {
            return Ok(None);
        }
        let mut rest = vec![0; length + SUM];
        if !filled(file, &mut rest, offset + FIXED as u64)? {
            return Ok(None);
        }
        let id = rest.split_off(length);
        let (id, stored) = (rest, id);
        if sum(&[&fixed, id.as_slice()].concat()) != *stored {
            return Ok(None);
        }
        let Ok(event_id) = String::from_utf8(id) else { return Ok(None) };
        Ok(Some(Self { offset, watch: number(4), event_id, size: number(12) }))
    }

    /// Where the bytes of the body begin.
    pub(super) fn body_at(&self) -> u64 {
        self.offset + (FIXED + self.event_id.len() + SUM) as u64
    }

    /// Where the next frame begins.
    pub(super) fn end(&self) -> u64 {
        self.body_at().saturating_add(self.size)
    }
}

/// Fills a buffer; `false` when the file ends before.
fn filled(file: &fs::File, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
    match file.read_exact_at(buffer, offset) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
