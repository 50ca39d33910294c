//! No secret is ever printed, however it came.

use super::*;

const SECRET: &str = "topsecret";
const HOOK: &str = "[sinks.app]\ntype = \"webhook\"\nurl = \"https://example.com/hook\"\n";

/// Everything that the commands show of this configuration: the values, the warnings, the mistakes.
fn everything_said(file: &str, variables: &[(&str, &str)]) -> String {
    let folder = folder("tidings.toml", file);
    std::fs::write(folder.path().join("secret"), SECRET).unwrap();
    std::fs::write(folder.path().join("whsec"), format!("whsec_{}", "dG9wc2VjcmV0".repeat(4))).unwrap();
    let mut said = String::new();
    let here = || loader(folder.path(), variables, FlagOverrides::default());
    for result in [here().load(), here().without_secret_files().load()] {
        match result {
            Ok(loaded) => {
                said.push_str(&show(&loaded, ShowFormat::Toml).unwrap());
                said.push_str(&show(&loaded, ShowFormat::Json).unwrap());
                said.extend(loaded.warnings.iter().map(ToString::to_string));
            }
            Err(error) => said.push_str(&error.to_string()),
        }
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
        (
            format!(
                "[sources.a]\ntype = \"retab\"\nauth = {{ type = \"oauth2\", token_url = \"https://e.com/t?k={SECRET}\", \
                 client_id = \"x\", client_secret = \"{SECRET}\" }}\n[sources.b]\ntype = \"retab\"\n\
                 auth = {{ type = \"azure-entra\", tenant = \"x\", client_id = \"x\", client_secret_file = \"secret\", \
                 scope = \"x\" }}\n"
            ),
            vec![("TIDINGS_SOURCES__C__AUTH", "{ type = \"aws-sigv4\", service = \"s\", region = \"r\" }")],
        ),
        (String::new(), vec![("RETAB_API_KEY", SECRET), ("TIDINGS_SERVER__TOKEN", SECRET)]),
        (String::new(), vec![("TIDINGS_SOURCES__RETAB", "{ api_key = \"topsecret\" }")]),
    ];
    for (file, variables) in good {
        let said = everything_said(&file, &variables);
        assert!(said.contains("listen = "), "{said}");
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
