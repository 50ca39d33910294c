//! Reads YAML files with the place of every key. A key that comes twice is a mistake, and tags of
//! other programs are kept for warnings.

use std::{fmt, path::Path};

use figment::value::{Dict, Value};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{Spanned, Tagged, from_str_with_options};

use super::{file::Parsed, path::KeyPath, problems::ConfigProblem, snippet};

/// Reads a file. Messages show it as `shown`.
pub(super) fn read(text: &str, shown: &Path) -> Result<Parsed, ConfigProblem> {
    // The parser's own snippet would show secrets. `yes` is text, as in YAML 1.2.
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    let node: YamlNode = from_str_with_options(text, options).map_err(|error| {
        let at = error
            .location()
            .and_then(|at| Some((usize::try_from(at.line()).ok()?, usize::try_from(at.column()).ok()?)));
        let reason = error.to_string();
        let reason = reason.split([',', ';', '\n']).next().unwrap_or_default();
        let reason = reason.split(" at line ").next().unwrap_or_default();
        ConfigProblem::about_file(shown, at, format!("the file is not YAML: {reason}"))
            .with_snippet(at.map(|at| snippet::masked(text, at)))
    })?;
    let mut parsed = Parsed::default();
    match parsed.take(node, &KeyPath::default()) {
        None => {}
        Some(Value::Dict(_, values)) => parsed.values = values,
        Some(_) => {
            let reason = "the top of the file is no table of keys";
            return Err(ConfigProblem::about_file(shown, Some((1, 1)), reason));
        }
    }
    Ok(parsed)
}

impl Parsed {
    /// Returns the value of a node, and records its places and tags.
    fn take(&mut self, node: YamlNode, path: &KeyPath) -> Option<Value> {
        // `!!str` and the like belong to YAML itself.
        if let Some(tag) = node.tag.filter(|tag| !tag.starts_with("tag:yaml.org,2002:")) {
            self.tags.insert(path.clone(), tag);
        }
        Some(match node.kind {
            // `server:` with everything below it commented out sets nothing.
            YamlKind::Null => return None,
            YamlKind::Scalar(value) => value,
            YamlKind::List(items) => {
                let items = items.into_iter().enumerate();
                Value::from(
                    items.filter_map(|(at, item)| self.take(item, &path.join(at))).collect::<Vec<_>>(),
                )
            }
            YamlKind::Table(entries) => {
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

struct YamlNode {
    tag: Option<String>,
    kind: YamlKind,
}

enum YamlKind {
    Null,
    Scalar(Value),
    List(Vec<YamlNode>),
    Table(Vec<(String, (usize, usize), YamlNode)>),
}

impl<'de> Deserialize<'de> for YamlNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Tagged(kind, tag) = Tagged::<YamlKind>::deserialize(deserializer)?;
        Ok(Self { tag, kind })
    }
}

impl<'de> Deserialize<'de> for YamlKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyKind)
    }
}

struct AnyKind;

impl<'de> Visitor<'de> for AnyKind {
    type Value = YamlKind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<YamlKind, E> {
        Ok(YamlKind::Null)
    }

    fn visit_none<E>(self) -> Result<YamlKind, E> {
        Ok(YamlKind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<YamlKind, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<YamlKind, E> {
        Ok(YamlKind::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<YamlKind, E> {
        Ok(YamlKind::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<YamlKind, E> {
        Ok(YamlKind::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<YamlKind, E> {
        Ok(YamlKind::Scalar(value.into()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<YamlKind, E> {
        Ok(YamlKind::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<YamlKind, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(YamlKind::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<YamlKind, A::Error> {
        let mut table = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
            let at = (place(key.referenced.line()), place(key.referenced.column()));
            table.push((key.value, at, entries.next_value()?));
        }
        Ok(YamlKind::Table(table))
    }
}
