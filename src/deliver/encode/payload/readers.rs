//! Blocking readers of a stored job: as it is, and as base64.

use std::io::{self, Read};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::ENCODED_CHUNK;
use crate::store::BodyReader;

/// Reads `left` bytes of a body. A body that ends before is an error, not a shorter payload.
pub(super) struct Exact {
    pub(super) body: BodyReader,
    pub(super) left: u64,
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 {
            return Ok(0);
        }
        let read = self.body.read(&mut buffer[..room])?;
        if read == 0 {
            return Err(cut_short());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// Reads a body as base64.
pub(super) struct Encoded<R> {
    body: R,
    ready: Vec<u8>,
    taken: usize,
}

impl<R: Read> Encoded<R> {
    pub(super) fn new(body: R) -> Self {
        Self { body, ready: Vec::new(), taken: 0 }
    }
}

impl<R: Read> Read for Encoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.ready.len() {
            let mut chunk = Vec::new();
            (&mut self.body).take(ENCODED_CHUNK as u64).read_to_end(&mut chunk)?;
            (self.ready, self.taken) = (STANDARD.encode(&chunk).into_bytes(), 0);
        }
        let read = (&self.ready[self.taken..]).read(buffer)?;
        self.taken += read;
        Ok(read)
    }
}

/// Checks that a stored job still has the size that it was stored with.
pub(super) fn same_size(found: u64, stored: u64) -> io::Result<()> {
    if found == stored {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has {found} bytes, stored were {stored}")))
}

pub(super) fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it was cut short")
}
