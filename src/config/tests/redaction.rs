//! No secret is ever printed, however it came.

use super::{cli::ConfigCommand, *};

const SECRET: &str = "topsecret";

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
        ConfigCommand::Show { output: ShowFormat::Toml },
        ConfigCommand::Show { output: ShowFormat::Json },
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
    assert!(err.contains("tidings.toml:2:1  server.token_file: there is no file missing"), "{err}");
    let check = ConfigCommand::Check { no_secret_files: true };
    assert_eq!(run(&check, loader(broken.path(), &[], FlagOverrides::default())).0, 0);
    let (status, out, _) = run(&ConfigCommand::Schema, loader(broken.path(), &[], FlagOverrides::default()));
    assert_eq!((status, out.contains("draft/2020-12")), (0, true));
}
