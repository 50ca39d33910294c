//! Reads JSON as it arrives, and keeps the values at a few pointers (RFC 6901). The memory depends
//! neither on the length nor on the shape of the text.
//!
//! The reader accepts what careless sources send: a byte-order mark, `NaN` and other bare words,
//! numbers of any length, lone surrogates, bytes that are not UTF-8, and any depth. Of two members
//! with one name the first counts. The structure must be right: an HTML page, a text that is cut,
//! and one that continues behind its value are not JSON.

use std::{
    io::{self, BufRead, Write},
    sync::Arc,
};

mod items;
mod pointers;
mod values;

pub use items::ItemScan;
pub use pointers::Pointers;
pub use values::{Raw, Values};

pub(crate) use values::unescape;

/// The greatest depth at which lists and objects are told apart. Deeper levels are only counted.
const MAX_DEPTH: usize = 1 << 23;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// The reason why a text is not JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotJson {
    /// The text holds only white space.
    #[error("it is empty")]
    Empty,
    /// A byte is in a wrong place.
    #[error("unexpected {} at byte {at}", shown(*.byte))]
    Unexpected {
        /// The byte.
        byte: u8,
        /// The number of bytes before it.
        at: u64,
    },
    /// Text follows the value.
    #[error("its value ends before byte {at}, and more follows")]
    Trailing {
        /// The number of bytes before that text.
        at: u64,
    },
    /// The text ends within its value.
    #[error("it ends after {at} bytes, within its value")]
    Cut {
        /// Its length.
        at: u64,
    },
}

fn shown(byte: u8) -> String {
    if byte.is_ascii_graphic() { format!("`{}`", char::from(byte)) } else { format!("byte 0x{byte:02x}") }
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// The number of bytes of a byte-order mark so far.
    Start(usize),
    /// A value must follow, or the end of a list that may be empty.
    Value {
        may_end: bool,
    },
    /// A name must follow, or the end of an object that may be empty.
    Name {
        may_end: bool,
    },
    Colon,
    /// A value has ended.
    Behind,
    Text {
        is_name: bool,
        escaped: bool,
    },
    Word(Word),
    /// Below [`MAX_DEPTH`].
    Deep {
        levels: u64,
        in_text: bool,
        escaped: bool,
    },
}

/// A number, or a word without quotes.
#[derive(Clone, Copy, Debug)]
struct Word {
    head: [u8; 9],
    len: usize,
    is_number: bool,
}

/// A value that is being kept: its place among the pointers, and its beginning in the present
/// bytes.
#[derive(Clone, Copy, Debug)]
struct Kept {
    node: usize,
    start: usize,
}

/// A container that a pointer leads to or through.
#[derive(Clone, Copy, Debug)]
struct Level {
    node: usize,
    index: u64,
}

/// The reading of one text.
#[derive(Debug)]
pub struct Scan {
    values: Values,
    state: State,
    /// The containers around the position, as far as pointers lead. The last one is the current
    /// container if their number is `depth`.
    path: Vec<Level>,
    depth: usize,
    /// One bit for each level: whether it is an object.
    objects: Vec<u64>,
    /// The name of a member, as the text writes it.
    name: Option<Vec<u8>>,
    /// The place of the next value, or of the current number, word or string.
    node: Option<usize>,
    kept: Vec<Kept>,
    offset: u64,
    error: Option<NotJson>,
}

impl Scan {
    /// Begins to read a text.
    #[must_use]
    pub fn new(pointers: &Arc<Pointers>) -> Self {
        Self {
            values: Values::new(Arc::clone(pointers)),
            state: State::Start(0),
            path: Vec::new(),
            depth: 0,
            objects: Vec::new(),
            name: None,
            node: None,
            kept: Vec::new(),
            offset: 0,
            error: None,
        }
    }

    /// Returns the values found so far.
    #[must_use]
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Returns the values found so far, and ends the reading.
    #[must_use]
    pub fn into_values(self) -> Values {
        self.values
    }

