//! Hints for an unknown key that stands in the wrong place.

use super::{node::Origin, read::SECTIONS, schema, wording::nearest};

/// Returns a hint for an unknown key at the top: a variable with one `_` where two belong, or a key of some table.
pub(super) fn for_unknown(
    name: &str,
    origin: &Origin,
    sources: &[String],
    sinks: &[String],
) -> Option<String> {
    let known = schema::keys();
    if let Origin::Environment(_) = origin {
        let name = name.trim_matches('"');
        let meant =
            known.iter().flat_map(|key| concrete(key, sources, sinks)).find(|key| key.join("_") == name)?;
        let meant = meant.join("__").to_uppercase();
        return Some(format!("did you mean TIDINGS_{meant} (two `_` between the parts)?"));
    }
    // A typing error is likelier than a wrong place.
    if !nearest(name, SECTIONS).is_empty() {
        return None;
    }
    let homes: Vec<String> = known
        .iter()
        .filter(|key| key.len() > 1 && key.last().is_some_and(|last| last == name))
        .map(|key| key[..key.len() - 1].join("."))
        .collect();
    match homes.as_slice() {
        [home] if *home != "sinks.*.retry" => Some(format!("move it under [{}]", home.replace('*', "NAME"))),
        _ => None,
    }
}

/// Returns a known key for each configured source or sink.
fn concrete(key: &[String], sources: &[String], sinks: &[String]) -> Vec<Vec<String>> {
    let names = match key.first().map(String::as_str) {
        Some("sources") => sources,
        Some("sinks") => sinks,
        _ => return vec![key.to_vec()],
    };
    let with = |name: &String| {
        let mut key = key.to_vec();
        if let Some(place) = key.get_mut(1) {
            place.clone_from(name);
        }
        key
    };
    names.iter().map(with).collect()
}
