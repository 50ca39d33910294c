//! The addresses of a job at its source.

use url::Url;

use super::{
    Failure, JobRef, Origin, Source, SourceKind, Template, TemplateError,
    failure::foreign,
    request::{PostBody, SourceRequest},
    template::is_absolute,
};
use crate::util::json_slice::Values;

impl Source {
    pub(super) fn filled(
        &self,
        kind: &SourceKind,
        path: &Template,
        job: JobRef<'_>,
        body: Option<&Values>,
    ) -> Result<String, Failure> {
        let text = path.fill(job.id.as_str(), &[job.vars, &kind.profile.vars], body);
        let text = text.map_err(|error| match error {
            // The status body has nothing at the pointers, so there is no result beside it.
            TemplateError::Absent(_) => Failure::NotFound,
            error => unfillable(&error),
        })?;
        self.absolute(text)
    }

    /// Returns the request for the status of a job at one of the status paths.
    pub(super) fn status_request(
        &self,
        kind: &SourceKind,
        path: &Template,
        job: JobRef<'_>,
    ) -> Result<SourceRequest, Failure> {
        let address = self.filled(kind, path, job, None)?;
        let post = match &kind.profile.status_post {
            None => None,
            Some(body) => Some(PostBody {
                text: body
                    .fill(job.id.as_str(), &[job.vars, &kind.profile.vars])
                    .map_err(|error| unfillable(&error))?
                    .into(),
                media_type: body.media_type(),
            }),
        };
        Ok(SourceRequest { address, is_status: true, is_bare: false, post })
    }

    pub(super) fn absolute(&self, address: String) -> Result<String, Failure> {
        let base = self.base_url();
        if address.starts_with('/') {
            return Ok(format!("{base}{address}"));
        }
        match Url::parse(&address) {
            _ if is_absolute(&address) => Ok(address),
            Ok(url) => {
                let scheme = url.scheme();
                Err(Failure::Refused(format!("the address cannot be requested: it begins with `{scheme}:`")))
            }
            Err(_) => Ok(format!("{base}/{address}")),
        }
    }

    /// Returns whether an address is of an origin that may get our credentials.
    #[must_use]
    pub fn is_own(&self, address: &str) -> bool {
        let base = self.base_url();
        let is_below = address.strip_prefix(base).is_some_and(|path| path.starts_with('/'));
        // Most addresses are paths below the base, and its origin is one of ours.
        (is_below && !base.is_empty())
            || Origin::of(address).is_some_and(|origin| self.default_kind().profile.origins.contains(&origin))
    }

    /// Returns the address of a job's status.
    ///
    /// # Errors
    /// If a variable is missing, or the address is of another origin.
    pub fn status_address(&self, job: JobRef<'_>) -> Result<String, Failure> {
        let kind = self.kind_of(job)?;
        let address = self.filled(kind, &kind.profile.status_path, job, None)?;
        match self.is_own(&address) {
            true => Ok(address),
            false => Err(foreign(&address)),
        }
    }

    /// Checks that each path of the source can be filled for a job, and that its status has one of
    /// our own origins.
    ///
    /// # Errors
    /// If a variable is missing or unfit, or the address is of another origin.
    pub fn check_job(&self, job: JobRef<'_>) -> Result<(), Failure> {
        let filled = self.kind_of(job)?.profile.check(job.id.as_str(), job.vars);
        filled.map_err(|error| unfillable(&error))?;
        self.status_address(job).map(drop)
    }

    /// Returns the request to the heavier status route, if the source has one.
    ///
    /// # Errors
    /// If a variable is missing.
    pub(super) fn fallback_request(&self, job: JobRef<'_>) -> Result<Option<SourceRequest>, Failure> {
        let kind = self.kind_of(job)?;
        let path = kind.profile.fallback_status_path.as_ref();
        path.map(|path| self.status_request(kind, path, job)).transpose()
    }
}

pub(super) fn unfillable(error: &TemplateError) -> Failure {
    Failure::Refused(format!("the request cannot be made: {error}"))
}
