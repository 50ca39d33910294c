//! A job API of any shape: it answers what it is told, and keeps what it was asked.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use tokio::task::JoinHandle;

use super::{Request, serve};

#[derive(Default)]
struct Kept {
    requests: Vec<Request>,
    answers: HashMap<String, (u16, String, Vec<u8>)>,
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
        let answer = (status, media_type.to_owned(), body.into());
        self.kept.lock().unwrap().answers.insert(target.to_owned(), answer);
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
    match kept.answers.get(&target) {
        Some((status, media_type, body)) => {
            let status = StatusCode::from_u16(*status).unwrap();
            (status, [(header::CONTENT_TYPE, media_type.clone())], body.clone()).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
