//! A kind of job of a source: one source can cover all kinds of one API with one key, one budget and
//! one health.

use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::header::HeaderName;

use super::{InvalidProfile, Profile, SourceConfig, SourceError, route::ProxyRoutes};
use crate::util::secret::{SecretSource, SecretValue};

/// A kind of job, and what the daemon found out about its routes.
pub struct SourceKind {
    /// How the API is spoken to about these jobs.
    pub profile: Profile,
    /// What requests through the proxy mean for them.
    pub routes: ProxyRoutes,
    pub(super) headers: Vec<(HeaderName, SecretSource)>,
    /// The light status route is missing.
    fallback: AtomicBool,
    /// The light status route has answered.
    light_works: AtomicBool,
}

impl SourceKind {
    /// Returns all kinds of a source, the default one first. There is at least that one.
    pub(super) fn all(config: &SourceConfig) -> Result<Vec<Self>, SourceError> {
        let invalid = |errors: Vec<InvalidProfile>| {
            let none = InvalidProfile { kind: None, key: "type", reason: "it cannot be used".to_owned() };
            SourceError::Profile(errors.into_iter().next().unwrap_or(none))
        };
        Profile::kinds_of(config).map_err(invalid)?.into_iter().map(Self::new).collect()
    }

    fn new(profile: Profile) -> Result<Self, SourceError> {
        let header = |(name, value): (&String, &SecretValue)| match name.parse() {
            Ok(name) => Ok((name, value.source())),
            Err(_) => Err(SourceError::Header(name.clone())),
        };
        Ok(Self {
            headers: profile.headers.iter().map(header).collect::<Result<_, _>>()?,
            routes: ProxyRoutes::of(&profile),
            profile,
            fallback: AtomicBool::new(false),
            light_works: AtomicBool::new(false),
        })
    }

    /// Returns its name. `None`: it is the only kind of its source, or one without a name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.profile.kind.as_deref()
    }

    /// Returns whether the light status route turned out to be missing.
    #[must_use]
    pub fn uses_fallback(&self) -> bool {
        self.fallback.load(Ordering::Relaxed)
    }

    /// Returns whether a 404 of the light route may mean the route and not the job.
    #[must_use]
    pub fn may_lack_status_route(&self) -> bool {
        self.has_fallback() && !self.uses_fallback() && !self.light_works.load(Ordering::Relaxed)
    }

    /// Returns whether there is a heavier status route.
    #[must_use]
    pub fn has_fallback(&self) -> bool {
        self.profile.fallback_status_path.is_some()
    }

    /// Records that the light route has answered.
    pub(super) fn light_route_works(&self) {
        self.light_works.store(true, Ordering::Relaxed);
    }

    /// Records that the light route is missing. Returns whether that is new.
    pub(super) fn lacks_light_route(&self) -> bool {
        !self.fallback.swap(true, Ordering::Relaxed)
    }
}
