//! Escapes text of peers, sources, jobs and callers for a terminal or a log.
//!
//! Such text may hold escape sequences that drive a terminal, line breaks that forge a log line,
//! and controls that turn the reading order around. This module alone writes it. It shows such
//! characters as JSON writes them, `\u001b`, which is the same text to every reader of JSON.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    io,
};

use tracing::field::Field;
use tracing_subscriber::fmt::{MakeWriter, format::Writer};

/// Whether a character moves the cursor, breaks a line, or changes the reading order.
const fn is_unsafe(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
            // Arabic letter mark, left-to-right and right-to-left marks.
            | '\u{61c}' | '\u{200e}' | '\u{200f}'
            // Line and paragraph separators, embeddings and overrides.
            | '\u{2028}'..='\u{202e}'
            // Isolates.
            | '\u{2066}'..='\u{2069}'
    )
}

/// Whether a character belongs to the layout around foreign text.
const fn is_layout(character: char) -> bool {
    matches!(character, '\n' | '\t')
}

/// Returns `text` on one line, with every unsafe character escaped.
#[must_use]
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    escape_but(text, |_| false)
}

/// Returns `text` with every unsafe character escaped except line breaks and tabs.
#[must_use]
pub fn escape_lines(text: &str) -> Cow<'_, str> {
    escape_but(text, is_layout)
}

fn escape_but(text: &str, keeps: impl Fn(char) -> bool) -> Cow<'_, str> {
    let escapes = |character: char| is_unsafe(character) && !keeps(character);
    if !text.contains(escapes) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' if escapes(character) => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' if escapes(character) => escaped.push_str("\\t"),
            _ if escapes(character) => {
                // A string takes all that is written.
                let _ = write!(escaped, "\\u{:04x}", u32::from(character));
            }
            _ => escaped.push(character),
        }
    }
    Cow::Owned(escaped)
}

/// A formatter that escapes what is written through it.
struct Escaping<'a, W>(&'a mut W);

impl<W: fmt::Write> fmt::Write for Escaping<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&escape(text))
    }
}

/// Writes a field of a log line: the message alone, any other field after a space and with its name. Leaves out where in its
/// source another crate logged the line.
///
/// # Errors
/// Those of `writer`.
pub(crate) fn log_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match field.name() {
        "message" => {}
        name if name.starts_with("log.") => return Ok(()),
        name => write!(writer, " {}=", name.trim_start_matches("r#"))?,
    }
    write!(Escaping(writer), "{value:?}")
}

/// Escapes everything that is written through it except line breaks and tabs. JSON stays the same
/// JSON.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<W>(pub W);

impl<W: io::Write> io::Write for Escaped<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        // A line goes out in one piece, so that lines of several threads do not mix.
        let escaped = |text| escape_lines(text).into_owned();
        if let Ok(text) = std::str::from_utf8(bytes) {
            return self.0.write_all(escape_lines(text).as_bytes());
        }
        let chunks = bytes.utf8_chunks();
        let parts = chunks.flat_map(|chunk| [escaped(chunk.valid()).into_bytes(), chunk.invalid().to_vec()]);
        self.0.write_all(&parts.collect::<Vec<_>>().concat())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Escaped<M> {
    type Writer = Escaped<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Escaped(self.0.make_writer())
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, sync::Arc};

    use proptest::prelude::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn what_drives_a_terminal_is_shown_and_not_obeyed() {
        for (text, shown) in [
            ("plain", "plain"),
            ("a\u{1b}[31mb", "a\\u001b[31mb"),
            ("a\r\nERROR forged", "a\\r\\nERROR forged"),
            ("\0\u{7}\u{8}\t", "\\u0000\\u0007\\u0008\\t"),
            ("\u{9b}31m\u{7f}", "\\u009b31m\\u007f"),
            ("exe\u{202e}txt.\u{2066}x\u{2069}", "exe\\u202etxt.\\u2066x\\u2069"),
            ("\u{61c}\u{200e}\u{200f}", "\\u061c\\u200e\\u200f"),
            ("line\u{2028}paragraph\u{2029}", "line\\u2028paragraph\\u2029"),
            ("héllo → 世界 👩\u{200d}💻", "héllo → 世界 👩\u{200d}💻"),
            ("\\n stays", "\\n stays"),
        ] {
            assert_eq!(escape(text), shown, "{text:?}");
        }
        assert_eq!(escape_lines("a\tb\nc\rd"), "a\tb\nc\\rd");
    }

    #[test]
    fn a_log_line_of_another_crate_does_not_say_where_that_was_built() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let layer =
            tracing_subscriber::fmt::layer().with_writer(Arc::new(file.reopen().unwrap())).without_time();
        let fields = tracing_subscriber::fmt::format::debug_fn(log_field);
        let layer = layer.with_ansi(false).with_target(false).fmt_fields(fields);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(log.file = "src/connection.rs", log.line = 351, job_id = "job_1", "said");
        });
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), " INFO said job_id=\"job_1\"\n");
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_left(text in "[\\p{Cc}\\p{Cf}\\u{2028}\\u{2029}aé]{1,20}") {
            prop_assert!(!escape(&text).contains(is_unsafe));
        }

        /// Escaping changes the text of JSON, and not its value.
        #[test]
        fn json_stays_the_same_json(text in "[\\p{Cc}\\p{Cf}\\u{2028}a\"\\\\]{0,20}", lines in any::<bool>()) {
            let value = serde_json::json!({ &text: [&text] });
            let json =
                if lines { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let mut written = Escaped(Vec::new());
            written.write_all(json.as_bytes()).unwrap();
            let written = String::from_utf8(written.0).unwrap();
            prop_assert!(!written.contains(|c| is_unsafe(c) && !is_layout(c)), "{}", written);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap(), value);
        }
    }

    #[test]
    fn bytes_that_are_no_text_pass() {
        let mut written = Escaped(Vec::new());
        written.write_all(b"\xff\x1b\xc2").unwrap();
        assert_eq!(written.0, b"\xff\\u001b\xc2");
    }
}
