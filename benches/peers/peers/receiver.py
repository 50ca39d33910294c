"""A receiver of webhooks that notes when each job's result arrived."""

import asyncio
import json
import threading
import time


class Receiver:
    """Listens on a port of the loopback interface, in a thread, until the process ends."""

    def __init__(self) -> None:
        self.known: dict[str, float] = {}
        self._changed = threading.Condition()
        self._listening = threading.Event()
        self.port = 0
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        self._listening.wait()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await server.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(
                    line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line
                )
                body = await reader.readexactly(int(fields[b"content-length"]))
                self._arrived(json.loads(body)["job_id"])
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _arrived(self, job_id: str) -> None:
        now = time.time()
        with self._changed:
            self.known.setdefault(job_id, now)
            self._changed.notify_all()

    def wait(self, count: int, seconds: float) -> bool:
        """Wait until the results of so many jobs arrived. Return whether they did."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.known) >= count, seconds)
