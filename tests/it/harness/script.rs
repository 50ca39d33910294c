//! A jobs API in Retab's shape whose every answer a test decides: by job, by route, by how often it was asked.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::task::JoinHandle;

use super::serve;

/// A request for a job.
#[derive(Clone, Debug)]
pub struct Ask {
    pub job: String,
    /// For the full job, and not for its status.
    pub full: bool,
    /// The how many-th of its kind for this job, from 1.
    pub nth: usize,
    /// Since the server started.
    pub at: Duration,
}

/// What is answered.
pub enum Reply {
    /// 200 with this JSON.
    Json(String),
    /// This status and these headers, with a small JSON body.
    Code(u16, Vec<(&'static str, String)>),
    /// Nothing, for ever.
    Hang,
    /// 200, then a byte every 100 ms for ever.
    Drip,
}

impl Reply {
    /// A job of this status.
    pub fn status(ask: &Ask, status: &str) -> Self {
        Self::Json(format!(r#"{{"id":"{}","status":"{status}"}}"#, ask.job))
    }
}

type Rule = Box<dyn Fn(&Ask) -> Reply + Send>;

struct Kept {
    rule: Rule,
    asked: Vec<Ask>,
    counts: HashMap<(String, bool), usize>,
    start: Instant,
}

/// The server.
pub struct Script {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    server: JoinHandle<()>,
}

impl Script {
    pub async fn start(rule: impl Fn(&Ask) -> Reply + Send + 'static) -> Self {
        let kept =
            Kept { rule: Box::new(rule), asked: Vec::new(), counts: HashMap::new(), start: Instant::now() };
        let kept = Arc::new(Mutex::new(kept));
        let (address, server) = serve(Router::new().fallback(answer).with_state(Arc::clone(&kept))).await;
        Self { address, kept, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers by this rule from now on.
    pub fn set(&self, rule: impl Fn(&Ask) -> Reply + Send + 'static) {
        self.kept.lock().unwrap().rule = Box::new(rule);
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Ask> {
        self.kept.lock().unwrap().asked.clone()
    }

    /// How often a job was asked for.
    pub fn count(&self, job: &str, full: bool) -> usize {
        self.kept.lock().unwrap().counts.get(&(job.to_owned(), full)).copied().unwrap_or_default()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(kept): State<Arc<Mutex<Kept>>>, uri: Uri) -> Response {
    let rest = uri.path().trim_start_matches("/v1/jobs/");
    let (job, full) = match rest.strip_suffix("/status") {
        Some(job) => (job.to_owned(), false),
        None => (rest.to_owned(), uri.query().is_some_and(|query| query.contains("include_response=true"))),
    };
    let reply = {
        let mut kept = kept.lock().unwrap();
        let nth = kept.counts.entry((job.clone(), full)).or_default();
        *nth += 1;
        let ask = Ask { job, full, nth: *nth, at: kept.start.elapsed() };
        kept.asked.push(ask.clone());
        (kept.rule)(&ask)
    };
    let json = |status: StatusCode, body: Body| {
        Response::builder().status(status).header("content-type", "application/json").body(body).unwrap()
    };
    match reply {
        Reply::Json(text) => json(StatusCode::OK, Body::from(text)),
        Reply::Code(code, headers) => {
            let mut response = json(StatusCode::from_u16(code).unwrap(), Body::from("{\"detail\":\"no\"}"));
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
        Reply::Hang => std::future::pending().await,
        Reply::Drip => {
            let bytes = stream::unfold(0_u32, |sent| async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let byte = if sent == 0 { "{" } else { " " };
                Some((Ok::<_, std::io::Error>(Bytes::from_static(byte.as_bytes())), sent + 1))
            });
            json(StatusCode::OK, Body::from_stream(bytes.boxed()))
        }
    }
}
