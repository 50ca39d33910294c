"""Processes of the benchmark: their lines of JSON, their CPU time and their memory."""

import contextlib
import json
import os
import queue
import re
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")


class RunError(Exception):
    """A run that gives no figures, and why."""


def free_port() -> int:
    """Return a port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Process:
    """A started program. Leaving the context ends it and what it started."""

    def __init__(
        self,
        command: list[str | Path],
        log: Path,
        env: dict[str, str] | None = None,
        stdout_to_log: bool = False,
    ) -> None:
        self.name = Path(command[0]).name
        self.log = log
        with log.open("wb") as stderr:
            self.child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=stderr if stdout_to_log else subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **(env or {})},
                cwd=log.parent,
                start_new_session=True,
            )
        self.lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        if not stdout_to_log:
            threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        if self.child.poll() is None:
            self.stop()

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.lines.put(line)
        self.lines.put(b"")

    def text_until(self, pattern: str, seconds: float = 60) -> str:
        """Return the first group of the pattern in a line of standard output."""
        while True:
            if found := re.search(pattern, self._line(seconds).decode()):
                return found.group(1)

    def receive(self, seconds: float) -> Any:
        """Return the next line of JSON. Lines that are not JSON are passed over."""
        while True:
            try:
                return json.loads(self._line(seconds))
            except json.JSONDecodeError:
                continue

    def expect(self, word: str, seconds: float = 120) -> None:
        """Wait for this line of JSON."""
        if (said := self.receive(seconds)) != word:
            raise RunError(f"{self.name} said {said!r} instead of {word!r}")

    def send(self, message: Any) -> None:
        """Write one line of JSON."""
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps(message).encode() + b"\n")
        self.child.stdin.flush()

    def _line(self, seconds: float) -> bytes:
        try:
            line = self.lines.get(timeout=seconds)
        except queue.Empty:
            raise RunError(f"{self.name} said nothing for {seconds:.0f} s") from None
        if not line:
            raise RunError(f"{self.name} ended: {self.tail()}")
        return line

    def tail(self) -> str:
        """Return the end of the log."""
        return self.log.read_text(errors="replace")[-1500:].strip()

    def stop(self) -> str:
        """Ask the process to stop, wait until it has, and return the end of its log."""
        assert self.child.stdin is not None
        self.child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(20)
        # The session holds what it started as well, such as Airflow's runner of triggers.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()
        with contextlib.suppress(BrokenPipeError):
            self.child.stdin.close()
        return self.tail()

    def tree(self) -> list[int]:
        """Return the ids of the process and of its descendants."""
        found = [self.child.pid]
        for pid in found:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, children.read_text().split())
        return found

    def cpu_seconds(self) -> float:
        """Return the CPU time of the process and of its descendants, ended ones included."""
        ticks = 0
        for pid in self.tree():
            # The fields after the name, which may hold spaces: utime, stime, cutime and cstime.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            ticks += sum(map(int, fields[11:15]))
        return ticks / TICKS

    def peak_mib(self) -> float:
        """Return the peak resident memory, summed over the process and its descendants."""
        kib = 0
        for pid in self.tree():
            text = Path(f"/proc/{pid}/status").read_text()
            if found := re.search(r"^VmHWM:\s*(\d+)", text, re.MULTILINE):
                kib += int(found.group(1))
        return kib / 1024
