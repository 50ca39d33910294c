//! The output of a template: bounded, with its values escaped for its media type.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use http::HeaderValue;
use minijinja::{AutoEscape, Error, ErrorKind, HtmlEscape, Output, State, value::Value};

use crate::util::units::Size;

/// The longest text that a template may render.
pub(super) const MAX_OUTPUT: Size = Size::mib(8);

/// The name of our escaping for JSON strings. The one of minijinja writes whole JSON values.
const JSON_TEXT: &str = "json-text";

/// The kind of output, which decides how values are escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutputKind {
    /// JSON: a value is the inside of a string.
    Json,
    /// HTML or XML: a value is escaped text.
    Markup,
    /// Anything else: a value stays as it is.
    Plain,
}

impl OutputKind {
    /// Returns the kind of a media type.
    pub(super) fn of(content_type: &HeaderValue) -> Self {
        let essence = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
        let essence = essence.trim_end().to_ascii_lowercase();
        match essence.rsplit(['/', '+']).next() {
            Some("json") => Self::Json,
            Some("html" | "xml" | "xhtml") => Self::Markup,
            _ => Self::Plain,
        }
    }

    pub(super) fn escaping(self) -> AutoEscape {
        match self {
            Self::Json => AutoEscape::Custom(JSON_TEXT.into()),
            Self::Markup => AutoEscape::Html,
            Self::Plain => AutoEscape::None,
        }
    }
}

/// Prints a value, text as it is and anything else as JSON, escaped for the output.
pub(super) fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let text = text(value)?;
    match state.auto_escape() {
        _ if value.is_safe() => out.write_str(&text)?,
        AutoEscape::Custom(_) => {
            let quoted = serde_json::Value::from(&*text).to_string();
            out.write_str(&quoted[1..quoted.len() - 1])?;
        }
        AutoEscape::Html => write!(out, "{}", HtmlEscape(&text))?,
        _ => out.write_str(&text)?,
    }
    Ok(())
}

fn text(value: &Value) -> Result<Cow<'_, str>, Error> {
    if let Some(text) = value.as_str() {
        return Ok(Cow::Borrowed(text));
    }
    let mut written = Bounded::default();
    serde_json::to_writer(&mut written, value).map_err(|error| {
        let kind = if error.is_io() { ErrorKind::WriteFailure } else { ErrorKind::BadSerialization };
        Error::new(kind, error.to_string())
    })?;
    Ok(Cow::Owned(String::from_utf8_lossy(&written.0).into_owned()))
}

/// A buffer of at most [`MAX_OUTPUT`] bytes.
#[derive(Default)]
pub(super) struct Bounded(pub(super) Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.0.len() + bytes.len()) as u64 > MAX_OUTPUT.0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
