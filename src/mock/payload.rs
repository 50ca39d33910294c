//! Bodies that may be larger than memory: kept as parts, and made chunk by chunk while they are
//! sent.

use std::{io, sync::LazyLock};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};

/// The size of a block of filler.
const BLOCK: usize = 64 << 10;
/// The digits of the number at the start of each block. It shows a block that is lost, doubled or
/// out of order.
const STAMP: usize = 16;

/// Letters and digits without a pattern, shared by all blocks.
static NOISE: LazyLock<Bytes> = LazyLock::new(|| {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let letters = std::iter::repeat_with(|| {
        // xorshift: it needs no quality, but must be the same everywhere
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        alphabet[usize::from(state.to_be_bytes()[0] & 63)]
    });
    letters.take(BLOCK - STAMP).collect::<Vec<u8>>().into()
});

#[derive(Clone, Debug)]
enum Part {
    Text(Bytes),
    Filler(u64),
}

/// A body in parts.
#[derive(Clone, Debug, Default)]
pub(super) struct Payload(Vec<Part>);

impl Payload {
    pub fn text(mut self, text: impl Into<Bytes>) -> Self {
        self.0.push(Part::Text(text.into()));
        self
    }

    /// Adds `len` bytes of letters and digits that fit into a JSON string.
    pub fn filler(mut self, len: u64) -> Self {
        self.0.push(Part::Filler(len));
        self
    }

    pub fn then(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    pub fn len(&self) -> u64 {
        let each = self.0.iter().map(|part| match part {
            Part::Text(text) => text.len() as u64,
            Part::Filler(len) => *len,
        });
        each.sum()
    }

    pub fn chunks(self) -> impl Iterator<Item = Bytes> + Send + 'static {
        self.0.into_iter().flat_map(|part| -> Box<dyn Iterator<Item = Bytes> + Send> {
            match part {
                Part::Text(text) => Box::new(std::iter::once(text)),
                Part::Filler(len) => Box::new(filler(len)),
            }
        })
    }

    /// Returns the whole body, for comparisons.
    pub fn collect(self) -> Bytes {
        let mut all = Vec::new();
        for chunk in self.chunks() {
            all.extend_from_slice(&chunk);
        }
        all.into()
    }

    /// Returns the body to send. With `cut` the connection breaks after that many bytes.
    pub fn into_body(self, cut: Option<u64>) -> Body {
        let Some(mut left) = cut else {
            return Body::from_stream(stream::iter(self.chunks().map(Ok::<_, io::Error>)));
        };
        let kept = self.chunks().map_while(move |mut chunk| {
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            left -= take as u64;
            (take > 0).then(|| Ok(chunk.split_to(take)))
        });
        // The pause lets the earlier bytes reach the wire: an error drops what is still buffered.
        let broken = stream::once(async {
            tokio::task::yield_now().await;
            Err(io::Error::new(io::ErrorKind::ConnectionReset, "cut on purpose"))
        });
        Body::from_stream(stream::iter(kept).chain(broken))
    }
}

fn filler(len: u64) -> impl Iterator<Item = Bytes> + Send {
    let blocks = (0..len.div_ceil(BLOCK as u64))
        .flat_map(|number| [Bytes::from(format!("{number:0STAMP$}")), NOISE.clone()]);
    let mut left = len;
    blocks.map_while(move |mut chunk| {
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        left -= take as u64;
        (take > 0).then(|| chunk.split_to(take))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_as_long_as_it_says_and_its_blocks_are_numbered() {
        for len in [0, 1, 15, 16, 17, BLOCK as u64, BLOCK as u64 + 1, 3 * BLOCK as u64 + 20] {
            let payload = Payload::default().text("<").filler(len).text(">");
            assert_eq!(payload.len(), len + 2);
            let all = payload.collect();
            assert_eq!(all.len() as u64, len + 2);
            assert!(all.starts_with(b"<") && all.ends_with(b">"));
            assert!(all[1..all.len() - 1].iter().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(b)));
        }
        let blocks = Payload::default().filler(2 * BLOCK as u64).collect();
        assert_eq!(&blocks[BLOCK..BLOCK + STAMP], b"0000000000000001");
    }
}
