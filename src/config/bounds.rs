//! The bounds of every number, duration and size of the configuration, for the check and the
//! schema. Within them every rate can divide, every instant can be written, and every count fits
//! into memory.

use serde_json::{Value, json};

use super::{
    node::{Node, NodeKind},
    path::{KeyPath, KeyStep},
};
use crate::util::units::{HumanDuration, Size};

/// The least and the greatest value of a key. Both are valid.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    Number(f64, f64),
    Time(HumanDuration, HumanDuration),
    Size(Size, Size),
}

const NONE: HumanDuration = HumanDuration::secs(0);
const MILLI: HumanDuration = HumanDuration::millis(1);
const DAY: HumanDuration = HumanDuration::secs(24 * 3600);
const MONTH: HumanDuration = HumanDuration::secs(30 * 24 * 3600);
const RATE: Bound = Bound::Number(1e-6, 1e6);
const COUNT: Bound = Bound::Number(1.0, 1e6);
/// An HTTP status.
const CODE: Bound = Bound::Number(200.0, 599.0);

/// The keys. `*` stands for a name that the user chooses, `[]` for an item of a list.
pub(super) const BOUNDS: &[(&str, Bound)] = &[
    ("server.drain", Bound::Time(NONE, DAY)),
    ("server.write_timeout", Bound::Time(MILLI, DAY)),
    ("store.retention", Bound::Time(NONE, HumanDuration::LONGEST)),
    ("store.cache", Bound::Size(Size::kib(64), Size::mib(1 << 20))),
    ("store.min_free", Bound::Size(Size(0), Size::mib(1 << 30))),
    ("otlp.interval", Bound::Time(HumanDuration::millis(10), DAY)),
    ("sources.*.status_http.pending.[]", CODE),
    ("sources.*.status_http.completed.[]", CODE),
    ("sources.*.status_http.failed.[]", CODE),
    ("sources.*.status_http.cancelled.[]", CODE),
    ("sources.*.status_http.expired.[]", CODE),
    ("sources.*.kinds.*.status_http.pending.[]", CODE),
    ("sources.*.kinds.*.status_http.completed.[]", CODE),
    ("sources.*.kinds.*.status_http.failed.[]", CODE),
    ("sources.*.kinds.*.status_http.cancelled.[]", CODE),
    ("sources.*.kinds.*.status_http.expired.[]", CODE),
    ("budgets.*.max_requests_per_second", RATE),
    ("budgets.*.max_in_flight", COUNT),
    ("sources.*.max_requests_per_second", RATE),
    ("sources.*.max_in_flight", COUNT),
    ("sources.*.timeout", Bound::Time(MILLI, DAY)),
    ("sources.*.max_job_size", Bound::Size(Size(1), Size::mib(1 << 20))),
    ("sources.*.not_found_grace", Bound::Time(NONE, HumanDuration::LONGEST)),
    ("sources.*.result_grace", Bound::Time(NONE, MONTH)),
    ("sources.*.hooks.tolerance", Bound::Time(HumanDuration::secs(1), DAY)),
    ("sources.*.polling.cost_of_a_poll", Bound::Time(MILLI, DAY)),
    ("sources.*.polling.max_delay", Bound::Time(MILLI, MONTH)),
    ("sources.*.polling.min_interval", Bound::Time(MILLI, MONTH)),
    ("sources.*.polling.max_interval", Bound::Time(MILLI, MONTH)),
    ("sources.*.polling.interval", Bound::Time(MILLI, MONTH)),
    ("sources.*.polling.deadline", Bound::Time(MILLI, HumanDuration::LONGEST)),
    ("sources.*.list_next.step", COUNT),
    ("sources.*.kinds.*.list_next.step", COUNT),
    ("sources.*.discover.every", Bound::Time(MILLI, MONTH)),
    ("sources.*.proxy.max_wait", Bound::Time(NONE, HumanDuration::secs(600))),
    ("sources.*.proxy.max_age", Bound::Time(NONE, crate::upstream::MAX_AGE)),
    ("sinks.*.timeout", Bound::Time(MILLI, DAY)),
    ("sinks.*.max_in_flight", COUNT),
    ("sinks.*.max_per_second", RATE),
    ("sinks.*.retry.jitter", Bound::Number(0.0, 1.0)),
    ("sinks.*.retry.schedule.[]", Bound::Time(NONE, MONTH)),
];

/// Returns the bounds of every key as the configuration writes them: the key, the least and the
/// greatest value. `*` stands for a name, `[]` for an item of a list.
pub fn bounds() -> impl Iterator<Item = (&'static str, String, String)> {
    BOUNDS.iter().map(|(key, bound)| {
        let (least, most) = bound.ends();
        (*key, least, most)
    })
}

impl Bound {
    fn ends(self) -> (String, String) {
        match self {
            Self::Number(least, most) => (least.to_string(), most.to_string()),
            Self::Time(least, most) => (in_days(least), in_days(most)),
            Self::Size(least, most) => (least.to_string(), most.to_string()),
        }
    }

    /// Returns a reason for a value outside of the bounds. A value that cannot be read is reported
    /// elsewhere.
    fn violation(self, node: &Node) -> Option<String> {
        let within = match (self, &node.kind) {
            (Self::Time(least, most), NodeKind::Text(text) | NodeKind::Untyped(text)) => {
                text.parse().is_ok_and(|span| least <= span && span <= most)
            }
            (Self::Size(least, most), NodeKind::Text(text) | NodeKind::Untyped(text)) => {
                text.parse().is_ok_and(|size| least <= size && size <= most)
            }
            (Self::Number(least, most), kind) => {
                #[expect(clippy::cast_precision_loss, reason = "it is compared with bounds that are exact")]
                let number = match kind {
                    NodeKind::Integer(number) => Some(*number as f64),
                    NodeKind::Float(number) => Some(*number),
                    NodeKind::Untyped(text) => text.trim().replace('_', "").parse().ok(),
                    _ => None,
                };
                number.is_some_and(|number| (least..=most).contains(&number))
            }
            _ => false,
        };
        let (least, most) = self.ends();
        (!within).then(|| format!("it has to be from {least} to {most}"))
    }
}

