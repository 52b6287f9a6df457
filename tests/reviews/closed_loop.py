"""Clients that keep their connections and ask again as soon as they have an answer.

    python tests/reviews/closed_loop.py PORT CONNECTIONS SECONDS PATH

Prints a line once all connections are there, then one of JSON: answers by status, answers a second, and quantiles of
their time in seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter


class Caller(asyncio.Protocol):
    """One connection; makes another where it is closed."""

    def __init__(self, load: Load) -> None:
        self._load, self._data = load, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._data, self._asked = b"", time.monotonic()
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0] or 0)
        if len(body) < length:
            return
        now = time.monotonic()
        self._load.statuses[head[9:12].decode()] += 1
        self._load.seconds.append(now - self._asked)
        if now < self._load.until:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost += 1
        if time.monotonic() < self._load.until:
            asyncio.get_running_loop().create_task(self._load.connect(0.1))


class Load:
    """A number of callers, for some seconds."""

    def __init__(self, port: int, path: str, seconds: float) -> None:
        self._port = port
        self.request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
        self.statuses: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.lost = 0
        self.until = time.monotonic() + seconds

    async def connect(self, pause: float = 0.0) -> None:
        await asyncio.sleep(pause)
        try:
            await asyncio.get_running_loop().create_connection(lambda: Caller(self), "127.0.0.1", self._port)
        except OSError:
            self.lost += 1

    async def run(self, connections: int) -> dict[str, object]:
        began = time.monotonic()
        await asyncio.gather(*(self.connect() for _ in range(connections)))
        print("connected", flush=True)
        await asyncio.sleep(max(0.0, self.until - time.monotonic()))
        took = time.monotonic() - began
        ordered = sorted(self.seconds)
        quantiles = [ordered[int(q * (len(ordered) - 1))] for q in (0.5, 0.99, 1)] if ordered else []
        return {
            "statuses": dict(self.statuses),
            "lost": self.lost,
            "rate": self.statuses["200"] / took,
            "p50_p99_max": [round(each, 3) for each in quantiles],
        }


def main() -> None:
    port, connections, seconds, path = sys.argv[1:]
    load = Load(int(port), path, float(seconds))
    print(json.dumps(asyncio.run(load.run(int(connections)))))


if __name__ == "__main__":
    main()
