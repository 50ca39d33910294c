//! The layers of a configuration: defaults < file < environment < flags. Figment merges them, and
//! knows for every value the last layer that set it.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use figment::{
    Figment, Metadata, Profile, Provider,
    value::{Dict, Map, Num, Value},
};

use super::{
    file::{self, Positions, Tags},
    load::FlagOverrides,
    node::{Node, NodeKind, Origin},
    path::KeyPath,
    problems::ConfigProblem,
};

/// The prefix of every variable.
const PREFIX: &str = "tidings_";

/// Variables that are no keys: the address and the token of the daemon for client commands, and the
/// name of the file.
const NOT_KEYS: [&str; 4] = ["url", "config", "token", "token_file"];

/// Variables of Retab's own clients, and the keys they stand for.
const RETAB: [(&str, &str); 2] =
    [("RETAB_API_KEY", "sources.retab.api_key"), ("RETAB_API_BASE_URL", "sources.retab.base_url")];

/// One layer, or one variable or flag of it. Each has its own name, so that the origin of a value
/// is exact.
struct Layer {
    origin: Origin,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// All layers, and the mistakes in them.
#[derive(Default)]
pub(super) struct Layers {
    stack: Vec<Layer>,
    file: Option<(PathBuf, Positions)>,
    pub tags: Tags,
    pub problems: Vec<ConfigProblem>,
}

impl Layers {
    pub(super) fn add_file(&mut self, shown: PathBuf, parsed: file::Parsed) {
        let mut values = parsed.values;
        // Editors find the schema of a JSON file there.
        if matches!(values.get("$schema"), Some(Value::String(..))) {
            values.remove("$schema");
        }
        self.stack.push(Layer { origin: Origin::File { path: shown.clone(), at: None }, values });
        self.file = Some((shown, parsed.positions));
        self.tags = parsed.tags;
    }

    pub(super) fn add_environment(&mut self, environment: &BTreeMap<String, OsString>) {
        for (name, key) in RETAB {
            if let Some(value) = environment.get(name).filter(|value| !value.is_empty()) {
                self.add_variable(name, &key.split('.').collect::<Vec<_>>(), value);
            }
        }
        // Compose files pass an unset variable on as an empty one.
        for (name, value) in environment.iter().filter(|(_, value)| !value.is_empty()) {
            let lower = name.to_lowercase();
            let Some(key) = lower.strip_prefix(PREFIX) else { continue };
            if NOT_KEYS.contains(&key) || is_service_link(key, value) {
                continue;
            }
            if key.split("__").any(str::is_empty) {
                let reason = "a name of a variable is TIDINGS_ and a key's path with `__` between its parts";
                self.problem(name, reason);
                continue;
            }
            self.add_variable(name, &key.split("__").collect::<Vec<_>>(), value);
        }
    }

    fn add_variable(&mut self, name: &str, path: &[&str], value: &OsStr) {
        match value.to_str() {
            Some(text) => self.push(Origin::Environment(name.to_owned()), path, Value::from(text)),
            None => self.problem(name, "its value is not UTF-8 text"),
        }
    }

    fn problem(&mut self, variable: &str, reason: &str) {
        let origin = Origin::Environment(variable.to_owned());
        self.problems.push(ConfigProblem::new(origin, KeyPath::default(), reason));
    }

    pub(super) fn add_flags(&mut self, flags: &FlagOverrides) {
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        let format = flags.log_format.and_then(|format| serde_json::to_value(format).ok());
        let format = format.and_then(|format| format.as_str().map(str::to_owned));
        let texts = [
            ("--listen", "server.listen", flags.listen.clone()),
            ("--data-dir", "store.path", flags.data_dir.as_ref().map(path)),
            ("--webhook", "sinks.webhook.type", flags.webhook.is_some().then(|| "webhook".to_owned())),
            ("--webhook", "sinks.webhook.url", flags.webhook.clone()),
            ("--out", "sinks.disk.type", flags.out.is_some().then(|| "disk".to_owned())),
            ("--out", "sinks.disk.dir", flags.out.as_ref().map(path)),
            ("--log-level", "log.level", flags.log_level.clone()),
            ("--log-format", "log.format", format),
        ];
        for (flag, key, text) in texts {
            if let Some(text) = text {
                self.push(Origin::Flag(flag), &key.split('.').collect::<Vec<_>>(), Value::from(text));
            }
        }
        if !flags.watch.is_empty() {
            let ids: Vec<Value> = flags.watch.iter().map(|id| Value::from(id.as_str())).collect();
            self.push(Origin::Flag("--watch"), &["watch"], Value::from(ids));
        }
    }

    fn push(&mut self, origin: Origin, path: &[&str], value: Value) {
        let nested =
            path.iter().rev().fold(value, |value, key| Value::from(Dict::from([((*key).to_owned(), value)])));
        if let Value::Dict(_, values) = nested {
            self.stack.push(Layer { origin, values });
        }
    }

    /// Whether some layer names sources, and none names `retab`.
    fn names_only_other_sources(&self) -> bool {
        let sources = || self.stack.iter().filter_map(|layer| layer.values.get("sources"));
        let named = sources().any(|sources| sources.as_dict().is_some_and(|names| !names.is_empty()));
        named && !sources().any(|s| s.as_dict().is_some_and(|names| names.contains_key("retab")))
    }

