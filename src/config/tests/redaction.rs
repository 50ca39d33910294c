//! No secret is ever printed, however it came.

use super::*;
use crate::cli::config::ConfigCommand;

const SECRET: &str = "topsecret";
const HOOK: &str = "[sinks.app]\ntype = \"webhook\"\nurl = \"https://example.com/hook\"\n";

fn run(command: &ConfigCommand, loader: Loader) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = command.run(loader, &mut out, &mut err);
    (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// Everything the commands and the error say about this configuration.
fn everything_said(file: &str, variables: &[(&str, &str)]) -> String {
    let folder = folder("tidings.toml", file);
    std::fs::write(folder.path().join("secret"), SECRET).unwrap();
    std::fs::write(folder.path().join("whsec"), format!("whsec_{}", "dG9wc2VjcmV0".repeat(4))).unwrap();
    let mut said = String::new();
    for command in [
        ConfigCommand::Check { no_secret_files: false },
        ConfigCommand::Show { output: ShowFormat::Toml, running: false },
        ConfigCommand::Show { output: ShowFormat::Json, running: false },
    ] {
        let (_, out, err) = run(&command, loader(folder.path(), variables, FlagOverrides::default()));
        said.push_str(&out);
        said.push_str(&err);
    }
    let loaded = loader(folder.path(), variables, FlagOverrides::default()).load();
    said + &format!("{:?}", loaded.map(|loaded| redacted(&loaded.config)))
}

#[test]
fn no_secret_is_said_whichever_way_it_came() {
    let key = "whsec_dG9wc2VjcmV0dG9wc2VjcmV0dG9wc2VjcmV0";
    let good = [
        (
            format!(
                "[server]\ntoken = \"{SECRET}\"\nproxy = \"http://u:{SECRET}@proxy:1\"\n[sources.retab]\napi_key = \"{SECRET}\"\n"
            ),
            vec![],
        ),
        (
            format!(
                "[sinks.a]\ntype = \"webhook\"\nurl = \"https://e.com/?key={SECRET}\"\nsecret = \"{key}\"\nsecrets = [\"{key}\"]\nheaders = {{ Authorization = \"{SECRET}\" }}\n"
            ),
            vec![],
        ),
        (
            "[server]\ntoken_file = \"secret\"\n[sources.retab]\napi_key_file = \"secret\"\n".to_owned(),
            vec![],
        ),
        (
            "[sinks.a]\ntype = \"webhook\"\nurl = \"https://e.com\"\nsecret_file = \"whsec\"\n".to_owned(),
            vec![],
        ),
        (
            format!(
                "[sinks.a]\ntype = \"webhook\"\nurl = \"https://e.com\"\nbearer = \"{SECRET}\"\nsecrets_file = \"whsec\"\nheaders = {{ X-Key = {{ file = \"secret\" }}, X-Other = \"{SECRET}\" }}\n"
            ),
            vec![],
        ),
        (String::new(), vec![("RETAB_API_KEY", SECRET), ("TIDINGS_SERVER__TOKEN", SECRET)]),
        (String::new(), vec![("TIDINGS_SOURCES__RETAB", "{ api_key = \"topsecret\" }")]),
    ];
    for (file, variables) in good {
        let said = everything_said(&file, &variables);
        assert!(said.contains("is fine"), "{said}");
        assert!(!said.contains(SECRET) && !said.contains("dG9wc2Vjc"), "{said}");
    }
}

#[test]
fn no_mistake_tells_a_secret() {
    let bad = [
        (format!("[server]\ntoken = [\"{SECRET}\"]\n[sources]\nretab = \"{SECRET}\"\n"), vec![]),
        (
            format!(
                "[sources.retab]\napi_key = \"{SECRET}\\n\"\napi_key_file = \"secret\"\napikey = \"{SECRET}\"\n"
            ),
            vec![],
        ),
        (format!("[sources.retab]\napi_key = {SECRET}\n"), vec![]),
        (
            format!(
                "[sinks.a]\ntype = \"webhook\"\nsecret = \"{SECRET}\"\nsecrets = \"{SECRET}\"\nurl = \"https://{SECRET}@e.com\"\nheaders = \"{SECRET}\"\n"
            ),
            vec![],
        ),
        (
            "[sinks.a]\ntype = \"webhook\"\nurl = \"https://e.com\"\nsecret_file = \"secret\"\n".to_owned(),
            vec![],
        ),
        (
            format!(
                "[sinks.a]\ntype = \"webhook\"\nurl = \"https://e.com\"\nbearer = \"{SECRET}\\n\"\nsecrets_file = \"secret\"\nclient_key_file = \"secret\"\nca_file = \"secret\"\nheaders = {{ X-Key = [\"{SECRET}\"], X-Two = {{ value = \"{SECRET}\" }}, X-Three = \"{SECRET}\\n\" }}\n"
            ),
            vec![],
        ),
        (
            String::new(),
            vec![("TIDINGS_SERVER__TOKN", SECRET), ("TIDINGS_SOURCES", SECRET), ("TIDINGS_SINKS__A", SECRET)],
        ),
        (
            String::new(),
            vec![
                ("TIDINGS_SINKS__A__TYPE", "webhook"),
                ("TIDINGS_SINKS__A__URL", SECRET),
                ("TIDINGS_CALLBACKS__ALLOW", SECRET),
            ],
        ),
    ];
    for (file, variables) in bad {
        let said = everything_said(&file, &variables);
        assert!(said.contains("nothing was started"), "{said}");
        assert!(!said.contains(SECRET) && !said.contains("dG9wc2Vjc"), "{said}");
    }
}

#[test]
fn show_names_the_origin_of_every_value() {
    let file = "[server]\ntoken = \"topsecret\"\n\n[sinks.app]\ntype = \"webhook\"\nurl = \"https://example.com/hook?k=v\"\nheaders = { X-Team = \"billing\" }\n\n[[routes]]\nwhen = { outcome = [\"completed\"] }\nto = [\"app\"]\n";
    let folder = folder("tidings.toml", file);
    let variables = [("RETAB_API_KEY", "topsecret"), ("TIDINGS_LOG__LEVEL", "debug")];
    let flags = FlagOverrides { out: Some("out".into()), ..FlagOverrides::default() };
    let loaded = loader(folder.path(), &variables, flags).load().unwrap();
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("show_toml", show(&loaded, ShowFormat::Toml).unwrap());
        insta::assert_snapshot!("show_json", show(&loaded, ShowFormat::Json).unwrap());
    });
}

