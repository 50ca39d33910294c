//! Undoes the content encoding of an answer (RFC 9110, section 8.4) in bounded memory.

use std::{io::Write as _, mem};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use reqwest::{
    Response,
    header::{CONTENT_ENCODING, HeaderMap, HeaderValue},
};

use super::{Failure, failure::broken_off};

/// The encodings that can be decoded.
pub(super) const ACCEPTED: HeaderValue = HeaderValue::from_static("gzip");

/// The bytes that are decoded at a time. Deflate makes at most 1032 times as many of them, so a
/// piece stays below 5 MiB.
const SLICE: usize = 4 << 10;

/// The most characters of an encoding's name that are shown.
const MAX_NAME: usize = 64;

/// Decodes the bytes of an answer.
enum Decoder {
    Identity,
    Gzip { decoder: Box<MultiGzDecoder<Vec<u8>>>, is_empty: bool },
}

impl Decoder {
    /// Returns the decoder for an answer with these headers.
    fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        let values = headers.get_all(CONTENT_ENCODING).iter();
        let text: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        let text = text.join(",").to_ascii_lowercase();
        let names = text.split(',').map(str::trim).filter(|name| !matches!(*name, "" | "identity"));
        match names.collect::<Vec<_>>().as_slice() {
            [] => Ok(Self::Identity),
            ["gzip" | "x-gzip"] => {
                Ok(Self::Gzip { decoder: Box::new(MultiGzDecoder::new(Vec::new())), is_empty: true })
            }
            names => {
                let name: String = names.join(", ").chars().take(MAX_NAME).collect();
                Err(Failure::Transient(format!(
                    "the answer is encoded as `{name}`, which cannot be decoded and was not accepted"
                )))
            }
        }
    }

    /// Takes some bytes off `encoded`, and returns them decoded. The result may be empty.
    fn decode(&mut self, encoded: &mut Bytes) -> Result<Bytes, Failure> {
        match self {
            Self::Identity => Ok(mem::take(encoded)),
            Self::Gzip { decoder, is_empty } => {
                *is_empty &= encoded.is_empty();
                let slice = encoded.split_to(encoded.len().min(SLICE));
                decoder.write_all(&slice).and_then(|()| decoder.flush()).map_err(|error| broken(&error))?;
                Ok(mem::take(decoder.get_mut()).into())
            }
        }
    }

    /// Returns the bytes that are left at the end of the answer.
    fn finish(&mut self) -> Result<Bytes, Failure> {
        match self {
            Self::Gzip { decoder, is_empty: false } => {
                decoder.try_finish().map_err(|error| broken(&error))?;
                Ok(mem::take(decoder.get_mut()).into())
            }
            Self::Identity | Self::Gzip { .. } => Ok(Bytes::new()),
        }
    }
}

fn broken(error: &std::io::Error) -> Failure {
    Failure::Transient(format!("the gzip encoding of the answer is broken or cut: {error}"))
}

/// The body of an answer without its encoding.
pub(super) struct Decoded {
    response: Response,
    decoder: Decoder,
    encoded: Bytes,
    is_read: bool,
}

impl Decoded {
    /// Returns the body of this answer.
    ///
    /// # Errors
    /// If it has an encoding that cannot be decoded.
    pub(super) fn of(response: Response) -> Result<Self, Failure> {
        let decoder = Decoder::of(response.headers())?;
        Ok(Self { response, decoder, encoded: Bytes::new(), is_read: false })
    }

    /// Returns the length of the body, if the head tells it.
    pub(super) fn length(&self) -> Option<u64> {
        self.response.content_length().filter(|_| matches!(self.decoder, Decoder::Identity))
    }

    /// Returns the next bytes, at most a few MiB, or `None` at the end.
    ///
    /// # Errors
    /// If the connection breaks, or the encoding is broken or cut.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        while !self.is_read {
            if self.encoded.is_empty() {
                match self.response.chunk().await.map_err(|error| broken_off(&error))? {
                    Some(encoded) => self.encoded = encoded,
                    None => self.is_read = true,
                }
            }
            let piece = match self.is_read {
                true => self.decoder.finish()?,
                false => self.decoder.decode(&mut self.encoded)?,
            };
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn zipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn named(names: &[&'static str]) -> Result<Decoder, Failure> {
        let mut headers = HeaderMap::new();
        for name in names {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static(name));
        }
        Decoder::of(&headers)
    }

    fn decoded(pieces: &[&[u8]]) -> Result<Vec<u8>, Failure> {
        let (mut decoder, mut out) = (named(&["GZIP"])?, Vec::new());
        for piece in pieces {
            let mut encoded = Bytes::copy_from_slice(piece);
            while !encoded.is_empty() {
                out.extend_from_slice(&decoder.decode(&mut encoded)?);
            }
        }
        out.extend_from_slice(&decoder.finish()?);
        Ok(out)
    }

    #[test]
    fn an_encoding_is_undone_or_named() {
        for plain in [&[][..], &["identity"], &["", " Identity , "]] {
            assert!(matches!(named(plain), Ok(Decoder::Identity)), "{plain:?}");
        }
        for gzip in [&["gzip"][..], &["X-Gzip"], &["identity", "gzip"]] {
            assert!(matches!(named(gzip), Ok(Decoder::Gzip { .. })), "{gzip:?}");
        }
        for (names, shown) in
            [(&["br"][..], "`br`"), (&["gzip, br"], "`gzip, br`"), (&["gzip", "gzip"], "`gzip, gzip`")]
        {
            let Err(failure) = named(names) else { panic!("{names:?} cannot be undone") };
            assert!(failure.to_string().contains(shown), "{failure}");
        }
    }

    #[test]
    fn a_bomb_comes_out_in_bounded_pieces() {
        let bomb = zipped(&vec![0; 64 << 20]);
        assert!(bomb.len() < 70 << 10);
        let (mut decoder, mut encoded, mut size) = (named(&["gzip"]).unwrap(), Bytes::from(bomb), 0);
        while !encoded.is_empty() {
            let piece = decoder.decode(&mut encoded).unwrap();
            assert!(piece.len() <= SLICE * 1032 + (64 << 10), "{} bytes at once", piece.len());
            size += piece.len();
        }
        assert_eq!(size + decoder.finish().unwrap().len(), 64 << 20);
    }

    #[test]
    fn what_is_no_gzip_is_told() {
        assert_eq!(decoded(&[]).unwrap(), b"", "an empty body has nothing to undo");
        decoded(&[br#"{"status":"completed"}"#]).unwrap_err();
        let mut wrong = zipped(b"the checksum differs");
        let at = wrong.len() - 6;
        wrong[at] ^= 1;
        decoded(&[&wrong]).unwrap_err();
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), 1..3), cut in 1usize..5000) {
            let encoded: Vec<u8> = parts.iter().flat_map(|part| zipped(part)).collect();
            let pieces: Vec<&[u8]> = encoded.chunks(cut).collect();
            prop_assert_eq!(decoded(&pieces).unwrap(), parts.concat());
        }

        #[test]
        fn a_cut_one_is_never_taken_for_whole(bytes in prop::collection::vec(any::<u8>(), 0..3000), at in any::<prop::sample::Index>()) {
            let encoded = zipped(&bytes);
            let kept = 1 + at.index(encoded.len() - 1);
            decoded(&[&encoded[..kept]]).unwrap_err();
        }
    }
}
