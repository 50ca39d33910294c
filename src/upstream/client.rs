//! The requests to a source, and what each answer means for the job and for the source.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use prometheus::IntCounter;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::{
    Failure, InvalidProfile, Links, Origin, Profile, SourceConfig, StatusBody, Template, TemplateError,
    decode::Decoded,
    failure::{foreign, refusal, unanswered},
    limits::asked_wait,
    route::ProxyRoutes,
    template::is_absolute,
    times::SourceClock,
};
use crate::{
    model::{
        job::JobId,
        status_answer::{StatusAnswer, StatusClass},
    },
    telemetry,
    util::{
        clock,
        http_client::{BadProxy, Clients, Outgoing},
        json_slice::Values,
        secret::{Secret, SecretError, SecretSource, SecretValue},
    },
};

/// The longest wait that a source's own header asks for, in seconds.
const MAX_HINT: f64 = 3600.0;

/// A source that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A key of its profile does not fit.
    #[error("{0}")]
    Profile(InvalidProfile),
    /// A header cannot be sent.
    #[error("`{0}` is not a header name")]
    Header(String),
    /// Its proxy.
    #[error("proxy: {0}")]
    Proxy(#[from] BadProxy),
    /// The client could not be built.
    #[error("no HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// A job, as a request names it.
#[derive(Clone, Copy, Debug)]
pub struct JobRef<'a> {
    /// Its id.
    pub id: &'a JobId,
    /// The variables that its watch brought.
    pub vars: &'a BTreeMap<String, String>,
}

/// One upstream API.
pub struct Source {
    /// Its name in the configuration.
    pub name: String,
    /// How it is spoken to.
    pub profile: Profile,
    /// Its configuration.
    pub config: SourceConfig,
    key: Option<SecretSource>,
    headers: Vec<(HeaderName, SecretSource)>,
    http: Clients,
    /// What requests of the proxy mean for its jobs.
    pub routes: ProxyRoutes,
    /// Asks for results at other origins.
    pub links: Links,
    /// Requests sent since the start.
    pub requests: IntCounter,
    /// Requests to the source that its redirects asked for and that no budget has paid for yet.
    pub(super) unpaid: AtomicU32,
    /// The key that was sent last.
    sent: Mutex<Option<Secret>>,
    /// The light status route is missing.
    fallback: AtomicBool,
    /// The light status route has answered.
    light_works: AtomicBool,
    /// A time of its answers was ignored, and the log says so.
    odd_times: AtomicBool,
}

impl Source {
    /// Sets up the client.
    ///
    /// # Errors
    /// When the configuration cannot be used.
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

    /// The requests that redirects asked for since this was last called.
    #[must_use]
    pub fn take_unpaid(&self) -> u32 {
        self.unpaid.swap(0, Ordering::Relaxed)
    }

