//! What is known of a body once it went by: its size, its hash, and whether it may stand within a JSON text.

use std::io;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::store::StoredJob;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Returns the record of a body that is read through.
pub(super) fn measured(mut body: impl io::Read) -> io::Result<StoredJob> {
    let mut measure = Measure::default();
    io::copy(&mut body, &mut measure)?;
    Ok(measure.end())
}

/// A body that goes by.
#[derive(Debug, Default)]
pub(super) struct Measure {
    hash: Sha256,
    size: u64,
    head: Vec<u8>,
    text: Utf8,
}

impl Measure {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        self.head.extend_from_slice(&bytes[..bytes.len().min(BOM.len() - self.head.len())]);
        self.text.add(bytes);
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Whether it is a text in UTF-8 so far.
    pub(super) fn is_text(&self) -> bool {
        self.text.is_whole()
    }

    /// The record of it. What is no text has a type, as all has that cannot be spliced into JSON.
    pub(super) fn end(self) -> StoredJob {
        StoredJob {
            size: self.size,
            sha256: HEXLOWER.encode(&self.hash.finalize()),
            content_type: (!self.text.is_whole()).then(|| "application/json".to_owned()),
            has_mark: self.head == BOM,
            at: None,
        }
    }
}

impl io::Write for Measure {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether what goes by is UTF-8.
#[derive(Debug, Default)]
struct Utf8 {
    /// The beginning of a character.
    open: Vec<u8>,
    is_broken: bool,
}

impl Utf8 {
    fn add(&mut self, mut bytes: &[u8]) {
        while !self.is_broken && !self.open.is_empty() {
            let Some((first, rest)) = bytes.split_first() else { return };
            self.open.push(*first);
            bytes = rest;
            match std::str::from_utf8(&self.open) {
                Ok(_) => self.open.clear(),
                Err(error) => self.is_broken = error.error_len().is_some(),
            }
        }
        match std::str::from_utf8(bytes) {
            _ if self.is_broken => {}
            Ok(_) => {}
            Err(error) if error.error_len().is_some() => self.is_broken = true,
            Err(error) => self.open.extend_from_slice(&bytes[error.valid_up_to()..]),
        }
    }

    fn is_whole(&self) -> bool {
        !self.is_broken && self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn measured(bytes: &[u8], part: usize) -> StoredJob {
        let mut measure = Measure::default();
        bytes.chunks(part).for_each(|part| measure.add(part));
        measure.end()
    }

    #[test]
    fn a_mark_is_seen_in_whatever_parts_it_comes() {
        for part in [1, 2, 100] {
            assert!(measured("\u{feff}{}".as_bytes(), part).has_mark);
            assert!(!measured(b"{}", part).has_mark && !measured(b"\xef\xbb", part).has_mark);
        }
    }

    proptest! {
        #[test]
        fn what_is_no_text_has_a_type(
            text in any::<String>(), odd in prop::collection::vec(any::<u8>(), 0..3), part in 1usize..9,
        ) {
            let bytes = [text.as_bytes(), &odd, text.as_bytes()].concat();
            let job = measured(&bytes, part);
            prop_assert_eq!(job.content_type.is_none(), std::str::from_utf8(&bytes).is_ok());
            prop_assert_eq!(job.size, bytes.len() as u64);
        }
    }
}
