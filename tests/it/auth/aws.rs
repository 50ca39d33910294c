//! AWS: a server that computes each signature by itself, and every place that keys come from. The real binary, since its
//! environment names the place.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tidings::util::units::Time;
use tokio::task::JoinHandle;

use super::realm;
use crate::harness::{Process, Request, binary, eventually, segment, serve};

const REGION: &str = "eu-central-1";
const ROLE: &str = "arn:aws:iam::123456789012:role/ocr";

/// Keys that the server knows.
#[derive(Clone)]
struct Known {
    secret: String,
    session: Option<String>,
    ends: Instant,
}

#[derive(Default)]
struct Kept {
    keys: HashMap<String, Known>,
    /// The id of the keys of each request that was taken.
    carried: Vec<String>,
    mistakes: Vec<String>,
    /// The job and the operation of each request that was taken.
    targets: Vec<(String, String)>,
    jobs: HashMap<String, Value>,
    /// The token that STS or the container takes.
    token: String,
    given: usize,
    told_s: u64,
    ahead_s: u64,
    /// So many requests are answered with this error.
    errors: Vec<(u16, &'static str)>,
    down: bool,
}

/// A service of AWS, its STS, and the agent of a container.
struct Aws {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    server: JoinHandle<()>,
}

impl Aws {
    async fn start() -> Self {
        let kept = Arc::new(Mutex::new(Kept { told_s: 3600, ..Kept::default() }));
        let (address, server) = serve(Router::new().fallback(answer).with_state(Arc::clone(&kept))).await;
        Self { address, kept, server }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn change(&self, change: impl FnOnce(&mut Kept)) {
        change(&mut self.kept.lock().unwrap());
    }

    fn read<T>(&self, read: impl FnOnce(&Kept) -> T) -> T {
        read(&self.kept.lock().unwrap())
    }

    fn knows(&self, id: &str, secret: &str, session: Option<&str>) {
        let session = session.map(str::to_owned);
        let ends = Instant::now() + Duration::from_secs(600);
        let known = Known { secret: secret.to_owned(), session, ends };
        self.change(|kept| drop(kept.keys.insert(id.to_owned(), known)));
    }

    fn job(&self, id: &str, body: Value) {
        self.change(|kept| drop(kept.jobs.insert(id.to_owned(), body)));
    }

    /// A daemon with the source `ocr` at this service, and this environment.
    async fn daemon(&self, folder: &Path, environment: &[(&str, &str)]) -> Process {
        let url = self.url();
        let text = format!(
            "[store]\npath = \"data\"\n[sources.ocr]\ntype = \"custom\"\nbase_url = \"{url}\"\n\
             max_requests_per_second = 2000\ntimeout = \"2s\"\nnot_found_grace = \"100ms\"\n\
             status_path = \"/v1/jobs?kind=a%20b&all\"\nstatus_method = \"POST\"\nstatus_body = '{{{{\"JobId\":\"{{id}}\"}}}}'\n\
             status_at = [\"/JobStatus\"]\nresult_path = \"/results/{{id}}/all\"\n\
             outcomes = {{ pending = [\"IN_PROGRESS\"], completed = [\"SUCCEEDED\"], failed = [\"FAILED\"] }}\n\
             headers = {{ \"X-Amz-Target\" = \"Textract.GetDocumentAnalysis\", \"Content-Type\" = \"application/x-amz-json-1.1\" }}\n\
             auth = {{ type = \"aws-sigv4\", service = \"textract\", region = \"{REGION}\", sts_url = \"{url}/sts\" }}\n\
             [sources.ocr.polling]\nmin_interval = \"20ms\"\nmax_interval = \"60ms\"\n"
        );
        std::fs::write(folder.join("tidings.toml"), text).unwrap();
        let mut command = binary();
        command.args(["run", "--listen", "127.0.0.1:0"]).current_dir(folder);
        command.envs(environment.iter().copied());
        let process = Process::spawn(command).await;
        eventually("it is ready", || async { (process.get("/readyz").await.0 == 200).then_some(()) }).await;
        process
    }
}

impl Drop for Aws {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    State(kept): State<Arc<Mutex<Kept>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let body = to_bytes(body, 1 << 20).await.unwrap().to_vec();
    let request = Request { method, uri, headers, body };
    let mut kept = kept.lock().unwrap();
    let clock = SystemTime::now() + Duration::from_secs(kept.ahead_s);
    let date = [(header::DATE, httpdate::fmt_http_date(clock))];
    let response = match request.uri.path() {
        "/sts" => sts(&mut kept, &request),
        "/keys" => container(&mut kept, &request),
        _ => service(&mut kept, &request, clock),
    };
    (date, response).into_response()
}

fn error(status: u16, code: &str) -> Response {
    let body = json!({"__type": format!("com.amazonaws.textract#{code}"), "Message": "no"});
    (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}

/// Makes keys that live as long as the server says.
fn made(kept: &mut Kept) -> (String, Known, String) {
    kept.given += 1;
    let number = kept.given;
    let known = Known {
        secret: format!("made-secret/{number}"),
        session: Some(format!("made-session+{number}=")),
        // Longer than it says, so that no slow machine decides a test.
        ends: Instant::now() + Duration::from_secs(kept.told_s + 20),
    };
    let id = format!("ASIA{number}");
    kept.keys.insert(id.clone(), known.clone());
    let ends = SystemTime::now() + Duration::from_secs(kept.told_s + kept.ahead_s);
    let millis = ends.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    (id, known, Time(i64::try_from(millis).unwrap()).to_string())
}

fn sts(kept: &mut Kept, request: &Request) -> Response {
    let form = realm::form(request).unwrap_or_default();
    let fields = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", ROLE),
        ("RoleSessionName", "tidings"),
        ("WebIdentityToken", kept.token.as_str()),
    ];
    if kept.down {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if realm::has(&form, &fields).is_err() || request.headers.contains_key(header::AUTHORIZATION) {
        let code = "<ErrorResponse><Error><Code>InvalidIdentityToken</Code><Message>x</Message></Error></ErrorResponse>";
        return (StatusCode::BAD_REQUEST, code).into_response();
    }
    let (id, known, ends) = made(kept);
    let session = known.session.unwrap();
    format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><Credentials><SessionToken>{session}</SessionToken>\
         <SecretAccessKey>{}</SecretAccessKey><Expiration>{ends}</Expiration><AccessKeyId>{id}</AccessKeyId>\
         </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
        known.secret
    )
    .into_response()
}

fn container(kept: &mut Kept, request: &Request) -> Response {
    if request.header("authorization") != kept.token {
        return StatusCode::FORBIDDEN.into_response();
    }
    let (id, known, ends) = made(kept);
    axum::Json(json!({
        "RoleArn": ROLE, "AccessKeyId": id, "SecretAccessKey": known.secret, "Token": known.session,
        "Expiration": ends,
    }))
    .into_response()
}

/// The service: it takes what is signed with keys that it knows.
fn service(kept: &mut Kept, request: &Request, clock: SystemTime) -> Response {
    if let Some((status, code)) = kept.errors.pop() {
        return error(status, code);
    }
    let id = match verify(kept, request, clock) {
        Ok(id) => id,
        Err((code, mistake)) => {
            kept.mistakes.push(mistake);
            return error(400, code);
        }
    };
    kept.carried.push(id);
    let said: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let named = |name: &str| said[name].as_str().map(str::to_owned);
    let job = match service_of(request) {
        "transcribe" => named("TranscriptionJobName").or_else(|| named("CallAnalyticsJobName")).unwrap(),
        "batch" => said["jobs"][0].as_str().unwrap().to_owned(),
        "bedrock" => "bedrock".to_owned(),
        _ if request.method == Method::GET => return axum::Json(json!({"Blocks": [1]})).into_response(),
        _ => named("JobId").unwrap(),
    };
    let target = request.header("x-amz-target");
    if !target.is_empty() && request.header("content-type") != "application/x-amz-json-1.1" {
        return error(400, "SerializationException");
    }
    kept.targets.push((job.clone(), target.to_owned()));
    if job == "unknown" {
        return error(400, "InvalidJobIdException");
    }
    let body = kept.jobs.get(&job).cloned().unwrap_or(json!({"JobStatus": "IN_PROGRESS"}));
    axum::Json(body).into_response()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// The service that a request is for, by what it asks.
fn service_of(request: &Request) -> &'static str {
    let (target, path) = (request.header("x-amz-target"), request.uri.path());
    match () {
        () if target.starts_with("Transcribe.") => "transcribe",
        () if path.starts_with("/model-invocation-job/") => "bedrock",
        () if path == "/v1/describejobs" => "batch",
        () => "textract",
    }
}

/// Computes the signature of a request from what arrived, as the documentation of AWS tells. Returns the id of its keys.
fn verify(kept: &Kept, request: &Request, clock: SystemTime) -> Result<String, (&'static str, String)> {
    let wrong = |code, what: &str| (code, what.to_owned());
    let invalid = |what: &str| wrong("InvalidSignatureException", what);
    let text = request.header("authorization").strip_prefix("AWS4-HMAC-SHA256 ");
    let text = text.ok_or_else(|| wrong("MissingAuthenticationTokenException", "not signed"))?;
    let parts: BTreeMap<&str, &str> = text.split(", ").filter_map(|part| part.split_once('=')).collect();
    let part = |name: &str| parts.get(name).copied().ok_or_else(|| invalid(&format!("no {name}")));
    let (id, scope) = part("Credential")?.split_once('/').ok_or_else(|| invalid("no scope"))?;
    let unknown = || wrong("UnrecognizedClientException", "unknown keys");
    let known = kept.keys.get(id).filter(|known| Instant::now() < known.ends).ok_or_else(unknown)?;
    let session = request.headers.get("x-amz-security-token").map(|value| value.to_str().unwrap());
    if session != known.session.as_deref() {
        return Err(wrong("UnrecognizedClientException", "another session"));
    }
    let date = request.header("x-amz-date");
    let moment = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &date[..4],
        &date[4..6],
        &date[6..8],
        &date[9..11],
        &date[11..13],
        &date[13..15]
    );
    let signed_at = Time::parse(&moment).ok_or_else(|| invalid("no date"))?.0;
    let clock = i64::try_from(clock.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap();
    if (signed_at - clock).abs() > 300_000 {
        return Err(invalid("skewed"));
    }
    let service = service_of(request);
    if scope != format!("{}/{REGION}/{service}/aws4_request", &date[..8]) {
        return Err(invalid("another scope"));
    }
    let names: Vec<&str> = part("SignedHeaders")?.split(';').collect();
    let must = |name: &str| name == "host" || name == "content-type" || name.starts_with("x-amz-");
    if request
        .headers
        .keys()
        .map(|name| name.as_str().to_owned())
        .any(|name| must(&name) && !names.contains(&&*name))
    {
        return Err(invalid("a header is not covered"));
    }
    let mut lines = String::new();
    for name in &names {
        writeln!(lines, "{name}:{}", request.header(name).trim()).unwrap();
    }
    let mut path = String::new();
    for byte in request.uri.path().bytes() {
        match byte {
            byte if is_unreserved(byte) || byte == b'/' => path.push(char::from(byte)),
            byte => write!(path, "%{byte:02X}").unwrap(),
        }
    }
    let mut query: Vec<String> = request
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
        .collect();
    query.sort();
    let canonical = format!(
        "{}\n{path}\n{}\n{lines}\n{}\n{}",
        request.method,
        query.join("&"),
        names.join(";"),
        HEXLOWER.encode(&Sha256::digest(&request.body))
    );
    let to_sign =
        format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", HEXLOWER.encode(&Sha256::digest(canonical)));
    let day = mac(format!("AWS4{}", known.secret).as_bytes(), &date[..8]);
    let key = mac(&mac(&mac(&day, REGION), service), "aws4_request");
    if HEXLOWER.encode(&mac(&key, &to_sign)) != part("Signature")? {
        return Err(invalid("another signature"));
    }
    Ok(id.to_owned())
}

async fn register(daemon: &Process, job: &str) {
    daemon.register(&json!({"job_id": job, "source": "ocr"})).await;
}

async fn finished(daemon: &Process, job: &str) -> Value {
    daemon.until_in("ocr", job, "is done", |watch| watch["phase"] == "done").await
}

async fn until(daemon: &Process, state: &str, reason: &str) {
    eventually(&format!("the source is {state}: {reason}"), || async {
        let source = daemon.get("/v1/sources").await.1["data"][0].clone();
        let said = source["last_error"].as_str().unwrap_or_default();
        (source["state"] == state && said.contains(reason)).then_some(())
    })
    .await;
}

async fn last_error(daemon: &Process) -> Value {
    daemon.get("/v1/sources").await.1["data"][0]["last_error"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_signed_with_the_keys_of_the_environment() {
    let (aws, folder) = (Aws::start().await, tempfile::tempdir().unwrap());
    aws.knows("AKIA1", "secret/1+", Some("session/1=="));
    // Our clock is ten minutes behind: the first refusal tells it.
    aws.change(|kept| kept.ahead_s = 600);
    let environment = [
        ("AWS_ACCESS_KEY_ID", "AKIA1"),
        ("AWS_SECRET_ACCESS_KEY", "secret/1+"),
        ("AWS_SESSION_TOKEN", "session/1=="),
    ];
    let daemon = aws.daemon(folder.path(), &environment).await;
    // It is escaped in the path of its result.
    let job = "arn:aws:textract/ü 1";
    register(&daemon, job).await;
    eventually("it is polled", || async { (!aws.read(|kept| kept.carried.is_empty())).then_some(()) }).await;
    assert_eq!(aws.read(|kept| kept.mistakes.clone()), ["skewed"]);
    assert_eq!(last_error(&daemon).await, Value::Null);
    aws.job(job, json!({"JobStatus": "SUCCEEDED"}));
    assert_eq!(finished(&daemon, job).await["outcome"], "completed");
    assert_eq!(aws.read(|kept| kept.mistakes.len()), 1);

    // A limit is the source's, an unknown job is that job's alone.
    aws.change(|kept| kept.errors = vec![(400, "ThrottlingException")]);
    register(&daemon, "later").await;
    until(&daemon, "ok", "answered 429").await;
    register(&daemon, "unknown").await;
    let lost = daemon.until_in("ocr", "unknown", "is lost", |watch| watch["outcome"] == "lost").await;
    assert!(lost["last_error"].as_str().unwrap().contains("404"), "{lost}");
    aws.job("later", json!({"JobStatus": "SUCCEEDED"}));
    finished(&daemon, "later").await;

    // Keys that have ended are the fault of the source, and no job is lost by them.
    aws.change(|kept| kept.errors = vec![(400, "ExpiredTokenException"); 3]);
    register(&daemon, "last").await;
    aws.job("last", json!({"JobStatus": "SUCCEEDED"}));
    until(&daemon, "unauthorized", "the source answered 400: ExpiredTokenException").await;
    finished(&daemon, "last").await;
    assert_eq!(daemon.terminate().await.0, Some(0));
}

/// Each type asks its own service, signed for it.
#[tokio::test(flavor = "multi_thread")]
async fn the_types_of_aws_ask_as_their_services_want_it() {
    let (aws, folder) = (Aws::start().await, tempfile::tempdir().unwrap());
    aws.knows("AKIA1", "secret-1", None);
    let quick = "polling = { min_interval = \"20ms\", max_interval = \"60ms\" }";
    let source = |service: &str, kind: &str| {
        format!(
            "[sources.{service}]\ntype = \"{kind}\"\nbase_url = \"{}\"\n{quick}\n\
             auth = {{ type = \"aws-sigv4\", service = \"{service}\", region = \"{REGION}\" }}\n",
            aws.url()
        )
    };
    let types = [
        ("textract", "aws-textract"),
        ("transcribe", "aws-transcribe"),
        ("bedrock", "aws-bedrock-batch"),
        ("batch", "aws-batch"),
    ];
    let text: String = types.iter().map(|(service, kind)| source(service, kind)).collect();
    std::fs::write(folder.path().join("tidings.toml"), text).unwrap();
    let mut command = binary();
    command.args(["run", "--listen", "127.0.0.1:0", "--data-dir", "data"]).current_dir(folder.path());
    command.envs([("AWS_ACCESS_KEY_ID", "AKIA1"), ("AWS_SECRET_ACCESS_KEY", "secret-1")]);
    let daemon = Process::spawn(command).await;
    let arn = "arn:aws:bedrock:eu-central-1:1:model-invocation-job/x";
    let analytics = json!({"CallAnalyticsJob": {"CallAnalyticsJobStatus": "COMPLETED"}});
    for (source, kind, job, named, body, target) in [
        ("textract", None, "a", "a", json!({"JobStatus": "SUCCEEDED"}), "Textract.GetDocumentAnalysis"),
        (
            "transcribe",
            None,
            "call 7",
            "call 7",
            json!({"TranscriptionJob": {"TranscriptionJobStatus": "COMPLETED"}}),
            "Transcribe.GetTranscriptionJob",
        ),
        ("bedrock", None, arn, "bedrock", json!({"status": "Completed"}), ""),
        ("batch", None, "b", "b", json!({"jobs": [{"jobId": "b", "status": "SUCCEEDED"}]}), ""),
        (
            "textract",
            Some("text-detections"),
            "t",
            "t",
            json!({"JobStatus": "SUCCEEDED"}),
            "Textract.GetDocumentTextDetection",
        ),
        ("transcribe", Some("call-analytics"), "c", "c", analytics, "Transcribe.GetCallAnalyticsJob"),
    ] {
        aws.job(named, body);
        let mut wanted = json!({"job_id": job, "source": source});
        if let Some(kind) = kind {
            wanted["kind"] = json!(kind);
        }
        daemon.register(&wanted).await;
        let path = format!("/v1/watches/{source}/{}", segment(job));
        let watch = eventually(&format!("{job} is done"), || async {
            let (_, watch) = daemon.get(&path).await;
            (watch["phase"] == "done").then_some(watch)
        })
        .await;
        assert_eq!(watch["outcome"], "completed", "{watch}");
        let asked = aws.read(|kept| kept.targets.clone());
        assert!(asked.contains(&(named.to_owned(), target.to_owned())), "{asked:?}");
    }
    assert_eq!(aws.read(|kept| kept.mistakes.clone()), Vec::<String>::new());
    assert_eq!(daemon.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_web_identity_are_renewed_and_its_token_is_read_again() {
    let (aws, folder) = (Aws::start().await, tempfile::tempdir().unwrap());
    let file = folder.path().join("identity");
    std::fs::write(&file, "identity-1").unwrap();
    aws.change(|kept| (kept.token, kept.told_s) = ("identity-1".to_owned(), 2));
    let environment = [("AWS_ROLE_ARN", ROLE), ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap())];
    let daemon = aws.daemon(folder.path(), &environment).await;
    register(&daemon, "j1").await;
    let used = |keys: &'static str| aws.read(|kept| kept.carried.iter().any(|id| id == keys));
    eventually("it has new keys", || async { used("ASIA2").then_some(()) }).await;
    // The platform replaces the token now and then.
    std::fs::write(folder.path().join("next"), "identity-2").unwrap();
    std::fs::rename(folder.path().join("next"), &file).unwrap();
    aws.change(|kept| kept.token = "identity-2".to_owned());
    let given = aws.read(|kept| kept.given);
    eventually("it has new keys again", || async {
        aws.read(|kept| kept.given > given && kept.carried.last() == Some(&format!("ASIA{}", kept.given)))
            .then_some(())
    })
    .await;
    assert_eq!((aws.read(|kept| kept.mistakes.clone()), last_error(&daemon).await), (vec![], Value::Null));

    // STS refuses, then it is away: the source says so, and recovers by itself.
    aws.change(|kept| kept.token = "another".to_owned());
    until(&daemon, "unauthorized", "/sts: it answered 400: InvalidIdentityToken").await;
    aws.change(|kept| kept.down = true);
    until(&daemon, "unauthorized", "/sts: it answered 503").await;
    aws.change(|kept| (kept.token, kept.down) = ("identity-2".to_owned(), false));
    aws.job("j1", json!({"JobStatus": "FAILED"}));
    assert_eq!(finished(&daemon, "j1").await["outcome"], "failed");
    let (code, log) = daemon.terminate().await;
    assert_eq!(code, Some(0));
    for secret in ["identity-1", "identity-2", "made-secret", "made-session"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_from_the_agent_of_the_container() {
    let (aws, folder) = (Aws::start().await, tempfile::tempdir().unwrap());
    let file = folder.path().join("agent-token");
    std::fs::write(&file, "agent-token-0").unwrap();
    aws.change(|kept| (kept.token, kept.told_s) = ("agent-token-1".to_owned(), 2));
    let url = format!("{}/keys", aws.url());
    let environment = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.to_str().unwrap()),
        // The agent is on this machine: no proxy can reach it, and none may see the keys.
        ("TIDINGS_SERVER__PROXY", "http://127.0.0.1:9"),
    ];
    let daemon = aws.daemon(folder.path(), &environment).await;
    register(&daemon, "j1").await;
    until(&daemon, "unauthorized", "/keys: it answered 403").await;
    std::fs::write(&file, "agent-token-1").unwrap();
    eventually("it has new keys", || async {
        aws.read(|kept| kept.carried.iter().any(|id| id == "ASIA2")).then_some(())
    })
    .await;
    aws.job("j1", json!({"JobStatus": "SUCCEEDED"}));
    finished(&daemon, "j1").await;
    assert_eq!(aws.read(|kept| kept.mistakes.clone()), Vec::<String>::new());
    assert_eq!(daemon.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_the_shared_file_are_replaced_while_it_runs() {
    let (aws, folder) = (Aws::start().await, tempfile::tempdir().unwrap());
    let file = folder.path().join("credentials");
    let section = |id: &str, secret: &str| {
        format!(
            "[default]\naws_access_key_id = X\n\n[ocr]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"
        )
    };
    let environment = [("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap()), ("AWS_PROFILE", "ocr")];
    let daemon = aws.daemon(folder.path(), &environment).await;
    register(&daemon, "j1").await;
    until(&daemon, "unauthorized", "cannot be used").await;
    std::fs::write(&file, "[default]\n").unwrap();
    until(&daemon, "unauthorized", "it has no section `ocr`").await;
    aws.knows("AKIA1", "secret-1", None);
    std::fs::write(&file, section("AKIA1", "secret-1")).unwrap();
    eventually("it is polled", || async { (!aws.read(|kept| kept.carried.is_empty())).then_some(()) }).await;
    aws.change(|kept| kept.keys.clear());
    until(&daemon, "unauthorized", "UnrecognizedClientException").await;
    aws.knows("AKIA2", "secret-2", None);
    std::fs::write(&file, section("AKIA2", "secret-2")).unwrap();
    aws.job("j1", json!({"JobStatus": "SUCCEEDED"}));
    finished(&daemon, "j1").await;
    let (code, log) = daemon.terminate().await;
    assert!(code == Some(0) && !log.contains("secret-1") && !log.contains("secret-2"), "{log}");
}
