//! Which layer wins, and what each is called.

use super::*;
use crate::{deliver::SinkConfig, telemetry::LogFormat, util::units::HumanDuration};

#[test]
fn later_layers_win_and_each_value_knows_its_own() {
    let file = "watch = [\"f\"]\n[server]\nlisten = \"127.0.0.1:1\"\n\n[store]\npath = \"from-file\"\nretention = \"1d\"\n\n[log]\nformat = \"json\"\n";
    let folder = folder("tidings.toml", file);
    let variables = [
        ("TIDINGS_STORE__PATH", "from-env"),
        ("TIDINGS_SERVER__LISTEN", "127.0.0.1:2"),
        ("tidings_watch", "[\"e\"]"),
    ];
    let flags = FlagOverrides { listen: Some("127.0.0.1:3".into()), ..FlagOverrides::default() };
    let loaded = loader(folder.path(), &variables, flags).load().unwrap();
    let config = &loaded.config;
    assert_eq!(config.server.listen, "127.0.0.1:3");
    assert_eq!(config.store.path, Path::new("from-env"));
    assert_eq!(config.store.retention, HumanDuration::secs(24 * 3600));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.watch[0].as_str(), "e");
    assert_eq!(origin(&loaded, "server.listen"), "flag --listen");
    assert_eq!(origin(&loaded, "store.path"), "environment TIDINGS_STORE__PATH");
    assert_eq!(origin(&loaded, "store.retention"), "tidings.toml:7:1");
    assert_eq!(origin(&loaded, "store.cache"), "default");
    assert_eq!(origin(&loaded, "watch"), "environment tidings_watch");
}

#[test]
fn without_anything_the_defaults_hold() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loader(folder.path(), &[], FlagOverrides::default()).load().unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.file, None);
    assert!(loaded.origins.is_empty());
}

#[test]
fn files_are_tried_in_their_order() {
    let folder = folder("system.toml", "[store]\npath = \"system\"\n");
    let path = |variables: &[(&str, &str)], config: Option<&str>| {
        let flags = FlagOverrides { config: config.map(Into::into), ..FlagOverrides::default() };
        let loader = loader(folder.path(), variables, flags).with_system_file("system.toml");
        loader.load().unwrap().config.store.path.display().to_string()
    };
    assert_eq!(path(&[], None), "system");
    std::fs::write(folder.path().join("tidings.toml"), "[store]\npath = \"local\"\n").unwrap();
    assert_eq!(path(&[], None), "local");
    std::fs::write(folder.path().join("env.toml"), "[store]\npath = \"env\"\n").unwrap();
    assert_eq!(path(&[("TIDINGS_CONFIG", "env.toml")], None), "env");
    std::fs::write(folder.path().join("flag.yml"), "store:\n  path: flag\nserver:\n").unwrap();
    assert_eq!(path(&[("TIDINGS_CONFIG", "env.toml")], Some("flag.yml")), "flag");
}

