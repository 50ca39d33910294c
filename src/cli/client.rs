//! The client of the daemon's HTTP API that every client command goes through.

use std::{error::Error as _, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode, header};
use reqwest::Response;
use rustls::RootCertStore;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use super::{
    exit::BadUsage,
    target::{Path, Target},
};
use crate::{
    api::{
        Code,
        view::{Page, Problem},
    },
    config,
    util::{
        foreign::{escape, escape_lines},
        http_client::{self, Outgoing, guard::Trust},
        secret::Secret,
        units::rounded,
    },
};

/// The longest wait for the answer to a request that changes something: a batch shares one sync of the disk.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The longest wait for the answer to a request that only reads.
pub const READ: Duration = Duration::from_secs(15);

/// The longest silence within an answer.
pub const STALL: Duration = Duration::from_secs(15);

/// The longest wait for the answer to a request that changes many deliveries, each of them durably.
const BULK: Duration = Duration::from_mins(10);

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// The longest answer read whole: a page holds at most 1000 entries.
const MAX_ANSWER: usize = 256 << 20;

/// What a request to the daemon can come to.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there.
    #[error(
        "no daemon answers at {url}; start one with `tidings run`, or name it with --url or TIDINGS_URL ({cause})"
    )]
    Unreachable {
        /// Where.
        url: String,
        /// What the system says.
        cause: String,
    },
    /// No answer in time.
    #[error("the daemon at {url} did not answer within {}", rounded(*after))]
    Slow {
        /// Where.
        url: String,
        /// How long was waited.
        after: Duration,
    },
    /// An answer that stopped in the middle.
    #[error("the answer of {url} stopped: nothing came for {}", rounded(*after))]
    Silent {
        /// Where.
        url: String,
        /// How long was waited.
        after: Duration,
    },
    /// The exchange was cut short.
    #[error("the connection to {url} broke: {cause}")]
    Broken {
        /// Where.
        url: String,
        /// What the system says.
        cause: String,
    },
    /// The daemon said no, and why.
    #[error("the daemon refused: {}{}", with_code(detail, code), hint(*status))]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// A sentence for people.
        detail: String,
        /// A word for programs.
        code: String,
    },
    /// An error that is not one of tidings.
    #[error("{url} answered {status}, which is no answer of tidings; does another program listen there?")]
    Foreign {
        /// Where.
        url: String,
        /// The HTTP status.
        status: StatusCode,
    },
    /// An answer in a shape that is not understood.
    #[error("the answer of {url} cannot be read: {cause}; are client and daemon of the same version?")]
    Unreadable {
        /// Where.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The client could not be built.
    #[error("no HTTP client can be built: {0}")]
    Setup(String),
}

/// Puts `code` at the end of the first line of `detail`: a refused configuration comes with a line for each mistake.
fn with_code(detail: &str, code: &str) -> String {
    match detail.trim_end().split_once('\n') {
        None => format!("{} ({code})", detail.trim_end()),
        Some((first, others)) => format!("{first} ({code})\n{others}"),
    }
}

fn hint(status: StatusCode) -> &'static str {
    if status == StatusCode::UNAUTHORIZED {
        "; give its token with --token-file or TIDINGS_TOKEN"
    } else {
        ""
    }
}

impl ClientError {
    /// Whether the same request may succeed a moment later: the daemon restarts, or is starting.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Slow { .. } | Self::Silent { .. } | Self::Broken { .. } => true,
            Self::Refused { status, .. } | Self::Foreign { status, .. } => {
                matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504)
            }
            Self::Unreadable { .. } | Self::Setup(_) => false,
        }
    }

    /// Whether the daemon does not know what was asked for.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if matches!(status.as_u16(), 404 | 410))
    }
}

/// A client of one daemon. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    target: Target,
    token: Option<Secret>,
}

