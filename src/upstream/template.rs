//! Paths with placeholders: `{id}`, the variables of a watch, and values taken from a status body.

use std::{collections::BTreeMap, fmt};

use url::{ParseError, Url};

use crate::util::{
    json_slice::{Raw, Values},
    path_segment,
};

/// The longest value of a placeholder within a path, in bytes.
const MAX_VALUE: usize = 2048;

/// The longest value that is a whole URL, in bytes: a signed link is long.
const MAX_URL: usize = 8192;

/// A path, or a whole URL, with placeholders.
///
/// `{name}` is percent-encoded and stays within one segment. `{+name}` keeps its slashes: each of its segments is encoded by
/// itself, and empty and dot segments are refused. So no value changes the path, the query or the origin around it. This is
/// less than RFC 6570 lets through in `{+name}` (section 3.2.3), which keeps `?`, `#` and escapes, too. `{/a|/b}` is taken from
/// the status body at the first JSON pointer that is present, `{+/a|/b}` alike. A template that is one placeholder and nothing
/// else is the URL itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Var { name: String, form: Form },
    Body { pointers: Vec<String>, form: Form },
}

/// The form in which a value goes into a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// One segment: `{name}`.
    Segment,
    /// Several segments with slashes between them: `{+name}`.
    Segments,
    /// A URL, or a path from its root with its query.
    Whole,
}

