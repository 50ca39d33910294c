//! How a job API is spoken to, as data: paths, pointers and what each status word means.

use super::SourceType;
use crate::job::Outcome;

/// A description of a job API. Paths hold `{id}`; pointers are JSON pointers (RFC 6901).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name in the configuration.
    pub name: &'static str,
    /// Where the API lives unless the configuration says otherwise.
    pub base_url: &'static str,
    /// The header that carries the key.
    pub api_key_header: &'static str,
    /// The light status of a job.
    pub status_path: &'static str,
    /// The same from a heavier route, for a server that lacks the light one.
    pub fallback_status_path: &'static str,
    /// The full job.
    pub job_path: &'static str,
    /// The full job with the request that made it.
    pub job_with_request_path: &'static str,
    /// The status word.
    pub status_at: &'static str,
    /// The operation the job runs.
    pub endpoint_at: &'static str,
    /// The job's own metadata.
    pub metadata_at: &'static str,
    /// When the job was created.
    pub created_at: &'static str,
    /// When the job ended.
    pub completed_at: &'static str,
    /// How many times a worker took it.
    pub attempt_count_at: &'static str,
    /// When it started.
    pub started_at: &'static str,
    /// Status words of a job that has not ended. Words in neither list count as not ended, too.
    pub pending: &'static [&'static str],
    /// Those of the words above that say that it is being worked on.
    pub running: &'static [&'static str],
    /// Status words of a job that has ended.
    pub terminal: &'static [(&'static str, Outcome)],
}

/// Retab's Jobs API, <https://docs.retab.com/api-reference/jobs>.
static RETAB: Profile = Profile {
    name: "retab",
    base_url: "https://api.retab.com",
    api_key_header: "Api-Key",
    status_path: "/v1/jobs/{id}/status",
    fallback_status_path: "/v1/jobs/{id}?include_request=false&include_response=false",
    job_path: "/v1/jobs/{id}?include_request=false&include_response=true",
    job_with_request_path: "/v1/jobs/{id}?include_request=true&include_response=true",
    status_at: "/status",
    endpoint_at: "/endpoint",
    metadata_at: "/metadata",
    created_at: "/created_at",
    completed_at: "/completed_at",
    attempt_count_at: "/attempt_count",
    started_at: "/started_at",
    pending: &["validating", "queued", "in_progress"],
    running: &["in_progress"],
    terminal: &[
        ("completed", Outcome::Completed),
        ("failed", Outcome::Failed),
        ("cancelled", Outcome::Cancelled),
        ("expired", Outcome::Expired),
    ],
};

impl SourceType {
    /// The profile of this type.
    #[must_use]
    pub fn profile(self) -> &'static Profile {
        match self {
            Self::Retab => &RETAB,
        }
    }
}
