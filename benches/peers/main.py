"""Compares ways to wait for N jobs of a job API: requests, delay, CPU time and memory.

The job API is `tidings mock`, in a process of its own, with the same jobs for every way to wait.
docs/development/peers.md has the figures and how to read them.
"""

import argparse
import json
import random
import signal
import sys
import time
from pathlib import Path

from peers.environments import TARGET, airflow_python, clients_python
from peers.processes import RunError
from peers.report import Result, percentile, plot, table
from peers.waiters import ALL, WAITERS, run_one

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PAGE = REPOSITORY / "docs" / "development" / "peers.md"
BEGIN, END = "<!-- figures of benches/peers -->", "<!-- end of the figures -->"
SEED = 19
# The jobs that tidings learns from, where it does before.
LEARN_FROM = 1_000
# A result cannot be known before its job has ended, but for the precision of the ends.
EARLIEST = -0.05


def names(text: str) -> list[str]:
    """Read a list of ways to wait."""
    chosen = text.split(",")
    if unknown := [name for name in chosen if name not in WAITERS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is not one of {', '.join(WAITERS)}")
    return chosen


def counts(text: str) -> list[int]:
    """Read a list of numbers of jobs."""
    return [int(count) for count in text.split(",")]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benches/peers/run", description=__doc__)
    parser.add_argument(
        "--only",
        type=names,
        default=[name for name, waiter in WAITERS.items() if not waiter.optional],
        metavar="NAMES",
        help=", ".join(WAITERS),
    )
    parser.add_argument("--n", type=counts, default=list(ALL), metavar="COUNTS")
    parser.add_argument(
        "--tidings", type=Path, default=REPOSITORY / "target" / "release" / "tidings"
    )
    parser.add_argument(
        "--shortest", type=float, default=10.0, metavar="S", help="the shortest job, in seconds"
    )
    parser.add_argument(
        "--longest", type=float, default=60.0, metavar="S", help="the longest job, in seconds"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="20 jobs of 1 to 2 s, without Airflow: does it work?"
    )
    parser.add_argument("--add", action="store_true", help="keep the other figures of the last run")
    parser.add_argument(
        "--write", action="store_true", help="write the figures into docs/development"
    )
    given = parser.parse_args()
    given.tidings = given.tidings.absolute()
    if not given.tidings.exists():
        parser.error(f"{given.tidings} is missing: cargo build --release --locked")
    if given.smoke:
        given.only, given.n = ["tidings", "httpx", "sdk"], [20]
        given.shortest, given.longest = 1.0, 2.0
    return given


def draw(seed: int, count: int, given: argparse.Namespace) -> list[float]:
    """Draw the durations of so many jobs."""
    dice = random.Random(seed)
    return [round(dice.uniform(given.shortest, given.longest), 3) for _ in range(count)]


def measure(name: str, binary: Path, durations: list[float], earlier: list[float]) -> Result:
    """Run one way to wait, and return its figures."""
    # Far above what any takes: a run that hangs fails.
    seconds = max(durations) + 240
    jobs, outcome, requests = run_one(name, binary, durations, earlier, seconds)
    delays = [known - job.ends for known, job in zip(outcome.known, jobs, strict=True)]
    if min(delays) < EARLIEST:
        raise RunError(f"a result was known {-min(delays):.3f} s before its job had ended")
    return Result(
        waiter=name,
        count=len(jobs),
        polls=requests.get("status", 0) + requests.get("light", 0) - outcome.earlier_polls,
        mean=sum(delays) / len(delays),
        p99=percentile(delays, 0.99),
        cpu=outcome.cpu,
        peak_mib=outcome.peak_mib,
        detection=outcome.detection,
        repeated=outcome.repeated,
    )


def write_page(results: list[Result]) -> None:
    """Put the table and the plot into the documentation."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(results)}\n\n{END}{after}")
    PAGE.with_suffix(".svg").write_text(plot(results))


def main() -> int:
    """Run everything that was asked for. Return 1 if a run failed."""
    given = arguments()
    # A terminated benchmark ends what it started, as an interrupted one does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    TARGET.mkdir(parents=True, exist_ok=True)
    if {"sdk", "httpx"} & set(given.only):
        clients_python()
    if "airflow" in given.only:
        airflow_python()
    saved = TARGET / "results.json"
    results: dict[tuple[str, int], Result] = {}
    if given.add and saved.exists():
        for entry in json.loads(saved.read_text()):
            results[entry["waiter"], entry["count"]] = Result(**entry)
    plan = [
        (name, n)
        for n in given.n
        for name in given.only
        if n in WAITERS[name].counts or n not in ALL
    ]
    failures = 0
    begun = time.monotonic()
    for step, (name, n) in enumerate(plan, 1):
        durations = draw(SEED, n, given)
        earlier = draw(SEED + 1, LEARN_FROM, given)
        progress = f"[{step}/{len(plan)}, {time.monotonic() - begun:.0f} s] {name}, {n:,} jobs"
        print(progress, end=": ", file=sys.stderr, flush=True)
        try:
            result = measure(name, given.tidings, durations, earlier)
        except RunError as error:
            failures += 1
            print(f"failed: {error}", file=sys.stderr, flush=True)
            continue
        results[name, n] = result
        more = "" if result.detection is None else f", detection {result.detection:.2f} s"
        more += f", {result.repeated} waits repeated" if result.repeated else ""
        print(
            f"{result.polls} polls, mean delay {result.mean:.2f} s, "
            f"p99 {result.p99:.2f} s{more}, CPU {result.cpu:.1f} s, "
            f"RSS {result.peak_mib:.0f} MiB",
            file=sys.stderr,
            flush=True,
        )
        if not given.smoke:
            saved.write_text(json.dumps([r.as_json() for r in results.values()], indent=1) + "\n")
    print(f"took {time.monotonic() - begun:.0f} s\n", file=sys.stderr, flush=True)
    found = list(results.values())
    print(table(found))
    if found:
        (TARGET / "peers.svg").write_text(plot(found))
        if given.write:
            write_page(found)
    if given.smoke:
        print(f"\n{len(plan) - failures} passed, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