    /// The base URL.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.profile.base
    }

    /// Whether the key is another than the one that was sent last.
    #[must_use]
    pub fn key_changed(&self) -> bool {
        matches!(self.key(), Ok(key) if key != *self.sent())
    }

    /// The key that was sent last.
    pub(super) fn sent(&self) -> MutexGuard<'_, Option<Secret>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request, once more over another connection when it was the connection that failed; each one counts.
    pub(super) async fn request(
        &self,
        make: impl FnOnce(&reqwest::Client) -> reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, Failure> {
        self.http.send(make, || self.requests.inc()).await.map_err(|error| unanswered(&error))
    }

    pub(super) fn key(&self) -> Result<Option<Secret>, SecretError> {
        self.key.as_ref().map(SecretSource::get).transpose()
    }

    /// Whether the light status route turned out to be missing.
    #[must_use]
    pub fn uses_fallback(&self) -> bool {
        self.fallback.load(Ordering::Relaxed)
    }

    /// Whether there is a heavier status route, and a 404 of the light one may mean the route and not the job.
    #[must_use]
    pub fn may_lack_status_route(&self) -> bool {
        self.has_fallback() && !self.uses_fallback() && !self.light_works.load(Ordering::Relaxed)
    }

    /// Whether there is a heavier status route.
    #[must_use]
    pub fn has_fallback(&self) -> bool {
        self.profile.fallback_status_path.is_some()
    }

    /// Asks for a job's light status. Returns the answer and what was read for it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn status(&self, job: JobRef<'_>) -> Result<(StatusAnswer, StatusBody), Failure> {
        if self.uses_fallback() {
            return self.status_from_fallback(job).await;
        }
        let answer = self.status_at(&self.profile.status_path, job).await;
        if answer.is_ok() {
            self.light_works.store(true, Ordering::Relaxed);
        }
        answer
    }

    /// Asks the heavier route for the status, after the light one answered 404.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn status_from_fallback(&self, job: JobRef<'_>) -> Result<(StatusAnswer, StatusBody), Failure> {
        let path = self.profile.fallback_status_path.as_ref().unwrap_or(&self.profile.status_path);
        self.status_at(path, job).await
    }

    /// Remembers that the light route is missing.
    pub fn lacks_status_route(&self) {
        if !self.fallback.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                source = self.name,
                "the source has no light status route; its jobs are looked at with the full route from now on"
            );
        }
    }

    async fn status_at(
        &self,
        path: &Template,
        job: JobRef<'_>,
    ) -> Result<(StatusAnswer, StatusBody), Failure> {
        let address = self.filled(path, job, None)?;
        let response = self.send(&address).await?;
        if let Some(failure) = refusal(&response) {
            return Err(failure);
        }
        let hint = self.hint(response.headers());
        let clock = SourceClock::of(response.headers(), clock::now());
        let body = self.read_status(Decoded::of(response)?).await?;
        let mut answer = body.answer(&self.profile).map_err(Failure::Transient)?;
        self.check_times(&mut answer, clock, job.id);
        if let StatusClass::Finished(_) = answer.class {
            answer.result = self.result_in(job, &body.values);
        }
        Ok((StatusAnswer { hint, ..answer }, body))
    }

    /// Drops what cannot be true of the times of an answer, and warns of it once.
    fn check_times(&self, answer: &mut StatusAnswer, clock: SourceClock, job_id: &JobId) {
        if let Some(time) = clock.drop_untrue(answer)
            && !self.odd_times.swap(true, Ordering::Relaxed)
        {
            let source = &self.name;
            tracing::warn!(source, %job_id, %time, "ignored a time that cannot be true; such times count as absent");
        }
    }

    pub(super) fn filled(
        &self,
        path: &Template,
        job: JobRef<'_>,
        body: Option<&Values>,
    ) -> Result<String, Failure> {
        let text = path.fill(job.id.as_str(), &[job.vars, &self.profile.vars], body);
        let text = text.map_err(|error| match error {
            // Nothing is at the pointers: there is no result beside the status.
            TemplateError::Absent(_) => Failure::NotFound,
            error => unfillable(&error),
        })?;
        self.absolute(text)
    }

    fn absolute(&self, address: String) -> Result<String, Failure> {
        let base = &self.profile.base;
        match Url::parse(&address) {
            _ if is_absolute(&address) => Ok(address),
            Ok(url) => {
                let scheme = url.scheme();
                Err(Failure::Refused(format!("an address that begins with `{scheme}:` cannot be asked")))
            }
            Err(_) if address.starts_with('/') => Ok(format!("{base}{address}")),
            Err(_) => Ok(format!("{base}/{address}")),
        }
    }

    /// Whether an address is of an origin that may get our credentials.
    #[must_use]
    pub fn is_own(&self, address: &str) -> bool {
        Origin::of(address).is_some_and(|origin| self.profile.origins.contains(&origin))
    }

    /// The address of a job's status.
    ///
    /// # Errors
    /// When a variable is missing or the address is of a foreign origin.
    pub fn status_address(&self, job: JobRef<'_>) -> Result<String, Failure> {
        let address = self.filled(&self.profile.status_path, job, None)?;
        match self.is_own(&address) {
            true => Ok(address),
            false => Err(foreign(&address)),
        }
    }

    /// Checks that each path of the source can be filled for a job, and that its status has one of our own origins.
    ///
    /// # Errors
    /// When a variable is missing or unfit, or the address is of a foreign origin.
    pub fn check_job(&self, job: JobRef<'_>) -> Result<(), Failure> {
        let filled = self.profile.check(job.id.as_str(), job.vars);
        filled.map_err(|error| unfillable(&error))?;
        self.status_address(job).map(drop)
    }

    /// The address of the heavier status route, where there is one.
    ///
    /// # Errors
    /// When a variable is missing.
    pub(super) fn fallback_address(&self, job: JobRef<'_>) -> Result<Option<String>, Failure> {
        let path = self.profile.fallback_status_path.as_ref();
        path.map(|path| self.filled(path, job, None)).transpose()
    }

    /// How long an answer asks to wait: the longer of `Retry-After` and the source's own header.
    pub(super) fn hint(&self, headers: &HeaderMap) -> Option<Duration> {
        let own = self.profile.poll_hint.as_ref().and_then(|(name, is_millis)| {
            let number: f64 = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
            let seconds = if *is_millis { number / 1000.0 } else { number };
            Duration::try_from_secs_f64(seconds.min(MAX_HINT)).ok()
        });
        own.max(asked_wait(headers, clock::now()))
    }

    /// The profile's own headers and the one with the key.
    pub(super) fn credentials(&self) -> Result<HeaderMap, Failure> {
        let unreadable = |error: SecretError| Failure::Credentials(error.to_string());
        let unfit =
            |what: &str| Failure::Credentials(format!("{what} holds characters that no header may hold"));
        let mut headers = HeaderMap::new();
        for (name, secret) in &self.headers {
            let text = secret.get().map_err(unreadable)?;
            let mut value =
                HeaderValue::from_str(text.expose()).map_err(|_| unfit(&format!("the header `{name}`")))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let key = self.key().map_err(unreadable)?;
        self.sent().clone_from(&key);
        if let Some(key) = key {
            let value = self.key_value(&key).ok_or_else(|| unfit("the key"))?;
            headers.insert(self.profile.key_header.0.clone(), value);
        }
        Ok(headers)
    }
}

fn unfillable(error: &TemplateError) -> Failure {
    Failure::Refused(format!("the request cannot be made: {error}"))
}
