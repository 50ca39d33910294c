//! The JSON Schema of the configuration, for editors and generators of files.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{
    Config, bounds,
    renamed::{RENAMED, Renamed},
};

/// Returns the JSON Schema (draft 2020-12) of a configuration file.
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
    for names in ["budgets", "sources", "sinks"] {
        schema["properties"][names]["propertyNames"] = json!({ "pattern": "^[a-z0-9_-]{1,64}$" });
    }
    bounds::describe(&mut schema);
    describe_old_spellings(&mut schema);
    schema
}

/// Adds the old spelling of each renamed key, marked as deprecated.
fn describe_old_spellings(schema: &mut Value) {
    for Renamed { section, old, new } in RENAMED {
        let mut places = Vec::new();
        bounds::locate(schema, String::new(), &[section, new], &mut places);
        for place in places {
            let Some(mut property) = schema.pointer(&place).cloned() else { continue };
            property["description"] = json!(format!("The old spelling of `{new}`."));
            property["deprecated"] = json!(true);
            let table = place.trim_end_matches(&format!("/{new}"));
            if let Some(table) = schema.pointer_mut(table) {
                table[old] = property;
            }
        }
    }
}

/// Returns the path of every key of the schema but old spellings. `*` stands for a name that the user chooses.
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
    // The schema is not recursive. The bound keeps a later one from an endless loop.
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
        if property["deprecated"] == true {
            continue;
        }
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
