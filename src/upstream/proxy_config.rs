//! `[sources.NAME.proxy]`: how requests are forwarded.

use std::fmt;

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::util::units::HumanDuration;

/// The drop-in proxy of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProxyConfig {
    /// Whether the source's own key and headers replace those of the caller. Every caller of the
    /// local API can then use that key.
    pub inject_key: bool,
    /// The greatest age of a status that is answered without a request to the source.
    pub max_age: HumanDuration,
    /// Whether creations are held to the request budget. They wait for it in the order in which they
    /// came, and one that the source does not take (429, or 503 with `Retry-After`) is sent again
    /// after the wait that the source asks for, if its body has at most 1 MiB.
    pub pace: bool,
    /// `pace` only: the longest wait of a creation. After it the caller gets 429, or the last answer
    /// of the source.
    pub max_wait: HumanDuration,
    /// The proxy for requests to this source: a URL, or `none`. Unset: `server.proxy`, unless
    /// `server.no_proxy` excludes the source. `proxy = "none"` in place of the table means the same
    /// as `outgoing = "none"`.
    pub outgoing: Option<String>,
}

/// A greater age would keep more statuses in memory than the rest of the daemon needs.
pub const MAX_AGE: HumanDuration = HumanDuration::secs(60);

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            inject_key: false,
            max_age: HumanDuration::secs(2),
            pace: false,
            max_wait: HumanDuration::secs(30),
            outgoing: None,
        }
    }
}

/// The ways to write `proxy`.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum ProxyForm {
    /// The table.
    Table(ProxyConfig),
    /// Its `outgoing` alone.
    Outgoing(String),
}

/// Reads a table, or `outgoing` alone.
///
/// # Errors
/// Those of `deserializer`.
pub fn table_or_outgoing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ProxyConfig, D::Error> {
    struct Either;
    impl<'de> Visitor<'de> for Either {
        type Value = ProxyConfig;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table, or the URL of a proxy or \"none\" in quotes")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<ProxyConfig, E> {
            Ok(ProxyConfig { outgoing: Some(text.to_owned()), ..ProxyConfig::default() })
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ProxyConfig, A::Error> {
            ProxyConfig::deserialize(MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_any(Either)
}
