"""Defers one mapped task for each job, as a worker would, and tells when the triggerer resumed it.

A worker that defers a task writes two rows: the trigger, and the task instance with the state
`deferred`. This program writes the same rows with Airflow's own classes, for all tasks in one
transaction. Real workers would take seconds of CPU for each task, before the wait begins.

It speaks lines of JSON: `"ready"` out, the list of job ids in, `"started"` out, and in the end
the times at which the triggerer scheduled each task again.
"""

import json
import sys
import time

from airflow._shared.timezones import timezone
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from wait_for_jobs import trigger_for

DAG_ID = "wait_for_jobs"
TRIGGER_FAILED = "__fail__"


def say(message: object) -> None:
    """Write one line of JSON."""
    print(json.dumps(message), flush=True)


def create_run(session: Session) -> DagRun:
    """Create a run of the DAG, which makes its mapped task instances."""
    serialized = SerializedDagModel.get(DAG_ID, session=session)
    if serialized is None:
        sys.exit(f"the DAG {DAG_ID} is not in the database")
    return serialized.dag.create_dagrun(
        run_id=f"peers_{time.time_ns()}",
        run_after=timezone.utcnow(),
        run_type=DagRunType.MANUAL,
        triggered_by=DagRunTriggeredByType.TEST,
        state=DagRunState.RUNNING,
        session=session,
    )


def defer(session: Session, run_id: str, jobs: list[str]) -> None:
    """Defer the task instances of a run, one for each job."""
    of_run = select(TaskInstance).where(TaskInstance.run_id == run_id)
    instances = list(session.scalars(of_run.order_by(TaskInstance.map_index)))
    if len(instances) != len(jobs):
        sys.exit(f"{len(instances)} task instances for {len(jobs)} jobs")
    triggers = [Trigger.from_object(trigger_for(job)) for job in jobs]
    session.add_all(triggers)
    session.flush()
    now = timezone.utcnow()
    for instance, trigger in zip(instances, triggers, strict=True):
        instance.start_date = now
        instance.state = TaskInstanceState.DEFERRED
        instance.trigger_id = trigger.id
        instance.next_method = "execute_complete"
        instance.next_kwargs = {}


def wait(run_id: str) -> list[float]:
    """Return when each task was scheduled again, in the order of the jobs, once all were."""
    deferred = select(func.count()).where(
        TaskInstance.run_id == run_id, TaskInstance.state == TaskInstanceState.DEFERRED
    )
    while True:
        with create_session() as session:
            if session.scalar(deferred) == 0:
                break
        time.sleep(2)
    columns = select(TaskInstance.scheduled_dttm, TaskInstance.next_method)
    with create_session() as session:
        rows = session.execute(
            columns.where(TaskInstance.run_id == run_id).order_by(TaskInstance.map_index)
        ).all()
    if failed := sum(method == TRIGGER_FAILED for _, method in rows):
        sys.exit(f"{failed} triggers failed")
    return [scheduled.timestamp() for scheduled, _ in rows]


def main() -> None:
    """Create the run, defer its tasks for the jobs on standard input, and wait for them."""
    with create_session() as session:
        run_id = create_run(session).run_id
    say("ready")
    jobs = json.loads(sys.stdin.readline())
    with create_session() as session:
        defer(session, run_id, jobs)
    say("started")
    say(wait(run_id))


if __name__ == "__main__":
    main()