/// Why a placeholder cannot be filled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
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

    /// The pointers into a status body that it takes values from.
    pub fn pointers(&self) -> impl Iterator<Item = &str> {
        let lists = self.parts.iter().filter_map(|part| match part {
            Part::Body { pointers, .. } => Some(pointers),
            _ => None,
        });
        lists.flatten().map(String::as_str)
    }

    /// The literal text it begins with.
    #[must_use]
    pub fn beginning(&self) -> &str {
        match self.parts.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }

    /// Fills it in. `body` is what was found in the status body, where there is one.
    ///
    /// # Errors
    /// When a value is missing or unfit.
    pub fn fill(
        &self,
        id: &str,
        vars: &[&BTreeMap<String, String>],
        body: Option<&Values>,
    ) -> Result<String, TemplateError> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Var { name, form } => text.push_str(&form.write(name, var(name, id, vars)?)?),
                Part::Body { pointers, form } => {
                    let name = pointers.join(" or ");
                    let found = body.and_then(|body| body.first(pointers)).and_then(Raw::word);
                    let value = found.ok_or_else(|| TemplateError::Absent(name.clone()))?;
                    text.push_str(&form.write(&name, &value)?);
                }
            }
        }
        Ok(text)
    }

    /// Checks what a watch brings for it, without a status body.
    ///
    /// # Errors
    /// When a value is missing or unfit.
    pub fn check(&self, id: &str, vars: &[&BTreeMap<String, String>]) -> Result<(), TemplateError> {
        self.parts.iter().try_for_each(|part| match part {
            Part::Var { name, form } => form.write(name, var(name, id, vars)?).map(drop),
            Part::Text(_) | Part::Body { .. } => Ok(()),
        })
    }

    /// Checks one value of a variable, wherever the template takes it.
    ///
    /// # Errors
    /// When it is unfit.
    pub fn check_var(&self, name: &str, value: &str) -> Result<(), TemplateError> {
        self.parts.iter().try_for_each(|part| match part {
            Part::Var { name: own, form } if own == name => form.write(name, value).map(drop),
            _ => Ok(()),
        })
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

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            let plus = |form: &Form| if *form == Form::Segment { "" } else { "+" };
            match part {
                Part::Text(text) => f.write_str(text)?,
                Part::Var { name, form } => write!(f, "{{{}{name}}}", plus(form))?,
                Part::Body { pointers, form } => write!(f, "{{{}{}}}", plus(form), pointers.join("|"))?,
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
    let (form, name) = text.strip_prefix('+').map_or((Form::Segment, text), |name| (Form::Segments, name));
    if name.starts_with('/') {
        let pointers: Vec<String> = name.split('|').map(str::to_owned).collect();
        for pointer in &pointers {
            check_pointer(pointer).map_err(|reason| format!("in a placeholder {reason}"))?;
        }
        return Ok(Part::Body { pointers, form });
    }
    match is_name(name) {
        true => Ok(Part::Var { name: name.to_owned(), form }),
        false => Err("a placeholder is neither {name}, {+name} nor {/pointer}".to_owned()),
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
        return Err("this is no JSON pointer: one begins with / (or is empty for the whole body)".to_owned());
    }
    let mut escapes = text.split('~').skip(1);
    match escapes.all(|after| after.starts_with(['0', '1'])) {
        true => Ok(()),
        false => Err("this is no JSON pointer: ~ is written ~0, and / in a name ~1".to_owned()),
    }
}

/// Checks the literal text of a template. URL parsers drop or rewrite what is refused here, and a fragment is never sent.
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

/// The value of a variable: the id, or that of the first map that has it.
fn var<'a>(name: &str, id: &'a str, vars: &[&'a BTreeMap<String, String>]) -> Result<&'a str, TemplateError> {
    if name == "id" {
        return Ok(id);
    }
    let value = vars.iter().find_map(|vars| vars.get(name));
    value.map(String::as_str).ok_or_else(|| TemplateError::Missing(name.to_owned()))
}

impl Form {
    /// Returns a value as it goes into a URL.
    fn write(self, name: &str, value: &str) -> Result<String, TemplateError> {
        let most = if self == Self::Whole { MAX_URL } else { MAX_VALUE };
        let is_plain = !value.is_empty() && value.len() <= most && !value.chars().any(char::is_control);
        let fits = is_plain
            && match self {
                // Every URL parser resolves a dot segment, also one that is written with %2e: there is no way to send it.
                Self::Segment => !matches!(value, "." | ".."),
                Self::Segments => {
                    !value.contains('\\')
                        && value.split('/').all(|segment| !segment.is_empty() && !is_dot(segment))
                }
                Self::Whole => is_whole(value),
            };
        if !fits {
            let value = value.chars().take(100).collect();
            return Err(TemplateError::Unfit { name: name.to_owned(), value });
        }
        Ok(match self {
            Self::Segment => path_segment::encode(value),
            Self::Segments => path_segment::encode_several(value),
            Self::Whole => value.to_owned(),
        })
    }
}

/// Whether a value can be the whole address of a request: a URL without credentials, or a path below the base, and nothing that
/// a URL parser reads in another way than it is written.
fn is_whole(value: &str) -> bool {
    let is_path = !value.starts_with("//") && Url::parse(value) == Err(ParseError::RelativeUrlWithoutBase);
    let has_credentials =
        || Url::parse(value).map_or(true, |url| !url.username().is_empty() || url.password().is_some());
    let path = value.split('?').next().unwrap_or_default();
    !value.contains(['\\', ' ', '#'])
        && !path.split('/').any(is_dot)
        && (is_path || (is_absolute(value) && !has_credentials()))
}

fn is_dot(segment: &str) -> bool {
    matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::util::json_slice::{Pointers, Scan};

    fn fill(text: &str, vars: &[(&str, &str)], body: &str) -> Result<String, TemplateError> {
        let vars = vars.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let template = Template::parse(text).unwrap();
        let pointers = Pointers::new(template.pointers().map(|pointer| (pointer, 1000)));
        let mut scan = Scan::new(&pointers.into());
        scan.push(body.as_bytes()).unwrap();
        template.fill("a/b", &[&vars], Some(scan.values()))
    }

    #[test]
    fn placeholders_are_filled() {
        let body = r#"{"out": null, "err": "f 1", "url": "https:\/\/e.com\/a?b=c"}"#;
        assert_eq!(fill("/v1/{id}/status", &[], body).unwrap(), "/v1/a%2Fb/status");
        assert_eq!(fill("/v1/{+id}", &[], body).unwrap(), "/v1/a/b");
        assert_eq!(fill("/{k}/{+k}", &[("k", "x/y")], body).unwrap(), "/x%2Fy/x/y");
        assert_eq!(fill("/f/{/out|/err}/c", &[], body).unwrap(), "/f/f%201/c");
        assert_eq!(fill("{/url}", &[], body).unwrap(), "https://e.com/a?b=c");
        assert_eq!(fill("/{k}", &[], body), Err(TemplateError::Missing("k".to_owned())));
        assert_eq!(fill("/{/out|/none}", &[], body), Err(TemplateError::Absent("/out or /none".to_owned())));
    }

    #[test]
    fn what_would_change_the_path_is_refused() {
        for value in ["..", ".", "", "a\nb"] {
            assert!(fill("/a/{k}/b", &[("k", value)], "null").is_err(), "{value:?}");
        }
        for value in [
            "../x",
            "a/../../b",
            "%2e%2E/x",
            "a/.%2e",
            "a\\b",
            "/api-keys?all=1#",
            "a//b",
            "a/",
            "/",
            "",
            "a\tb",
        ] {
            assert!(fill("/a/{+k}/b", &[("k", value)], "null").is_err(), "{value:?}");
        }
        for value in [
            "//e.com/a",
            "https://e.com/a/../b",
            "/a/%2e%2e/b",
            "/a#b",
            "/a\\b",
            "/a b",
            "https://u@e.com/a",
            "https://:p@e.com/a",
            "ftp://e.com/a",
            "e.com:80/a",
            "",
        ] {
            assert!(fill("{+k}", &[("k", value)], "null").is_err(), "{value:?}");
        }
    }

    #[test]
    fn what_could_end_the_path_is_encoded() {
        for (value, written) in [
            ("a?b=c&d", "/a/a%3Fb%3Dc%26d/a%3Fb=c%26d?x=1"),
            ("a#b", "/a/a%23b/a%23b?x=1"),
            ("%2e%2e", "/a/%252e%252e/-?x=1"),
            ("...", "/a/.../...?x=1"),
            ("a b;c", "/a/a%20b%3Bc/a%20b%3Bc?x=1"),
            ("a/b:c@d=", "/a/a%2Fb%3Ac%40d%3D/a/b:c@d=?x=1"),
        ] {
            let several = if value.contains("%2e") { "-" } else { value };
            let filled = fill("/a/{k}/{+s}?x=1", &[("k", value), ("s", several)], "null");
            assert_eq!(filled.unwrap(), written);
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in [
            "",
            "v1/x",
            "/a/{",
            "/a/{}",
            "/a/{b c}",
            "/a/{/~2}",
            "{id}/x",
            "ftp://e.com/{id}",
            "/{+}",
            "/a#{id}",
            "/a/../{id}",
            "/a\t/{id}",
            "/{id}/%2e",
        ] {
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

    /// Text of a stranger: what URL parsers and servers give a meaning to, and anything else.
    fn foreign() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            proptest::sample::select(vec![
                "..",
                ".",
                "/",
                "//",
                "\\",
                "%2e",
                "%2E",
                "%2f",
                "%5c",
                "%00",
                "?",
                "#",
                "&",
                "=",
                "@",
                ":",
                ";",
                "+",
                " ",
                "\t",
                "\n",
                "a",
                "v1",
                "é",
                "http://",
                "https://e.com/",
                "%",
                "[",
                "]",
                "|",
                "\"",
                "'",
                "~",
            ])
            .prop_map(str::to_owned),
            "\\PC{1,3}",
        ];
        proptest::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
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
        fn no_value_changes_the_url_around_it(id in foreign(), var in foreign()) {
            for (text, beginning, keys) in [
                ("/v1/{+v}/{id}?include=false&x={v}", "/v1/", 2),
                ("/{v}/{+id}", "/", 0),
                ("/a/{id}", "/a/", 0),
                ("/{+v}/requests/{id}/status", "/", 0),
                ("/runs/get?run_id={id}&p={+v}", "/runs/get", 2),
                ("https://api.example.com/base/a/{+v}:{id}", "/a/", 0),
            ] {
                let vars = [("v".to_owned(), var.clone())].into();
                let template = Template::parse(text).unwrap();
                let Ok(filled) = template.fill(&id, &[&vars], None) else { continue };
                template.check(&id, &[&vars]).unwrap();
                let base = "https://api.example.com/base";
                let whole = if is_absolute(&filled) { filled.clone() } else { format!("{base}{filled}") };
                let url = Url::parse(&whole).unwrap();
                prop_assert_eq!(url.as_str(), &whole, "a parser reads it as it is written");
                prop_assert_eq!(url.origin().ascii_serialization(), "https://api.example.com");
                prop_assert!(url.username().is_empty() && url.password().is_none());
                prop_assert_eq!(url.fragment(), None);
                prop_assert_eq!(url.query_pairs().count(), keys);
                let begins = format!("/base{beginning}");
                prop_assert!(url.path().starts_with(&begins), "{}", url);
                prop_assert!(!url.path().contains("//") && !url.path().contains('\\'));
                let is_climbing = url.path().split('/').any(|segment| {
                    let decoded = percent_encoding::percent_decode_str(segment).decode_utf8_lossy();
                    matches!(decoded.as_ref(), "." | "..")
                });
                prop_assert!(!is_climbing, "{}", url);
            }
        }

        #[test]
        fn a_whole_address_is_read_as_it_is_written(value in foreign()) {
            for value in [value.clone(), format!("/{value}"), format!("https://api.example.com/{value}")] {
                let vars = [("v".to_owned(), value.clone())].into();
                let Ok(filled) = Template::parse("{+v}").unwrap().fill("i", &[&vars], None) else { continue };
                let whole = match is_absolute(&filled) {
                    true => filled,
                    false if filled.starts_with('/') => format!("https://api.example.com{filled}"),
                    false => format!("https://api.example.com/{filled}"),
                };
                let url = Url::parse(&whole).unwrap();
                prop_assert_eq!(url.fragment(), None);
                prop_assert!(url.username().is_empty() && url.password().is_none());
                let is_ours = url.origin().ascii_serialization() == "https://api.example.com";
                prop_assert!(is_ours || value.starts_with("http"), "{}", url);
            }
        }

        #[test]
        fn no_text_panics(text in any::<String>(), path in any::<String>()) {
            if let Ok(template) = Template::parse(&text) {
                let _ = template.matches(&path);
                let _ = template.fill(&path, &[], None);
                Template::parse(&template.to_string()).unwrap();
            }
        }
    }
}