/// Writes a long duration in days instead of months and years.
fn in_days(span: HumanDuration) -> String {
    match span.0.as_secs() / 86_400 {
        days if days > 0 && span == HumanDuration::secs(days * 86_400) => format!("{days}d"),
        _ => span.to_string(),
    }
}

/// Returns a reason for each value outside of its bounds, with its key.
pub(super) fn violations(tree: &Node) -> Vec<(KeyPath, String)> {
    let judged = BOUNDS.iter().flat_map(|(key, bound)| {
        let found = matching(tree, key);
        found.into_iter().filter_map(|(path, node)| Some((path, bound.violation(&node)?))).collect::<Vec<_>>()
    });
    judged.collect()
}

/// Returns the values at a pattern.
fn matching(tree: &Node, pattern: &str) -> Vec<(KeyPath, Node)> {
    let mut found = vec![(KeyPath::default(), tree.clone().spread())];
    for part in pattern.split('.') {
        let below = found.into_iter().flat_map(|(path, node)| {
            let chosen = |step: &KeyStep| match (part, step) {
                ("[]", KeyStep::Index(_)) | ("*", KeyStep::Key(_)) => true,
                (part, KeyStep::Key(key)) => part == key,
                _ => false,
            };
            node.children()
                .into_iter()
                .filter(move |(step, _)| chosen(step))
                .map(move |(step, node)| (path.join_step(step), node.spread()))
        });
        found = below.collect();
    }
    found
}

/// Writes the bounds into the schema: as `minimum` and `maximum` of numbers, and into the
/// descriptions of durations and sizes, which are text there.
pub(super) fn describe(schema: &mut Value) {
    for (key, bound) in BOUNDS {
        let parts: Vec<&str> = key.split('.').collect();
        let mut places = Vec::new();
        locate(schema, String::new(), &parts, &mut places);
        // Several types of sink may share a part.
        places.sort();
        places.dedup();
        for place in places {
            let Some(property) = schema.pointer_mut(&place) else { continue };
            if let Bound::Number(least, most) = bound {
                property["minimum"] = number(*least);
                property["maximum"] = number(*most);
                continue;
            }
            let (least, most) = bound.ends();
            let before = property["description"].as_str().unwrap_or_default();
            property["description"] = json!(format!("{before} From {least} to {most}.").trim());
        }
    }
}

/// Returns a whole number without a fraction, as people write it.
fn number(value: f64) -> Value {
    serde_json::from_str(&value.to_string()).unwrap_or_else(|_| json!(value))
}

/// Finds the JSON pointers of a key's properties: each type of sink has one.
pub(super) fn locate(schema: &Value, at: String, parts: &[&str], found: &mut Vec<String>) {
    let Some((part, rest)) = parts.split_first() else {
        found.push(at);
        return;
    };
    let Some(node) = schema.pointer(&at) else { return };
    if let Some(name) = node["$ref"].as_str() {
        locate(schema, name.trim_start_matches('#').to_owned(), parts, found);
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        for index in 0..node[choice].as_array().map_or(0, Vec::len) {
            locate(schema, format!("{at}/{choice}/{index}"), parts, found);
        }
    }
    let below = match *part {
        "*" => format!("{at}/additionalProperties"),
        "[]" => format!("{at}/items"),
        name => format!("{at}/properties/{name}"),
    };
    if schema.pointer(&below).is_some() {
        locate(schema, below, rest, found);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::schema, *};

    /// Whether a property holds a number, a duration or a size, itself or in a list.
    fn is_measured(property: &Value) -> bool {
        let of_type = |name: &str| match &property["type"] {
            Value::String(own) => own == name,
            Value::Array(own) => own.iter().any(|own| own == name),
            _ => false,
        };
        let reference = property["$ref"].as_str().unwrap_or_default();
        of_type("number")
            || of_type("integer")
            || reference.ends_with("/Duration")
            || reference.ends_with("/Size")
            || property["anyOf"].as_array().into_iter().flatten().any(is_measured)
            || property["items"].is_object() && is_measured(&property["items"])
    }

    #[test]
    fn every_number_duration_and_size_of_the_schema_has_bounds_and_they_are_in_it() {
        let schema = schema::schema();
        let mut measured = 0;
        for key in schema::keys() {
            let parts: Vec<&str> = key.iter().map(String::as_str).collect();
            let mut places = Vec::new();
            locate(&schema, String::new(), &parts, &mut places);
            for property in places.iter().filter_map(|place| schema.pointer(place)).filter(|p| is_measured(p))
            {
                measured += 1;
                let name = key.join(".");
                let bound = BOUNDS.iter().find(|(bound, _)| bound.trim_end_matches(".[]") == name);
                let Some((_, bound)) = bound else { panic!("{name} has no bounds") };
                if let Bound::Number(least, most) = bound {
                    let property = if property["items"].is_object() { &property["items"] } else { property };
                    assert_eq!(
                        (&property["minimum"], &property["maximum"]),
                        (&number(*least), &number(*most)),
                        "{name}"
                    );
                } else {
                    let most = bound.ends().1;
                    assert!(property.to_string().contains(&format!("to {most}.")), "{name}: {property}");
                }
            }
        }
        assert!(measured >= BOUNDS.len(), "{measured}");
    }
}
