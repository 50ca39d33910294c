//! Requests the status of a job.

use std::{sync::atomic::Ordering, time::Duration};

use reqwest::header::HeaderMap;

use super::{
    Failure, JobRef, Source, SourceKind, StatusBody, Template,
    decode::Decoded,
    failure::refusal,
    limits::asked_wait,
    request::redirected,
    result::{foreign_type, misses},
    times::SourceClock,
};
use crate::{
    model::{
        job::{JobId, Outcome},
        status_answer::{StatusAnswer, StatusClass},
    },
    util::clock,
};

/// The longest wait that a source's own header can ask for, in seconds.
const MAX_HINT: f64 = 3600.0;

impl Source {
    /// Requests a job's light status. Returns the answer and its body.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn status(&self, job: JobRef<'_>) -> Result<(StatusAnswer, StatusBody), Failure> {
        let kind = self.kind_of(job)?;
        if kind.uses_fallback() {
            return self.status_from_fallback(job).await;
        }
        let answer = self.status_at(kind, &kind.profile.status_path, job).await;
        if answer.is_ok() {
            kind.light_route_works();
        }
        answer
    }

    /// Requests the status from the heavier route, after the light one answered 404.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn status_from_fallback(&self, job: JobRef<'_>) -> Result<(StatusAnswer, StatusBody), Failure> {
        let kind = self.kind_of(job)?;
        let path = kind.profile.fallback_status_path.as_ref().unwrap_or(&kind.profile.status_path);
        self.status_at(kind, path, job).await
    }

    /// Records that the light route of a kind is missing.
    pub fn lacks_status_route(&self, kind: &SourceKind) {
        if kind.lacks_light_route() {
            tracing::warn!(
                source = self.name,
                kind = kind.name(),
                "light status route missing; polling the heavier route from now on"
            );
        }
    }

    async fn status_at(
        &self,
        kind: &SourceKind,
        path: &Template,
        job: JobRef<'_>,
    ) -> Result<(StatusAnswer, StatusBody), Failure> {
        let profile = &kind.profile;
        let request = self.status_request(kind, path, job)?;
        let response = self.send(kind, &request).await?;
        let listed = profile.http.of_answer(response.status(), response.headers());
        if let Some(failure) = refusal(&response).filter(|_| listed.is_none()) {
            return Err(failure);
        }
        let is_plain = profile.result_path.is_none() && profile.results.is_empty();
        let place = redirected(&response).filter(|_| is_plain).transpose()?;
        let hint = Self::hint(kind, response.headers());
        let clock = SourceClock::of(response.headers(), clock::now());
        let media_type = foreign_type(response.headers());
        let is_part = listed.is_none() && misses(response.status(), response.headers(), true).is_some();
        let body = self.read_status(kind, &mut Decoded::of(response)?).await?;
        let body = StatusBody { media_type, is_whole: body.is_whole && !is_part, listed, ..body };
        let mut answer = body.answer(profile).map_err(Failure::Transient)?;
        self.check_times(&mut answer, clock, job.id);
        if let StatusClass::Finished(outcome) = answer.class {
            let place = place.filter(|_| outcome == Outcome::Completed);
            answer.result = place.or_else(|| self.result_in(kind, job, outcome, &body.values));
        }
        answer.kind = self.recorded(kind);
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
    pub(super) fn hint(kind: &SourceKind, headers: &HeaderMap) -> Option<Duration> {
        let own = kind.profile.poll_hint.as_ref().and_then(|(name, is_millis)| {
            let number: f64 = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
            let seconds = if *is_millis { number / 1000.0 } else { number };
            Duration::try_from_secs_f64(seconds.min(MAX_HINT)).ok()
        });
        own.max(asked_wait(headers, clock::now()))
    }
}
