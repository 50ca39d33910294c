//! Bodies of requests with placeholders: `{id}` and the variables of a watch.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use url::form_urlencoded;

use super::{TemplateError, is_name, var};

/// The longest value of a placeholder in a body, in bytes.
const MAX_VALUE: usize = 8192;

/// The media type of a JSON body whose source names none.
const JSON: &str = "application/json";

/// The body of a request by `POST`, with placeholders.
///
/// `{name}` is filled; `{{` and `}}` are braces. In a JSON body a placeholder between quotes is
/// escaped as the content of a string, and any other one takes a number, `true`, `false` or `null`.
/// In a form it is percent-encoded. So no value changes the body around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyTemplate {
    parts: Vec<Part>,
    form: BodyForm,
    /// The media type, unless a header of the source names it.
    media_type: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Var { name: String, is_quoted: bool },
}

/// The form of a body, which decides how a value goes into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyForm {
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// Any other text: a value goes into it as it is.
    Other,
}

impl BodyTemplate {
    /// Returns the empty body.
    #[must_use]
    pub const fn empty() -> Self {
        Self { parts: Vec::new(), form: BodyForm::Other, media_type: None }
    }

    /// Reads a template. `media_type` is the `content-type` among the headers of the source.
    ///
    /// # Errors
    /// A message for the operator.
    pub fn parse(text: &str, media_type: Option<&str>) -> Result<Self, String> {
        let mut body = Self { parts: parts(text)?, form: BodyForm::Json, media_type: None };
        body.find_quotes();
        let sample = body.fill_with(|_, is_quoted| Ok(if is_quoted { "x" } else { "0" }.to_owned()));
        let is_json = sample.is_ok_and(|text: String| serde_json::from_str::<IgnoredAny>(&text).is_ok());
        match media_type.map(form_of) {
            None if is_json => body.media_type = Some(JSON),
            None => return Err("it is no JSON; name its content-type in headers".to_owned()),
            Some(BodyForm::Json) if !is_json => {
                return Err("its content-type is that of JSON, which it is not".to_owned());
            }
            // JSON under another name is still JSON, and its values are escaped.
            Some(BodyForm::Other) if is_json && body.is_json_object() => {}
            Some(form) => body.form = form,
        }
        Ok(body)
    }

    /// Returns the names that it takes from a watch, `id` among them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Var { name, .. } => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// Returns the media type to send, unless a header of the source names it.
    #[must_use]
    pub const fn media_type(&self) -> Option<&'static str> {
        self.media_type
    }

    /// Returns whether a value can be added to it as a member of a JSON object.
    #[must_use]
    pub fn is_json_object(&self) -> bool {
        self.form == BodyForm::Json
            && matches!(self.parts.first(), Some(Part::Text(text)) if text.trim_start().starts_with('{'))
    }

    /// Fills the template.
    ///
    /// # Errors
    /// If a value is missing or unfit.
    pub fn fill(&self, id: &str, vars: &[&BTreeMap<String, String>]) -> Result<String, TemplateError> {
        self.fill_with(|name, is_quoted| self.form.write(name, var(name, id, vars)?, is_quoted))
    }

    /// Checks one value of a variable, wherever the template takes it.
    ///
    /// # Errors
    /// If it is unfit.
    pub fn check_var(&self, name: &str, value: &str) -> Result<(), TemplateError> {
        self.parts.iter().try_for_each(|part| match part {
            Part::Var { name: own, is_quoted } if own == name => {
                self.form.write(name, value, *is_quoted).map(drop)
            }
            _ => Ok(()),
        })
    }

    fn fill_with(
        &self,
        value: impl Fn(&str, bool) -> Result<String, TemplateError>,
    ) -> Result<String, TemplateError> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Var { name, is_quoted } => text.push_str(&value(name, *is_quoted)?),
            }
        }
        Ok(text)
    }

    /// Finds the placeholders that stand between the quotes of a JSON string.
    fn find_quotes(&mut self) {
        let (mut in_text, mut escaped) = (false, false);
        for part in &mut self.parts {
            match part {
                Part::Var { is_quoted, .. } => *is_quoted = in_text,
                Part::Text(text) => {
                    for byte in text.bytes() {
                        match byte {
                            _ if escaped => escaped = false,
                            b'\\' if in_text => escaped = true,
                            b'"' => in_text = !in_text,
                            _ => {}
                        }
                    }
                }
            }
        }
    }
}

impl BodyForm {
    /// Returns a value as it goes into a body of this form.
    fn write(self, name: &str, value: &str, is_quoted: bool) -> Result<String, TemplateError> {
        let is_bare =
            || !value.starts_with(['{', '[', '"']) && serde_json::from_str::<IgnoredAny>(value).is_ok();
        let fits = value.len() <= MAX_VALUE
            && !value.chars().any(char::is_control)
            && (self != Self::Json || is_quoted || is_bare());
        if !fits {
            let value = value.chars().take(100).collect();
            return Err(TemplateError::UnfitInBody { name: name.to_owned(), value });
        }
        Ok(match self {
            Self::Json if is_quoted => {
                let text = serde_json::Value::from(value).to_string();
                text[1..text.len() - 1].to_owned()
            }
            Self::Form => form_urlencoded::byte_serialize(value.as_bytes()).collect(),
            Self::Json | Self::Other => value.to_owned(),
        })
    }
}