#[test]
fn variables_take_the_type_of_their_key() {
    let variables = [
        ("TIDINGS_SOURCES__RETAB__API_KEY", "12345"),
        ("TIDINGS_SOURCES__RETAB__MAX_REQUESTS_PER_SECOND", "2.5"),
        ("TIDINGS_SOURCES__RETAB__MAX_IN_FLIGHT", "7"),
        ("TIDINGS_SOURCES__RETAB__INCLUDE_REQUEST", "true"),
        ("TIDINGS_WATCH", "[\"1\", \"b\"]"),
        ("TIDINGS_STORE__PATH", "2026"),
        ("TIDINGS_SINKS__APP", "{ type = \"webhook\", url = \"https://example.com\" }"),
        ("TIDINGS_SINKS__APP__TIMEOUT", "3s"),
        ("TIDINGS_ROUTES", "[{ to = [\"disk\"] }]"),
        ("TIDINGS_SINKS__DISK__TYPE", "disk"),
        ("TIDINGS_SINKS__DISK__DIR", "true"),
        ("TIDINGS_URL", "http://elsewhere"),
        ("TIDINGS_PORT", "tcp://10.0.0.1:8787"),
    ];
    // A table in one variable and one of its keys in another do not mix: the later name wins.
    let error = load("", &variables).unwrap_err().to_string();
    assert!(error.contains("sinks.app: `type` is missing"), "{error}");
    let variables: Vec<_> = variables.into_iter().filter(|(name, _)| !name.ends_with("TIMEOUT")).collect();
    let loaded = load("", &variables).unwrap();
    let source = &loaded.config.sources["retab"];
    assert_eq!(source.api_key.as_ref().unwrap().expose(), "12345");
    assert!((source.max_requests_per_second - 2.5).abs() < f64::EPSILON);
    assert_eq!(source.max_in_flight, 7);
    assert!(source.include_request);
    assert_eq!(loaded.config.watch.len(), 2);
    assert_eq!(loaded.config.store.path, Path::new("2026"));
    assert_eq!(loaded.config.sinks.len(), 2);
    assert_eq!(loaded.config.routes[0].to, ["disk"]);
    assert_eq!(origin(&loaded, "sinks.app.url"), "environment TIDINGS_SINKS__APP");
}

#[test]
fn retabs_own_variables_stand_between_the_file_and_ours() {
    let file = "[sources.retab]\nbase_url = \"https://file.example\"\napi_key = \"file\"\n";
    let key = |variables: &[(&str, &str)]| {
        let config = load(file, variables).unwrap().config;
        config.sources["retab"].api_key.as_ref().unwrap().expose().to_owned()
    };
    assert_eq!(key(&[]), "file");
    assert_eq!(key(&[("RETAB_API_KEY", "")]), "file");
    assert_eq!(key(&[("RETAB_API_KEY", "retab")]), "retab");
    assert_eq!(key(&[("RETAB_API_KEY", "retab"), ("TIDINGS_SOURCES__RETAB__API_KEY", "ours")]), "ours");
    let loaded = load(file, &[("RETAB_API_BASE_URL", "https://env.example")]).unwrap();
    assert_eq!(loaded.config.sources["retab"].base_url.as_deref(), Some("https://env.example"));
    assert_eq!(origin(&loaded, "sources.retab.base_url"), "environment RETAB_API_BASE_URL");
}

