//! Waiting for jobs: the loop of long polls, the limits it keeps to, and the progress it shows. The loop knows nothing of the display, and
//! the display nothing of requests.

mod loop_state;
mod progress;
mod retry_limit;
mod wait_loop;

pub(crate) use loop_state::WaitLimits;
pub(crate) use progress::{Progress, summary};
pub(crate) use retry_limit::RetryLimit;
pub(crate) use wait_loop::wait_for;

use crate::model::job::JobId;

/// A job that a command waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AwaitedJob {
    pub source: String,
    pub job_id: JobId,
    pub kind: Option<String>,
}
