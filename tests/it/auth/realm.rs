//! A job API that takes tokens, and the server that gives them, on loopback.

use std::{
    collections::HashMap,
    net::SocketAddr,
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
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use url::form_urlencoded;

use super::SECRET;
use crate::harness::{Request, serve};

/// Verifies a request for a token, and returns the answer with it. It lives for so many seconds.
pub type Scheme = fn(&Request, &str, u64) -> Result<Value, String>;

/// What the server of tokens does instead of giving one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It refuses the client, and repeats its secret.
    Refuse,
    Down,
    Hang,
    /// A byte every 100 ms, for ever.
    Drip,
    Huge,
    Nonsense,
    NoToken,
    Redirect,
    /// The connection ends within the answer.
    Cut,
}

#[derive(Default)]
struct Kept {
    tokens: HashMap<String, Instant>,
    given: Vec<String>,
    carried: Vec<String>,
    mistakes: Vec<String>,
    jobs: HashMap<String, Value>,
    fault: Option<Fault>,
    slow: Duration,
    told_s: u64,
    lives: Duration,
    is_stranger: bool,
    ahead_s: u64,
    polls: usize,
    refused: usize,
    elsewhere: usize,
}

/// Both servers.
pub struct Realm {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    server: JoinHandle<()>,
}

impl Realm {
    pub async fn start(scheme: Scheme) -> Self {
        let kept = Kept { told_s: 3600, lives: Duration::from_secs(3600), ..Kept::default() };
        let kept = Arc::new(Mutex::new(kept));
        let state = (scheme, Arc::clone(&kept));
        let (address, server) = serve(Router::new().fallback(answer).with_state(state)).await;
        Self { address, kept, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Tokens say that they live for `told` seconds, and live for `truth`.
    pub fn lives_s(&self, told: u64, truth: u64) {
        let mut kept = self.kept.lock().unwrap();
        (kept.told_s, kept.lives) = (told, Duration::from_secs(truth));
    }

    /// Takes so long to give a token.
    pub fn slow_ms(&self, millis: u64) {
        self.kept.lock().unwrap().slow = Duration::from_millis(millis);
    }

    pub fn fault(&self, fault: Option<Fault>) {
        self.kept.lock().unwrap().fault = fault;
    }

    /// The job API takes no token at all, or those that were given.
    pub fn stranger(&self, is_stranger: bool) {
        self.kept.lock().unwrap().is_stranger = is_stranger;
    }

    /// The clock of the server of tokens is ahead by so much.
    pub fn ahead_s(&self, seconds: i64) {
        self.kept.lock().unwrap().ahead_s = seconds.try_into().unwrap();
    }

    /// Ends every token.
    pub fn take_back(&self) {
        self.kept.lock().unwrap().tokens.clear();
    }

    /// Gives a job this state.
    pub fn job(&self, id: &str, state: &str) {
        self.answer(id, &json!({ "state": state }));
    }

    pub fn answer(&self, id: &str, body: &Value) {
        self.kept.lock().unwrap().jobs.insert(id.to_owned(), body.clone());
    }

    /// Every token that was given, oldest first.
    pub fn given(&self) -> Vec<String> {
        self.kept.lock().unwrap().given.clone()
    }

    /// The token of each request that the job API took.
    pub fn carried(&self) -> Vec<String> {
        self.kept.lock().unwrap().carried.clone()
    }

    /// What was wrong with requests for a token.
    pub fn mistakes(&self) -> Vec<String> {
        self.kept.lock().unwrap().mistakes.clone()
    }

    /// The requests to the job API, refused ones included.
    pub fn polls(&self) -> usize {
        self.kept.lock().unwrap().polls
    }

    pub fn refused(&self) -> usize {
        self.kept.lock().unwrap().refused
    }

    /// The requests that followed a redirect of the server of tokens.
    pub fn elsewhere(&self) -> usize {
        self.kept.lock().unwrap().elsewhere
    }
}

impl Drop for Realm {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    State((scheme, kept)): State<(Scheme, Arc<Mutex<Kept>>)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let body = to_bytes(body, 1 << 20).await.unwrap().to_vec();
    let request = Request { method, uri, headers, body };
    let path = request.uri.path().to_owned();
    if path == "/elsewhere" {
        kept.lock().unwrap().elsewhere += 1;
        return StatusCode::NOT_FOUND.into_response();
    }
    if !path.ends_with("/token") && !path.ends_with("/access_tokens") {
        return job(&mut kept.lock().unwrap(), &request);
    }
    let (slow, fault) = {
        let kept = kept.lock().unwrap();
        (kept.slow, kept.fault)
    };
    if let Some(fault) = fault {
        return faulty(fault, &request).await;
    }
    tokio::time::sleep(slow).await;
    let mut kept = kept.lock().unwrap();
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(kept.ahead_s));
    let token = format!("token-{}-{}", kept.given.len(), rand::random::<u64>());
    match scheme(&request, &token, kept.told_s) {
        Ok(answer) => {
            let ends = Instant::now() + kept.lives;
            kept.tokens.insert(token.clone(), ends);
            kept.given.push(token);
            ([(header::DATE, date)], axum::Json(answer)).into_response()
        }
        Err(mistake) => {
            kept.mistakes.push(mistake.clone());
            let said = json!({"error": "invalid_client", "error_description": mistake});
            (StatusCode::UNAUTHORIZED, [(header::DATE, date)], axum::Json(said)).into_response()
        }
    }
}

/// The job API: it takes what was given and has not ended.
fn job(kept: &mut Kept, request: &Request) -> Response {
    kept.polls += 1;
    let token = request.headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
    let token = token.and_then(|text| text.strip_prefix("Bearer ")).unwrap_or_default().to_owned();
    let is_known = kept.tokens.get(&token).is_some_and(|ends| Instant::now() < *ends);
    if !is_known || kept.is_stranger {
        kept.refused += 1;
        return (StatusCode::UNAUTHORIZED, axum::Json(json!({"unknown": token}))).into_response();
    }
    kept.carried.push(token);
    let id = request.uri.path().rsplit('/').next().unwrap();
    let busy = json!({"state": "busy", "status": "in_progress", "conclusion": null});
    axum::Json(kept.jobs.get(id).cloned().unwrap_or(busy)).into_response()
}

async fn faulty(fault: Fault, request: &Request) -> Response {
    let json = |status: StatusCode, body: &str| {
        (status, [(header::CONTENT_TYPE, "application/json")], body.to_owned()).into_response()
    };
    let stream = |every: u64, last: bool| {
        let bytes = stream::unfold(0_u32, move |sent| async move {
            tokio::time::sleep(Duration::from_millis(every)).await;
            match sent {
                0 => Some((Ok(Bytes::from_static(b"{\"access_token\":\"t")), 1)),
                _ if last => Some((Err(std::io::Error::other("cut")), 2)),
                _ => Some((Ok(Bytes::from_static(b" ")), 2)),
            }
        });
        Response::new(Body::from_stream(bytes.boxed()))
    };
    match fault {
        Fault::Refuse => {
            let said = format!("no such client {SECRET}");
            json(
                StatusCode::UNAUTHORIZED,
                &json!({"error": "invalid_client", "error_description": said}).to_string(),
            )
        }
        Fault::Down => json(StatusCode::SERVICE_UNAVAILABLE, "<h1>Sorry</h1>"),
        Fault::Hang => std::future::pending().await,
        Fault::Drip => stream(100, false),
        Fault::Huge => {
            let chunk = Bytes::from(vec![b' '; 64 << 10]);
            Response::new(Body::from_stream(stream::repeat_with(move || {
                Ok::<_, std::io::Error>(chunk.clone())
            })))
        }
        Fault::Nonsense => json(StatusCode::OK, "<html>Sign in</html>"),
        Fault::NoToken => json(StatusCode::OK, r#"{"token_type":"Bearer","expires_in":3600}"#),
        Fault::Redirect => {
            let to = format!("http://{}/elsewhere", request.header("host"));
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response()
        }
        Fault::Cut => stream(1, true),
    }
}

/// The fields of a form.
pub fn form(request: &Request) -> Result<HashMap<String, String>, String> {
    if request.method != Method::POST {
        return Err(format!("{} is no POST", request.method));
    }
    if request.header("content-type") != "application/x-www-form-urlencoded" {
        return Err("it is no form".to_owned());
    }
    Ok(form_urlencoded::parse(&request.body).into_owned().collect())
}

/// Whether a form has these fields and no other.
pub fn has(form: &HashMap<String, String>, fields: &[(&str, &str)]) -> Result<(), String> {
    let expected: HashMap<String, String> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    if *form == expected { Ok(()) } else { Err("the form has other fields".to_owned()) }
}

pub fn bearer(token: &str, lives_s: u64) -> Value {
    json!({"access_token": token, "token_type": "Bearer", "expires_in": lives_s})
}

const GRANT: (&str, &str) = ("grant_type", "client_credentials");
const SCOPE: (&str, &str) = ("scope", "jobs.read jobs.list");

/// OAuth 2.0 whose client says who it is by `Authorization: Basic`.
pub fn oauth2(request: &Request, token: &str, lives_s: u64) -> Result<Value, String> {
    has(&form(request)?, &[GRANT, SCOPE])?;
    let pair = request.header("authorization").strip_prefix("Basic ").ok_or("no Basic")?.to_owned();
    let pair = BASE64_STANDARD.decode(pair).map_err(|error| error.to_string())?;
    let pair = String::from_utf8(pair).map_err(|error| error.to_string())?;
    let (id, secret) = pair.split_once(':').ok_or("no pair")?;
    let plain =
        |text: &str| form_urlencoded::parse(text.as_bytes()).next().map(|(text, _)| text.into_owned());
    match (plain(id).as_deref(), plain(secret).as_deref()) {
        (Some("app: one"), Some(SECRET)) => Ok(bearer(token, lives_s)),
        _ => Err("another client".to_owned()),
    }
}

/// OAuth 2.0 whose client says who it is in the body.
pub fn oauth2_in_the_body(request: &Request, token: &str, lives_s: u64) -> Result<Value, String> {
    has(&form(request)?, &[GRANT, SCOPE, ("client_id", "app: one"), ("client_secret", SECRET)])?;
    if request.headers.contains_key(header::AUTHORIZATION) {
        return Err("it says twice who it is".to_owned());
    }
    // Some servers write the number as a text.
    let mut answer = bearer(token, lives_s);
    answer["expires_in"] = json!(lives_s.to_string());
    Ok(answer)
}
