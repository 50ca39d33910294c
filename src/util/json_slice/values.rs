//! The values that a scan found.

use std::{borrow::Cow, sync::Arc};

use super::Pointers;

/// The values at the pointers of a [`Scan`](super::Scan).
#[derive(Clone, Debug)]
pub struct Values {
    pointers: Arc<Pointers>,
    places: Vec<Place>,
    /// The number of pointers whose values are unknown so far.
    open: usize,
}

#[derive(Clone, Debug, Default)]
struct Place {
    from: Option<u64>,
    to: Option<u64>,
    /// The value has ended, or cannot come any more.
    settled: bool,
    raw: Vec<u8>,
}

impl Values {
    pub(super) fn new(pointers: Arc<Pointers>) -> Self {
        let open = (0..pointers.len()).filter(|node| pointers.is_target(*node)).count();
        Self { places: vec![Place::default(); pointers.len()], open, pointers }
    }

    pub(super) fn pointers(&self) -> &Pointers {
        &self.pointers
    }

    pub(super) fn came(&self, node: usize) -> bool {
        self.places[node].from.is_some()
    }

    pub(super) fn begin(&mut self, node: usize, at: u64) {
        self.places[node].from = Some(at);
    }

    pub(super) fn append(&mut self, node: usize, bytes: &[u8]) {
        let raw = &mut self.places[node].raw;
        let room = self.pointers.limit(node).saturating_sub(raw.len());
        raw.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    pub(super) fn end(&mut self, node: usize, at: u64) {
        self.places[node].to = Some(at);
        let mut ended = vec![node];
        while let Some(node) = ended.pop() {
            if !std::mem::replace(&mut self.places[node].settled, true) && self.pointers.is_target(node) {
                self.open -= 1;
            }
            ended.extend(self.pointers.children(node));
        }
    }

    /// Whether every value is known, so that reading on would find nothing more.
    #[must_use]
    pub(crate) fn is_settled(&self) -> bool {
        self.open == 0
    }

    /// Whether the first of these pointers with a word is known.
    #[must_use]
    pub fn is_known(&self, pointers: &[String]) -> bool {
        for pointer in pointers {
            let Some(node) = self.pointers.node(pointer) else { continue };
            if !self.places[node].settled {
                return false;
            }
            if self.at(pointer).is_some_and(|raw| raw.word().is_some()) {
                return true;
            }
        }
        true
    }

    /// Returns the value at a pointer once it has ended.
    #[must_use]
    pub fn at(&self, pointer: &str) -> Option<Raw<'_>> {
        let place = &self.places[self.pointers.node(pointer)?];
        let (from, to) = (place.from?, place.to?);
        Some(Raw { bytes: &place.raw, is_cut: to - from > place.raw.len() as u64 })
    }

    /// Returns the value at the first of these pointers that has a word.
    #[must_use]
    pub fn first(&self, pointers: &[String]) -> Option<Raw<'_>> {
        pointers.iter().filter_map(|pointer| self.at(pointer)).find(|raw| raw.word().is_some())
    }

    /// Returns the value at the first of these pointers that has one, or the beginning of a value
    /// that is longer than its limit.
    #[must_use]
    pub(crate) fn first_there(&self, pointers: &[String]) -> Option<Raw<'_>> {
        pointers.iter().filter_map(|pointer| self.at(pointer)).find(|raw| raw.is_there())
    }

    /// Returns the position at which the value at a pointer begins and, once that is known, ends.
    #[must_use]
    pub fn span(&self, pointer: &str) -> Option<(u64, Option<u64>)> {
        let place = &self.places[self.pointers.node(pointer)?];
        Some((place.from?, place.to))
    }

    /// Returns the bytes of the values in memory.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.places.iter().map(|place| place.raw.capacity()).sum()
    }
}

/// A value as the text writes it, or the beginning of one that is longer than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a> {
    bytes: &'a [u8],
    is_cut: bool,
}

impl<'a> Raw<'a> {
    /// Returns the value as a word: a text, a number or a boolean. Null, `NaN` and the like, and a
    /// value that is longer than its limit are no words. A list or an object is `{}`.
    #[must_use]
    pub fn word(self) -> Option<String> {
        match self.bytes.first()? {
            b'{' | b'[' => Some("{}".to_owned()),
            _ if self.is_cut => None,
            b'"' => self.text().filter(|text| !text.is_empty()).map(Cow::into_owned),
            b't' | b'f' if self.bytes == b"true" || self.bytes == b"false" => Some(self.lossy().into_owned()),
            _ if self.is_number() => Some(self.lossy().into_owned()),
            _ => None,
        }
    }

    /// Whether the value is more than null, the like, or an empty text.
    #[must_use]
    pub(crate) fn is_there(self) -> bool {
        self.word().is_some() || (self.is_cut && (self.bytes.starts_with(b"\"") || self.is_number()))
    }

