//! Requests the status of a job.

use std::{sync::atomic::Ordering, time::Duration};

use reqwest::header::HeaderMap;

use super::{
    Failure, JobRef, Source, StatusBody, Template,
    decode::Decoded,
    failure::refusal,
    limits::asked_wait,
    result::{foreign_type, misses},
    times::SourceClock,
};
use crate::{
    model::{
        job::JobId,
        status_answer::{StatusAnswer, StatusClass},
    },
    util::clock,
};

/// The longest wait that a source's own header can ask for, in seconds.
const MAX_HINT: f64 = 3600.0;

impl Source {
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

    /// Requests a job's light status. Returns the answer and its body.
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

    /// Requests the status from the heavier route, after the light one answered 404.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn status_from_fallback(&self, job: JobRef<'_>) -> Result<(StatusAnswer, StatusBody), Failure> {
        let path = self.profile.fallback_status_path.as_ref().unwrap_or(&self.profile.status_path);
        self.status_at(path, job).await
    }

    /// Records that the light route is missing.
    pub fn lacks_status_route(&self) {
        if !self.fallback.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                source = self.name,
                "light status route missing; polling the heavier route from now on"
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
        let media_type = foreign_type(response.headers());
        let is_part = misses(response.status(), response.headers(), true).is_some();
        let body = self.read_status(Decoded::of(response)?).await?;
        let body = StatusBody { media_type, is_whole: body.is_whole && !is_part, ..body };
        let mut answer = body.answer(&self.profile).map_err(Failure::Transient)?;
        self.check_times(&mut answer, clock, job.id);
        if let StatusClass::Finished(_) = answer.class {
            answer.result = self.result_in(job, &body.values);
        }
        Ok((StatusAnswer { hint, ..answer }, body))
    }

    /// Drops the times of an answer that cannot be true, and warns of it once.
    fn check_times(&self, answer: &mut StatusAnswer, clock: SourceClock, job_id: &JobId) {
        if let Some(time) = clock.drop_untrue(answer)
            && !self.odd_times.swap(true, Ordering::Relaxed)
        {
            let source = &self.name;
            tracing::warn!(source, %job_id, %time, "time ignored: it cannot be true; such times count as absent");
        }
    }

    /// Returns the wait that an answer asks for: the longer of `Retry-After` and the source's own
    /// header.
    pub(super) fn hint(&self, headers: &HeaderMap) -> Option<Duration> {
        let own = self.profile.poll_hint.as_ref().and_then(|(name, is_millis)| {
            let number: f64 = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
            let seconds = if *is_millis { number / 1000.0 } else { number };
            Duration::try_from_secs_f64(seconds.min(MAX_HINT)).ok()
        });
        own.max(asked_wait(headers, clock::now()))
    }
}
