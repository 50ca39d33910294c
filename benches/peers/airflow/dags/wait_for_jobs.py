"""The DAG whose tasks wait for jobs: each mapped task defers to Airflow's own trigger for HTTP.

`HttpSensor(deferrable=True)` cannot wait for such a job. Its trigger fires at the first answer
that is not 404, and with a `response_check` the sensor holds a worker instead of deferring.
`HttpEventTrigger`, of the same provider, runs the check in the triggerer.
"""

import os
from typing import Any

from airflow.providers.http.triggers.http import HttpEventTrigger
from airflow.sdk import DAG, BaseOperator, Context
from job_check import INTERVAL


def trigger_for(job_id: str) -> HttpEventTrigger:
    """Return the trigger that waits for one job."""
    return HttpEventTrigger(
        response_check_path="job_check.finished",
        http_conn_id="jobs",
        method="GET",
        endpoint=f"v1/jobs/{job_id}/status",
        poll_interval=INTERVAL,
    )


class WaitForJob(BaseOperator):
    """Waits for one job without holding a worker."""

    def __init__(self, *, job_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id

    def execute(self, context: Context) -> None:
        """Defer until the job has finished."""
        self.defer(trigger=trigger_for(self.job_id), method_name="execute_complete")

    def execute_complete(self, context: Context, event: dict[str, Any]) -> str:
        """Return the text of the status answer that said so."""
        return str(event["response"]["content"])


with DAG("wait_for_jobs", schedule=None):
    numbers = [str(number) for number in range(int(os.environ.get("PEERS_JOBS", "1")))]
    WaitForJob.partial(task_id="wait").expand(job_id=numbers)