#[test]
fn retab_is_there_unless_only_others_are_named() {
    let names = |file: &str, variables: &[(&str, &str)]| {
        load(file, variables).unwrap().config.sources.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(names("", &[]), ["retab"]);
    assert_eq!(names("[sources.mine]\n", &[]), ["mine"]);
    assert_eq!(names("[sources.mine]\n[sources.retab]\n", &[]), ["mine", "retab"]);
    assert_eq!(names("[sources.mine]\n", &[("RETAB_API_KEY", "k")]), ["mine", "retab"]);
    assert_eq!(names("[sources.mine]\n", &[("TIDINGS_SOURCES__RETAB__TIMEOUT", "1s")]), ["mine", "retab"]);
    assert_eq!(names("[sources]\n", &[]), ["retab"]);
}

#[test]
fn flags_add_sinks() {
    let folder = tempfile::tempdir().unwrap();
    let flags = FlagOverrides {
        webhook: Some("https://example.com/hook".into()),
        out: Some("out".into()),
        watch: vec!["12".into()],
        data_dir: Some("d".into()),
        log_level: Some("debug".into()),
        log_format: Some(LogFormat::Json),
        ..FlagOverrides::default()
    };
    let loaded = loader(folder.path(), &[], flags).load().unwrap();
    let config = &loaded.config;
    let found = &config.sinks["webhook"];
    assert!(
        matches!(found, SinkConfig::Webhook(hook) if hook.url.as_deref() == Some("https://example.com/hook")),
        "{found:?}"
    );
    let found = &config.sinks["disk"];
    assert!(matches!(found, SinkConfig::Disk(disk) if disk.dir == Path::new("out")), "{found:?}");
    assert_eq!((config.watch[0].as_str(), config.log.level.as_str()), ("12", "debug"));
    for (key, flag) in [
        ("sinks.webhook.url", "--webhook"),
        ("sinks.disk.dir", "--out"),
        ("watch", "--watch"),
        ("store.path", "--data-dir"),
        ("log.level", "--log-level"),
        ("log.format", "--log-format"),
    ] {
        assert_eq!(origin(&loaded, key), format!("flag {flag}"));
    }
}

#[test]
fn toml_yaml_and_json_say_the_same() {
    let texts = [
        (
            "a.toml",
            "watch = [\"1\"]\n[sources.retab]\nmax_requests_per_second = 5\n[sinks.app]\ntype = \"disk\"\ndir = \"o\"\n[[routes]]\nto = [\"app\"]\n",
        ),
        (
            "a.yaml",
            "watch: ['1']\nsources:\n  retab:\n    max_requests_per_second: 5\nsinks:\n  app:\n    type: disk\n    dir: o\nserver:\n  # nothing\nroutes:\n  - to: [app]\n",
        ),
        (
            "a.json",
            r#"{"$schema": "s.json", "watch": ["1"], "sources": {"retab": {"max_requests_per_second": 5, "api_key": null}}, "sinks": {"app": {"type": "disk", "dir": "o"}}, "routes": [{"to": ["app"]}]}"#,
        ),
    ];
    let configs = texts.map(|(name, text)| {
        let folder = folder(name, text);
        let flags = FlagOverrides { config: Some(name.into()), ..FlagOverrides::default() };
        loader(folder.path(), &[], flags).load().unwrap().config
    });
    assert_eq!(configs[0], configs[1]);
    assert_eq!(configs[0], configs[2]);
}

#[test]
fn the_old_spelling_of_a_key_is_read_as_the_new_one() {
    let old = "[server]\nhosts = [\"a\"]\nquit = true\n";
    let loaded = load(old, &NO_VARIABLES).unwrap();
    assert_eq!(
        (loaded.config.server.allowed_hosts.join(" "), loaded.config.server.shutdown),
        ("a".to_owned(), true)
    );
    assert_eq!(origin(&loaded, "server.allowed_hosts"), "tidings.toml:2:1");
    for variable in ["TIDINGS_SERVER__ALLOWED_HOSTS", "TIDINGS_SERVER__HOSTS"] {
        let loaded = load(old, &[(variable, "[\"b\"]")]).unwrap();
        assert_eq!(loaded.config.server.allowed_hosts, ["b"], "{variable}");
    }
    let loaded =
        load("[server]\nallowed_hosts = [\"a\"]\n", &[("TIDINGS_SERVER", "{ hosts = [\"b\"] }")]).unwrap();
    assert_eq!(loaded.config.server.allowed_hosts, ["b"]);
    let said = load("[server]\nhosts = []\nallowed_hosts = []\n", &NO_VARIABLES).unwrap_err().to_string();
    assert!(said.contains("tidings.toml:2:1  server.hosts: `allowed_hosts` is set as well"), "{said}");
    let said = load("[server]\nhosts = [\"a b\"]\n", &NO_VARIABLES).unwrap_err().to_string();
    assert!(said.contains("tidings.toml:2:10  server.allowed_hosts[0]"), "{said}");
}

#[test]
fn a_source_with_a_budget_shows_no_limits_of_its_own() {
    let file =
        "[budgets.acme]\nmax_requests_per_second = 3\n[budgets.spare]\n[sources.a]\nbudget = \"acme\"\n";
    let loaded = load(file, &[]).unwrap();
    let warned: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].contains("budgets.spare: no source names this budget"), "{warned:?}");
    for format in [ShowFormat::Toml, ShowFormat::Json] {
        let shown = show(&loaded, format).unwrap();
        assert!(
            shown.contains("max_requests_per_second") && !shown.contains("sources.a.max_requests"),
            "{shown}"
        );
    }
    assert_eq!(loaded.config.sources["a"].budget.as_deref(), Some("acme"));
}