#[test]
fn exit_statuses_and_streams() {
    let empty = tempfile::tempdir().unwrap();
    let check = ConfigCommand::Check { no_secret_files: false };
    let (status, out, err) = run(&check, loader(empty.path(), &[], FlagOverrides::default()));
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    insta::assert_snapshot!(out, @r"
    the configuration is fine (no file: defaults)
      listens on  127.0.0.1:8787
      sources     retab
      sinks       none
      routes      0
    note: sources.retab has no api_key or api_key_file; it is asked without one
    note: there are no sinks; finished jobs are kept and can be read from the API
    ");
    let broken = folder("tidings.toml", "[server]\ntoken_file = \"missing\"\n");
    let (status, out, err) = run(&check, loader(broken.path(), &[], FlagOverrides::default()));
    assert_eq!((status, out.as_str()), (2, ""));
    assert!(err.contains("tidings.toml:2:1  server.token_file: there is no such file"), "{err}");
    let check = ConfigCommand::Check { no_secret_files: true };
    assert_eq!(run(&check, loader(broken.path(), &[], FlagOverrides::default())).0, 0);
    let (status, out, _) = run(&ConfigCommand::Schema, loader(broken.path(), &[], FlagOverrides::default()));
    assert_eq!((status, out.contains("draft/2020-12")), (0, true));
}

/// What each key is set to: a secret alone, and as a part of what might stand there.
const SHAPES: [&str; 9] = [
    SECRET,
    "/{topsecret",
    "/{topsecret!}/{/a~topsecret}",
    "http://user:topsecret@example.com:port/?topsecret",
    "https://topsecret/#topsecret",
    ":topsecret",
    "info,topsecret=warm",
    "job.topsecret*",
    "topsecret/{topsecret}",
];

/// A file in which the key has this value, and nothing else is wrong.
fn file_with(key: &[String], value: &str) -> String {
    let name = |part: &String| if part == "*" { "x".to_owned() } else { part.clone() };
    if key[0] == "routes" {
        return format!("[[routes]]\n{} = {value}\n", key[1..].join("."));
    }
    let path: Vec<String> = key.iter().map(name).collect();
    let dotted = path.join(".");
    let disk = ["dir", "path", "compress"].iter().any(|word| path.last().is_some_and(|last| last == word));
    let others: &[(&str, &str)] = match key[0].as_str() {
        "sinks" if disk => &[("sinks.x.type", "\"disk\""), ("sinks.x.dir", "\"out\"")],
        "sinks" => &[("sinks.x.type", "\"webhook\""), ("sinks.x.url", "\"https://example.com\"")],
        _ => &[],
    };
    let others = others.iter().filter(|(other, _)| *other != dotted && key.len() > 2);
    let lines = others.map(|(key, value)| format!("{key} = {value}\n"));
    lines.chain([format!("{dotted} = {value}\n")]).collect()
}

#[test]
fn no_mistake_repeats_the_value_of_any_key() {
    let (mut refused, keys) = (0, schema::keys());
    for key in keys.iter().filter(|key| key[0] != "$schema") {
        let key = if *key == ["routes"] { &["routes".to_owned(), "to".to_owned()][..] } else { key };
        for shape in SHAPES {
            let text = format!("{shape:?}");
            for value in [text.clone(), format!("[{text}, {text}]"), format!("{{ x = {text} }}")] {
                let file = file_with(key, &value);
                let Err(error) = load(&file, &[]) else { continue };
                let message = error.to_string();
                let may = key.last().is_some_and(|last| last == "outcomes");
                assert!(may || !message.contains(SECRET), "{file}\n{message}");
                refused += 1;
            }
        }
        // Without its quotes it is no TOML.
        let message = load(&file_with(key, SECRET), &[]).unwrap_err().to_string();
        assert!(!message.contains(SECRET), "{key:?}: {message}");
    }
    assert!(refused > keys.len(), "{refused} of {}", keys.len());
}

#[test]
fn a_secret_in_the_place_of_its_file_is_not_shown() {
    for (file, variables) in [
        (format!("[server]\ntoken_file = {SECRET:?}\n"), vec![]),
        (
            format!(
                "[sources.retab]\napi_key_file = {SECRET:?}\nheaders = {{ a = {{ file = {SECRET:?} }} }}\n"
            ),
            vec![],
        ),
        (format!("{HOOK}secret_file = \"whsec_{SECRET}/{SECRET}\"\n"), vec![]),
        (String::new(), vec![("TIDINGS_SERVER__TOKEN_FILE", SECRET)]),
        (String::new(), vec![("TIDINGS_SERVER", "{ token_file = \"topsecret\" }")]),
    ] {
        let said = everything_said(&file, &variables);
        assert!(said.contains("there is no such file") && !said.contains(SECRET), "{said}");
    }
    let said = everything_said("[server]\ntoken_file = \"/run/secrets/token\"\n", &[]);
    assert!(said.contains("/run/secrets/token"), "{said}");
}
