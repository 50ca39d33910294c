//! One body for a status and several results of a job:
//! `{"status": …,"results":{"NAME": …,"OTHER":{"content_type":"text/csv","text":"…"}}}`.
//!
//! It is written and read in bounded memory, and every result comes out as it went in. A value
//! behind a space is JSON, byte for byte; one right behind the colon is a text or bytes in base64
//! (RFC 4648, section 4). So a JSON result that has the form of a text is told from a text.

use std::io::{self, BufRead, Read, Write};

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The media type of such a body in the store. Outside it is JSON.
pub const MEDIA_TYPE: &str = "application/vnd.tidings.results+json";

/// The name of the status among the parts.
pub const STATUS: &str = "status";

const HEAD: &[u8] = b"{\"status\":";
const RESULTS: &[u8] = b",\"results\":{";
const TAIL: &[u8] = b"}}";
const BOM: &[u8] = b"\xef\xbb\xbf";

/// The bytes that are read at once: a multiple of three, so that base64 needs no rest.
const CHUNK: usize = 48 << 10;

/// The longest name or media type.
const MAX_NAME: usize = 1 << 10;

/// The form of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueForm {
    /// JSON, which is written as it is.
    Json,
    /// A text in UTF-8 with this media type.
    Text(String),
    /// Bytes with this media type.
    Bytes(String),
}

/// Writes the beginning, up to the status.
///
/// # Errors
/// Those of `out`.
pub fn write_head(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(HEAD)
}

/// Writes the beginning of the results.
///
/// # Errors
/// Those of `out`.
pub fn write_results(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(RESULTS)
}

/// Writes the name of a result.
///
/// # Errors
/// Those of `out`.
pub fn write_name(out: &mut dyn Write, name: &str, is_first: bool) -> io::Result<()> {
    let name = serde_json::Value::from(name);
    write!(out, "{}{name}:", if is_first { "" } else { "," })
}

/// Writes the end.
///
/// # Errors
/// Those of `out`.
pub fn write_tail(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(TAIL)
}

/// Writes a value. A byte-order mark before JSON is left out, since it belongs to the beginning of
/// a text alone.
///
/// # Errors
/// If `from` cannot be read, or `out` cannot be written.
pub fn write_value(out: &mut dyn Write, mut from: impl Read, form: &ValueForm) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut each = |write: &mut dyn FnMut(&[u8]) -> io::Result<()>| loop {
        match fill(&mut from, &mut chunk)? {
            0 => return Ok(()),
            read => write(&chunk[..read])?,
        }
    };
    let (media_type, key) = match form {
        ValueForm::Json => {
            out.write_all(b" ")?;
            let mut is_first = true;
            return each(&mut |bytes| {
                let bytes = bytes.strip_prefix(BOM).filter(|_| is_first).unwrap_or(bytes);
                is_first = false;
                out.write_all(bytes)
            });
        }
        ValueForm::Text(media_type) => (media_type, "text"),
        ValueForm::Bytes(media_type) => (media_type, "base64"),
    };
    let media_type = serde_json::Value::from(media_type.as_str());
    write!(out, "{{\"content_type\":{media_type},\"{key}\":\"")?;
    match form {
        ValueForm::Bytes(_) => each(&mut |bytes| out.write_all(STANDARD.encode(bytes).as_bytes()))?,
        _ => each(&mut |bytes| escape(bytes, out))?,
    }
    out.write_all(b"\"}")
}