    /// Returns the number of bytes read so far.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.offset
    }

    /// Reads the next bytes.
    ///
    /// # Errors
    /// When the text is not JSON, now and at every later call.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), NotJson> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let mut at = 0;
        while at < bytes.len() {
            match self.step(bytes, at) {
                Ok(next) => at = next,
                Err(error) => {
                    self.error = Some(error.clone());
                    return Err(error);
                }
            }
        }
        for kept in &mut self.kept {
            self.values.append(kept.node, &bytes[kept.start..]);
            kept.start = 0;
        }
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Records the end of the text.
    ///
    /// # Errors
    /// When the text is not JSON, or is cut.
    pub fn finish(&mut self) -> Result<(), NotJson> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        if let State::Word(word) = self.state {
            self.end_word(word, &[], 0)?;
        }
        match self.state {
            State::Behind if self.depth == 0 => Ok(()),
            State::Start(0 | 3) | State::Value { .. } if self.depth == 0 => Err(NotJson::Empty),
            _ => Err(NotJson::Cut { at: self.offset }),
        }
    }

    /// Reads one token, or a part of one, from `at`. Returns the position behind it.
    fn step(&mut self, bytes: &[u8], at: usize) -> Result<usize, NotJson> {
        match self.state {
            State::Text { is_name, escaped } => return Ok(self.text(bytes, at, is_name, escaped)),
            State::Word(word) => return self.word(bytes, at, word),
            State::Deep { levels, in_text, escaped } => {
                self.deep(bytes[at], levels, in_text, escaped);
                return Ok(at + 1);
            }
            _ => {}
        }
        let byte = bytes[at];
        let unexpected = Err(NotJson::Unexpected { byte, at: self.offset + at as u64 });
        if let State::Start(came) = self.state {
            if BOM.get(came) == Some(&byte) {
                self.state = State::Start(came + 1);
                return Ok(at + 1);
            }
            if !matches!(came, 0 | 3) {
                return unexpected;
            }
            self.state = State::Value { may_end: false };
        }
        if byte.is_ascii_whitespace() {
            return Ok(at + 1);
        }
        match (self.state, byte) {
            (State::Value { may_end: true }, b']') | (State::Name { may_end: true }, b'}') => {
                self.close(bytes, at);
            }
            (State::Value { .. }, b'{' | b'[') => self.open(byte == b'{', at),
            (State::Value { .. }, b'"') => {
                self.begin(at);
                self.state = State::Text { is_name: false, escaped: false };
            }
            (State::Value { .. }, _) if is_word(byte) => {
                self.begin(at);
                self.state = State::Word(Word { head: [0; 9], len: 0, is_number: starts_number(byte) });
                return Ok(at);
            }
            (State::Name { .. }, b'"') => {
                self.name = self.is_on_a_path().then(Vec::new);
                self.state = State::Text { is_name: true, escaped: false };
            }
            (State::Colon, b':') => self.state = State::Value { may_end: false },
            (State::Behind, _) if self.depth == 0 => {
                return Err(NotJson::Trailing { at: self.offset + at as u64 });
            }
            (State::Behind, b',') => {
                self.state = match self.in_object() {
                    true => State::Name { may_end: false },
                    false => State::Value { may_end: false },
                };
            }
            (State::Behind, b'}') if self.in_object() => self.close(bytes, at),
            (State::Behind, b']') if !self.in_object() => self.close(bytes, at),
            _ => return unexpected,
        }
        Ok(at + 1)
    }

    fn text(&mut self, bytes: &[u8], mut at: usize, is_name: bool, mut escaped: bool) -> usize {
        let start = at;
        let end = loop {
            if escaped {
                if at == bytes.len() {
                    break None;
                }
                (escaped, at) = (false, at + 1);
            }
            match memchr::memchr2(b'"', b'\\', &bytes[at..]) {
                None => break None,
                Some(found) if bytes[at + found] == b'"' => break Some(at + found),
                Some(found) => (escaped, at) = (true, at + found + 1),
            }
        };
        let part = &bytes[start..end.unwrap_or(bytes.len())];
        if let Some(name) = self.name.as_mut().filter(|_| is_name) {
            // A name that is too long for every pointer is dropped.
            match name.len() + part.len() > self.values.pointers().longest_name() {
                true => self.name = None,
                false => name.extend_from_slice(part),
            }
        }
        let Some(end) = end else {
            self.state = State::Text { is_name, escaped };
            return bytes.len();
        };
        if is_name {
            self.node = self.name.take().and_then(|name| self.member(&unescape(&name)));
            self.state = State::Colon;
        } else {
            self.end(self.node, bytes, end + 1);
        }
        end + 1
    }

    fn word(&mut self, bytes: &[u8], at: usize, mut word: Word) -> Result<usize, NotJson> {
        let rest = &bytes[at..];
        let len = rest.iter().position(|byte| !is_word(*byte)).unwrap_or(rest.len());
        for byte in &rest[..len] {
            if let Some(place) = word.head.get_mut(word.len) {
                *place = *byte;
            }
            word.len = word.len.saturating_add(1);
            word.is_number &= matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        }
        match len == rest.len() {
            true => self.state = State::Word(word),
            false => self.end_word(word, bytes, at + len)?,
        }
        Ok(at + len)
    }

    /// Checks a bare word. Within a value any word is valid; a word that is the whole text must be
    /// a usual one.
    fn end_word(&mut self, word: Word, bytes: &[u8], end: usize) -> Result<(), NotJson> {
        let known = [&b"true"[..], b"false", b"null", b"NaN", b"Infinity", b"-Infinity"];
        let is_known = word.head.get(..word.len).is_some_and(|head| known.contains(&head));
        if self.depth == 0 && !word.is_number && !is_known {
            let before = self.offset + end as u64 - word.len as u64;
            return Err(NotJson::Unexpected { byte: word.head[0], at: before });
        }
        self.end(self.node, bytes, end);
        Ok(())
    }

    fn deep(&mut self, byte: u8, mut levels: u64, mut in_text: bool, mut escaped: bool) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => levels += 1,
            b'}' | b']' if !in_text => levels -= 1,
            _ => {}
        }
        self.state = match levels {
            0 => State::Behind,
            _ => State::Deep { levels, in_text, escaped },
        };
    }

    /// Begins a value at `at`, and records its place.
    fn begin(&mut self, at: usize) {
        let depth = self.depth;
        let is_inside = self.path.len() == depth;
        let node = match self.path.last_mut().filter(|_| is_inside) {
            _ if depth == 0 => Some(0),
            Some(level) if !in_object(&self.objects, depth) => {
                level.index += 1;
                self.values.pointers().element(level.node, level.index - 1)
            }
            Some(_) => self.node.take(),
            None => None,
        };
        self.node = node;
        if let Some(node) = node {
            self.values.begin(node, self.offset + at as u64);
            if self.values.pointers().is_target(node) {
                self.kept.push(Kept { node, start: at });
            }
        }
    }

    fn open(&mut self, is_object: bool, at: usize) {
        self.begin(at);
        let node = self.node.take();
        if self.depth == MAX_DEPTH {
            self.state = State::Deep { levels: 1, in_text: false, escaped: false };
            return;
        }
        if let Some(node) = node {
            self.path.push(Level { node, index: 0 });
        }
        let (place, bit) = (self.depth / 64, 1 << (self.depth % 64));
        if place == self.objects.len() {
            self.objects.push(0);
        }
        if is_object {
            self.objects[place] |= bit;
        } else {
            self.objects[place] &= !bit;
        }
        self.depth += 1;
        self.state = match is_object {
            true => State::Name { may_end: true },
            false => State::Value { may_end: true },
        };
    }

    fn close(&mut self, bytes: &[u8], at: usize) {
        let level = if self.path.len() == self.depth { self.path.pop() } else { None };
        self.depth -= 1;
        self.end(level.map(|level| level.node), bytes, at + 1);
    }

    /// Ends the value that belongs to `node`.
    fn end(&mut self, node: Option<usize>, bytes: &[u8], end: usize) {
        self.state = State::Behind;
        self.node = None;
        let Some(node) = node else { return };
        if self.values.pointers().is_target(node)
            && let Some(kept) = self.kept.pop()
        {
            self.values.append(node, &bytes[kept.start..end]);
        }
        self.values.end(node, self.offset + end as u64);
    }

    fn in_object(&self) -> bool {
        in_object(&self.objects, self.depth)
    }

    /// Whether a pointer leads to a member of the current object.
    fn is_on_a_path(&self) -> bool {
        let level = self.path.last().filter(|_| self.path.len() == self.depth);
        level.is_some_and(|level| self.values.pointers().is_inner(level.node))
    }

    /// Returns the place of the member with this name; `None` for a name that came before.
    fn member(&self, name: &str) -> Option<usize> {
        let node = self.values.pointers().member(self.path.last()?.node, name)?;
        (!self.values.came(node)).then_some(node)
    }
}

