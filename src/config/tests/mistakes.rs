//! What the user reads after a mistake.

use proptest::prelude::*;

use super::*;

fn message(file: &str, variables: &[(&str, &str)]) -> String {
    load(file, variables).expect_err("this should have been refused").to_string()
}

macro_rules! mistakes {
    ($($name:ident: $file:expr, $variables:expr;)*) => {$(
        #[test]
        fn $name() {
            insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
                insta::assert_snapshot!(stringify!($name), message($file, &$variables));
            });
        }
    )*};
}

const HOOK: &str = "[sinks.app]\ntype = \"webhook\"\nurl = \"https://example.com/hook\"\n";

mistakes! {
    several_at_once: "watch = [\"job_1\", 7, \"\"]\ncolour = 1\n\n[sources.retab.polling]\nmin_intervall = \"1s\"\nmax_interval = \"soon\"\n\n[server]\nlisten = true\n\n[[routes]]\nto = [\"app\"]\n",
        [("TIDINGS_STORE__RETENTION", "5 parsecs"), ("TIDINGS_LOG__FORMAT", "jsn")];
    unknown_sections_and_homes: "retention = \"7d\"\n[source.retab]\napi_key = \"x\"\n", NO_VARIABLES;
    one_underscore_too_few: "", [("TIDINGS_SERVER_LISTEN", "127.0.0.1:1"), ("TIDINGS_SOURCES_RETAB_API_KEY", "k"), ("TIDINGS_LOG__LEVL", "info"), ("TIDINGS_STORE__", "x")];
    toml_syntax: "[server]\nlisten = 127.0.0.1:8787\n", NO_VARIABLES;
    toml_syntax_beside_a_secret: "[sources.retab]\napi_key = sk-live-topsecret\n", NO_VARIABLES;
    toml_duplicate_key: "[store]\npath = \"a\"\npath = \"b\"\n", NO_VARIABLES;
    wrong_types: "[server]\nlisten = 8787\nhosts = \"a\"\ndrain = 25\n[store]\npath = []\n[sources.retab]\nmax_requests_per_second = \"20\"\nmax_in_flight = -1\ninclude_request = \"yes\"\n", NO_VARIABLES;
    sections_that_are_no_tables: "server = 1\nsinks = [1]\nroutes = \"all\"\n[sources]\nretab = \"key\"\n", NO_VARIABLES;
    sink_types: "[sinks.a]\nurl = \"https://example.com\"\n[sinks.b]\ntype = \"webhok\"\n[sinks.c]\ntype = \"webhook\"\n[sinks.d]\ntype = \"disk\"\ndirectory = \"out\"\n[sinks.e]\ntype = 3\n[[routes]]\nto = [\"a\", \"b\", \"e\"]\n", NO_VARIABLES;
    two_of_x_and_x_file: "[server]\ntoken = \"a\"\ntoken_file = \"t\"\n[sources.retab]\napi_key_file = \"k\"\n", [("RETAB_API_KEY", "key")];
    secret_files_that_are_missing: "[server]\ntoken_file = \"nowhere/token\"\n[sinks.app]\ntype = \"webhook\"\nurl = \"https://example.com\"\nsecret_file = \"nowhere/secret\"\n", NO_VARIABLES;
    routes: &format!("{HOOK}[[routes]]\nto = [\"ap\"]\n[[routes]]\nto = []\n[[routes]]\nwhen = {{ outcome = [\"done\"], source = [\"retap\"] }}\n"), NO_VARIABLES;
    names: "[sources.Retab]\n[sinks.callback]\ntype = \"disk\"\ndir = \"out\"\n[sinks.\"a b\"]\ntype = \"disk\"\ndir = \"out\"\n", NO_VARIABLES;
    listening: "[server]\nlisten = \"0.0.0.0:8787\"\nadmin_listen = \":9464\"\nproxy = \"proxy:3128\"\nhosts = [\"https://a/\"]\n", NO_VARIABLES;
    a_listen_address_of_the_environment: "", [("TIDINGS_SERVER__LISTEN", ":8787")];
    urls: "[sources.retab]\nbase_url = \"ftp://example.com\"\n[sinks.a]\ntype = \"webhook\"\nurl = \"https://user:topsecret@example.com\"\n[sinks.b]\ntype = \"webhook\"\nurl = \"example.com/hook\"\n[sinks.c]\ntype = \"webhook\"\nurl = \"http://\"\n", NO_VARIABLES;
    headers: &format!("{HOOK}[sinks.app.headers]\n\"Content-Type\" = \"a\"\nwebhook-id = \"a\"\n\"a b\" = \"c\"\nX-Key = \"top\\nsecret\"\nx-one = \"1\"\nX-One = \"1\"\n"), NO_VARIABLES;
    numbers_beyond_all_bounds: &format!("[store]\nretention = \"9000y\"\n[sources.retab]\nmax_requests_per_second = 1e-300\nmax_in_flight = 2000000\n[sources.retab.polling]\ndeadline = \"36501d\"\n{HOOK}max_per_second = 1e300\n"), NO_VARIABLES;
    numbers_out_of_range: &format!("[sources.retab]\nmax_requests_per_second = 0\nmax_in_flight = 0\ntimeout = \"0s\"\nmax_job_size = \"0B\"\n[sources.mine]\nmax_requests_per_second = nan\n{HOOK}max_in_flight = 0\nretry = {{ schedule = [\"5s\", \"31d\"], jitter = 1.5 }}\n"), NO_VARIABLES;
    intervals: "[sources.retab.polling]\nmin_interval = \"2h\"\ninterval = \"0s\"\nmax_delay = \"1m\"\nlearn_by_label = \"\"\n[sources.mine.polling]\nmax_interval = \"100ms\"\nstrategy = \"backoff\"\ncost_of_a_poll = \"1s\"\n", NO_VARIABLES;
    events: &format!("{HOOK}events = [\"job.done\", \"job.complete\", \"*.lost\"]\n[sinks.b]\ntype = \"disk\"\ndir = \"\"\nevents = []\n"), NO_VARIABLES;
    progress_that_overwrites: "[sinks.a]\ntype = \"disk\"\ndir = \"o\"\nevents = [\"job.*\", \"job.started\"]\n[sinks.b]\ntype = \"disk\"\ndir = \"o\"\npath = \"{job_id}.{outcome}\"\nevents = [\"job.updated\"]\n[sinks.c]\ntype = \"disk\"\ndir = \"o\"\npath = \"{job_id}.{outcome}\"\nevents = [\"job.started\"]\n[sinks.d]\ntype = \"disk\"\ndir = \"o\"\npath = \"{event_id}\"\nevents = [\"job.updated\", \"job.stopped\"]\n", NO_VARIABLES;
    signing_secrets: &format!("{HOOK}secret = \"topsecret\"\nsecrets = [\"whsec_!topsecret\", \"whsec_dG9wc2VjcmV0\"]\n"), NO_VARIABLES;
    asymmetric_secrets: &format!("{HOOK}secret = \"whpk_dG9wc2VjcmV0\"\nsecrets = [\"whsk_!topsecret\", \"whsk_dG9wc2VjcmV0\"]\nsecrets_file = \"nowhere/keys\"\n"), NO_VARIABLES;
    credentials: &format!("{HOOK}bearer = \"topsecret\"\nbearer_file = \"nowhere/token\"\n[sinks.app.headers]\nauthorization = \"topsecret\"\nx-key = {{ file = \"nowhere/key\" }}\nx-none = {{ path = \"a\" }}\nx-list = [\"topsecret\"]\n"), NO_VARIABLES;
    certificates: &format!("{HOOK}client_key_file = \"nowhere/key.pem\"\n[sinks.other]\ntype = \"webhook\"\nurl = \"https://example.com\"\nca_file = \"nowhere/ca.pem\"\n"), NO_VARIABLES;
    disk_paths: "[sinks.a]\ntype = \"disk\"\ndir = \"o\"\npath = \"{job}.json\"\n[sinks.b]\ntype = \"disk\"\ndir = \"o\"\npath = \"/{job_id}\"\n[sinks.c]\ntype = \"disk\"\ndir = \"o\"\npath = \"../{job_id}\"\n[sinks.d]\ntype = \"disk\"\ndir = \"o\"\npath = \"\"\n[sinks.e]\ntype = \"disk\"\ndir = \"o\"\npath = \"{job_id\"\n[sinks.f]\ntype = \"disk\"\ndir = \"o\"\npath = \"latest.json\"\n", NO_VARIABLES;
    formats: "[sinks.a]\ntype = \"webhook\"\nurl = \"https://e.com\"\nformat = \"template\"\n[sinks.b]\ntype = \"webhook\"\nurl = \"https://e.com\"\ntemplate = \"{}\"\nmethod = \"GET\"\n[sinks.c]\ntype = \"webhook\"\nurl = \"https://e.com\"\nformat = \"template\"\ntemplate = \"\"\"\n{\n  \"a\": \"{{ job_idd }}\"}\"\"\"\n[sinks.d]\ntype = \"webhook\"\nurl = \"https://e.com\"\nformat = \"template\"\ntemplate_file = \"slack.j2\"\ncontent_type = \"json\"\n[sinks.e]\ntype = \"webhook\"\nurl = \"https://e.com\"\nformat = \"template\"\ntemplate_file = \"slack.j2\"\n[sinks.f]\ntype = \"disk\"\ndir = \"o\"\nformat = \"cloudevents-binary\"\n[sinks.g]\ntype = \"disk\"\ndir = \"o\"\nformat = \"template\"\n[sinks.h]\ntype = \"webhook\"\nurl = \"https://e.com\"\nformat = \"cloudevent\"\n", NO_VARIABLES;
    budgets: "[budgets.acme]\nmax_requests_per_second = 0\nmax_inflight = 3\n[budgets.\"A b\"]\n[sources.a]\nbudget = \"acmee\"\n[sources.b]\nbudget = \"acme\"\nmax_requests_per_second = 5\nmax_in_flight = 3\n", [("TIDINGS_SOURCES__C__BUDGET", "else")];
    budgets_that_nobody_made: "[sources.a]\nbudget = \"acme\"\n", NO_VARIABLES;
    made_credentials: "[sources.a]\nauth = { type = \"oauth\" }\n[sources.b]\nauth = { type = \"oauth2\", token_url = \"https://u:topsecret@e.com/\", client_secret = \"topsecret\", client_secret_file = \"nowhere/secret\", scop = \"x\" }\n[sources.c]\nheaders = { authorization = \"topsecret\" }\nauth = { type = \"google-service-account\", key = \"topsecret\", tenant = \"x\" }\n[sources.d]\nauth = { type = \"github-app\", app_id = 7, private_key_file = \"nowhere/key\" }\n[sources.e]\nproxy = { inject_key = true }\nauth = { type = \"aws-sigv4\", region = \"eu central\" }\n[sources.f]\nauth = { type = \"azure-entra\", tenant = \"a/b\", client_id = \"x\", client_secret = \"\", scope = \"\" }\n[sources.g]\nauth = { client_id = \"x\" }\n[sources.retab]\napi_key = \"topsecret\"\nauth = { type = \"oauth2\", token_url = \"https://e.com/t\", client_id = \"x\", client_secret = \"topsecret\" }\n", NO_VARIABLES;
    a_database_without_a_url: "", [("TIDINGS_STORE__TYPE", "postgres"), ("TIDINGS_STORE__PATH", "data2")];
    log_levels: "[log]\nlevel = \"infoo\"\n", NO_VARIABLES;
    log_of_nothing: "[log]\nlevel = \" , \"\n", NO_VARIABLES;
    log_filters: "", [("TIDINGS_LOG__LEVEL", "tidings=loud")];
    callbacks: "[callbacks]\nenabled = \"true\"\nallow = [\"10.0.0.0/8\", \"10.0.0.0/40\"]\n", NO_VARIABLES;
}

