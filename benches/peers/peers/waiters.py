"""The ways to wait that are compared."""

import json
import os
import re
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .environments import airflow_python, clients_python
from .mock import Job, Mock
from .processes import Process, RunError, free_port
from .receiver import Receiver

HERE = Path(__file__).resolve().parent.parent
# The most threads that a service would give to waiting.
THREADS = 1000
# What httpx allows by default.
CONNECTIONS = 100
# Above what any run asks for: the other ways have no budget at all.
UNBOUND = 5000
ALL = (100, 1_000, 10_000)


@dataclass
class Outcome:
    """What one run showed."""

    known: list[float]
    """When each result was known, in the order of the jobs."""
    cpu: float
    """CPU seconds of the waiter while it waited."""
    peak_mib: float
    """Peak resident memory of the waiter in MiB."""
    detection: float | None = None
    """Mean delay until the end is noticed, where that is known apart."""
    repeated: int = 0
    """Waits that failed in the client and were repeated."""
    earlier_polls: int = 0
    """Polls of the jobs that the waiter learned from."""


# Creates the jobs once the waiter is ready, so that its start stays out of the figures.
Create = Callable[[], list[Job]]


@dataclass(frozen=True)
class Run:
    """What a waiter gets for one run."""

    tidings: Path
    mock: Mock
    create: Create
    count: int
    folder: Path
    seconds: float
    """How long the run may take after the jobs were created."""
    earlier: list[float]
    """The durations of the jobs that a waiter may learn from before."""


def client(run: Run, script: str, size: int) -> Outcome:
    """Run one of the Python clients."""
    command: list[str | Path] = [
        clients_python(),
        HERE / "clients" / script,
        run.mock.url,
        str(size),
    ]
    with Process(command, run.folder / "client.log") as process:
        process.expect("ready")
        before = process.cpu_seconds()
        process.send([job.id for job in run.create()])
        process.expect("started")
        said = process.receive(run.seconds)
        cpu, peak = process.cpu_seconds() - before, process.peak_mib()
        return Outcome(said["known"], cpu, peak, repeated=said["repeated"])


def sdk(run: Run) -> Outcome:
    """Retab's SDK in threads."""
    return client(run, "sdk.py", min(THREADS, run.count))


def loop(run: Run) -> Outcome:
    """Asyncio over httpx."""
    return client(run, "loop.py", CONNECTIONS)


def ask(url: str, body: Any = None) -> str:
    """Return the answer to a GET, or to a POST of JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        text: bytes = answer.read()
    return text.decode()


def wait_ready(url: str, process: Process) -> None:
    """Wait until a daemon says that it is ready."""
    for _ in range(600):
        try:
            ask(url)
            return
        except OSError:
            if process.child.poll() is not None:
                break
            time.sleep(0.05)
    raise RunError(f"the daemon did not become ready: {process.tail()}")


def metric(api: str, name: str) -> float:
    """Return the sum of a metric over its labels."""
    lines = ask(f"{api}/metrics").splitlines()
    own = (line for line in lines if re.match(rf"{name}[{{ ]", line))
    return sum(float(line.rpartition(" ")[2]) for line in own)


def tidings(run: Run, rate: int | None, learned: bool = False) -> Outcome:
    """Tidings with its default policy, which sends each result to a webhook."""
    receiver = Receiver()
    port = free_port()
    budget = "" if rate is None else f"max_requests_per_second = {rate}"
    config = run.folder / "tidings.toml"
    config.write_text(f"""