impl Client {
    /// A client of the daemon at `target`, sending `token` when there is one.
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub fn new(target: Target, token: Option<Secret>) -> Result<Self, ClientError> {
        // The certificates are read only for an https URL: a health check runs every few seconds.
        let tls = if target.is_tls() {
            http_client::tls()
        } else {
            http_client::trusting(RootCertStore::empty()).with_no_client_auth()
        };
        let outgoing = Outgoing::direct(Trust::Operator);
        let builder = http_client::builder(&outgoing, tls).connect_timeout(CONNECT);
        let http = match &target.socket {
            Some(path) => builder.unix_socket(path.clone()).build(),
            None => builder.build(),
        };
        let http = http.map_err(|error| ClientError::Setup(root_cause(&error)))?;
        Ok(Self { http, target, token })
    }

    /// Sends a request and returns the answer's head when it is a success.
    ///
    /// # Errors
    /// Every [`ClientError`]; an answer that is no 2xx is one.
    pub async fn send(
        &self,
        method: Method,
        path: &Path,
        body: Option<Vec<u8>>,
        patience: Option<Duration>,
    ) -> Result<Response, ClientError> {
        let answer = self.ask(method, path, body, patience).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(answer).await) }
    }

    /// Sends a request and returns the answer's head, whatever it says.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn ask(
        &self,
        method: Method,
        path: &Path,
        body: Option<Vec<u8>>,
        patience: Option<Duration>,
    ) -> Result<Response, ClientError> {
        let mut request = self.http.request(method, format!("{}{}", self.target.base, path.as_str()));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        }
        self.head(request, patience).await
    }

    /// The head of the answer to `request`, which may take as long as `patience`.
    async fn head(
        &self,
        request: reqwest::RequestBuilder,
        patience: Option<Duration>,
    ) -> Result<Response, ClientError> {
        let answer = match patience {
            Some(after) => timeout(after, request.send()).await.map_err(|_| self.slow(after))?,
            None => request.send().await,
        };
        answer.map_err(|error| self.explain(&error))
    }

    /// The address of the daemon as people know it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.target.shown
    }

    /// The error of a daemon that did not answer in time.
    #[must_use]
    pub fn slow(&self, after: Duration) -> ClientError {
        ClientError::Slow { url: self.target.shown.clone(), after }
    }

    /// The next piece of an answer; `None` at its end.
    ///
    /// # Errors
    /// When the exchange breaks, or nothing comes for as long as `patience`.
    pub async fn chunk(
        &self,
        answer: &mut Response,
        patience: Duration,
    ) -> Result<Option<Bytes>, ClientError> {
        let chunk = timeout(patience, answer.chunk())
            .await
            .map_err(|_| ClientError::Silent { url: self.target.shown.clone(), after: patience })?;
        chunk.map_err(|error| self.explain(&error))
    }

    /// Opens a stream of server-sent events, after the event with `last_id` when there is one. Its head may take as
    /// long as `patience`.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn stream(
        &self,
        path: &Path,
        last_id: Option<&str>,
        patience: Duration,
    ) -> Result<Response, ClientError> {
        let mut request = self.http.get(format!("{}{}", self.target.base, path.as_str()));
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let answer = self.head(request, Some(patience)).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(answer).await) }
    }

    /// `GET`, the answer's JSON as it came.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn text(&self, path: &Path) -> Result<String, ClientError> {
        let answer = self.send(Method::GET, path, None, Some(READ)).await?;
        self.read_text(answer).await
    }

    /// `GET`, the answer read as `T`.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn get<T: DeserializeOwned>(&self, path: &Path) -> Result<T, ClientError> {
        self.parse(&self.text(path).await?)
    }

    /// `POST` of `body` as JSON, or of nothing; the answer's head.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn post<B: Serialize>(&self, path: &Path, body: Option<&B>) -> Result<Response, ClientError> {
        self.send(Method::POST, path, json(body)?, Some(PATIENCE)).await
    }

    /// `POST` of what may take as long as `patience`; the answer's text. A daemon that answers nothing is found out before.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn post_long<B: Serialize>(
        &self,
        path: &Path,
        body: Option<&B>,
        patience: Duration,
    ) -> Result<String, ClientError> {
        self.ask(Method::GET, &Path::of(&["healthz"]), None, Some(READ)).await?;
        let answer = self.send(Method::POST, path, json(body)?, Some(patience)).await?;
        self.read_text(answer).await
    }

    /// `POST` of what changes any number of deliveries; the answer read as `T`.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn post_bulk<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &Path,
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        self.parse(&self.post_long(path, body, BULK).await?)
    }

    /// The source that `asked` names, or the one that the daemon would take for a job without one.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`BadUsage`] when the daemon has several sources and none is the default.
    pub async fn source(&self, asked: Option<&str>) -> anyhow::Result<String> {
        match asked {
            Some(name) => Ok(name.to_owned()),
            None => Ok(default_source(&self.sources().await?)?),
        }
    }

    /// The names of the daemon's sources.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn sources(&self) -> Result<Vec<String>, ClientError> {
        #[derive(Deserialize)]
        struct Source {
            name: String,
        }
        let sources: Page<Source> = self.get(&Path::of(&["v1", "sources"])).await?;
        Ok(sources.data.into_iter().map(|source| source.name).collect())
    }

    /// The rest of `answer` as text.
    ///
    /// # Errors
    /// When the exchange breaks, or the text is no UTF-8 or too long.
    pub async fn read_text(&self, mut answer: Response) -> Result<String, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut answer, STALL).await? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(self.unreadable(&"it is too long"));
            }
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body).map_err(|error| self.unreadable(&error))
    }

    /// `text` read as `T`.
    ///
    /// # Errors
    /// [`ClientError::Unreadable`] when it is something else.
    pub fn parse<T: DeserializeOwned>(&self, text: &str) -> Result<T, ClientError> {
        serde_json::from_str(text).map_err(|error| self.unreadable(&error))
    }

    /// What a failure of the HTTP library means to people.
    #[must_use]
    pub fn explain(&self, error: &reqwest::Error) -> ClientError {
        let (url, cause) = (self.target.shown.clone(), root_cause(error));
        if error.is_connect() {
            ClientError::Unreachable { url, cause }
        } else {
            ClientError::Broken { url, cause }
        }
    }

    fn unreadable(&self, cause: &dyn std::fmt::Display) -> ClientError {
        ClientError::Unreadable { url: self.target.shown.clone(), cause: cause.to_string() }
    }

    async fn refusal(&self, answer: Response) -> ClientError {
        let status = answer.status();
        let text = self.read_text(answer).await.unwrap_or_default();
        match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => {
                // This one alone has several lines.
                let is_list = problem.code == Code::InvalidConfiguration.as_str();
                let escape = if is_list { escape_lines } else { escape };
                let detail = escape(&problem.detail).into_owned();
                ClientError::Refused { status, detail, code: super::output::clean(&problem.code) }
            }
            Err(_) => ClientError::Foreign { url: self.target.shown.clone(), status },
        }
    }
}

/// The source of a job without one; see [`config::default_source`].
///
/// # Errors
/// When one has to be named.
pub fn default_source(sources: &[String]) -> Result<String, BadUsage> {
    let source = config::default_source(sources.iter().map(String::as_str));
    source.map(str::to_owned).map_err(|reason| BadUsage(format!("{reason} (--source)")))
}

/// Returns `body` as JSON, for a request.
fn json<B: Serialize>(body: Option<&B>) -> Result<Option<Vec<u8>>, ClientError> {
    body.map(serde_json::to_vec).transpose().map_err(|error| ClientError::Setup(error.to_string()))
}

/// The innermost reason; the layers above it only repeat that a request failed.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    let mut text = error.to_string();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}
