//! The job as a template sees it, parsed as tolerantly as in the rest of the daemon.
//! `serde_json::Value` would turn integers beyond 64 bits into floats, and its feature that keeps
//! them would change all other users.

use std::{collections::HashSet, sync::Arc};

use minijinja::value::Value;

use crate::util::json_slice::{Pointers, Scan, unescape};

/// The deepest nesting of a job.
const MAX_DEPTH: usize = 2000;

/// The most values of a job. A list or an object counts as many as it takes of the memory of a
/// number.
const MAX_VALUES: usize = 500_000;
const CONTAINER: usize = 5;

/// A list or an object that is not closed yet.
enum Open {
    List(Vec<Value>),
    Object { pairs: Vec<(Value, Value)>, names: HashSet<String>, name: Option<String> },
}

/// Parses a JSON text. Integers of up to 128 bits are exact, other numbers are 64-bit floats. Of
/// two members with one name the first counts.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, String> {
    let mut scan = Scan::new(&Arc::new(Pointers::new([])));
    scan.push(bytes).and_then(|()| scan.finish()).map_err(|error| error.to_string())?;
    measure(bytes)?;
    Ok(value(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)))
}

/// Checks [`MAX_VALUES`] and [`MAX_DEPTH`] before any value is made.
fn measure(bytes: &[u8]) -> Result<(), String> {
    let (mut left, mut depth, mut in_text, mut escaped) = (MAX_VALUES, 0_usize, false, false);
    for byte in bytes {
        let cost = match byte {
            _ if escaped => {
                escaped = false;
                0
            }
            b'\\' if in_text => {
                escaped = true;
                0
            }
            b'"' => {
                in_text = !in_text;
                0
            }
            b'{' | b'[' if !in_text => {
                depth += 1;
                CONTAINER
            }
            b'}' | b']' if !in_text => {
                depth = depth.saturating_sub(1);
                0
            }
            b',' if !in_text => 1,
            _ => 0,
        };
        if depth > MAX_DEPTH {
            return Err(format!("it is nested more than {MAX_DEPTH} levels deep"));
        }
        left = left.checked_sub(cost).ok_or("it holds more values than a template may read")?;
    }
    Ok(())
}

/// Returns the value of a well-formed text.
fn value(bytes: &[u8]) -> Value {
    let mut open: Vec<Open> = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let done = match byte {
            b'{' => {
                open.push(Open::Object { pairs: Vec::new(), names: HashSet::new(), name: None });
                None
            }
            b'[' => {
                open.push(Open::List(Vec::new()));
                None
            }
            b'}' | b']' => open.pop().map(Open::close),
            b'"' => {
                let length = text_length(&bytes[at + 1..]);
                let text = unescape(&bytes[at + 1..at + 1 + length]);
                at += length + 1;
                match open.last_mut() {
                    Some(Open::Object { name: name @ None, .. }) => {
                        *name = Some(text.into_owned());
                        None
                    }
                    _ => Some(Value::from(text.into_owned())),
                }
            }
            b',' | b':' => None,
            byte if byte.is_ascii_whitespace() => None,
            _ => {
                let length = bytes[at..].iter().position(|byte| ends_word(*byte)).unwrap_or(bytes.len() - at);
                let word = String::from_utf8_lossy(&bytes[at..at + length]);
                at += length - 1;
                Some(of_word(&word))
            }
        };
        at += 1;
        match (done, open.last_mut()) {
            (None, _) => {}
            (Some(value), None) => return value,
            (Some(value), Some(container)) => container.add(value),
        }
    }
    Value::from(())
}

impl Open {
    fn add(&mut self, value: Value) {
        match self {
            Self::List(items) => items.push(value),
            Self::Object { pairs, names, name } => {
                if let Some(name) = name.take()
                    && names.insert(name.clone())
                {
                    pairs.push((Value::from(name), value));
                }
            }
        }
    }

    fn close(self) -> Value {
        match self {
            Self::List(items) => Value::from(items),
            Self::Object { pairs, .. } => Value::from_pairs(pairs),
        }
    }
}

/// Returns the length of a string up to its closing quote.
fn text_length(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[at..]) {
        if bytes[at + found] == b'"' {
            return at + found;
        }
        at = (at + found + 2).min(bytes.len());
    }
    bytes.len()
}

fn ends_word(byte: u8) -> bool {
    matches!(byte, b',' | b':' | b']' | b'}' | b'[' | b'{' | b'"') || byte.is_ascii_whitespace()
}

/// Returns the value of a word without quotes. An unknown word is a text.
fn of_word(text: &str) -> Value {
    match text {
        "true" => return Value::from(true),
        "false" => return Value::from(false),
        "null" => return Value::from(()),
        _ => {}
    }
    if let Ok(whole) = text.parse::<i128>() {
        // minijinja expects the smallest type that fits.
        return i64::try_from(whole).map_or_else(|_| Value::from(whole), Value::from);
    }
    if let Ok(whole) = text.parse::<u128>() {
        return Value::from(whole);
    }
    text.parse::<f64>().map_or_else(|_| Value::from(text), Value::from)
}
