//! What the API shows of the lists of a source, and the bodies of a reconciliation.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    util::units::Time,
    watcher::{ListStats, Reconciliation},
};

/// What was read of the list of a source since the daemon started or its source changed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ListView {
    /// Pages that were read.
    pub pages: u64,
    /// Jobs that the list brought: discovered or recovered ones.
    pub discovered: u64,
    /// Polls that pages answered: those not sent, and those that found the end of a job.
    pub answered: u64,
    /// When the last page was read; null before the first.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_page_at: Option<Time>,
    /// The jobs on the last page.
    pub last_page_jobs: u64,
    /// The reason why the last request for a page failed; null if it did not.
    pub last_error: Option<String>,
    /// The reason why the last reading of the discovery ended early; null if it did not, and without
    /// `discover`.
    pub discovery_error: Option<String>,
}

impl From<ListStats> for ListView {
    fn from(stats: ListStats) -> Self {
        Self {
            pages: stats.pages,
            discovered: stats.discovered,
            answered: stats.answered,
            last_page_at: stats.last_page_at,
            last_page_jobs: stats.last_page_jobs as u64,
            last_error: stats.last_error,
            discovery_error: stats.discovery_error,
        }
    }
}

/// The body of `POST /v1/sources/{name}/reconcile`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReconcileRequest {
    /// Jobs that were created or finished since then: a duration (`7d`), or a time (RFC 3339).
    /// Default: 7d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Whether jobs are only counted.
    #[serde(default)]
    pub dry_run: bool,
    /// The kind of job whose list is read. Unset: the kinds of `discover`, else the default kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// How far a reconciliation is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReconcileView {
    /// The source.
    pub source: String,
    /// Jobs of the list since then.
    pub checked: u64,
    /// Jobs that are watched, or were.
    pub known: u64,
    /// Jobs that have not finished and that nobody watches. They are left alone.
    pub running: u64,
    /// Jobs that have finished and that nobody watched: they are watched now. With `dry_run` they
    /// would be.
    pub recovered: u64,
    /// Whether it has ended.
    pub done: bool,
    /// Whether jobs are only counted.
    pub dry_run: bool,
    /// The time since which jobs count.
    #[schema(value_type = String, format = DateTime)]
    pub since: Time,
    /// Pages that were read.
    pub pages: u64,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Time,
    /// When it ended; null while it goes on.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Time>,
    /// The reason why it ended early or, while it goes on, why a page is requested again; else null.
    pub error: Option<String>,
}

impl ReconcileView {
    /// Returns the view of a reconciliation of a source.
    #[must_use]
    pub fn of(source: &str, reconciliation: Reconciliation) -> Self {
        Self {
            source: source.to_owned(),
            checked: reconciliation.checked,
            known: reconciliation.known,
            running: reconciliation.running,
            recovered: reconciliation.recovered,
            done: reconciliation.finished_at.is_some(),
            dry_run: reconciliation.request.dry_run,
            since: reconciliation.request.since,
            pages: reconciliation.pages,
            started_at: reconciliation.started_at,
            finished_at: reconciliation.finished_at,
            error: reconciliation.error,
        }
    }
}
