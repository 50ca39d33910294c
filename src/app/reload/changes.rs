//! What a new configuration changes, for the report of a reload.

use std::{collections::BTreeSet, sync::Arc};

use crate::{config::Config, state::components::Components};

/// Returns the names of the parts that changed.
pub(super) fn changed(before: &Components, next: &Components) -> Vec<String> {
    let (old, new) = (&before.config, &next.config);
    let mut changed = Vec::new();
    for name in names(old.sources.keys(), new.sources.keys()) {
        let same = match (before.watchers.get(name), next.watchers.get(name)) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            _ => false,
        };
        changed.extend((!same).then(|| format!("sources.{name}")));
    }
    for name in names(old.budgets.keys(), new.budgets.keys()) {
        changed.extend((old.budgets.get(name) != new.budgets.get(name)).then(|| format!("budgets.{name}")));
    }
    for name in names(old.sinks.keys(), new.sinks.keys()) {
        let same = match (before.sinks.get(name), next.sinks.get(name)) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            _ => false,
        };
        changed.extend((!same).then(|| format!("sinks.{name}")));
    }
    let parts = [
        ("routes", old.routes != new.routes),
        ("callbacks", old.callbacks != new.callbacks),
        ("page", old.page != new.page),
        ("watch", old.watch != new.watch),
        ("log.level", old.log.level != new.log.level),
        ("store.retention", old.store.retention != new.store.retention),
    ];
    changed.extend(parts.into_iter().filter(|(_, other)| *other).map(|(name, _)| name.to_owned()));
    changed
}

fn names<'a>(
    old: impl Iterator<Item = &'a String>,
    new: impl Iterator<Item = &'a String>,
) -> BTreeSet<&'a String> {
    old.chain(new).collect()
}

/// Returns the keys that differ from those at the start and take effect only after a restart.
pub(super) fn only_at_start(started: &Config, new: &Config) -> Vec<String> {
    let mut keys = Vec::new();
    // Compared as JSON, so that a new key cannot be forgotten. The token is redacted there, and is compared by itself.
    let tables = |config: &Config| {
        let server = serde_json::to_value(&config.server).unwrap_or_default();
        let store = serde_json::to_value(&config.store).unwrap_or_default();
        let log = serde_json::to_value(&config.log).unwrap_or_default();
        let otlp = serde_json::to_value(&config.otlp).unwrap_or_default();
        [("server", server), ("store", store), ("log", log), ("otlp", otlp)]
    };
    for ((table, old), (_, new)) in tables(started).into_iter().zip(tables(new)) {
        for (key, value) in new.as_object().into_iter().flatten() {
            let path = format!("{table}.{key}");
            let live = matches!(path.as_str(), "store.retention" | "log.level");
            if !live && old.get(key) != Some(value) {
                keys.push(path);
            }
        }
    }
    if started.server.token != new.server.token && !keys.iter().any(|key| key == "server.token") {
        keys.push("server.token".to_owned());
    }
    keys
}
