//! Finds one value in a JSON text that may be larger than memory, and gives out its bytes as they are.

use std::io::{self, BufRead, Write};

/// Deeper values are passed over like any other, but a pointer longer than this finds nothing.
const MAX_TOKENS: usize = 64;

/// Copies the bytes of the value at `pointer` (RFC 6901) to `out`; `false` when there is none. The text has to be JSON that was
/// checked: what is not may be cut anywhere. Of two members with one name the first counts.
///
/// # Errors
/// When the text cannot be read, or ends within the value, or `out` cannot be written.
pub fn copy_value(text: impl BufRead, pointer: &str, out: &mut impl Write) -> io::Result<bool> {
    let tokens: Vec<String> =
        pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
    if tokens.len() > MAX_TOKENS {
        return Ok(false);
    }
    let mut scanner = Scanner { text };
    for token in &tokens {
        let found = match scanner.peek()? {
            Some(b'{') => scanner.enter_member(token)?,
            Some(b'[') => scanner.enter_element(token)?,
            _ => false,
        };
        if !found {
            return Ok(false);
        }
    }
    scanner.copy(out)?;
    Ok(true)
}

struct Scanner<R> {
    text: R,
}

impl<R: BufRead> Scanner<R> {
    /// The next byte that is no white space; it stays.
    fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            let Some(byte) = self.text.fill_buf()?.first().copied() else { return Ok(None) };
            if !byte.is_ascii_whitespace() {
                return Ok(Some(byte));
            }
            self.text.consume(1);
        }
    }

    fn peeked(&mut self) -> io::Result<u8> {
        self.peek()?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Goes to the value of a member; `false` at the end of the object.
    fn enter_member(&mut self, name: &str) -> io::Result<bool> {
        self.text.consume(1);
        loop {
            match self.peeked()? {
                b'}' => return Ok(false),
                b',' => self.text.consume(1),
                _ => {
                    let mut key = Vec::new();
                    self.copy(&mut key)?;
                    // The colon.
                    self.peeked()?;
                    self.text.consume(1);
                    if serde_json::from_slice::<String>(&key).is_ok_and(|key| key == name) {
                        return Ok(true);
                    }
                    self.copy(&mut io::sink())?;
                }
            }
        }
    }

    /// Goes to an element of a list; `false` when it has fewer.
    fn enter_element(&mut self, index: &str) -> io::Result<bool> {
        let is_plain = index == "0" || !index.starts_with(['0', '+']);
        let Some(mut left) = index.parse::<u64>().ok().filter(|_| is_plain) else { return Ok(false) };
        self.text.consume(1);
        loop {
            match self.peeked()? {
                b']' => return Ok(false),
                b',' => self.text.consume(1),
                _ if left == 0 => return Ok(true),
                _ => {
                    self.copy(&mut io::sink())?;
                    left -= 1;
                }
            }
        }
    }

    /// Copies one value, from here to its last byte.
    fn copy(&mut self, out: &mut impl Write) -> io::Result<()> {
        let (mut depth, mut in_string, mut escaped) = (0_u64, false, false);
        let is_scalar = !matches!(self.peeked()?, b'{' | b'[' | b'"');
        loop {
            let buffer = self.text.fill_buf()?;
            if buffer.is_empty() {
                // A number at the end of the text has nothing behind it.
                return if is_scalar { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            let mut end = None;
            for (at, byte) in buffer.iter().enumerate() {
                match byte {
                    _ if is_scalar => end = ends_scalar(*byte).then_some(at),
                    _ if escaped => escaped = false,
                    b'\\' if in_string => escaped = true,
                    b'"' => in_string = !in_string,
                    b'{' | b'[' if !in_string => depth += 1,
                    b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
                    _ => {}
                }
                if !is_scalar && depth == 0 && !in_string {
                    end = Some(at + 1);
                }
                if end.is_some() {
                    break;
                }
            }
            let used = end.unwrap_or(buffer.len());
            out.write_all(&buffer[..used])?;
            self.text.consume(used);
            if end.is_some() {
                return Ok(());
            }
        }
    }
}

/// Whether a byte is behind a number or a word.
fn ends_scalar(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b',' | b'}' | b']')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn slice(text: &str, pointer: &str, buffer: usize) -> Option<String> {
        let mut out = Vec::new();
        let reader = io::BufReader::with_capacity(buffer, text.as_bytes());
        copy_value(reader, pointer, &mut out).unwrap().then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_bytes_are_those_of_the_text() {
        let text = r#" {"a\/b" : {"x\"}":[ 1e-400 , {"y":"]\\"} ,12345678901234567890.0 ]},"c":tru"#
            .to_owned()
            + "e }";
        assert_eq!(slice(&text, "/a~1b/x\"}/0", 3).as_deref(), Some("1e-400"));
        assert_eq!(slice(&text, "/a~1b/x\"}/1", 1).as_deref(), Some(r#"{"y":"]\\"}"#));
        assert_eq!(slice(&text, "/a~1b/x\"}/2", 8).as_deref(), Some("12345678901234567890.0"));
        assert_eq!(slice(&text, "/c", 8).as_deref(), Some("true"));
        for none in ["/d", "/c/x", "/a~1b/x\"}/3", "/a~1b/x\"}/01", "/a~1b/x\"}/-", "/a~1b/x\"}/+1"] {
            assert_eq!(slice(&text, none, 8), None, "{none}");
        }
        assert_eq!(slice("17", "", 1).as_deref(), Some("17"));
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[a-c~/\"]{0,2}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
        found.push(at.to_owned());
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| {
                let token = key.replace('~', "~0").replace('/', "~1");
                pointers(value, &format!("{at}/{token}"), found);
            }),
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(i, value)| pointers(value, &format!("{at}/{i}"), found));
            }
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn every_value_is_found(value in json(), buffer in 1usize..20, pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let mut all = Vec::new();
            pointers(&value, "", &mut all);
            for pointer in all {
                let found = slice(&text, &pointer, buffer).unwrap();
                let read: Option<Value> = serde_json::from_str(&found).ok();
                prop_assert_eq!(read.as_ref(), value.pointer(&pointer));
            }
        }
    }
}
