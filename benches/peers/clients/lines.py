"""The lines of JSON between a client and the benchmark, and what both clients share."""

import json
import sys
from typing import Any

FINAL = {"completed", "failed", "cancelled", "expired"}


def say(message: Any) -> None:
    """Write one line of JSON."""
    print(json.dumps(message), flush=True)


def read_jobs() -> list[str]:
    """Say that the client is ready, and return the ids of the jobs to wait for."""
    say("ready")
    jobs: list[str] = json.loads(sys.stdin.readline())
    say("started")
    return jobs


def report(known: list[float], repeated: int = 0) -> None:
    """Tell when each result was known, and how many waits failed and were repeated.

    The client stays alive until its CPU time and memory were read.
    """
    say({"known": known, "repeated": repeated})
    sys.stdin.read()