/// Returns the form of a body with this media type. `application/x-amz-json-1.1` is JSON, too.
fn form_of(media_type: &str) -> BodyForm {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let (_, kind) = essence.split_once('/').unwrap_or_default();
    match kind {
        "x-www-form-urlencoded" => BodyForm::Form,
        _ if kind.split(['+', '-']).any(|word| word == "json") => BodyForm::Json,
        _ => BodyForm::Other,
    }
}

fn parts(text: &str) -> Result<Vec<Part>, String> {
    let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        let (before, found) = rest.split_at(at);
        literal.push_str(before);
        let brace = &found[..1];
        if let Some(after) = found[1..].strip_prefix(brace) {
            literal.push_str(brace);
            rest = after;
            continue;
        }
        let name = found[1..].split_once('}').filter(|_| brace == "{");
        let Some((name, after)) = name.filter(|(name, _)| is_name(name)) else {
            return Err(format!(
                "a `{brace}` belongs to no placeholder such as {{id}}; the brace itself is written `{brace}{brace}`"
            ));
        };
        if !literal.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut literal)));
        }
        parts.push(Part::Var { name: name.to_owned(), is_quoted: false });
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Text(literal));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AMZ: Option<&str> = Some("application/x-amz-json-1.1");
    const FORM: Option<&str> = Some("Application/X-WWW-Form-Urlencoded; charset=utf-8");

    fn vars(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn filled(text: &str, media_type: Option<&str>, id: &str) -> Result<String, TemplateError> {
        let vars = vars(&[("n", "7"), ("list", "[1]"), ("q", "a&b=c d")]);
        BodyTemplate::parse(text, media_type).unwrap().fill(id, &[&vars])
    }

    #[test]
    fn a_body_is_filled_by_its_media_type() {
        for (text, media_type, id, body) in [
            (r#"{{"id":"{id}"}}"#, None, "j1", Ok(r#"{"id":"j1"}"#)),
            (r#"{{"a":{{"id":"{id}","n":{n}}}}}"#, None, "j1", Ok(r#"{"a":{"id":"j1","n":7}}"#)),
            (r#"["x{id}y"]"#, None, r#"a"b\c"#, Ok(r#"["xa\"b\\cy"]"#)),
            (r#"{{"q":"a \" {id} \\","n":{n}}}"#, AMZ, "ö", Ok(r#"{"q":"a \" ö \\","n":7}"#)),
            (r#"{{"id":{id}}}"#, None, "12", Ok(r#"{"id":12}"#)),
            (r#"{{"id":{id}}}"#, None, "a", Err("a")),
            (r#"{{"id":{id}}}"#, None, "1,\"admin\":true", Err("1,\"admin\":true")),
            (r#"{{"id":{list}}}"#, None, "a", Err("[1]")),
            ("a={q}&b={id}", FORM, "x+y", Ok("a=a%26b%3Dc+d&b=x%2By")),
            ("<id>{id}</id>", Some("text/xml"), "1", Ok("<id>1</id>")),
            ("", Some("text/plain"), "1", Ok("")),
        ] {
            match (filled(text, media_type, id), body) {
                (Ok(text), Ok(body)) => assert_eq!(text, body),
                (Err(TemplateError::UnfitInBody { value, .. }), Err(unfit)) => assert_eq!(value, unfit),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
        let missing = BodyTemplate::parse(r#"["{other}"]"#, None).unwrap().fill("j", &[]);
        assert_eq!(missing, Err(TemplateError::Missing("other".to_owned())));
    }

    #[test]
    fn a_body_that_cannot_be_sent_is_refused_with_the_way_out() {
        for (text, media_type, reason) in [
            (r#"{"id":"{id}"}"#, None, "is written `{{`"),
            (r#"{{"id":"{id}"}"#, None, "is written `}}`"),
            ("{id", None, "is written `{{`"),
            (r#"{{"id":"{ id }"}}"#, None, "is written `{{`"),
            ("id={id}", None, "name its content-type in headers"),
            ("", None, "name its content-type in headers"),
            (r#"{{"id":{id}"#, AMZ, "that of JSON"),
        ] {
            let told = BodyTemplate::parse(text, media_type).unwrap_err();
            assert!(told.contains(reason), "{text}: {told}");
        }
    }

    proptest! {
        #[test]
        fn no_value_changes_the_json_around_it(id in "[^\\p{Cc}]{0,40}") {
            let body = BodyTemplate::parse(r#"{{"query":"run(id: \"x\")","vars":{{"id":"{id}"}}}}"#, None).unwrap();
            let value: serde_json::Value = serde_json::from_str(&body.fill(&id, &[]).unwrap()).unwrap();
            prop_assert_eq!(value, serde_json::json!({"query": "run(id: \"x\")", "vars": {"id": id}}));
        }

        #[test]
        fn no_value_changes_the_form_around_it(id in "[^\\p{Cc}]{0,40}") {
            let body = BodyTemplate::parse("a={id}&b=2", FORM).unwrap().fill(&id, &[]).unwrap();
            let pairs: Vec<_> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
            prop_assert_eq!(pairs, [("a".to_owned(), id), ("b".to_owned(), "2".to_owned())]);
        }
    }
}