#[test]
fn a_file_that_was_named_has_to_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let flags = FlagOverrides { config: Some("hub.toml".into()), ..FlagOverrides::default() };
    let by_flag = loader(folder.path(), &[], flags).load().unwrap_err().to_string();
    insta::assert_snapshot!(by_flag, @r"
    the configuration has 1 mistake; nothing was started

      hub.toml  there is no such file
        hint: --config names the file
    ");
    let variables = [("TIDINGS_CONFIG", "hub.ini")];
    let by_variable =
        loader(folder.path(), &variables, FlagOverrides::default()).load().unwrap_err().to_string();
    assert!(
        by_variable.contains("hub.ini  there is no such file\n    hint: TIDINGS_CONFIG names the file"),
        "{by_variable}"
    );
    std::fs::write(folder.path().join("hub.ini"), "").unwrap();
    let format = loader(folder.path(), &variables, FlagOverrides::default()).load().unwrap_err().to_string();
    assert!(format.contains("the format `.ini` is unknown"), "{format}");
}

#[test]
fn mistakes_of_flags_name_the_flag() {
    let folder = tempfile::tempdir().unwrap();
    let flags = FlagOverrides {
        listen: Some("nowhere".into()),
        webhook: Some("not a url".into()),
        out: Some("".into()),
        watch: vec![String::new()],
        log_level: Some("debg".into()),
        ..FlagOverrides::default()
    };
    let message = loader(folder.path(), &[], flags).load().unwrap_err().to_string();
    for flag in ["--listen", "--webhook", "--out", "--watch", "--log-level"] {
        assert!(message.contains(&format!("flag {flag}  ")), "{flag}: {message}");
    }
}

