//! `[sources.NAME.proxy]`: how requests are passed on.

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
    /// Whether the source's own key and headers replace those of the caller. Whoever reaches the local API then uses that
    /// key.
    pub inject_key: bool,
    /// How old a status may be that is answered without asking the source.
    pub max_age: HumanDuration,
    /// The way to the source itself: the URL of a proxy for outgoing requests, or `none`. By default `server.proxy`, apart from
    /// `server.no_proxy`. `proxy = "none"` for the whole table says the same.
    pub outgoing: Option<String>,
}

/// A longer age would keep more statuses in memory than the rest of the daemon needs.
pub const MAX_AGE: HumanDuration = HumanDuration::secs(60);

impl Default for ProxyConfig {
    fn default() -> Self {
        Self { inject_key: false, max_age: HumanDuration::secs(2), outgoing: None }
    }
}

/// How `proxy` may be written.
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