    /// Returns the characters of a string; of one that is longer than its limit, the first ones.
    #[must_use]
    pub fn text(self) -> Option<Cow<'a, str>> {
        let inner = self.bytes.strip_prefix(b"\"")?;
        Some(unescape(if self.is_cut { inner } else { inner.strip_suffix(b"\"").unwrap_or(inner) }))
    }

    /// Returns a number as the text writes it.
    #[must_use]
    pub fn number(self) -> Option<&'a str> {
        if self.is_cut || !self.is_number() { None } else { std::str::from_utf8(self.bytes).ok() }
    }

    /// Returns the characters of a string, or any other value as the text writes it, cut at its
    /// limit.
    #[must_use]
    pub fn shown(self) -> Cow<'a, str> {
        self.text().unwrap_or_else(|| self.lossy())
    }

    /// Returns the members of an object in their order, with both of two that have one name. `None`
    /// for any other value, and for one that is longer than its limit.
    #[must_use]
    pub(crate) fn members(self) -> Option<Vec<(String, Raw<'a>)>> {
        let mut rest = self.bytes.strip_prefix(b"{").filter(|_| !self.is_cut)?;
        let mut members = Vec::new();
        loop {
            let skip = rest.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b',')?;
            rest = &rest[skip..];
            if rest[0] == b'}' {
                return Some(members);
            }
            let (name, after) = rest.split_at(value_len(rest));
            let skip = after.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b':')?;
            let (value, after) = after[skip..].split_at(value_len(&after[skip..]));
            let raw = |bytes| Self { bytes, is_cut: false };
            members.push((raw(name).text()?.into_owned(), raw(value)));
            rest = after;
        }
    }

    /// Returns the items of a list as the text writes them. `None` for any other value, and for one
    /// that is longer than its limit.
    #[must_use]
    pub(crate) fn elements(self) -> Option<Vec<&'a [u8]>> {
        let mut rest = self.bytes.strip_prefix(b"[").filter(|_| !self.is_cut)?;
        let mut items = Vec::new();
        loop {
            let skip = rest.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b',')?;
            rest = &rest[skip..];
            if rest[0] == b']' {
                return Some(items);
            }
            let (item, after) = rest.split_at(value_len(rest));
            items.push(item);
            rest = after;
        }
    }

    /// Returns the bytes of the value.
    #[cfg(test)]
    pub(super) fn lossless(self) -> &'a [u8] {
        self.bytes
    }

    fn is_number(self) -> bool {
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        self.bytes.iter().all(is_part) && self.bytes.iter().any(u8::is_ascii_digit)
    }

    fn lossy(self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.bytes)
    }
}

/// Returns the length of the value at the beginning of a text that was read before.
fn value_len(bytes: &[u8]) -> usize {
    let is_scalar = !matches!(bytes.first(), Some(b'{' | b'[' | b'"'));
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b',' | b'}' | b']' | b':' if is_scalar => return at,
            _ if is_scalar && byte.is_ascii_whitespace() => return at,
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if !is_scalar && depth == 0 && !in_text {
            return at + 1;
        }
    }
    bytes.len()
}

/// Returns the characters of a string. A lone surrogate and bytes that are not UTF-8 become U+FFFD.
/// An unknown escape is the character behind the backslash.
pub(crate) fn unescape(bytes: &[u8]) -> Cow<'_, str> {
    if !bytes.contains(&b'\\') {
        return String::from_utf8_lossy(bytes);
    }
    let mut text = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        text.extend_from_slice(&rest[..at]);
        let (kind, after) = match &rest[at + 1..] {
            [kind, after @ ..] => (*kind, after),
            [] => (b'\\', &[][..]),
        };
        rest = after;
        let plain = match kind {
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'u' => {
                let (unit, after) = code_point(rest);
                rest = after;
                unit
            }
            _ => {
                text.push(kind);
                continue;
            }
        };
        text.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
    }
    text.extend_from_slice(rest);
    Cow::Owned(String::from_utf8_lossy(&text).into_owned())
}

/// Returns the character of the digits behind `\u`, with those of a second half if there is one.
fn code_point(bytes: &[u8]) -> (char, &[u8]) {
    let hex = |bytes: &[u8]| {
        let digits = bytes.get(..4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let Some(first) = hex(bytes) else { return (char::REPLACEMENT_CHARACTER, bytes) };
    let rest = &bytes[4..];
    let second = rest.strip_prefix(b"\\u").and_then(hex);
    let (character, len) = match char::decode_utf16([first].into_iter().chain(second)).next() {
        Some(Ok(character)) => (character, character.len_utf16()),
        _ => (char::REPLACEMENT_CHARACTER, 1),
    };
    (character, if len == 2 { &rest[6..] } else { rest })
}
