//! Paths with placeholders: `{id}`, the variables of a watch, and values taken from a status body.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use super::answer::word;
use crate::path_segment;

/// The longest value of a placeholder in bytes.
const MAX_VALUE: usize = 2048;

/// A path, or a whole URL, with placeholders.
///
/// `{name}` is percent-encoded, `{+name}` goes in as it is (as in RFC 6570, section 3.2.3), `{/a|/b}` is taken from the
/// status body at the first JSON pointer that is present. A template that is one placeholder and nothing else is the
/// URL itself, so its value goes in as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Var { name: String, raw: bool },
    Body { pointers: Vec<String>, raw: bool },
}

/// Why a placeholder cannot be filled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfilled {
    /// The watch brings no such variable.
    #[error("the variable `{0}` is missing")]
    Missing(String),
    /// The status body has nothing there.
    #[error("the status has nothing at {0}")]
    Absent(String),
    /// The value would change the path around it.
    #[error("`{value}` cannot stand for `{name}` in a URL")]
    Unfit {
        /// The placeholder.
        name: String,
        /// Its value.
        value: String,
    },
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// In words, when a brace is not closed or what is between two of them is none of the three kinds.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let (before, inside) = rest.split_at(open);
            let close = inside.find('}').ok_or_else(|| format!("the `{{` in `{inside}` is not closed"))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(placeholder(&inside[1..close])?);
            rest = &inside[close + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        if let [Part::Var { raw, .. } | Part::Body { raw, .. }] = parts.as_mut_slice() {
            *raw = true;
        }
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

    /// The names it takes from a watch, `id` among them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Var { name, .. } => Some(name.as_str()),
            _ => None,
        })
    }

    /// Whether a part of it comes from a status body.
    #[must_use]
    pub fn takes_body(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Body { .. }))
    }

    /// The literal text it begins with.
    #[must_use]
    pub fn beginning(&self) -> &str {
        match self.parts.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }

    /// Fills it in. `body` is the status body, where there is one.
    ///
    /// # Errors
    /// When a value is missing or unfit.
    pub fn fill(
        &self,
        id: &str,
        vars: &[&BTreeMap<String, String>],
        body: Option<&Value>,
    ) -> Result<String, Unfilled> {
        let mut text = String::new();
        for part in &self.parts {
            let (name, value, raw) = match part {
                Part::Text(part) => {
                    text.push_str(part);
                    continue;
                }
                Part::Var { name, raw } if name == "id" => (name.clone(), id.to_owned(), raw),
                Part::Var { name, raw } => {
                    let value = vars.iter().find_map(|vars| vars.get(name));
                    let value = value.ok_or_else(|| Unfilled::Missing(name.clone()))?;
                    (name.clone(), value.clone(), raw)
                }
                Part::Body { pointers, raw } => {
                    let name = pointers.join(" or ");
                    let found = pointers.iter().find_map(|pointer| word(body?.pointer(pointer)?));
                    let value = found.ok_or_else(|| Unfilled::Absent(name.clone()))?;
                    (name, value, raw)
                }
            };
            if !fits(&value, *raw) {
                return Err(Unfilled::Unfit { name, value: value.chars().take(100).collect() });
            }
            match raw {
                true => text.push_str(&value),
                false => text.push_str(&path_segment::encode(&value)),
            }
        }
        Ok(text)
    }

    /// The values of the placeholders of a path that this template could have made; `None` when it could not.
    #[must_use]
    pub fn matches(&self, path: &str) -> Option<BTreeMap<String, String>> {
        let mut found = BTreeMap::new();
        let mut rest = path;
        let mut parts = self.parts.iter().peekable();
        while let Some(part) = parts.next() {
            match part {
                Part::Text(text) => rest = rest.strip_prefix(text.as_str())?,
                Part::Body { .. } => return None,
                Part::Var { name, raw } => {
                    let end = match parts.peek() {
                        Some(Part::Text(text)) => rest.find(text.as_str())?,
                        _ => rest.len(),
                    };
                    let (value, after) = rest.split_at(end);
                    if value.is_empty() || (!raw && value.contains('/')) {
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

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            let plus = |raw: &bool| if *raw { "+" } else { "" };
            match part {
                Part::Text(text) => f.write_str(text)?,
                Part::Var { name, raw } => write!(f, "{{{}{name}}}", plus(raw))?,
                Part::Body { pointers, raw } => write!(f, "{{{}{}}}", plus(raw), pointers.join("|"))?,
            }
        }
        Ok(())
    }
}

/// Whether a text is an http or https URL and not a path.
#[must_use]
pub fn is_absolute(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    matches!(scheme.as_deref(), Some("http" | "https"))
}

fn placeholder(text: &str) -> Result<Part, String> {
    let (raw, name) = text.strip_prefix('+').map_or((false, text), |name| (true, name));
    if name.starts_with('/') {
        let pointers: Vec<String> = name.split('|').map(str::to_owned).collect();
        for pointer in &pointers {
            check_pointer(pointer).map_err(|reason| format!("`{{{text}}}`: {reason}"))?;
        }
        return Ok(Part::Body { pointers, raw });
    }
    match is_name(name) {
        true => Ok(Part::Var { name: name.to_owned(), raw }),
        false => Err(format!("`{{{text}}}` is neither {{name}}, {{+name}} nor {{/pointer}}")),
    }
}

/// Whether a text can name a variable: letters, digits and `_`, at most 64.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !text.is_empty() && text.len() <= 64 && text.chars().all(fits)
}

/// Whether a text is a JSON pointer (RFC 6901).
///
/// # Errors
/// In words.
pub fn check_pointer(text: &str) -> Result<(), String> {
    if !text.is_empty() && !text.starts_with('/') {
        return Err(format!(
            "`{text}` is no JSON pointer: it begins with / (or is empty for the whole body)"
        ));
    }
    let mut escapes = text.split('~').skip(1);
    match escapes.all(|after| after.starts_with(['0', '1'])) {
        true => Ok(()),
        false => Err(format!("`{text}` is no JSON pointer: ~ is written ~0, and / in a name ~1")),
    }
}

/// A dot segment would be resolved away by every URL parser, and with it a part of the path that the operator wrote. What
/// goes in raw may not begin a query or a fragment unless it is a whole URL.
fn fits(value: &str, raw: bool) -> bool {
    let is_plain = !value.is_empty() && value.len() <= MAX_VALUE && !value.chars().any(char::is_control);
    if !raw {
        return is_plain && !matches!(value, "." | "..");
    }
    let is_dot =
        |segment: &str| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
    let path = value.split(['?', '#']).next().unwrap_or_default();
    let is_whole = is_absolute(value) || value.starts_with('/');
    is_plain
        && !value.contains(['\\', ' '])
        && (is_whole || !value.contains(['?', '#']))
        && !path.split('/').any(is_dot)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn fill(template: &str, vars: &[(&str, &str)], body: &Value) -> Result<String, Unfilled> {
        let vars = vars.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Template::parse(template).unwrap().fill("a/b", &[&vars], Some(body))
    }

    #[test]
    fn placeholders_are_filled() {
        let body = json!({"out": null, "err": "f 1", "url": "https://e.com/a?b=c"});
        assert_eq!(fill("/v1/{id}/status", &[], &body).unwrap(), "/v1/a%2Fb/status");
        assert_eq!(fill("/v1/{+id}", &[], &body).unwrap(), "/v1/a/b");
        assert_eq!(fill("/{k}/{+k}", &[("k", "x/y")], &body).unwrap(), "/x%2Fy/x/y");
        assert_eq!(fill("/f/{/out|/err}/c", &[], &body).unwrap(), "/f/f%201/c");
        assert_eq!(fill("{/url}", &[], &body).unwrap(), "https://e.com/a?b=c");
        assert_eq!(fill("/{k}", &[], &body), Err(Unfilled::Missing("k".to_owned())));
        assert_eq!(fill("/{/out|/none}", &[], &body), Err(Unfilled::Absent("/out or /none".to_owned())));
    }

    #[test]
    fn what_would_change_the_path_is_refused() {
        for value in ["..", ".", "", "a\nb"] {
            assert!(fill("/a/{k}/b", &[("k", value)], &Value::Null).is_err(), "{value:?}");
        }
        for value in ["../x", "a/../../b", "%2e%2E/x", "a?b", "a#b", "a\\b", "a b"] {
            assert!(fill("/a/{+k}/b", &[("k", value)], &Value::Null).is_err(), "{value:?}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in
            ["", "v1/x", "/a/{", "/a/{}", "/a/{b c}", "/a/{/~2}", "{id}/x", "ftp://e.com/{id}", "/{+}"]
        {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_is_read_back() {
        let template = Template::parse("/o/{owner}/runs/{id}/retry").unwrap();
        let found = template.matches("/o/a%2Fb/runs/17/retry").unwrap();
        assert_eq!((found["owner"].as_str(), found["id"].as_str()), ("a/b", "17"));
        for path in ["/o/a/runs/17", "/o/a/b/runs/17/retry", "/o//runs/1/retry", "/o/a/runs/1/retry/"] {
            assert_eq!(template.matches(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn an_encoded_value_stays_one_segment(id in "\\PC{1,40}") {
            prop_assume!(!matches!(id.as_str(), "." | ".."));
            let template = Template::parse("/jobs/{id}/status").unwrap();
            let path = template.fill(&id, &[], None).unwrap();
            prop_assert_eq!(path.matches('/').count(), 3);
            prop_assert_eq!(template.matches(&path).unwrap().remove("id"), Some(id));
        }

        #[test]
        fn no_text_panics(text in any::<String>(), path in any::<String>()) {
            if let Ok(template) = Template::parse(&text) {
                let _ = template.matches(&path);
                let _ = template.fill(&path, &[], None);
                prop_assert!(Template::parse(&template.to_string()).is_ok());
            }
        }
    }
}
