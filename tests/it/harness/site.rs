//! A job API of any shape: it answers what it is told, and keeps what it was asked.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use tokio::task::JoinHandle;

use super::{Request, serve};

/// What it answers.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// One without a header of its own.
    pub fn bare(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    pub fn typed(status: u16, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::bare(status, body).with("content-type", media_type)
    }

    pub fn json(body: &str) -> Self {
        Self::typed(200, "application/json", body)
    }

    /// A redirect.
    pub fn to(status: u16, location: &str) -> Self {
        Self::bare(status, "").with("location", location)
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

#[derive(Default)]
struct Kept {
    requests: Vec<Request>,
    answers: HashMap<String, VecDeque<Answer>>,
}

/// A job API on loopback.
pub struct Site {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    server: JoinHandle<()>,
}

impl Site {
    /// One that knows nothing yet: it answers 404.
    pub async fn start() -> Self {
        let kept: Arc<Mutex<Kept>> = Arc::default();
        let (address, server) = serve(Router::new().fallback(answer).with_state(Arc::clone(&kept))).await;
        Self { address, kept, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers requests for `target` (path and query) with JSON from now on.
    pub fn json(&self, target: &str, body: &str) {
        self.answer(target, 200, "application/json", body);
    }

    /// Answers requests for `target` like this from now on.
    pub fn answer(&self, target: &str, status: u16, media_type: &str, body: impl Into<Vec<u8>>) {
        self.script(target, [Answer::typed(status, media_type, body)]);
    }

    /// Answers requests for `target` with one after the other, and from then on with the last.
    pub fn script(&self, target: &str, answers: impl IntoIterator<Item = Answer>) {
        self.kept.lock().unwrap().answers.insert(target.to_owned(), answers.into_iter().collect());
    }

    /// Every request, oldest first.
    pub fn all(&self) -> Vec<Request> {
        self.kept.lock().unwrap().requests.clone()
    }

    /// The requests for `target`, oldest first.
    pub fn requests(&self, target: &str) -> Vec<Request> {
        let is_meant = |request: &&Request| request.uri.path_and_query().unwrap().as_str() == target;
        self.kept.lock().unwrap().requests.iter().filter(is_meant).cloned().collect()
    }
}

impl Drop for Site {
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
    let Ok(body) = to_bytes(body, usize::MAX).await else { return Response::default() };
    let mut kept = kept.lock().unwrap();
    let target = uri.path_and_query().unwrap().as_str().to_owned();
    kept.requests.push(Request { method, uri, headers, body: body.to_vec() });
    let Some(answers) = kept.answers.get_mut(&target) else { return StatusCode::NOT_FOUND.into_response() };
    let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }.unwrap();
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(*name, value);
    }
    response.body(Body::from(answer.body)).unwrap()
}
