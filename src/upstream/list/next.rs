//! The way from one page of a list to the next.

use reqwest::header::{HeaderMap, LINK};
use url::Url;

use super::ListNext;
use crate::{
    upstream::template::check_pointer,
    util::json_slice::{Raw, Values},
};

/// Where the next page is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextPage {
    /// All is on one page.
    Single,
    /// A cursor in the page goes into a query parameter, or is the URL of the next page.
    Cursor {
        /// The pointers to it.
        at: Vec<String>,
        /// The parameter.
        param: Option<String>,
    },
    /// The header `Link` has it.
    Link,
    /// The id of the last item goes into a query parameter.
    LastId {
        /// The parameter.
        param: String,
        /// The pointers to whether there are more. Empty: there are unless the page is empty.
        more_at: Vec<String>,
    },
    /// A query parameter grows.
    Step {
        /// The parameter.
        param: String,
        /// By how much.
        step: u32,
    },
}

/// A page, as far as the way to the next one depends on it.
pub(super) struct Turned<'a> {
    pub(super) address: &'a Url,
    pub(super) headers: &'a HeaderMap,
    pub(super) values: &'a Values,
    pub(super) last_id: Option<&'a str>,
    pub(super) is_empty: bool,
}

impl NextPage {
    /// Reads the key.
    ///
    /// # Errors
    /// A message for the operator.
    pub fn read(key: Option<&ListNext>) -> Result<Self, String> {
        let Some(key) = key else { return Ok(Self::Single) };
        let ways = [key.cursor_at.is_some(), key.link, key.last_id, key.step.is_some()];
        if ways.iter().filter(|way| **way).count() != 1 {
            return Err("it has one of cursor_at, link = true, last_id = true and step".to_owned());
        }
        if key.more_at.is_some() && !key.last_id {
            return Err("more_at goes with last_id = true".to_owned());
        }
        if key.link && key.param.is_some() {
            return Err("link = true takes no param: the header has the whole URL".to_owned());
        }
        let param = || {
            let param = key.param.clone().filter(|param| !param.is_empty());
            param.ok_or_else(|| "it needs param: the query parameter that takes the cursor".to_owned())
        };
        Ok(match (&key.cursor_at, key.step) {
            (Some(at), _) => Self::Cursor { at: pointers(at)?, param: key.param.clone() },
            (None, Some(0)) => return Err("step is at least 1".to_owned()),
            (None, Some(step)) => Self::Step { param: param()?, step },
            (None, None) if key.link => Self::Link,
            (None, None) => Self::LastId {
                param: param()?,
                more_at: key.more_at.as_deref().map_or(Ok(Vec::new()), pointers)?,
            },
        })
    }

    /// Returns the pointers into a page that it needs.
    pub(super) fn pointers(&self) -> &[String] {
        match self {
            Self::Cursor { at, .. } => at,
            Self::LastId { more_at, .. } => more_at,
            Self::Single | Self::Link | Self::Step { .. } => &[],
        }
    }

    /// Returns the address of the page behind this one, or `None` if it is the last.
    pub(super) fn after(&self, page: &Turned<'_>) -> Option<String> {
        match self {
            Self::Single => None,
            Self::Link => linked(page.headers).map(|link| joined(page.address, &link)),
            Self::Cursor { at, param } => {
                let cursor = page.values.first(at).and_then(Raw::word)?;
                match param {
                    // A cursor that says `false` or `{}` is none.
                    _ if matches!(cursor.as_str(), "false" | "{}") => None,
                    Some(param) => Some(with(page.address, param, &cursor)),
                    None => Some(joined(page.address, &cursor)),
                }
            }
            Self::LastId { param, more_at } => {
                let more = page.values.first(more_at).and_then(Raw::word);
                let has_more = more_at.is_empty() || more.is_some_and(|more| more != "false");
                Some(with(page.address, param, page.last_id.filter(|_| has_more)?))
            }
            Self::Step { param, step } => {
                let known = page.address.query_pairs().find(|(name, _)| name == param);
                let now: u64 = known.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
                let next = now.saturating_add(u64::from(*step)).to_string();
                (!page.is_empty).then(|| with(page.address, param, &next))
            }
        }
    }
}

/// Reads pointers with `|` between them.
fn pointers(text: &str) -> Result<Vec<String>, String> {
    let pointers: Vec<String> = text.split('|').map(str::to_owned).collect();
    pointers.iter().try_for_each(|pointer| check_pointer(pointer))?;
    Ok(pointers)
}

/// Returns a URL with a query parameter set. The others keep their place and their spelling.
fn with(url: &Url, name: &str, value: &str) -> String {
    let mut url = url.clone();
    let kept: Vec<&str> =
        url.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).collect();
    let is_other = |pair: &&&str| {
        let parsed = url::form_urlencoded::parse(pair.as_bytes()).next();
        parsed.is_none_or(|(known, _)| known != name)
    };
    let mut query = kept.iter().filter(is_other).copied().collect::<Vec<_>>().join("&");
    if !query.is_empty() {
        query.push('&');
    }
    query.push_str(&url::form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish());
    url.set_query(Some(&query));
    url.into()
}

/// Returns a link as a URL of its own. What is no link stays as it is, and is refused later.
fn joined(url: &Url, link: &str) -> String {
    url.join(link).map_or_else(|_| link.to_owned(), String::from)
}

/// Returns the target with `rel="next"` (RFC 8288).
fn linked(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(links).find(|(_, params)| is_next(params)).map(|(target, _)| target.to_owned())
}

/// Splits a `Link` header into targets, each with its parameters. A comma or semicolon may stand in
/// a target, so the brackets count.
fn links(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((target, after)) = rest.split_once('<').and_then(|(_, rest)| rest.split_once('>')) {
        let end = after.find('<').unwrap_or(after.len());
        found.push((target, &after[..end]));
        rest = &after[end..];
    }
    found
}

fn is_next(params: &str) -> bool {
    params.split([';', ',']).filter_map(|param| param.split_once('=')).any(|(name, value)| {
        let words = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("rel")
            && words.split_ascii_whitespace().any(|word| word.eq_ignore_ascii_case("next"))
    })
}