    /// Merges the layers. The built-in source `retab` exists unless the layers name only other
    /// sources.
    pub(super) fn merge(mut self) -> (Node, Vec<ConfigProblem>) {
        let mut base = Dict::new();
        if !self.names_only_other_sources() {
            let retab = Dict::from([("retab".to_owned(), Value::from(Dict::new()))]);
            base.insert("sources".to_owned(), Value::from(retab));
        }
        self.stack.insert(0, Layer { origin: Origin::Default, values: base });
        let origins: BTreeMap<String, Origin> =
            self.stack.iter().map(|layer| (layer.origin.to_string(), layer.origin.clone())).collect();
        let figment = self.stack.into_iter().fold(Figment::new(), Figment::merge);
        // None of our layers can fail. If one did, only an empty configuration would be sensible.
        let mut merged = figment.data().unwrap_or_default();
        let values = merged.remove(&Profile::Default).unwrap_or_default();
        let origin_of = |value: &Value| {
            let metadata = figment.get_metadata(value.tag());
            metadata.and_then(|data| origins.get(data.name.as_ref()).cloned()).unwrap_or_default()
        };
        let convert = Convert { origin_of: &origin_of, file: self.file.as_ref() };
        let top = KeyPath::default();
        let entries =
            values.into_iter().map(|(key, value)| (key.clone(), convert.node(value, &top.join(&key))));
        let root = Node { origin: Origin::Default, kind: NodeKind::Table(entries.collect()) };
        (root, self.problems)
    }
}

/// Converts the values of figment to nodes with origins.
struct Convert<'a> {
    origin_of: &'a dyn Fn(&Value) -> Origin,
    file: Option<&'a (PathBuf, Positions)>,
}

impl Convert<'_> {
    fn node(&self, value: Value, path: &KeyPath) -> Node {
        let mut origin = (self.origin_of)(&value);
        if let (Origin::File { .. }, Some((file, positions))) = (&origin, self.file) {
            origin = file::origin(file, positions, path);
        }
        let untyped = matches!(origin, Origin::Environment(_));
        let kind = match value {
            Value::String(_, text) if untyped => NodeKind::Untyped(text),
            Value::Array(_, items) => {
                let items = items.into_iter().enumerate();
                NodeKind::List(items.map(|(index, item)| self.node(item, &path.join(index))).collect())
            }
            Value::Dict(_, entries) => {
                let below = |(key, value): (String, Value)| {
                    let node = self.node(value, &path.join(&key));
                    (key, node)
                };
                NodeKind::Table(entries.into_iter().map(below).collect())
            }
            scalar => scalar_kind(scalar),
        };
        Node { origin, kind }
    }
}

fn scalar_kind(value: Value) -> NodeKind {
    match value {
        Value::Bool(_, value) => NodeKind::Bool(value),
        Value::String(_, text) => NodeKind::Text(text),
        Value::Char(_, c) => NodeKind::Text(c.to_string()),
        Value::Num(_, Num::F32(value)) => NodeKind::Float(value.into()),
        Value::Num(_, Num::F64(value)) => NodeKind::Float(value),
        Value::Num(_, number) => {
            let signed = number.to_i128().or_else(|| number.to_u128().and_then(|n| i128::try_from(n).ok()));
            NodeKind::Integer(signed.unwrap_or(i128::MAX))
        }
        Value::Empty(..) | Value::Dict(..) | Value::Array(..) => NodeKind::Gone,
    }
}

/// Reads text of the environment as TOML: a number, true or false, a list, a table. `None` if it is
/// not TOML, or is text there too.
pub(super) fn from_toml_text(text: &str, origin: &Origin) -> Option<NodeKind> {
    let value = file::toml_value(text)?;
    if matches!(value, Value::String(..)) {
        return None;
    }
    let convert = Convert { origin_of: &|_| origin.clone(), file: None };
    // Inside of it, TOML has typed every value.
    Some(typed(convert.node(value, &KeyPath::default())).kind)
}

fn typed(node: Node) -> Node {
    let kind = match node.kind {
        NodeKind::Untyped(text) => NodeKind::Text(text),
        NodeKind::List(items) => NodeKind::List(items.into_iter().map(typed).collect()),
        NodeKind::Table(entries) => {
            NodeKind::Table(entries.into_iter().map(|(key, node)| (key, typed(node))).collect())
        }
        other => other,
    };
    Node { origin: node.origin, kind }
}

/// Whether Kubernetes or Docker set a variable. Both set `TIDINGS_SERVICE_HOST`,
/// `TIDINGS_PORT=tcp://…` and the like in every container beside a service named `tidings`.
fn is_service_link(key: &str, value: &OsStr) -> bool {
    if key.contains("__") {
        return false;
    }
    let linked = |text: &str| text.starts_with("tcp://") || text.starts_with("udp://");
    let key = format!("_{key}");
    key.ends_with("_service_host")
        || key.ends_with("_service_port")
        || key.contains("_service_port_")
        || (key.ends_with("_port") && value.to_str().is_some_and(linked))
        || key.split_once("_port_").is_some_and(|(_, rest)| {
            rest.starts_with(|c: char| c.is_ascii_digit()) && (rest.contains("_tcp") || rest.contains("_udp"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_links_are_no_keys() {
        for (key, value) in [
            ("service_host", "10.0.0.1"),
            ("api_service_port_http", "80"),
            ("port", "tcp://10.0.0.1:8787"),
            ("port_8787_tcp_addr", "10.0.0.1"),
        ] {
            assert!(is_service_link(key, OsStr::new(value)), "{key}");
        }
        for key in ["port", "watch", "server__listen", "support_1"] {
            assert!(!is_service_link(key, OsStr::new("8787")), "{key}");
        }
    }
}
