"""The job API: `tidings mock` in a process of its own, the jobs in it, and when they end."""

import json
import re
import socket
import time
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from .processes import Process, RunError

# Creations that are on their way at the same time, on one connection.
PIPELINED = 50


@dataclass(frozen=True)
class Job:
    """A job of the mock."""

    id: str
    """Its id."""
    ends: float
    """When it ends, in seconds since 1970: its creation and its duration."""


def read_answer(stream: BinaryIO) -> bytes:
    """Return the body of the next answer on a connection."""
    status, length = stream.readline(), 0
    while (line := stream.readline().strip()) != b"":
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    if b" 200 " not in status:
        raise RunError(f"the mock answered {status.decode().strip()}")
    return stream.read(length)


def instant(text: str) -> float:
    """Return an instant of the API in seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


class Mock:
    """A running mock. `epoch`: it speaks the API of Retab's SDK 0.0.142, with whole seconds."""

    def __init__(self, tidings: Path, folder: Path, epoch: bool) -> None:
        form = "epoch" if epoch else "iso"
        log = folder / "mock.log"
        self.epoch = epoch
        self.process = Process(
            [tidings, "mock", "--listen", "127.0.0.1:0", "--timestamps", form], log
        )
        try:
            self.port = int(self.process.text_until(r"listens at http://127\.0\.0\.1:(\d+)"))
        except RunError:
            self.process.stop()
            raise
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Mock":
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.__exit__(*exception)

    def create(self, durations: list[float]) -> list[Job]:
        """Create a job for each duration."""
        requests = [self._creation(seconds) for seconds in durations]
        jobs: list[Job] = []
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            stream = connection.makefile("rb")
            for first in range(0, len(requests), PIPELINED):
                group = slice(first, first + PIPELINED)
                sent = time.time()
                connection.sendall(b"".join(requests[group]))
                answers = [json.loads(read_answer(stream)) for _ in requests[group]]
                # Whole seconds say too little, and all of a group were created between the two.
                middle = (sent + time.time()) / 2
                for answer, seconds in zip(answers, durations[group], strict=True):
                    created = middle if self.epoch else instant(answer["created_at"])
                    jobs.append(Job(answer["id"], created + seconds))
        return jobs

    @staticmethod
    def _creation(seconds: float) -> bytes:
        milliseconds = round(seconds * 1000)
        body = json.dumps(
            {
                "endpoint": "/v1/documents/extract",
                "request": {},
                "metadata": {"mock_duration": f"{milliseconds}ms"},
            }
        )
        head = f"POST /v1/jobs HTTP/1.1\r\nhost: mock\r\ncontent-length: {len(body)}\r\n\r\n"
        return (head + body).encode()

    def check_ends(self, jobs: list[Job]) -> None:
        """Hold the computed ends against `completed_at`, which every job has by now."""
        completed: dict[str, float] = {}
        after = ""
        while True:
            with urllib.request.urlopen(f"{self.url}/v1/jobs?limit=100{after}") as answer:
                page = json.load(answer)["data"]
            for job in page:
                at = job["completed_at"]
                if at is None:
                    raise RunError(f"{job['id']} has not finished")
                completed[job["id"]] = float(at) if self.epoch else instant(at)
            if not page or len(completed) >= len(jobs):
                break
            after = f"&after={page[-1]['id']}"
        for job in jobs:
            # Whole seconds are rounded down, and the creation is known to some milliseconds.
            least, most = (-0.1, 1.1) if self.epoch else (-0.002, 0.002)
            if not least <= job.ends - completed[job.id] <= most:
                raise RunError(f"{job.id} ended at {completed[job.id]}, computed {job.ends}")

    def stop(self) -> dict[str, int]:
        """Stop the mock, and return the requests that it got, by kind."""
        said = self.process.stop()
        if not (found := re.search(r"stopped after \d+ requests: (.*)", said)):
            raise RunError(f"the mock did not count its requests: {said}")
        return {kind: int(count) for kind, count in re.findall(r"(\w+)=(\d+)", found.group(1))}
