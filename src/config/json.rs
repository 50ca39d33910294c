//! Reads JSON files. A key that comes twice is a mistake: one of its values would be dropped
//! silently.

use std::{collections::HashSet, fmt, path::Path};

use figment::value::{Dict, Value};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};

use super::{problems::ConfigProblem, snippet};

/// Returns the value of a file. Messages show the file as `shown`.
pub(super) fn read(text: &str, shown: &Path) -> Result<Option<Value>, ConfigProblem> {
    let json: Json = serde_json::from_str(text).map_err(|error| {
        let at = (error.line(), error.column().max(1));
        let reason = error.to_string();
        let reason = reason.split(" at line ").next().unwrap_or(&reason);
        ConfigProblem::about_file(shown, Some(at), format!("the file is not JSON: {reason}"))
            .with_snippet(Some(snippet::masked(text, at)))
    })?;
    Ok(json.0)
}

/// `None` is null, which sets nothing.
struct Json(Option<Value>);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyJson)
    }
}

struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json(None))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json(Some(value.into())))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json(Some(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json(Some(value.into())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json(Some(value.into())))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json(Some(value.into())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list: Vec<Value> = Vec::new();
        while let Some(Json(item)) = items.next_element()? {
            list.extend(item);
        }
        Ok(Json(Some(list.into())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let (mut table, mut seen) = (Dict::new(), HashSet::new());
        while let Some(key) = entries.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                return Err(de::Error::custom(format_args!("duplicate key `{key}`")));
            }
            if let Json(Some(value)) = entries.next_value()? {
                table.insert(key, value);
            }
        }
        Ok(Json(Some(table.into())))
    }
}
