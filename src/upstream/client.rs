//! The client of a source: its profile, its configuration and its connections.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use prometheus::IntCounter;
use reqwest::Method;

use super::{
    Failure, Hooks, InvalidHooks, InvalidProfile, Links, ProxyRoute, SourceConfig,
    auth::{Auth, AuthError},
    failure::unanswered,
    kind::SourceKind,
};
use crate::{
    model::job::{JobId, Kind},
    telemetry,
    util::{
        http_client::{BadProxy, Clients, Outgoing},
        secret::{Secret, SecretSource},
        term::Term,
    },
};

/// Why a source cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A key of its profile is invalid.
    #[error("{0}")]
    Profile(InvalidProfile),
    /// A key of its hooks is invalid.
    #[error("{0}")]
    Hooks(InvalidHooks),
    /// A header cannot be sent.
    #[error("`{0}` is not a header name")]
    Header(String),
    /// Its proxy cannot be used.
    #[error("proxy: {0}")]
    Proxy(#[from] BadProxy),
    /// Its credentials cannot be set up.
    #[error("{0}")]
    Auth(#[from] AuthError),
    /// The HTTP client cannot be built.
    #[error("no HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

impl SourceError {
    fn of_hooks(errors: Vec<InvalidHooks>) -> Self {
        let unknown = InvalidHooks { key: "verify", reason: "it cannot be used".to_owned() };
        Self::Hooks(errors.into_iter().next().unwrap_or(unknown))
    }
}

/// A job, as a request names it.
#[derive(Clone, Copy, Debug)]
pub struct JobRef<'a> {
    /// Its id.
    pub id: &'a JobId,
    /// The name of its kind. `None`: the default kind.
    pub kind: Option<&'a str>,
    /// The variables that came with its watch.
    pub vars: &'a BTreeMap<String, String>,
}

/// One upstream API.
pub struct Source {
    /// Its name in the configuration.
    pub name: String,
    /// The kinds of its jobs, the default one first.
    pub(super) kinds: Vec<SourceKind>,
    /// Its configuration.
    pub config: SourceConfig,
    pub(super) key: Option<SecretSource>,
    /// The credentials that are made for it.
    pub(super) auth: Option<Auth>,
    http: Clients,
    /// The hooks that it sends.
    pub hooks: Option<Hooks>,
    /// The client for results at other origins.
    pub links: Links,
    /// The counter of requests sent.
    pub requests: IntCounter,
    /// Redirects to the source that no budget has paid for yet.
    pub(super) unpaid: AtomicU32,
    /// The key that was sent last.
    pub(super) sent: Mutex<Option<Secret>>,
    /// A time in its answers was ignored, and the log says so.
    pub(super) odd_times: AtomicBool,
}

impl Source {
    /// Sets up the client.
    ///
    /// # Errors
    /// If the configuration cannot be used.
    pub fn new(name: &str, config: &SourceConfig, outgoing: &Outgoing) -> Result<Self, SourceError> {
        let kinds = SourceKind::all(config)?;
        let outgoing = outgoing.choosing(config.proxy.outgoing.as_deref())?;
        let base_url = kinds.first().map_or("", |kind| &kind.profile.base);
        let auth = config.auth.as_ref();
        let auth = auth.map(|auth| Auth::new(name, auth, base_url, &outgoing, config.timeout));
        Ok(Self {
            name: name.to_owned(),
            auth: auth.transpose()?,
            key: SecretSource::of(config.api_key.as_ref(), config.api_key_file.as_deref()),
            http: Clients::new(&outgoing, {
                let idle = crate::util::process::in_flight(config.max_in_flight);
                move |builder| builder.pool_max_idle_per_host(idle)
            })?,
            links: Links::new(&[]),
            hooks: Hooks::of(config).map_err(SourceError::of_hooks)?,
            config: config.clone(),
            kinds,
            requests: telemetry::loose_counter(),
            unpaid: AtomicU32::new(0),
            sent: Mutex::new(None),
            odd_times: AtomicBool::new(false),
        })
    }

    /// Returns the kinds of its jobs, the default one first.
    #[must_use]
    pub fn kinds(&self) -> &[SourceKind] {
        &self.kinds
    }

    /// Returns the default kind: the one that the keys of the source itself describe.
    #[must_use]
    pub fn default_kind(&self) -> &SourceKind {
        &self.kinds[0]
    }

    /// Returns the kind with this name; the default kind without one.
    #[must_use]
    pub fn kind(&self, name: Option<&str>) -> Option<&SourceKind> {
        match name {
            None => Some(self.default_kind()),
            name => self.kinds.iter().find(|kind| kind.name() == name),
        }
    }

    /// Returns the kind of a job.
    ///
    /// # Errors
    /// If the configuration no longer has it.
    pub fn kind_of(&self, job: JobRef<'_>) -> Result<&SourceKind, Failure> {
        let unknown = || {
            let kind = job.kind.unwrap_or_default();
            Failure::Refused(format!("the source has no kind `{kind}` any more; add kinds.{kind} to it"))
        };
        self.kind(job.kind).ok_or_else(unknown)
    }

    /// Returns a kind as watches record it; `None` if it has no name.
    #[must_use]
    pub fn recorded(&self, kind: &SourceKind) -> Option<Kind> {
        let is_default = std::ptr::eq(kind, self.default_kind());
        kind.name().map(|name| Kind { name: name.to_owned(), is_default })
    }

    /// Returns the kind that an id belongs to by its beginning, the longest one first; else the
    /// default kind.
    #[must_use]
    pub fn kind_by_id(&self, id: &JobId) -> &SourceKind {
        let matching = |kind: &&SourceKind| kind.profile.matching_prefix(id.as_str());
        // Of equally long beginnings the first kind counts, so that the default kind does.
        self.kinds
            .iter()
            .rev()
            .max_by_key(matching)
            .filter(|kind| matching(kind).is_some())
            .unwrap_or(self.default_kind())
    }

    /// Returns what a request through the proxy is, and the kind of the job that it is about.
    #[must_use]
    pub fn route(&self, method: &Method, path: &str, query: Option<&str>) -> (&SourceKind, ProxyRoute) {
        let routed = self.kinds.iter().map(|kind| (kind, kind.routes.route(method, path, query)));
        let mut known = routed.filter(|(_, route)| *route != ProxyRoute::Other);
        known.next().unwrap_or((self.default_kind(), ProxyRoute::Other))
    }

    /// Returns the number of requests since the last call that followed the first one of their call:
    /// redirects, repetitions after a refused token, and those over another connection.
    #[must_use]
    pub fn take_unpaid(&self) -> u32 {
        self.unpaid.swap(0, Ordering::Relaxed)
    }

    /// Returns until when requests may be sent to it.
    #[must_use]
    pub fn term(&self) -> &Term {
        self.http.term()
    }

    /// Returns the base URL.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.default_kind().profile.base
    }

    /// Sends a request, and sends it once more over another connection if the connection failed.
    /// Each one counts, and the budget makes up for each after the first.
    pub(super) async fn request(
        &self,
        make: impl FnOnce(&reqwest::Client) -> reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, Failure> {
        self.http.send(make, self.counting()).await.map_err(|error| unanswered(&error))
    }

    /// Does the same with a request that changes nothing, whatever its method is.
    pub(super) async fn request_again(
        &self,
        make: impl FnOnce(&reqwest::Client) -> reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, Failure> {
        self.http.send_repeatable(make, self.counting()).await.map_err(|error| unanswered(&error))
    }

    /// Returns what counts each request of one call.
    fn counting(&self) -> impl Fn() {
        let is_paid = AtomicBool::new(true);
        move || {
            self.requests.inc();
            if !is_paid.swap(false, Ordering::Relaxed) {
                self.unpaid.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
