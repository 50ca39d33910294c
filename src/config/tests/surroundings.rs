//! What stands around the values: files that cannot be read, empty variables, keys that stand twice, values taken literally.

use std::os::unix::fs::symlink;

use super::*;

fn failure(loader: &Loader) -> String {
    loader.load().expect_err("this should have been refused").to_string()
}

#[test]
fn a_file_that_is_there_and_cannot_be_read_is_not_passed_over() {
    for system in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let name = if system { "system.toml" } else { "tidings.toml" };
        let path = folder.path().join(name);
        let loader = Loader::new(FlagOverrides::default(), [("NONE", "")], folder.path());
        let loader = loader.with_system_file("system.toml");
        assert_eq!(loader.load().unwrap().file, None);
        symlink(name, &path).unwrap();
        let said = failure(&loader);
        assert!(said.contains(name) && said.contains("cannot read the file: Too many"), "{said}");
        std::fs::remove_file(&path).unwrap();
        symlink("nowhere.toml", &path).unwrap();
        let said = failure(&loader);
        assert!(said.contains(name) && said.contains("a link to a missing file"), "{said}");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(failure(&loader).contains("it is a folder"));
    }
    // A permission does not keep root out, so only its words are tested here.
    let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    assert!(file::unreadable(Path::new("a.toml"), &denied).starts_with("permission denied\nhint: "));
}

#[test]
fn an_empty_variable_is_none() {
    let folder = folder("tidings.toml", "[server]\nlisten = \"127.0.0.1:1\"\n");
    let names = [
        "SERVER__LISTEN",
        "WATCH",
        "SERVER__TOKEN_FILE",
        "SOURCES__RETAB__API_KEY",
        "STORE__RETENTION",
        "CONFIG",
    ];
    let names: Vec<String> = names.iter().map(|name| format!("TIDINGS_{name}")).collect();
    let variables: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let loaded = loader(folder.path(), &variables, FlagOverrides::default()).load().unwrap();
    assert_eq!(loaded.config.server.listen, "127.0.0.1:1");
    // Those of client commands are no keys.
    let variables = [("TIDINGS_TOKEN", "t"), ("TIDINGS_TOKEN_FILE", "f"), ("TIDINGS_URL", "u")];
    loader(folder.path(), &variables, FlagOverrides::default()).load().unwrap();
}

#[test]
fn a_key_that_stands_twice_is_refused_with_its_line() {
    for (name, text, place) in [
        (
            "a.json",
            "{\n  \"log\": {},\n  \"store\": {\n    \"path\": \"a\",\n    \"path\": \"b\"\n  }\n}\n",
            "a.json:5:",
        ),
        ("b.json", "{\n  \"log\": null,\n  \"log\": {}\n}\n", "b.json:3:"),
        ("c.yaml", "store:\n  path: a\n  retention: 1d\n  path: b\n", "c.yaml:4:3"),
        ("d.yaml", "routes:\n  - to: [a]\n    to: [b]\n", "d.yaml:3:5"),
        ("e.toml", "[store]\npath = \"a\"\npath = \"b\"\n", "e.toml:3:1"),
    ] {
        let folder = folder(name, text);
        let flags = FlagOverrides { config: Some(name.into()), ..FlagOverrides::default() };
        let said = failure(&loader(folder.path(), &[], flags));
        assert!(said.contains(place) && said.contains("duplicate"), "{name}: {said}");
    }
}

#[test]
fn values_of_yaml_are_what_they_were() {
    let text = "server:\n  listen: 127.0.0.1:1 # a comment\n  quit: true\n  hosts: [yes, 1.example]\nlog:\nstore: &s\n  path: >-\n    a\n    b\n\
        sources:\n  retab:\n    max_requests_per_second: 7.5\n    max_in_flight: 9\n    api_key: '5'\n    include_request: false\n";
    let folder = folder("a.yaml", text);
    let flags = FlagOverrides { config: Some("a.yaml".into()), ..FlagOverrides::default() };
    let loaded = loader(folder.path(), &[], flags).load().unwrap();
    let (server, retab) = (&loaded.config.server, &loaded.config.sources["retab"]);
    assert_eq!(
        (server.listen.as_str(), server.shutdown, server.allowed_hosts.join(" ")),
        ("127.0.0.1:1", true, "yes 1.example".to_owned())
    );
    assert_eq!(loaded.config.store.path, Path::new("a b"));
    assert_eq!((retab.max_requests_per_second, retab.max_in_flight, retab.include_request), (7.5, 9, false));
    assert_eq!(retab.api_key.as_ref().unwrap().expose(), "5");
    assert_eq!(origin(&loaded, "sources.retab.max_in_flight"), "a.yaml:13:5");
}

fn warnings(loader: Loader) -> Vec<String> {
    let loaded = loader.without_secret_files().load().unwrap();
    loaded.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_taken_literally_is_warned_about() {
    let yaml = "server:\n  token_file: ~/token\nstore:\n  path: ${DATA}/x\nsources:\n  retab:\n    api_key: !secret topsecret\n    vars: {}\n\
        sinks:\n  a:\n    type: webhook\n    url: https://e.com\n    headers: !env\n      x: $TOPSECRET\n";
    let folder = folder("tidings.yaml", yaml);
    let flags = FlagOverrides { config: Some("tidings.yaml".into()), ..FlagOverrides::default() };
    let warnings = warnings(loader(folder.path(), &[], flags));
    let expected = [
        ("tidings.yaml:2:3  server.token_file", "`~`"),
        ("tidings.yaml:4:3  store.path", "TIDINGS_STORE__PATH"),
        ("tidings.yaml:7:5  sources.retab.api_key", "`!secret`"),
        ("tidings.yaml:13:5  sinks.a.headers", "`!env`"),
        ("tidings.yaml:14:7  sinks.a.headers.x", "TIDINGS_SINKS__A__HEADERS__X"),
    ];
    assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
    for (warning, (place, says)) in warnings.iter().zip(expected) {
        assert!(warning.contains(place) && warning.contains(says), "{warning}");
    }
    assert!(!warnings.concat().to_lowercase().contains("topsecret"), "{warnings:?}");
}

#[test]
fn a_secret_that_begins_like_a_tag_is_not_repeated() {
    for value in ["!topsecret", "!topsecret x", "!<topsecret> x"] {
        let folder = folder("tidings.yaml", &format!("sources:\n  retab:\n    api_key: {value}\n"));
        let flags = FlagOverrides { config: Some("tidings.yaml".into()), ..FlagOverrides::default() };
        let said = warnings(loader(folder.path(), &[], flags)).concat();
        assert!(said.contains("in quotes"), "{value}: {said}");
        assert!(!said.contains("topsecret"), "{value}: {said}");
    }
}

#[test]
fn a_command_that_needs_little_passes_over_the_rest() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\ndrain = 7\n[sources.retab]\napi_key_file = \"nowhere\"\ntimeout = 0\n[sinks.a]\n";
    let folder = folder("tidings.toml", file);
    let all = loader(folder.path(), &[("RETAB_API_KEY", "key")], FlagOverrides::default());
    all.load().unwrap_err();
    let loaded = all.clone().only(&["server.listen", "server.token"]).load().unwrap();
    assert_eq!(loaded.config.server.listen, "127.0.0.1:1");
    let said = failure(&all.only(&["sources.retab"]));
    assert!(said.contains("timeout") && !said.contains("drain"), "{said}");
}
