//! Secrets stay where they belong: a process that uses one of every kind, well and in vain, is listened to wherever it
//! speaks. The data folder is left out: it is its owner's alone and has to hold the secrets of callbacks, which nobody
//! would give again after a restart.

use std::{collections::BTreeMap, fs::File, net::SocketAddr, path::Path};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, Uri},
};
use base64::{Engine as _, engine::general_purpose::STANDARD, prelude::BASE64_URL_SAFE};
use rand::distr::{Alphanumeric, SampleString as _};
use serde_json::{Value, json};
use tidings::{
    api,
    mock::{JobPlan, Mock},
};

use crate::harness::{Process, binary, eventually, http, mock, once, segment, serve, write_config};

/// One secret of each kind, by the place where it is written.
struct Secrets(BTreeMap<&'static str, String>);

impl Secrets {
    fn new(names: &[&'static str]) -> Self {
        let random = |length| Alphanumeric.sample_string(&mut rand::rng(), length);
        // With characters that are written otherwise in a URL.
        Self(
            names.iter().map(|name| (*name, format!("{}-{}/{}", random(12), random(8), random(8)))).collect(),
        )
    }

    fn of(&self, name: &str) -> &str {
        &self.0[name]
    }

    /// A signing secret: what is to be kept is what it encodes, and how it is written.
    fn signing(&self, name: &str) -> String {
        format!("whsec_{}", STANDARD.encode(self.of(name)))
    }

    /// Every secret that was said, where, and in which words.
    fn told(&self, said: &[(String, String)]) -> Vec<String> {
        let mut told = Vec::new();
        for (name, secret) in &self.0 {
            for form in forms(secret) {
                for (place, text) in said {
                    let lines = text.lines().filter(|line| line.contains(&form));
                    told.extend(lines.map(|line| format!("{name} in {place}: {line}")));
                }
            }
        }
        told
    }
}

/// A secret as it may be written: as it is, in a URL, in JSON, in base64 at any place of a longer text.
fn forms(secret: &str) -> Vec<String> {
    let mut forms =
        vec![secret.to_owned(), segment(secret), secret.replace('/', "%2F"), secret.replace('/', "\\/")];
    for before in ["", "x", "xx"] {
        let text = format!("{before}{secret}");
        for encoded in [STANDARD.encode(&text), BASE64_URL_SAFE.encode(&text)] {
            // The first and the last group mix with what stands beside them.
            forms.push(encoded[4..encoded.len() - 4].to_owned());
        }
    }
    forms
}

/// A receiver that answers with everything it was sent, as error pages do.
async fn echo() -> SocketAddr {
    let answer = async |uri: Uri, headers: HeaderMap| {
        let status = if uri.path() == "/gone" { StatusCode::GONE } else { StatusCode::OK };
        (
            status,
            format!(
                "{uri} {headers:?} {:?}",
                headers.get("authorization").map(|it| it.to_str().unwrap().to_owned())
            ),
        )
    };
    serve(Router::new().fallback(answer)).await.0
}

const PLACES: [&str; 20] = [
    "server.token",
    "api_key",
    "api_key_file",
    "source header",
    "source header file",
    "sink query",
    "sink secret",
    "sink secrets",
    "sink header",
    "sink header file",
    "sink bearer",
    "sink bearer_file",
    "sink secret_file",
    "sink secrets_file",
    "callback secret",
    "callback query",
    "caller's Api-Key",
    "otlp header",
    "otlp header file",
    "a mistake",
];

/// A configuration with a secret in each place, its files, and a sink for each way to fail.
fn configure(folder: &Path, mock: &Mock, echo: SocketAddr, secrets: &Secrets) {
    let of = |name| secrets.of(name);
    for (file, text) in [
        ("token", of("server.token").to_owned()),
        ("key", of("api_key_file").to_owned()),
        ("source-header", of("source header file").to_owned()),
        ("sink-header", of("sink header file").to_owned()),
        ("otlp-header", of("otlp header file").to_owned()),
        ("bearer", of("sink bearer_file").to_owned()),
        ("signing", secrets.signing("sink secret_file")),
        ("list", secrets.signing("sink secrets_file")),
    ] {
        std::fs::write(folder.join(file), format!("{text}\n")).unwrap();
    }
    let base = mock.base_url();
    let once = "retry = { schedule = [\"20ms\"] }";
    let more = format!(
        "[log]\nlevel = \"trace\"\n[otlp]\nendpoint = \"http://{echo}\"\ninterval = \"100ms\"\n\
         headers = {{ X-One = \"{}\", X-Two = {{ file = \"otlp-header\" }} }}\n[server]\ntoken_file = \"token\"\n[callbacks]\nallow = [\"127.0.0.0/8\"]\n\
         [sources.filed]\ntype = \"retab\"\nbase_url = \"{base}\"\napi_key_file = \"key\"\n\
         [sources.headed]\ntype = \"retab\"\nbase_url = \"{base}\"\n\
         headers = {{ X-One = \"{}\", X-Two = {{ file = \"source-header\" }} }}\n\
         [sinks.app]\ntype = \"webhook\"\nurl = \"http://{echo}/hook?token={}\"\n{once}\nsecrets = [\"{}\"]\n\
         headers = {{ X-One = \"{}\", X-Two = {{ file = \"sink-header\" }} }}\n\
         [sinks.gone]\ntype = \"webhook\"\nurl = \"http://{echo}/gone\"\n{once}\nbearer = \"{}\"\nsecret = \"{}\"\n\
         [sinks.refused]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:1/?token={}\"\n{once}\nbearer_file = \"bearer\"\n\
         secret_file = \"signing\"\n\
         [sinks.listed]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\n{once}\nsecrets_file = \"list\"\n",
        of("otlp header"),
        of("source header"),
        segment(of("sink query")),
        secrets.signing("sink secrets"),
        of("sink header"),
        of("sink bearer"),
        secrets.signing("sink secret"),
        segment(of("sink query")),
    );
    write_config(folder, &base, &more);
    let path = folder.join("tidings.toml");
    let key = format!("[sources.retab]\napi_key = \"{}\"\n", of("api_key"));
    let text = std::fs::read_to_string(&path).unwrap().replace("[sources.retab]\n", &key);
    std::fs::write(path, text).unwrap();
}

/// A running daemon, and everything that was said so far, each with its place.
struct Ear {
    process: Process,
    http: reqwest::Client,
    token: String,
    said: Vec<(String, String)>,
}

impl Ear {
    async fn start(folder: &Path, token: &str) -> Self {
        let mut command = binary();
        command.args(["run", "--listen", "127.0.0.1:0"]).current_dir(folder);
        command.stdout(File::create(folder.join("stdout")).unwrap());
        let process = Process::spawn(command).await;
        let ear = Self { process, http: http(), token: token.to_owned(), said: Vec::new() };
        eventually("it is ready", || async {
            let answer = ear.http.get(format!("{}/readyz", ear.process.url)).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        ear
    }

    fn ask(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.process.url)).bearer_auth(&self.token)
    }

    /// Sends a request and keeps its answer.
    async fn hear(&mut self, request: reqwest::RequestBuilder) -> u16 {
        let mut answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let place = format!("the answer {status} to {}", answer.url().path());
        let mut text = format!("{:?}\n", answer.headers());
        // The stream of events never ends: its first event is enough.
        let streams = text.contains("text/event-stream");
        while let Some(chunk) = answer.chunk().await.unwrap() {
            text.push_str(&String::from_utf8_lossy(&chunk));
            if streams && text.contains("job.completed") {
                break;
            }
        }
        self.said.push((place, text));
        status
    }

    async fn post(&mut self, path: &str, body: &Value) -> u16 {
        let request = self.ask(reqwest::Method::POST, path).json(body);
        self.hear(request).await
    }

    async fn get(&mut self, path: &str) -> u16 {
        let request = self.ask(reqwest::Method::GET, path);
        self.hear(request).await
    }

    async fn until(&self, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let wanted = &wanted;
        eventually(what, || async {
            let value: Value =
                self.ask(reqwest::Method::GET, path).send().await.unwrap().json().await.unwrap();
            wanted(&value).then_some(value)
        })
        .await
    }

    async fn command(&mut self, folder: &Path, args: &[&str], status: i32) {
        let output = once(folder, args).await;
        let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        assert_eq!(output.status.code(), Some(status), "{args:?}: {said:?}");
        self.said.push((format!("tidings {}", args.join(" ")), said.concat()));
    }
}

/// Has every secret used: what works, and what is refused.
async fn use_all(ear: &mut Ear, mock: &Mock, echo: SocketAddr, secrets: &Secrets) -> (String, String) {
    let job = mock.add_job(JobPlan::new());
    let url = format!("http://{echo}/callback?token={}", segment(secrets.of("callback query")));
    let callback = json!({"url": url, "secret": secrets.signing("callback secret")});
    assert_eq!(ear.post("/v1/watches", &json!({"job_id": job, "callback": callback})).await, 202);
    for source in ["filed", "headed"] {
        let job = mock.add_job(JobPlan::new());
        assert_eq!(ear.post("/v1/watches", &json!({"job_id": job, "source": source})).await, 202);
    }
    let path = format!("/v1/watches/retab/{job}");
    let watch = ear.until(&path, "three are dead", |watch| watch["phase"] == "dead").await;
    let delivery = watch["deliveries"].as_array().unwrap().iter().find(|delivery| delivery["sink"] == "app");
    let delivery = delivery.unwrap()["id"].as_str().unwrap().to_owned();
    ear.until("/v1/sources", "two sources are refused", |page| {
        let sources = page["data"].as_array().unwrap().iter();
        sources.filter(|source| source["state"] == "unauthorized").count() == 2
    })
    .await;
    for sink in ["app", "gone", "refused", "listed"] {
        assert_eq!(ear.post(&format!("/v1/sinks/{sink}/test"), &json!({})).await, 200);
    }
    (job, delivery)
}

/// Requests that are refused, with a secret where it does not belong.
async fn make_mistakes(ear: &mut Ear, job: &str, secrets: &Secrets) {
    let secret = secrets.of("a mistake");
    for callback in [
        json!(secret),
        json!({"url": secret}),
        json!({"url": format!("http://user:{secret}@127.0.0.1:1/")}),
        json!({"url": format!("ftp://127.0.0.1/?{secret}")}),
        json!({"url": "http://127.0.0.1:1/", "secret": secret}),
        json!({"url": "http://127.0.0.1:1/", "secret": format!("whsec_{secret}")}),
        json!({"url": "http://127.0.0.1:1/", "secret": {"text": secret}}),
    ] {
        ear.post("/v1/watches", &json!({"job_id": "job_1", "callback": callback})).await;
        ear.post("/v1/watches/batch", &json!({"watches": [{"job_id": "job_1", "callback": callback}]})).await;
    }
    let post = ear.ask(reqwest::Method::POST, "/v1/watches").header("content-type", "application/json");
    let broken = post.body(format!("{{\"job_id\": \"job_1\", \"callback\": {{\"secret\": \"{secret}"));
    assert_eq!(ear.hear(broken).await, 400);
    let foreign = ear.http.get(format!("{}/v1/watches", ear.process.url)).bearer_auth(secret);
    assert_eq!(ear.hear(foreign).await, 401);
    ear.get(&format!("/v1/watches?token={secret}")).await;
    ear.get(&format!("/v1/nothing?token={secret}")).await;
    for path in ["", "/status", "?include_response=true"] {
        let path = format!("/proxy/retab/v1/jobs/{job}{path}");
        let get = ear.ask(reqwest::Method::GET, &path).header("Api-Key", secrets.of("caller's Api-Key"));
        assert_eq!(ear.hear(get).await, 401, "{path}");
    }
    let path = format!("/proxy/headed/v1/nothing?key={}", segment(secrets.of("caller's Api-Key")));
    ear.get(&path).await;
}

/// Every route that can be read.
async fn read_all(ear: &mut Ear, job: &str, delivery: &str) {
    let document = serde_json::to_value(api::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    let readable: Vec<&String> =
        paths.filter(|(_, methods)| methods["get"].is_object()).map(|it| it.0).collect();
    assert!(readable.len() > 12, "{readable:?}");
    // A backup has to hold the secrets of callbacks.
    let is_told = |path: &&String| !path.starts_with("/proxy") && *path != "/v1/export";
    for path in readable.into_iter().filter(is_told) {
        // There is no group, and nothing was reconciled.
        let is_absent = path.contains("/groups/") || path.ends_with("/reconcile");
        let wanted = if is_absent { 404 } else { 200 };
        let names = [("{job_id}", job), ("{id}", delivery), ("{source}", "retab"), ("{name}", "retab")];
        let path = names.iter().fold(path.clone(), |path, (name, value)| path.replace(name, value));
        let get = ear.ask(reqwest::Method::GET, &path).header("Last-Event-ID", "0");
        assert_eq!(ear.hear(get).await, wanted, "{path}");
    }
    assert_eq!(ear.get("/metrics").await, 200);
}

/// A secret that is badly written, or lies where one could be taken for another key: nothing starts, and the message
/// does not repeat it. (A value of a key that takes no secret is repeated, so that it can be found.)
async fn misconfigure(ear: &mut Ear, secrets: &Secrets) {
    let secret = secrets.of("a mistake");
    let sink = "[sinks.a]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\n";
    for text in [
        format!("[server]\ntoken = [\"{secret}\"]\n"),
        format!(
            "[server]\ntoken_file = \"token\"\ntoken = \"{secret}\"\nproxy = \"ftp://u:{secret}@127.0.0.1:1\"\n"
        ),
        format!("[sources.retab]\napi_key = {secret}\n"),
        format!("[sources.retab]\napi_key = \"{secret}\\n\"\n"),
        format!("[sources.retab]\napikey = \"{secret}\"\n"),
        format!("[sources.retab]\nbase_url = \"http://u:{secret}@127.0.0.1:1\"\n"),
        format!("[sources.retab]\nheaders = {{ X-One = [\"{secret}\"] }}\n"),
        format!("{sink}secret = \"{secret}\"\n"),
        format!("{sink}secret = \"whsec_{secret}\"\n"),
        format!("{sink}secret = [\"{secret}\"]\n"),
        format!("{sink}bearer = {{ text = \"{secret}\" }}\n"),
        format!("{sink}headers = \"{secret}\"\n"),
        format!("[sinks.a]\ntype = \"webhook\"\nurl = \"http://u:{secret}@127.0.0.1:1/\"\n"),
        format!("[sinks.a]\ntype = \"webhook\"\nurl = \"{secret}\"\n"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tidings.toml"), text).unwrap();
        ear.command(folder.path(), &["run"], 2).await;
        ear.command(folder.path(), &["config", "check"], 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_told_by_anything_that_speaks() {
    let secrets = Secrets::new(&PLACES);
    let folder = tempfile::tempdir().unwrap();
    let (mock, echo) = (mock().await, echo().await);
    mock.set(|faults| faults.key = Some(secrets.of("api_key").to_owned()));
    configure(folder.path(), &mock, echo, &secrets);
    let mut ear = Ear::start(folder.path(), secrets.of("server.token")).await;
    let (job, delivery) = use_all(&mut ear, &mock, echo, &secrets).await;
    make_mistakes(&mut ear, &job, &secrets).await;
    read_all(&mut ear, &job, &delivery).await;
    for args in
        [&["config", "show"][..], &["config", "show", "--output", "json"], &["config", "check"], &["--help"]]
    {
        ear.command(folder.path(), args, 0).await;
    }
    misconfigure(&mut ear, &secrets).await;
    let Ear { process, mut said, .. } = ear;
    let (status, log) = process.terminate().await;
    assert_eq!(status, Some(0));
    // Without these there was nothing to be heard.
    for word in ["TRACE", "unauthorized", "dead letter"] {
        assert!(log.contains(word), "{word}");
    }
    said.push(("stderr".to_owned(), log));
    said.push(("stdout".to_owned(), std::fs::read_to_string(folder.path().join("stdout")).unwrap()));
    let told = secrets.told(&said);
    assert!(told.is_empty(), "{}", told.join("\n"));
}
