//! How a template's values are written: escaped for what the output is.

use std::borrow::Cow;

use http::HeaderValue;
use minijinja::{AutoEscape, Error, ErrorKind, HtmlEscape, Output, State, value::Value};

use super::render::Bounded;

/// The name of our escaping for JSON; that of minijinja writes whole JSON values.
const JSON_TEXT: &str = "json-text";

/// What the output is, as far as it matters to a value in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutputKind {
    /// JSON: a value is text for the inside of a string.
    Json,
    /// HTML or XML: a value is text without markup.
    Markup,
    /// Anything else: a value is what it is.
    Plain,
}

impl OutputKind {
    /// What a media type asks for.
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

/// Prints a value: text as it is, anything else as its JSON, and both so that they can stand where text stands.
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
