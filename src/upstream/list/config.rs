//! `list_next` and `discover`: the keys of lists.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::util::units::{HumanDuration, Time};

/// How the next page of a list is found. One of `cursor_at`, `link`, `last_id` and `step`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListNext {
    /// A JSON pointer to the cursor in the page, or several with `|` between them. Without `param`
    /// the value is the URL of the next page. The last page has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor_at: Option<String>,
    /// Whether the header `Link` of a page has the URL of the next one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub link: bool,
    /// Whether the id of the last item is the cursor.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub last_id: bool,
    /// By how much `param` grows from page to page: 1 for a number of pages, the length of a page
    /// for an offset. The list ends with an empty page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// The query parameter that takes the cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// For `last_id`: a JSON pointer, or several with `|` between them. Another page follows if a
    /// value there is anything but `false`. Unset: the list ends with an empty page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more_at: Option<String>,
}

/// The query parameters that choose what a list shows, each with its values.
pub type ListFilter = BTreeMap<String, Vec<String>>;

/// How far back discovered jobs go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Since {
    /// To the first start of the discovery.
    #[default]
    Start,
    /// So far before that.
    Before(HumanDuration),
}

impl Since {
    /// Returns the time that it names.
    #[must_use]
    pub fn from(self, now: Time) -> Time {
        match self {
            Self::Start => now,
            Self::Before(span) => now.before(span.0),
        }
    }
}

impl Serialize for Since {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Start => "start".serialize(to),
            Self::Before(span) => span.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Since {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        match text.as_ref() {
            "start" => Ok(Self::Start),
            text => match text.parse::<HumanDuration>() {
                Ok(span) => Ok(Self::Before(span)),
                Err(reason) => Err(serde::de::Error::custom(format!("{reason}, or start"))),
            },
        }
    }
}

impl JsonSchema for Since {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Since".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "`start`, or a duration such as `24h`.", "type": "string"
        })
    }
}

/// The discovery of jobs: the list of the source is read, and what appears in it is watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DiscoverConfig {
    /// The time between two readings of the list.
    pub every: HumanDuration,
    /// How far back jobs are watched: `start`, or a duration before the first start, such as
    /// `24h`. A job counts that was created or finished since then.
    pub since: Since,
    /// Query parameters of the list, each with its values, by the names of the API:
    /// `{ status = ["completed"] }`.
    pub filter: ListFilter,
    /// Labels of the watches.
    pub labels: BTreeMap<String, String>,
    /// The kinds whose lists are read. Default: the default kind of the source.
    pub kinds: Vec<String>,
}

impl Default for DiscoverConfig {
    fn default() -> Self {
        Self {
            every: HumanDuration::secs(60),
            since: Since::Start,
            filter: ListFilter::new(),
            labels: BTreeMap::new(),
            kinds: Vec::new(),
        }
    }
}
