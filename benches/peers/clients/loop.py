"""Waits with asyncio over httpx: a task for each job, which polls every two seconds.

python loop.py URL CONNECTIONS
"""

import asyncio
import sys
import time
from typing import Any

import httpx
from lines import FINAL, read_jobs, report

INTERVAL = 2.0


async def wait_all(url: str, connections: int, jobs: list[str]) -> list[float]:
    """Return when the result of each job was known."""
    slots = asyncio.Semaphore(connections)
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    headers = {"Api-Key": "any"}
    async with httpx.AsyncClient(base_url=url, limits=limits, headers=headers) as client:

        async def get(path: str) -> Any:
            async with slots:
                answer = await client.get(path)
            answer.raise_for_status()
            return answer.json()

        async def wait(job_id: str) -> float:
            while (await get(f"/v1/jobs/{job_id}/status"))["status"] not in FINAL:
                await asyncio.sleep(INTERVAL)
            result = await get(f"/v1/jobs/{job_id}?include_response=true")
            if result["response"] is None:
                raise RuntimeError(f"{job_id} has no result")
            return time.time()

        return await asyncio.gather(*map(wait, jobs))


def main(url: str, connections: int) -> None:
    """Wait for the jobs on standard input."""
    jobs = read_jobs()
    report(asyncio.run(wait_all(url, connections, jobs)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