/// Reads until a chunk is full or the input ends.
fn fill(from: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < chunk.len() {
        match from.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Writes bytes of a text as the content of a JSON string.
fn escape(mut bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    while let Some(at) = bytes.iter().position(is_special) {
        out.write_all(&bytes[..at])?;
        match bytes[at] {
            b'\n' => out.write_all(b"\\n")?,
            b'\r' => out.write_all(b"\\r")?,
            b'\t' => out.write_all(b"\\t")?,
            byte @ (b'"' | b'\\') => out.write_all(&[b'\\', byte])?,
            byte => write!(out, "\\u{byte:04x}")?,
        }
        bytes = &bytes[at + 1..];
    }
    out.write_all(bytes)
}

/// Reads a body that was written here, and calls `part` with the name and the bytes of the status
/// and of each result.
///
/// # Errors
/// Those of `part`, or if the body cannot be read or was not written here.
pub fn read_parts<R: BufRead, E: From<io::Error>>(
    mut text: R,
    mut part: impl FnMut(&str, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    expect(&mut text, HEAD)?;
    one(&mut text, STATUS, &mut part)?;
    expect(&mut text, RESULTS)?;
    loop {
        match next(&mut text)? {
            b'}' => break,
            b',' => expect(&mut text, b"\"")?,
            b'"' => {}
            _ => return Err(broken().into()),
        }
        let name = string(&mut text)?;
        expect(&mut text, b":")?;
        one(&mut text, &name, &mut part)?;
    }
    expect(&mut text, b"}")?;
    Ok(())
}

fn one<R: BufRead, E: From<io::Error>>(
    text: &mut R,
    name: &str,
    part: &mut impl FnMut(&str, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let kind = match next(text)? {
        b' ' => PartKind::Json { depth: 0, in_text: false, escaped: false },
        b'{' => {
            expect(text, b"\"content_type\":\"")?;
            string(text)?;
            expect(text, b",\"")?;
            match string(text)?.as_str() {
                "text" => PartKind::Text,
                "base64" => PartKind::Base64,
                _ => return Err(broken().into()),
            }
        }
        _ => return Err(broken().into()),
    };
    let is_json = matches!(kind, PartKind::Json { .. });
    if !is_json {
        expect(text, b":\"")?;
    }
    let mut reader = PartReader { text, kind, rest: Vec::new(), at: 0, is_done: false };
    part(name, &mut reader)?;
    io::copy(&mut reader, &mut io::sink())?;
    if !is_json {
        expect(text, b"}")?;
    }
    Ok(())
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the body of several results has another form")
}

fn next(text: &mut impl BufRead) -> io::Result<u8> {
    let byte = *text.fill_buf()?.first().ok_or_else(broken)?;
    text.consume(1);
    Ok(byte)
}

fn expect(text: &mut impl BufRead, expected: &[u8]) -> io::Result<()> {
    for byte in expected {
        if next(text)? != *byte {
            return Err(broken());
        }
    }
    Ok(())
}

/// Reads a short string up to its closing quote.
fn string(text: &mut impl BufRead) -> io::Result<String> {
    let mut raw = vec![b'"'];
    let mut escaped = false;
    loop {
        let byte = next(text)?;
        raw.push(byte);
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return serde_json::from_slice(&raw).map_err(|_| broken()),
            _ => {}
        }
        if raw.len() > 6 * MAX_NAME {
            return Err(broken());
        }
    }
}

/// The form of a part, and where in it the reader is.
enum PartKind {
    Json { depth: u64, in_text: bool, escaped: bool },
    Text,
    Base64,
}

/// The bytes of one part.
struct PartReader<'a, R> {
    text: &'a mut R,
    kind: PartKind,
    /// Bytes that are decoded and not taken yet, from `at` on.
    rest: Vec<u8>,
    at: usize,
    is_done: bool,
}

impl<R: BufRead> PartReader<'_, R> {
    /// Decodes some more bytes into `rest`.
    fn decode(&mut self) -> io::Result<()> {
        self.rest.clear();
        self.at = 0;
        match &mut self.kind {
            PartKind::Json { depth, in_text, escaped } => {
                let bytes = self.text.fill_buf()?;
                let end = bytes.iter().position(|byte| {
                    match byte {
                        _ if *escaped => *escaped = false,
                        b'\\' if *in_text => *escaped = true,
                        b'"' => *in_text = !*in_text,
                        b',' | b'}' if !*in_text && *depth == 0 => return true,
                        b'{' | b'[' if !*in_text => *depth += 1,
                        b'}' | b']' if !*in_text => *depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    false
                });
                let read = end.unwrap_or(bytes.len());
                if bytes.is_empty() {
                    return Err(broken());
                }
                self.rest.extend_from_slice(&bytes[..read]);
                self.text.consume(read);
                self.is_done = end.is_some();
            }
            PartKind::Text => {
                let bytes = self.text.fill_buf()?;
                let end = memchr::memchr2(b'"', b'\\', bytes);
                let read = end.unwrap_or(bytes.len());
                if bytes.is_empty() {
                    return Err(broken());
                }
                self.rest.extend_from_slice(&bytes[..read]);
                self.text.consume(read);
                match end.map(|_| next(self.text)).transpose()? {
                    None => {}
                    Some(b'"') => self.is_done = true,
                    Some(_) => self.rest.push(unescaped(self.text)?),
                }
            }
            PartKind::Base64 => {
                let mut encoded = Vec::new();
                while encoded.len() < CHUNK / 3 * 4 && !self.is_done {
                    let bytes = self.text.fill_buf()?;
                    if bytes.is_empty() {
                        return Err(broken());
                    }
                    let room = bytes.len().min(CHUNK / 3 * 4 - encoded.len());
                    let end = memchr::memchr(b'"', &bytes[..room]);
                    encoded.extend_from_slice(&bytes[..end.unwrap_or(room)]);
                    self.is_done = end.is_some();
                    self.text.consume(end.map_or(room, |end| end + 1));
                }
                self.rest = STANDARD.decode(encoded).map_err(|_| broken())?;
            }
        }
        Ok(())
    }
}

/// Returns the byte of an escape behind its backslash. Only those of [`escape`] occur.
fn unescaped(text: &mut impl BufRead) -> io::Result<u8> {
    Ok(match next(text)? {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        byte @ (b'"' | b'\\') => byte,
        b'u' => {
            expect(text, b"00")?;
            let digits = [next(text)?, next(text)?];
            let digits = std::str::from_utf8(&digits).map_err(|_| broken())?;
            u8::from_str_radix(digits, 16).map_err(|_| broken())?
        }
        _ => return Err(broken()),
    })
}

impl<R: BufRead> Read for PartReader<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.at == self.rest.len() && !self.is_done && !to.is_empty() {
            self.decode()?;
        }
        let taken = to.len().min(self.rest.len() - self.at);
        to[..taken].copy_from_slice(&self.rest[self.at..self.at + taken]);
        self.at += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Part = (String, Vec<u8>, ValueForm);

    fn composed(status: &[u8], parts: &[Part]) -> Vec<u8> {
        let mut out = Vec::new();
        write_head(&mut out).unwrap();
        write_value(&mut out, status, &ValueForm::Json).unwrap();
        write_results(&mut out).unwrap();
        for (at, (name, bytes, form)) in parts.iter().enumerate() {
            write_name(&mut out, name, at == 0).unwrap();
            write_value(&mut out, bytes.as_slice(), form).unwrap();
        }
        write_tail(&mut out).unwrap();
        out
    }

    fn decomposed(body: &[u8], buffer: usize) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut parts = Vec::new();
        read_parts(io::BufReader::with_capacity(buffer, body), |name, part| {
            let mut bytes = Vec::new();
            part.read_to_end(&mut bytes)?;
            parts.push((name.to_owned(), bytes));
            Ok::<_, io::Error>(())
        })?;
        Ok(parts)
    }

    #[test]
    fn the_form_is_that_of_the_contract() {
        let text = || ValueForm::Text("text/csv".to_owned());
        let parts = [
            ("a".to_owned(), b"\xef\xbb\xbf[1.0, 12345678901234567890 ,\"}\"]\n".to_vec(), ValueForm::Json),
            ("b\"".to_owned(), b"x,\"y\"\n\x01".to_vec(), text()),
            ("c".to_owned(), b"\xff\x00".to_vec(), ValueForm::Bytes("image/png".to_owned())),
            // It has the form of a text, and is none.
            ("d".to_owned(), br#"{"content_type":"text/csv","text":"z"}"#.to_vec(), ValueForm::Json),
            ("e".to_owned(), Vec::new(), text()),
        ];
        let body = composed(b"{\"n\":NaN}", &parts);
        let shown = String::from_utf8(body.clone()).unwrap();
        assert_eq!(
            shown,
            "{\"status\": {\"n\":NaN},\"results\":{\"a\": [1.0, 12345678901234567890 ,\"}\"]\n,\
             \"b\\\"\":{\"content_type\":\"text/csv\",\"text\":\"x,\\\"y\\\"\\n\\u0001\"},\
             \"c\":{\"content_type\":\"image/png\",\"base64\":\"/wA=\"},\
             \"d\": {\"content_type\":\"text/csv\",\"text\":\"z\"},\
             \"e\":{\"content_type\":\"text/csv\",\"text\":\"\"}}}"
        );
        serde_json::from_str::<serde_json::Value>(&shown.replace("NaN", "1")).unwrap();
        let found = decomposed(&body, 7).unwrap();
        assert_eq!(found[0], ("status".to_owned(), b"{\"n\":NaN}".to_vec()));
        assert_eq!(found[1].1, &parts[0].1[3..], "without the mark");
        for (found, part) in found[2..].iter().zip(&parts[1..]) {
            assert_eq!((&found.0, &found.1), (&part.0, &part.1));
        }
    }

    #[test]
    fn a_part_that_nobody_reads_is_skipped() {
        let parts = [("a".to_owned(), vec![0xff; 200_000], ValueForm::Bytes("x/y".to_owned()))];
        let mut names = Vec::new();
        read_parts(composed(b"1", &parts).as_slice(), |name, _| {
            names.push(name.to_owned());
            Ok::<_, io::Error>(())
        })
        .unwrap();
        assert_eq!(names, ["status", "a"]);
    }

    fn part() -> impl Strategy<Value = Part> {
        let json = prop_oneof![
            r#"[ \n]{0,2}\[("[a-z}\]{,]{0,5}\\\\\\"",|NaN,|\{"a":[0-9.e]{1,9}\},|\[\],){0,3} 1e400\] ?"#,
            "\"[^\"\\\\\\p{Cc}]{0,20}\"",
            "[0-9]{1,400}",
        ];
        let media_type = "[a-z]{1,9}/[a-z\"\\\\;= ]{1,9}";
        let value = prop_oneof![
            json.prop_map(|text| (text.into_bytes(), ValueForm::Json)),
            (any::<String>(), media_type).prop_map(|(text, kind)| (text.into_bytes(), ValueForm::Text(kind))),
            (prop::collection::vec(any::<u8>(), 0..300), media_type)
                .prop_map(|(bytes, kind)| (bytes, ValueForm::Bytes(kind))),
        ];
        ("[^\\p{Cc}]{1,20}", value).prop_map(|(name, (bytes, form))| (name, bytes, form))
    }

    proptest! {
        #[test]
        fn what_went_in_comes_out(parts in prop::collection::vec(part(), 0..6), buffer in 1usize..200) {
            let body = composed(b"{}", &parts);
            prop_assert!(std::str::from_utf8(&body).is_ok());
            let mut expected = vec![("status".to_owned(), b"{}".to_vec())];
            expected.extend(parts.into_iter().map(|(name, bytes, _)| (name, bytes)));
            prop_assert_eq!(decomposed(&body, buffer).unwrap(), expected);
        }

        #[test]
        fn what_is_cut_is_told(parts in prop::collection::vec(part(), 0..4), at in any::<prop::sample::Index>()) {
            let body = composed(b"{}", &parts);
            prop_assert!(decomposed(&body[..at.index(body.len())], 64).is_err());
        }
    }
}
