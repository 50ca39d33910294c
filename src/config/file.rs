//! Reads the configuration file into values with their lines.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use figment::value::{Dict, Value};
use toml_edit::{Document, Item, TableLike};

use super::{
    content::Content,
    json,
    node::Origin,
    path::{KeyPath, KeyStep},
    problems::{ConfigProblem, with_maybe_hint},
    snippet, yaml,
};
use crate::util::http_client::plain;

/// The line and column of every key of a file, from one.
pub(super) type Positions = BTreeMap<KeyPath, (usize, usize)>;

/// The tags of YAML values.
pub(super) type Tags = BTreeMap<KeyPath, String>;

/// The reason of a file that is missing.
pub(super) const NOT_THERE: &str = "there is no such file";

/// The values of a file, and their places.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub values: Dict,
    pub positions: Positions,
    /// The tags of YAML that are not its own.
    pub tags: Tags,
    /// The content, to compare the next one with.
    pub content: Content,
}

/// Reads `path`. Messages show the path as `shown`.
pub(super) fn read(path: &Path, shown: &Path) -> Result<Parsed, ConfigProblem> {
    let fail = |reason: String| ConfigProblem::about_file(shown, None, reason);
    let bytes = fs::read(path).map_err(|error| fail(unreadable(path, &error)).transient())?;
    let text = String::from_utf8(bytes).map_err(|error| {
        fail(format!("the file is not UTF-8 text: byte {} is invalid", error.utf8_error().valid_up_to()))
    })?;
    let plain = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    let mut parsed = match extension.as_deref() {
        Some("toml") | None => read_toml(plain, shown)?,
        Some("yaml" | "yml") => yaml::read(plain, shown)?,
        Some("json") => top_level(json::read(plain, shown)?, plain, shown)?,
        Some(other) => {
            let reason =
                format!("the format `.{other}` is unknown\nhint: name the file .toml, .yaml, .yml or .json");
            return Err(fail(reason));
        }
    };
    parsed.content = Content::new(&text, &parsed.values);
    Ok(parsed)
}

pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound if path.is_symlink() => {
            return "the file is a link to a missing file".to_owned();
        }
        ErrorKind::NotFound => return NOT_THERE.to_owned(),
        ErrorKind::PermissionDenied => {
            return "permission denied\nhint: let this user read the file, or name another one with --config"
                .to_owned();
        }
        _ => {}
    }
    if path.is_dir() {
        return "it is a folder\nhint: name a file in it".to_owned();
    }
    format!("cannot read the file: {}", plain(error))
}

fn read_toml(text: &str, shown: &Path) -> Result<Parsed, ConfigProblem> {
    let document = Document::parse(text).map_err(|error| {
        let at = error.span().map(|span| line_and_column(text, span.start));
        let reason = error.message().lines().collect::<Vec<_>>().join("; ").replace(", expected nothing", "");
        let hint = reason.starts_with("invalid ").then_some("put text in quotes");
        ConfigProblem::about_file(shown, at, with_maybe_hint(format!("the file is not TOML: {reason}"), hint))
            .with_snippet(at.map(|at| snippet::masked(text, at)))
    })?;
    let mut positions = Positions::new();
    let values = from_table(document.as_table(), &KeyPath::default(), text, &mut positions);
    Ok(Parsed { values, positions, ..Parsed::default() })
}

fn from_table(table: &dyn TableLike, path: &KeyPath, text: &str, positions: &mut Positions) -> Dict {
    let mut values = Dict::new();
    for (name, item) in table.iter() {
        let below = path.join(name);
        let key = table.key(name).and_then(toml_edit::Key::span);
        // The header of a table is a better place than its first dotted key.
        let span = if item.is_table() { item.span().or(key) } else { key };
        if let Some(span) = span {
            positions.insert(below.clone(), line_and_column(text, span.start));
        }
        if let Some(value) = from_item(item, &below, text, positions) {
            values.insert(name.to_owned(), value);
        }
    }
    values
}

fn from_item(item: &Item, path: &KeyPath, text: &str, positions: &mut Positions) -> Option<Value> {
    match item {
        Item::None => None,
        Item::Value(value) => Some(from_value(value, path, text, positions)),
        Item::Table(table) => Some(Value::from(from_table(table, path, text, positions))),
        Item::ArrayOfTables(tables) => {
            let tables = tables.iter().enumerate().map(|(index, table)| {
                let below = path.join(index);
                if let Some(span) = table.span() {
                    positions.insert(below.clone(), line_and_column(text, span.start));
                }
                Value::from(from_table(table, &below, text, positions))
            });
            Some(Value::from(tables.collect::<Vec<_>>()))
        }
    }
}