fn in_object(objects: &[u64], depth: usize) -> bool {
    let Some(level) = depth.checked_sub(1) else { return false };
    objects.get(level / 64).is_some_and(|word| word >> (level % 64) & 1 == 1)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_')
}

fn starts_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.')
}

/// Copies the bytes of the value at `pointer` to `out`. Returns `false` if the text has no such
/// value.
///
/// # Errors
/// When the text cannot be read, is not JSON or ends within the value, or `out` cannot be written.
pub(crate) fn copy_value(mut text: impl BufRead, pointer: &str, out: &mut impl Write) -> io::Result<bool> {
    let mut scan = Scan::new(&Arc::new(Pointers::new([(pointer, 0)])));
    while !scan.values().is_settled() {
        let bytes = text.fill_buf()?;
        let before = scan.read();
        if bytes.is_empty() {
            scan.finish().map_err(io::Error::other)?;
            break;
        }
        // Behind the value the text may hold anything.
        let pushed = scan.push(bytes);
        if !scan.values().is_settled() {
            pushed.map_err(io::Error::other)?;
        }
        if let Some((from, to)) = scan.values().span(pointer) {
            let place =
                |at: u64| usize::try_from(at.saturating_sub(before)).unwrap_or(usize::MAX).min(bytes.len());
            out.write_all(&bytes[place(from)..to.map_or(bytes.len(), place)])?;
        }
        let read = bytes.len();
        text.consume(read);
    }
    Ok(scan.values().span(pointer).is_some())
}

#[cfg(test)]
mod tests;
