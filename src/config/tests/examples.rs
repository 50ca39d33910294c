//! The files that ship with the program, the sample of the documentation, and the schema.

use std::path::PathBuf;

use super::{super::schema::keys, *};

const SAMPLE: &str = include_str!("sample.toml");

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

#[test]
fn the_shipped_files_are_fine() {
    for name in ["sidecar.toml", "hub.toml", "local.toml"] {
        let flags = FlagOverrides { config: Some(shipped(name)), ..FlagOverrides::default() };
        let loaded = loader(Path::new("."), &[], flags).without_secret_files().load();
        if let Err(error) = loaded {
            panic!("{error}");
        }
    }
}

#[test]
fn the_hub_is_fine_with_its_secrets_and_refused_without() {
    let text = std::fs::read_to_string(shipped("hub.toml")).unwrap();
    // The files are where the test can make them.
    let folder = folder("tidings.toml", &text.replace("/run/secrets/", "secrets/"));
    let load = || loader(folder.path(), &[], FlagOverrides::default()).load();
    assert_eq!(load().unwrap_err().problems.len(), 6);
    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    for name in ["tidings_token", "retab_api_key", "retab_eu_api_key"] {
        std::fs::write(folder.path().join("secrets").join(name), "a key\n").unwrap();
    }
    for team in ["billing", "search", "oncall"] {
        let path = folder.path().join("secrets").join(format!("{team}_webhook_secret"));
        std::fs::write(path, format!("whsec_{}\n", "A".repeat(32))).unwrap();
    }
    load().unwrap();
}

#[test]
fn the_sample_of_the_documentation_loads() {
    load(SAMPLE, &[]).unwrap();
    // With what it shows commented out as well.
    let secrets = SAMPLE
        .replace("# token_file = \"…\"", "token_file = \"token\"")
        .replace("# admin_listen", "admin_listen")
        .replace("# api_key / api_key_file", "api_key_file = \"key\"")
        .replace("# secret / secret_file", "secret_file = \"secret\" ")
        .replace("# headers", "headers")
        .replace("# compress", "compress");
    let folder = folder("tidings.toml", &secrets);
    for (name, text) in [("token", "t"), ("key", "k"), ("secret", &format!("whsec_{}", "A".repeat(32)))] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let config = loader(folder.path(), &[], FlagOverrides::default()).load().unwrap().config;
    assert!(config.server.token_file.is_some() && config.server.admin_listen.is_some());
    assert!(config.sources["retab"].api_key_file.is_some());
}

#[test]
fn every_key_of_the_sample_is_in_the_schema() {
    let keys: Vec<String> = keys().iter().map(|key| key.join(".")).collect();
    let mut table = Vec::new();
    let mut seen = 0;
    for line in SAMPLE.lines() {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_start_matches('[').split(']').next().unwrap();
            table = header.split('.').map(str::to_owned).collect();
            if let Some(name) = table.get_mut(1) {
                *name = "*".to_owned();
            }
        } else if let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ") {
            let path: Vec<&str> = table.iter().map(String::as_str).chain([key]).collect();
            assert!(keys.contains(&path.join(".")), "{} is not in the schema", path.join("."));
            seen += 1;
        }
    }
    assert!(seen > 25, "only {seen} keys were found in the sample");
    for key in ["sinks.*.retry.schedule", "routes.when.labels.*", "sources.*.api_key", "sinks.*.secret"] {
        let there = keys.iter().any(|known| known == key || key == format!("{known}.*"));
        assert!(there, "{key} is not in the schema");
    }
}

#[test]
fn the_shipped_schema_is_current() {
    let path = shipped("tidings.schema.json");
    let current = format!("{:#}\n", schema());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == current,
        "config/tidings.schema.json is out of date; run: UPDATE=1 cargo test shipped_schema"
    );
}

#[test]
fn the_schema_leaves_no_table_open() {
    fn walk(value: &serde_json::Value, path: &str) {
        let properties = value["properties"].as_object();
        if properties.is_some() && value["type"] == "object" {
            assert_eq!(value["additionalProperties"], false, "{path}");
        }
        let entries = value.as_object().into_iter().flatten();
        for (key, below) in entries {
            walk(below, &format!("{path}/{key}"));
        }
        for (index, below) in value.as_array().into_iter().flatten().enumerate() {
            walk(below, &format!("{path}/{index}"));
        }
    }
    walk(&schema(), "");
}
