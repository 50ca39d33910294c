//! The client of a source: its profile, its configuration and its connections.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use prometheus::IntCounter;
use reqwest::header::HeaderName;

use super::{Failure, InvalidProfile, Links, Profile, SourceConfig, failure::unanswered, route::ProxyRoutes};
use crate::{
    model::job::JobId,
    telemetry,
    util::{
        http_client::{BadProxy, Clients, Outgoing},
        secret::{Secret, SecretSource, SecretValue},
    },
};

/// Why a source cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A key of its profile is invalid.
    #[error("{0}")]
    Profile(InvalidProfile),
    /// A header cannot be sent.
    #[error("`{0}` is not a header name")]
    Header(String),
    /// Its proxy cannot be used.
    #[error("proxy: {0}")]
    Proxy(#[from] BadProxy),
    /// The HTTP client cannot be built.
    #[error("no HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// A job, as a request names it.
#[derive(Clone, Copy, Debug)]
pub struct JobRef<'a> {
    /// Its id.
    pub id: &'a JobId,
    /// The variables that came with its watch.
    pub vars: &'a BTreeMap<String, String>,
}

/// One upstream API.
pub struct Source {
    /// Its name in the configuration.
    pub name: String,
    /// The profile: how the API is spoken to.
    pub profile: Profile,
    /// Its configuration.
    pub config: SourceConfig,
    pub(super) key: Option<SecretSource>,
    pub(super) headers: Vec<(HeaderName, SecretSource)>,
    http: Clients,
    /// What requests through the proxy mean for its jobs.
    pub routes: ProxyRoutes,
    /// The client for results at other origins.
    pub links: Links,
    /// The counter of requests sent.
    pub requests: IntCounter,
    /// Redirects to the source that no budget has paid for yet.
    pub(super) unpaid: AtomicU32,
    /// The key that was sent last.
    pub(super) sent: Mutex<Option<Secret>>,
    /// The light status route is missing.
    pub(super) fallback: AtomicBool,
    /// The light status route has answered.
    pub(super) light_works: AtomicBool,
    /// A time in its answers was ignored, and the log says so.
    pub(super) odd_times: AtomicBool,
}

impl Source {
    /// Sets up the client.
    ///
    /// # Errors
    /// If the configuration cannot be used.
    pub fn new(name: &str, config: &SourceConfig, outgoing: &Outgoing) -> Result<Self, SourceError> {
        let profile = Profile::of(config).map_err(|errors| {
            let none = InvalidProfile { key: "type", reason: "it cannot be used".to_owned() };
            SourceError::Profile(errors.into_iter().next().unwrap_or(none))
        })?;
        let header = |(name, value): (&String, &SecretValue)| match name.parse() {
            Ok(name) => Ok((name, value.source())),
            Err(_) => Err(SourceError::Header(name.clone())),
        };
        Ok(Self {
            name: name.to_owned(),
            key: SecretSource::of(config.api_key.as_ref(), config.api_key_file.as_deref()),
            headers: profile.headers.iter().map(header).collect::<Result<_, _>>()?,
            http: Clients::new(&outgoing.choosing(config.proxy.outgoing.as_deref())?, {
                let idle = crate::util::process::in_flight(config.max_in_flight);
                move |builder| builder.pool_max_idle_per_host(idle)
            })?,
            links: Links::new(&[]),
            routes: ProxyRoutes::of(&profile),
            config: config.clone(),
            profile,
            requests: telemetry::loose_counter(),
            unpaid: AtomicU32::new(0),
            sent: Mutex::new(None),
            fallback: AtomicBool::new(false),
            light_works: AtomicBool::new(false),
            odd_times: AtomicBool::new(false),
        })
    }

    /// Returns the number of redirects since the last call.
    #[must_use]
    pub fn take_unpaid(&self) -> u32 {
        self.unpaid.swap(0, Ordering::Relaxed)
    }

    /// Returns the base URL.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.profile.base
    }

    /// Sends a request, and sends it once more over another connection if the connection failed.
    /// Each one counts.
    pub(super) async fn request(
        &self,
        make: impl FnOnce(&reqwest::Client) -> reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, Failure> {
        self.http.send(make, || self.requests.inc()).await.map_err(|error| unanswered(&error))
    }
}