[server]
listen = "127.0.0.1:{port}"
[store]
path = "{run.folder}/data"
[sources.retab]
base_url = "{run.mock.url}"
{budget}
[sinks.app]
type = "webhook"
url = "http://127.0.0.1:{receiver.port}/"
""")
    api = f"http://127.0.0.1:{port}"
    command: list[str | Path] = [run.tidings, "run", "--config", config]
    log = run.folder / "tidings.log"
    with Process(command, log, {"RETAB_API_KEY": "any"}, stdout_to_log=True) as process:
        wait_ready(f"{api}/readyz", process)

        def wait(jobs: list[Job]) -> None:
            ask(f"{api}/v1/watches/batch", {"watches": [{"job_id": job.id} for job in jobs]})
            wanted = len(receiver.known) + len(jobs)
            if not receiver.wait(wanted, run.seconds):
                raise RunError(f"{len(receiver.known)} of {wanted} webhooks arrived")

        if learned:
            wait(run.mock.create(run.earlier))
        polls = metric(api, "tidings_polls_total")
        cpu = process.cpu_seconds()
        jobs = run.create()
        wait(jobs)
        outcome = Outcome(
            [receiver.known[job.id] for job in jobs],
            process.cpu_seconds() - cpu,
            process.peak_mib(),
            earlier_polls=round(polls),
        )
        if not learned:
            delays = "tidings_detection_delay_seconds"
            outcome.detection = metric(api, f"{delays}_sum") / metric(api, f"{delays}_count")
        return outcome


def airflow(run: Run) -> Outcome:
    """Airflow's triggerer, over SQLite, with the tasks already deferred."""
    python = airflow_python()
    dags = HERE / "airflow" / "dags"
    env = {
        "AIRFLOW_HOME": str(run.folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW_CONN_JOBS": json.dumps(
            {"conn_type": "http", "host": "127.0.0.1", "port": run.mock.port, "schema": "http"}
        ),
        "PYTHONPATH": str(dags),
        "PEERS_JOBS": str(run.count),
    }
    command = python.parent / "airflow"
    for words in (["db", "migrate"], ["dags", "reserialize"]):
        done = subprocess.run(
            [command, *words], env={**os.environ, **env}, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise RunError(f"airflow {' '.join(words)}: {done.stdout[-500:]}{done.stderr[-500:]}")
    triggerer: list[str | Path] = [command, "triggerer", "--skip-serve-logs"]
    deferring: list[str | Path] = [python, HERE / "airflow" / "defer.py"]
    with (
        Process(triggerer, run.folder / "triggerer.log", env, stdout_to_log=True) as process,
        Process(deferring, run.folder / "defer.log", env) as tasks,
    ):
        tasks.expect("ready")
        wait_idle(process)
        before = process.cpu_seconds()
        jobs = run.create()
        tasks.send([job.id for job in jobs])
        tasks.expect("started")
        known = tasks.receive(run.seconds)
        return Outcome(known, process.cpu_seconds() - before, process.peak_mib())


def wait_idle(triggerer: Process) -> None:
    """Wait until the triggerer has started its runner, and both are at rest."""
    for _ in range(120):
        before = triggerer.cpu_seconds()
        time.sleep(1)
        if len(triggerer.tree()) > 1 and triggerer.cpu_seconds() - before < 0.2:
            return
    raise RunError(f"the triggerer does not come to rest: {triggerer.tail()}")


@dataclass(frozen=True)
class Waiter:
    """One way to wait."""

    title: str
    wait: Callable[[Run], Outcome]
    colour: str
    counts: tuple[int, ...]
    """The numbers of jobs that it is tried with by default."""
    epoch: bool = False
    """Whether it needs the API with whole seconds."""
    optional: bool = False
    """Whether it runs only when it is asked for."""


WAITERS = {
    "tidings": Waiter("tidings", lambda run: tidings(run, UNBOUND), "#c0392b", ALL),
    "tidings-learned": Waiter(
        "tidings, after 1,000 such jobs",
        lambda run: tidings(run, UNBOUND, learned=True),
        "#f1948a",
        (1_000,),
    ),
    "tidings-default": Waiter(
        "tidings, its default of 20 requests/s",
        lambda run: tidings(run, None),
        "#e59866",
        (100, 1_000),
        optional=True,
    ),
    "httpx": Waiter("asyncio over httpx, every 2 s", loop, "#2471a3", ALL),
    "sdk": Waiter("Retab's SDK in up to 1,000 threads", sdk, "#1e8449", ALL, epoch=True),
    "airflow": Waiter("Airflow's triggerer, every 2 s", airflow, "#7d3c98", (100, 1_000)),
}


def run_one(
    name: str, binary: Path, durations: list[float], earlier: list[float], seconds: float
) -> tuple[list[Job], Outcome, dict[str, int]]:
    """Run one way to wait for jobs of these durations. Return the jobs, the outcome, the counts."""
    waiter = WAITERS[name]
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        path = Path(folder)
        with Mock(binary, path, waiter.epoch) as mock:
            jobs: list[Job] = []

            def create() -> list[Job]:
                jobs.extend(mock.create(durations))
                return jobs

            run = Run(binary, mock, create, len(durations), path, seconds, earlier)
            outcome = waiter.wait(run)
            mock.check_ends(jobs)
            return jobs, outcome, mock.stop()
