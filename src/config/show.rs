//! The effective configuration for people and scripts, without secrets and with the origin of each
//! value.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::{Map, Value, json};
use toml_edit::{DocumentMut, Item, Table};

use super::{Config, Loaded, path::KeyPath};
use crate::{
    deliver::{SinkConfig, WebhookConfig},
    util::{
        http_client::Outgoing,
        redact,
        secret::{SecretValue, shown_path},
    },
};

/// The formats of the effective configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ShowFormat {
    /// A configuration file, with the origin of each value as a comment.
    #[default]
    Toml,
    /// One object: each key's path with `value` and `origin`.
    Json,
}

/// Returns the effective configuration as text, without secrets.
///
/// # Errors
/// When a value cannot be written. A loaded configuration has no such value.
pub fn show(loaded: &Loaded, format: ShowFormat) -> Result<String, String> {
    let config = redacted(&loaded.config);
    match format {
        ShowFormat::Toml => toml(&config, loaded),
        ShowFormat::Json => json(&config, loaded),
    }
}

/// Returns the configuration without secrets. Keys, tokens and values of headers hide themselves;
/// this function hides the credentials and queries of URLs.
#[must_use]
pub fn redacted(config: &Config) -> Config {
    let mut config = config.clone();
    config.server.proxy = config.server.proxy.as_deref().map(redact::url_text);
    config.otlp.endpoint = config.otlp.endpoint.as_deref().map(redact::url_text);
    redact_file(&mut config.server.token_file);
    redact_file(&mut config.store.url_file);
    for source in config.sources.values_mut() {
        source.base_url = source.base_url.as_deref().map(redact::url_text);
        source.proxy.outgoing = source.proxy.outgoing.as_deref().map(proxy);
        redact_file(&mut source.api_key_file);
        if let Some(hooks) = &mut source.hooks {
            redact_file(&mut hooks.secret_file);
            redact_file(&mut hooks.secrets_file);
        }
        if let Some(auth) = &mut source.auth {
            for url in [&mut auth.token_url, &mut auth.api_url, &mut auth.sts_url] {
                *url = url.as_deref().map(redact::url_text);
            }
            for file in [&mut auth.client_secret_file, &mut auth.key_file, &mut auth.private_key_file] {
                redact_file(file);
            }
        }
        redact_files(&mut source.headers);
        source.kinds.values_mut().for_each(|kind| redact_files(&mut kind.headers));
    }
    redact_files(&mut config.otlp.headers);
    for sink in config.sinks.values_mut() {
        if let SinkConfig::Webhook(webhook) = sink {
            webhook.url = webhook.url.as_deref().map(redact::url_text);
            webhook.proxy = webhook.proxy.as_deref().map(proxy);
            redact_files(&mut webhook.headers);
            let WebhookConfig { url_file, secret_file, secrets_file, bearer_file, client_key_file, .. } =
                webhook;
            for file in [url_file, secret_file, secrets_file, bearer_file, client_key_file] {
                redact_file(file);
            }
        }
    }
    config
}

/// Hides the secrets in the proxy of a source or a sink, which may also be the word for none.
fn proxy(choice: &str) -> String {
    if choice == Outgoing::NONE { choice.to_owned() } else { redact::url_text(choice) }
}

/// Hides a text that may be the secret itself in the place of its file.
fn redact_file(file: &mut Option<PathBuf>) {
    *file = file.as_deref().map(|file| shown_path(file).into());
}

fn redact_files(headers: &mut BTreeMap<String, SecretValue>) {
    for value in headers.values_mut() {
        if let SecretValue::File(secret) = value {
            secret.file = shown_path(&secret.file).into();
        }
    }
}

/// The keys of a source that its budget has instead.
const LIMITS: [&str; 2] = ["max_requests_per_second", "max_in_flight"];

/// Returns the sources that share a budget.
fn sharing(config: &Config) -> impl Iterator<Item = &String> {
    config.sources.iter().filter(|(_, source)| source.budget.is_some()).map(|(name, _)| name)
}

fn toml(config: &Config, loaded: &Loaded) -> Result<String, String> {
    let text = toml::to_string(config).map_err(|error| error.to_string())?;
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
    for name in sharing(config) {
        if let Some(source) = document["sources"][name.as_str()].as_table_mut() {
            for limit in LIMITS {
                source.remove(limit);
            }
        }
    }
    comment(document.as_table_mut(), &KeyPath::default(), loaded);
    Ok(document.to_string())
}

/// Writes the origin behind each value of a table and of the tables below.
fn comment(table: &mut Table, path: &KeyPath, loaded: &Loaded) {
    for (key, item) in table.iter_mut() {
        let below = path.join(key.get());
        match item {
            Item::Value(value) => {
                value.decor_mut().set_suffix(format!(" # {}", loaded.origin(&below).brief()));
            }
            Item::Table(table) => comment(table, &below, loaded),
            Item::ArrayOfTables(tables) => {
                for (index, table) in tables.iter_mut().enumerate() {
                    comment(table, &below.join(index), loaded);
                }
            }
            Item::None => {}
        }
    }
}

fn json(config: &Config, loaded: &Loaded) -> Result<String, String> {
    let mut value = serde_json::to_value(config).map_err(|error| error.to_string())?;
    for name in sharing(config) {
        if let Some(source) = value["sources"][name].as_object_mut() {
            for limit in LIMITS {
                source.remove(limit);
            }
        }
    }
    let mut flat = Map::new();
    flatten(&value, &KeyPath::default(), loaded, &mut flat);
    serde_json::to_string_pretty(&flat).map(|text| text + "\n").map_err(|error| error.to_string())
}

fn flatten(value: &Value, path: &KeyPath, loaded: &Loaded, flat: &mut Map<String, Value>) {
    match value {
        Value::Null => {}
        Value::Object(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                flatten(value, &path.join(key), loaded, flat);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, value) in items.iter().enumerate() {
                flatten(value, &path.join(index), loaded, flat);
            }
        }
        value => {
            let origin = loaded.origin(path).brief();
            flat.insert(path.to_string(), json!({ "value": value, "origin": origin }));
        }
    }
}
