//! `tidings config check`: the summary of a valid configuration.

use std::fmt::Write as _;

use crate::{
    config::Loaded,
    deliver::{Disk, SinkConfig},
};

/// Returns a summary of a valid configuration, with its warnings.
pub(super) fn summary(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let names = |names: Vec<&String>| {
        let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let file = loaded.file.as_ref().map_or("no file: defaults".to_owned(), |file| file.display().to_string());
    // Writing to a string cannot fail.
    let mut text = format!("the configuration is valid ({file})\n");
    let rows = [
        ("listens on", config.server.listen.clone()),
        ("sources", names(config.sources.keys().collect())),
        ("sinks", names(config.sinks.keys().collect())),
        ("routes", config.routes.len().to_string()),
    ];
    let database = config.store.database_shown().map(|database| ("database", database));
    for (what, is) in rows.into_iter().chain(database) {
        let _ = writeln!(text, "  {what:<12}{is}");
    }
    for warning in &loaded.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    for name in loaded.sources_without_a_key() {
        let _ =
            writeln!(text, "note: sources.{name} has no api_key or api_key_file; its requests carry no key");
    }
    for (name, sink) in &config.sinks {
        if let SinkConfig::Disk(disk) = sink
            && !Disk::tells_jobs_apart(&disk.path, config.sources.len())
        {
            let _ = writeln!(
                text,
                "note: sinks.{name}.path can be the same for two jobs; the second file then gets a hash in its name\n\
                 hint: use a path such as {{source}}/{{job_id}}.json"
            );
        }
    }
    if config.sinks.is_empty() {
        text.push_str("note: no sink is configured; finished jobs are kept and can be read from the API\n");
    }
    text
}
