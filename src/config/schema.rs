//! The configuration as a JSON Schema, for editors and for whoever generates files.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{Config, bounds};

/// The JSON Schema (draft 2020-12) of a configuration file.
///
/// For TOML with taplo: `#:schema ./tidings.schema.json` in the first line; for YAML:
/// `# yaml-language-server: $schema=./tidings.schema.json`; for JSON: a key `$schema`.
#[must_use]
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Config>().to_value();
    schema["title"] = json!("tidings configuration");
    schema["properties"]["$schema"] = json!({
        "type": "string",
        "description": "Where an editor finds the schema of this file; not read otherwise."
    });
    for names in ["sources", "sinks"] {
        schema["properties"][names]["propertyNames"] = json!({ "pattern": "^[a-z0-9_-]{1,64}$" });
    }
    bounds::describe(&mut schema);
    schema
}

/// The path of every key of the schema; `*` stands for a name that the user chooses.
pub(super) fn keys() -> Vec<Vec<String>> {
    let schema = schema();
    let definitions = schema["$defs"].as_object().cloned().unwrap_or_default();
    let mut found = Vec::new();
    walk(&schema, &definitions, &mut Vec::new(), &mut found);
    found.sort();
    found.dedup();
    found
}

fn walk(
    schema: &Value,
    definitions: &Map<String, Value>,
    path: &mut Vec<String>,
    found: &mut Vec<Vec<String>>,
) {
    // The schema is not recursive; the bound keeps a later one from hanging.
    if path.len() > 12 {
        return;
    }
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/"))
        && let Some(target) = definitions.get(name)
    {
        walk(target, definitions, path, found);
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        for part in schema[choice].as_array().into_iter().flatten() {
            walk(part, definitions, path, found);
        }
    }
    if schema["items"].is_object() {
        walk(&schema["items"], definitions, path, found);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        path.push(name.clone());
        found.push(path.clone());
        walk(property, definitions, path, found);
        path.pop();
    }
    if schema["additionalProperties"].is_object() {
        path.push("*".to_owned());
        walk(&schema["additionalProperties"], definitions, path, found);
        path.pop();
    }
}
