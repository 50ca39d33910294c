"""Waits with Retab's SDK: a pool of threads, each in `wait_for_completion` for one job.

python sdk.py URL THREADS
"""

import itertools
import math
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
from lines import FINAL, read_jobs, report
from retab import Retab
from retab.exceptions import APIConnectionError

# The threads that share a client. With more than 20 connections its httpx closes idle ones, and
# waits in 1,000 threads on one client failed with a bad descriptor or did not come back.
SHARE = 20


def main(url: str, threads: int) -> None:
    """Wait for the jobs on standard input."""
    clients = [
        Retab(api_key="any", base_url=f"{url}/v1") for _ in range(math.ceil(threads / SHARE))
    ]
    numbers, repeats = itertools.count(), itertools.count()
    own = threading.local()

    def choose_client() -> None:
        own.client = clients[next(numbers) // SHARE]

    def wait(job_id: str) -> float:
        while True:
            try:
                job = own.client.jobs.wait_for_completion(job_id)
            except (httpx.TransportError, APIConnectionError):
                # The SDK does not retry these. A service would wait again, as this does.
                next(repeats)
                continue
            if job.status not in FINAL or job.response is None:
                raise RuntimeError(f"{job_id} came back without its result")
            return time.time()

    jobs = read_jobs()
    with ThreadPoolExecutor(min(threads, len(jobs)), initializer=choose_client) as pool:
        known = list(pool.map(wait, jobs))
    report(known, next(repeats))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
