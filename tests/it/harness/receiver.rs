//! A webhook receiver that keeps what it was sent and answers as it is told.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::Response,
};
use tokio::task::JoinHandle;

use super::{eventually, serve};

/// A request that came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// How to answer.
#[derive(Clone, Debug)]
pub enum Reply {
    /// With this status and these headers.
    Status(u16, Vec<(&'static str, String)>),
    /// Never.
    Hang,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self::Status(status, Vec::new())
    }
}

type Rule = Box<dyn FnMut(&Request) -> Option<Reply> + Send>;

#[derive(Default)]
struct Kept {
    requests: Vec<Request>,
    replies: VecDeque<Reply>,
    usual: Option<Reply>,
    rule: Option<Rule>,
}

/// A receiver on loopback.
pub struct Receiver {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    server: JoinHandle<()>,
}

impl Receiver {
    /// One that answers 204.
    pub async fn start() -> Self {
        let kept: Arc<Mutex<Kept>> = Arc::default();
        let (address, server) = serve(Router::new().fallback(take).with_state(Arc::clone(&kept))).await;
        Self { address, kept, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hooks/jobs", self.address)
    }

    /// Answers the next requests like this, then as usual.
    pub fn then(&self, replies: impl IntoIterator<Item = Reply>) {
        self.kept.lock().unwrap().replies.extend(replies);
    }

    /// Answers like this from now on.
    pub fn always(&self, reply: Reply) {
        self.kept.lock().unwrap().usual = Some(reply);
    }

    /// Answers as `rule` says, where it says something.
    pub fn rule(&self, rule: impl FnMut(&Request) -> Option<Reply> + Send + 'static) {
        self.kept.lock().unwrap().rule = Some(Box::new(rule));
    }

    /// Everything that came.
    pub fn requests(&self) -> Vec<Request> {
        self.kept.lock().unwrap().requests.clone()
    }

    /// Everything that came, once it is at least `count`.
    pub async fn at_least(&self, count: usize) -> Vec<Request> {
        eventually(&format!("{count} requests reach the receiver"), || async {
            let requests = self.requests();
            (requests.len() >= count).then_some(requests)
        })
        .await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(
    State(kept): State<Arc<Mutex<Kept>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    // A request that was cut short is none: at least once means that the whole of it comes again.
    let Ok(body) = to_bytes(body, usize::MAX).await else { return Response::default() };
    let reply = {
        let mut kept = kept.lock().unwrap();
        let request = Request { method, uri, headers, body: body.to_vec() };
        let ruled = kept.rule.as_mut().and_then(|rule| rule(&request));
        kept.requests.push(request);
        let usual = kept.usual.clone();
        ruled.or_else(|| kept.replies.pop_front()).or(usual)
    };
    match reply.unwrap_or(Reply::Status(204, Vec::new())) {
        Reply::Hang => std::future::pending().await,
        Reply::Status(status, headers) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
    }
}
