//! Files in YAML: with the place of every key, no key twice, and the tags that people expect something of.

use std::{fmt, path::Path};

use figment::value::{Dict, Value};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{Spanned, Tagged, from_str_with_options};

use super::{file::Parsed, path::KeyPath, problems::Problem, snippet};

/// Reads a file, which messages call `shown`.
pub(super) fn read(text: &str, shown: &Path) -> Result<Parsed, Problem> {
    // A snippet of its own would show secrets; `yes` is text, as in YAML 1.2.
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    let node: Node = from_str_with_options(text, options).map_err(|error| {
        let at = error
            .location()
            .and_then(|at| Some((usize::try_from(at.line()).ok()?, usize::try_from(at.column()).ok()?)));
        let reason = error.to_string();
        let reason = reason.split([',', ';', '\n']).next().unwrap_or_default();
        let reason = reason.split(" at line ").next().unwrap_or_default();
        Problem::about_file(shown, at, format!("this is not YAML: {reason}"))
            .with_snippet(at.map(|at| snippet::masked(text, at)))
    })?;
    let mut parsed = Parsed::default();
    match parsed.take(node, &KeyPath::default()) {
        None => {}
        Some(Value::Dict(_, values)) => parsed.values = values,
        Some(_) => {
            let reason = "the file has to hold a table of keys at its top";
            return Err(Problem::about_file(shown, Some((1, 1)), reason));
        }
    }
    Ok(parsed)
}

impl Parsed {
    /// The value of a node; what is said of it beside goes into its places.
    fn take(&mut self, node: Node, path: &KeyPath) -> Option<Value> {
        // `!!str` and the like are YAML's own.
        if let Some(tag) = node.tag.filter(|tag| !tag.starts_with("tag:yaml.org,2002:")) {
            self.tags.insert(path.clone(), tag);
        }
        Some(match node.kind {
            // `server:` with everything below it commented out says nothing.
            Kind::Null => return None,
            Kind::Scalar(value) => value,
            Kind::List(items) => {
                let items = items.into_iter().enumerate();
                Value::from(
                    items.filter_map(|(at, item)| self.take(item, &path.join(at))).collect::<Vec<_>>(),
                )
            }
            Kind::Table(entries) => {
                let mut values = Dict::new();
                for (key, at, node) in entries {
                    let below = path.join(&key);
                    self.positions.insert(below.clone(), at);
                    if let Some(value) = self.take(node, &below) {
                        values.insert(key, value);
                    }
                }
                Value::from(values)
            }
        })
    }
}

struct Node {
    tag: Option<String>,
    kind: Kind,
}

enum Kind {
    Null,
    Scalar(Value),
    List(Vec<Node>),
    Table(Vec<(String, (usize, usize), Node)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Tagged(kind, tag) = Tagged::<Kind>::deserialize(deserializer)?;
        Ok(Self { tag, kind })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyKind)
    }
}

struct AnyKind;

impl<'de> Visitor<'de> for AnyKind {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Kind::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Kind, A::Error> {
        let mut table = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
            let at = (place(key.referenced.line()), place(key.referenced.column()));
            table.push((key.value, at, entries.next_value()?));
        }
        Ok(Kind::Table(table))
    }
}
