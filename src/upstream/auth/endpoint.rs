//! Asks a server for credentials: bounded in time and size, without redirects, under the guard.

use std::time::Duration;

use http::HeaderMap;
use reqwest::{Client, Response};
use tokio::time::timeout;

use super::request::TokenRequest;
use crate::util::{
    http_client::{BadProxy, Clients, Outgoing, SendError, find, guard::ResolveError, innermost},
    redact,
    units::HumanDuration,
};

/// The longest exchange.
const LONGEST: Duration = Duration::from_secs(30);

/// The largest answer in bytes. GitHub lists the repositories of an installation in it.
const MAX_ANSWER: usize = 1 << 20;

/// The connections that are kept open to one host after use.
const IDLE: usize = 1;

/// A client for servers that give credentials.
pub(super) struct Endpoint {
    http: Clients,
    limit: HumanDuration,
}

/// An answer.
pub(super) struct TokenAnswer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Endpoint {
    /// Creates the client. An exchange takes at most `limit`, and at most half a minute.
    ///
    /// # Errors
    /// If the TLS library cannot be set up.
    pub(super) fn new(outgoing: &Outgoing, limit: HumanDuration) -> reqwest::Result<Self> {
        let http = Clients::new(outgoing, |builder| builder.pool_max_idle_per_host(IDLE))?;
        Ok(Self { http, limit: HumanDuration(limit.0.min(LONGEST)) })
    }

    /// Creates the client for a server on this machine, which no proxy can reach.
    ///
    /// # Errors
    /// If the TLS library cannot be set up.
    pub(super) fn direct(outgoing: &Outgoing, limit: HumanDuration) -> Result<Self, EndpointError> {
        Ok(Self::new(&outgoing.choosing(Some(Outgoing::NONE))?, limit)?)
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// Why no answer came, with the server's address and nothing of what was sent.
    pub(super) async fn ask(&self, request: &TokenRequest) -> Result<TokenAnswer, String> {
        let place = redact::url(&request.url);
        let failed = |reason: String| format!("no credentials from {place}: {reason}");
        let exchange = timeout(self.limit.0, self.exchange(request)).await;
        let answer = exchange.map_err(|_| failed(format!("no answer within {}", self.limit)))?;
        let answer = answer.map_err(failed)?;
        if (300..400).contains(&answer.status) {
            return Err(failed(format!("it answered {}; redirects are not followed", answer.status)));
        }
        Ok(answer)
    }

    async fn exchange(&self, request: &TokenRequest) -> Result<TokenAnswer, String> {
        let make = |client: &Client| {
            let sent = client.request(request.method.clone(), request.url.clone());
            let sent = sent.headers(request.headers.clone());
            match &request.body {
                Some(body) => sent.body(body.expose().to_owned()),
                None => sent,
            }
        };
        let response = self.http.send_repeatable(make, || {}).await.map_err(|error| unanswered(&error))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(TokenAnswer { status, headers, body: whole(response).await? })
    }
}

async fn whole(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| broke(&error))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err("the answer is larger than 1 MiB".to_owned());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn broke(error: &reqwest::Error) -> String {
    format!("the connection broke: {}", innermost(error))
}

fn unanswered(error: &SendError) -> String {
    match error {
        SendError::Proxy(proxy) => proxy.to_string(),
        SendError::Peer(error) => match find(error) {
            Some(ResolveError::Blocked(blocked)) => blocked.to_string(),
            _ if error.is_connect() => format!("no connection: {}", innermost(error)),
            _ => broke(error),
        },
    }
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum EndpointError {
    #[error(transparent)]
    Proxy(#[from] BadProxy),
    #[error(transparent)]
    Client(#[from] reqwest::Error),
}
