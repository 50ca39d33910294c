//! Reads templates, and checks their text.

use std::collections::BTreeMap;

use super::{Part, Template, form::Form};

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// A message for the operator, if a brace is not closed or a placeholder is of no known form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let (before, inside) = rest.split_at(open);
            let close = inside.find('}').ok_or_else(|| "a `{` is not closed".to_owned())?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(placeholder(&inside[1..close])?);
            rest = &inside[close + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        if let [Part::Var { form, .. } | Part::Body { form, .. }] = parts.as_mut_slice() {
            *form = Form::Whole;
        }
        check_text(&parts)?;
        match parts.first() {
            None => Err("it is empty".to_owned()),
            Some(Part::Text(text)) if !text.starts_with('/') && !is_absolute(text) => {
                Err("it begins with / or with http:// or https://".to_owned())
            }
            Some(Part::Var { .. } | Part::Body { .. }) if parts.len() > 1 => {
                Err("a placeholder at the beginning has to be all of it".to_owned())
            }
            Some(_) => Ok(Self { parts }),
        }
    }

    /// Returns the values of the placeholders if this template could have made the path.
    #[must_use]
    pub fn matches(&self, path: &str) -> Option<BTreeMap<String, String>> {
        let mut found = BTreeMap::new();
        let mut rest = path;
        let mut parts = self.parts.iter().peekable();
        while let Some(part) = parts.next() {
            match part {
                Part::Text(text) => rest = rest.strip_prefix(text.as_str())?,
                Part::Body { .. } => return None,
                Part::Var { name, form } => {
                    let end = match parts.peek() {
                        Some(Part::Text(text)) => rest.find(text.as_str())?,
                        _ => rest.len(),
                    };
                    let (value, after) = rest.split_at(end);
                    if value.is_empty() || (*form == Form::Segment && value.contains('/')) {
                        return None;
                    }
                    let value = percent_encoding::percent_decode_str(value).decode_utf8().ok()?;
                    found.insert(name.clone(), value.into_owned());
                    rest = after;
                }
            }
        }
        rest.is_empty().then_some(found)
    }
}

/// Returns whether a text is an http or https URL and not a path.
#[must_use]
pub fn is_absolute(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    matches!(scheme.as_deref(), Some("http" | "https"))
}

fn placeholder(text: &str) -> Result<Part, String> {
    let (form, name) = text.strip_prefix('+').map_or((Form::Segment, text), |name| (Form::Segments, name));
    if name.starts_with('/') {
        let pointers: Vec<String> = name.split('|').map(str::to_owned).collect();
        for pointer in &pointers {
            check_pointer(pointer).map_err(|reason| format!("in a placeholder {reason}"))?;
        }
        return Ok(Part::Body { pointers, form });
    }
    // A value of an item of a list: `{item/id}`.
    let is_item = |pointer: &str| pointer.starts_with('/') && check_pointer(pointer).is_ok();
    match is_name(name) || name.strip_prefix("item").is_some_and(is_item) {
        true => Ok(Part::Var { name: name.to_owned(), form }),
        false => Err("a placeholder is neither {name}, {+name} nor {/pointer}".to_owned()),
    }
}

/// Returns whether a text can name a variable: letters, digits and `_`, at most 64.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !text.is_empty() && text.len() <= 64 && text.chars().all(fits)
}

/// Checks that a text is a JSON pointer (RFC 6901).
///
/// # Errors
/// A message for the operator.
pub fn check_pointer(text: &str) -> Result<(), String> {
    if !text.is_empty() && !text.starts_with('/') {
        return Err("this is no JSON pointer: one begins with / (or is empty for the whole body)".to_owned());
    }
    let mut escapes = text.split('~').skip(1);
    match escapes.all(|after| after.starts_with(['0', '1'])) {
        true => Ok(()),
        false => Err("this is no JSON pointer: ~ is written ~0, and / in a name ~1".to_owned()),
    }
}

/// Checks the literal text of a template. URL parsers drop or rewrite the characters that it
/// refuses, and never send a fragment.
fn check_text(parts: &[Part]) -> Result<(), String> {
    let shown: String =
        parts.iter().map(|part| if let Part::Text(text) = part { text.as_str() } else { "x" }).collect();
    if let Some(bad) = shown.chars().find(|c| c.is_control() || matches!(c, '#' | '\\' | ' ')) {
        return Err(format!("{bad:?} cannot stand in a path; write it percent-encoded"));
    }
    let path = shown.split('?').next().unwrap_or_default();
    match path.split('/').any(is_dot) {
        true => Err("it has a segment `.` or `..`, which is resolved away".to_owned()),
        false => Ok(()),
    }
}

pub(super) fn is_dot(segment: &str) -> bool {
    matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}