#[test]
fn yaml_and_json_mistakes_have_their_lines() {
    for (name, text, place) in [
        (
            "a.yaml",
            "server:\n  listen: 127.0.0.1:1\nsources:\n  retab:\n    polling:\n      min_intervall: 1s\n",
            "a.yaml:6:7",
        ),
        (
            "a.json",
            "{\n  \"sources\": {\n    \"retab\": {\n      \"polling\": {\n        \"min_intervall\": \"1s\"\n      }\n    }\n  }\n}\n",
            "a.json:5:9",
        ),
    ] {
        let folder = folder(name, text);
        let flags = FlagOverrides { config: Some(name.into()), ..FlagOverrides::default() };
        let message = loader(folder.path(), &[], flags).load().unwrap_err().to_string();
        let expected = format!(
            "{place}  sources.retab.polling.min_intervall: unknown key\n    hint: did you mean `min_interval`?"
        );
        assert!(message.contains(&expected), "{message}");
    }
    for (name, text, start) in [
        ("b.yaml", "server: [1\nstore: 2\n", "the file is not YAML"),
        ("b.json", "{\n  \"server\": }\n", "b.json:2:13  the file is not JSON"),
        ("c.json", "[1]", "c.json:1:1  the file has to hold a table"),
    ] {
        let folder = folder(name, text);
        let flags = FlagOverrides { config: Some(name.into()), ..FlagOverrides::default() };
        let message = loader(folder.path(), &[], flags).load().unwrap_err().to_string();
        assert!(message.contains(start), "{message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_unknown_key_is_refused_with_its_name(key in "[a-z_]{1,20}", value in any::<i64>()) {
        let known = load(&format!("[store]\n{key} = {value}\n"), &[]);
        let message = known.unwrap_err().to_string();
        let expected = format!("store.{key}");
        prop_assert!(message.contains(&expected), "{}", message);
    }

    #[test]
    fn no_file_and_no_variable_makes_it_panic(text in any::<String>(), name in "[A-Z_]{0,12}", value in any::<String>()) {
        let _ = load(&text, &[(&format!("TIDINGS_{name}"), &value), ("TIDINGS_ROUTES", &value)]);
        let _ = load("", &[("TIDINGS_SINKS__A", &text), ("TIDINGS_SOURCES", &value)]);
    }
}