fn from_value(value: &toml_edit::Value, path: &KeyPath, text: &str, positions: &mut Positions) -> Value {
    match value {
        toml_edit::Value::String(value) => Value::from(value.value().clone()),
        toml_edit::Value::Integer(value) => Value::from(*value.value()),
        toml_edit::Value::Float(value) => Value::from(*value.value()),
        toml_edit::Value::Boolean(value) => Value::from(*value.value()),
        toml_edit::Value::Datetime(value) => Value::from(value.value().to_string()),
        toml_edit::Value::Array(items) => {
            let items = items.iter().enumerate().map(|(index, item)| {
                let below = path.join(index);
                if let Some(span) = item.span() {
                    positions.insert(below.clone(), line_and_column(text, span.start));
                }
                from_value(item, &below, text, positions)
            });
            Value::from(items.collect::<Vec<_>>())
        }
        toml_edit::Value::InlineTable(table) => Value::from(from_table(table, path, text, positions)),
    }
}

/// Returns the value of a bare TOML text, unless that is text itself.
pub(super) fn toml_value(text: &str) -> Option<Value> {
    let document = format!("value = {}", text.trim());
    let document = Document::parse(document).ok()?;
    // A line break could smuggle in a second key.
    if document.as_table().len() != 1 {
        return None;
    }
    let value = document.as_table().get("value")?.as_value()?;
    Some(from_value(value, &KeyPath::default(), "", &mut Positions::new()))
}

fn top_level(value: Option<Value>, text: &str, shown: &Path) -> Result<Parsed, ConfigProblem> {
    match value {
        None => Ok(Parsed::default()),
        Some(Value::Dict(_, values)) => {
            let mut positions = Positions::new();
            locate(&values, &KeyPath::default(), text, &mut positions);
            Ok(Parsed { values, positions, ..Parsed::default() })
        }
        Some(_) => Err(ConfigProblem::about_file(
            shown,
            Some((1, 1)),
            "the file has to hold a table of keys at its top",
        )),
    }
}

/// The parser of JSON does not tell the places of values, so this function searches for their keys:
/// one after the other, each below and further in than its table. A key that it does not find
/// (several on a line, an item of a list) gets no line rather than a wrong one.
fn locate(values: &Dict, path: &KeyPath, text: &str, positions: &mut Positions) {
    let lines: Vec<&str> = text.lines().collect();
    locate_within(values, path, &lines, (0, lines.len()), positions);
}

fn locate_within(
    values: &Dict,
    path: &KeyPath,
    lines: &[&str],
    (from, to): (usize, usize),
    positions: &mut Positions,
) {
    let keys = |line: &usize| key_on(lines[*line]).map(|(indent, key)| (*line, indent, key));
    let Some(outer) = (from..to).filter_map(|line| keys(&line)).map(|(_, indent, _)| indent).min() else {
        return;
    };
    for (name, value) in values {
        let Some((line, ..)) = (from..to)
            .filter_map(|line| keys(&line))
            .find(|(_, indent, key)| *indent == outer && key == name)
        else {
            continue;
        };
        let below = path.join(name);
        positions.insert(below.clone(), (line + 1, outer + 1));
        if let Value::Dict(_, entries) = value {
            let end = (line + 1..to)
                .find(|at| key_on(lines[*at]).is_some_and(|(indent, _)| indent <= outer))
                .unwrap_or(to);
            locate_within(entries, &below, lines, (line + 1, end), positions);
        }
    }
}

/// Returns the indent and the key of a line such as `  "name": …`.
fn key_on(line: &str) -> Option<(usize, &str)> {
    let rest = line.trim_start();
    let indent = line.len() - rest.len();
    let (key, _) = rest.split_once(':')?;
    let key = key.trim_end();
    let bare = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key);
    let plain = !bare.is_empty() && !bare.contains(['"', '{', '[', ',', '#', ' ']);
    (plain && !key.starts_with('-')).then_some((indent, bare))
}

/// Returns the line and the column of a byte of `text`, in characters and from one.
fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// Returns the origin of the value of a file at `path`.
pub(super) fn origin(file: &Path, positions: &Positions, path: &KeyPath) -> Origin {
    let mut at = positions.get(path).copied();
    // An item of a list in YAML or JSON has the line of the list.
    if at.is_none() && matches!(path.0.last(), Some(KeyStep::Index(_))) {
        at = path.list().and_then(|list| positions.get(&list).copied());
    }
    Origin::File { path: PathBuf::from(file), at }
}
