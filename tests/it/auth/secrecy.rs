//! No secret and no token is said anywhere: not in the log, the configuration, the API, a command, or on disk.

use std::{fs, path::Path};

use serde_json::json;

use super::{SECRET, realm, realm::Realm};
use crate::harness::{Process, eventually, once};

/// The content of every file below a folder.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    found
}

fn contains(text: &[u8], part: &str) -> bool {
    text.windows(part.len()).any(|window| window == part.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_the_secret_nor_a_token_is_told() {
    let realm = Realm::start(realm::oauth2).await;
    let folder = tempfile::tempdir().unwrap();
    let url = realm.url();
    fs::write(folder.path().join("secret"), format!("{SECRET}\n")).unwrap();
    let source = |name: &str, secret: &str| {
        format!(
            "[sources.{name}]\ntype = \"custom\"\nbase_url = \"{url}\"\nstatus_path = \"/tasks/{{id}}\"\n\
             status_at = [\"/state\"]\noutcomes = {{ pending = [\"busy\"], completed = [\"done\"] }}\n\
             polling = {{ min_interval = \"20ms\", max_interval = \"60ms\" }}\n\
             auth = {{ type = \"oauth2\", token_url = \"{url}/token\", client_id = \"app: one\", {secret}, \
             scope = \"jobs.read jobs.list\" }}\n"
        )
    };
    let text = format!(
        "[log]\nlevel = \"trace\"\n[store]\npath = \"data\"\n{}{}",
        source("filed", "client_secret_file = \"secret\""),
        source("inline", &format!("client_secret = \"{SECRET}\"")),
    );
    fs::write(folder.path().join("tidings.toml"), text).unwrap();
    let daemon = Process::run(folder.path(), &[]).await;
    realm.lives_s(2, 20);
    let mut said = Vec::new();
    for name in ["filed", "inline"] {
        daemon.register(&json!({"job_id": "t1", "source": name})).await;
    }
    eventually("tokens were renewed", || async { (realm.given().len() >= 5).then_some(()) }).await;
    // A token that is taken back, a server that repeats the secret, and an answer that repeats the token.
    realm.take_back();
    realm.fault(Some(realm::Fault::Refuse));
    eventually("both are unauthorized", || async {
        let sources = daemon.get("/v1/sources").await.1;
        sources["data"].as_array().unwrap().iter().all(|it| it["state"] == "unauthorized").then_some(())
    })
    .await;
    for path in ["/v1/sources", "/v1/watches", "/metrics"] {
        said.push((path.to_owned(), daemon.get_bytes(path).await.1));
    }
    realm.fault(None);
    for args in [
        &["source", "test", "filed", "t1"][..],
        &["config", "show"],
        &["config", "show", "--output", "json"],
        &["status"],
        &["source", "show", "filed"],
    ] {
        let args: Vec<&str> = match args[0] {
            "status" => [args, &["--url", &daemon.url]].concat(),
            _ if args[1] == "show" && args[0] == "source" => [args, &["--url", &daemon.url]].concat(),
            _ => args.to_vec(),
        };
        let output = once(folder.path(), &args).await;
        let shown = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {shown}");
        said.push((args.join(" "), [output.stdout, output.stderr].concat()));
    }
    let tested = String::from_utf8_lossy(&said[3].1).into_owned();
    assert!(tested.contains("authorization: [redacted] (oauth2)") && tested.contains("busy"), "{tested}");
    realm.stranger(true);
    let refused = once(folder.path(), &["source", "test", "inline", "t1"]).await;
    let refused = [refused.stdout, refused.stderr].concat();
    assert!(contains(&refused, "\"unknown\":\"[redacted]\""), "{}", String::from_utf8_lossy(&refused));
    said.push(("source test of a stranger".to_owned(), refused));
    realm.stranger(false);
    realm.job("t1", "done");
    for name in ["filed", "inline"] {
        daemon.until_in(name, "t1", "is done", |watch| watch["phase"] == "done").await;
    }
    let (code, log) = daemon.terminate().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("credentials made"), "{log}");
    said.push(("the log".to_owned(), log.into_bytes()));
    said.extend(files(&folder.path().join("data")));
    let encoded: String = url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    for (place, text) in &said {
        for secret in realm.given().iter().map(String::as_str).chain([SECRET, &encoded]) {
            assert!(!contains(text, secret), "{secret} in {place}: {}", String::from_utf8_lossy(text));
        }
    }
}
