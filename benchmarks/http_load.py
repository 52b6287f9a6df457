"""A load client that needs little of the processor: HTTP/1.1 over raw connections that stay open.

    python benchmarks/http_load.py HOST PORT SECONDS RATE USERS ITEMS

Asks for lists at a rate, sends events at the same rate, each followed by its user's list, and prints one line of JSON:
seconds of each answer, seconds from each event to the list that reflects it, failures (broken connections too), and the
client's own processor time. Requests are sent when they are due, whether or not earlier ones were answered.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time

IDLE = 2.0
"""Seconds after which a free connection is not used again: the service closes it after five."""
BROKEN = (OSError, EOFError)
"""What a connection raises that the other side has closed."""


class Pool:
    """Connections to one service; a request takes a free one, or opens another."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._host = f"\r\nHost: {host}:{port}\r\nContent-Length: ".encode()
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]] = []

    async def send(self, head: bytes, body: bytes = b"") -> tuple[int, bytes]:
        """Send a request and return the status and the body of its answer.

        Raises:
            OSError, EOFError: the connection broke before there was an answer.
        """
        reader = None
        while self._free and reader is None:
            reader, writer, since = self._free.pop()
            if reader.at_eof() or time.monotonic() - since > IDLE:
                writer.close()
                reader = None
        if reader is None:
            reader, writer = await asyncio.open_connection(*self._address)
        writer.write(head + self._host + b"%d\r\n\r\n" % len(body) + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        start = answer.lower().index(b"content-length:") + 15
        content = await reader.readexactly(int(answer[start : answer.index(b"\r", start)]))
        self._free.append((reader, writer, time.monotonic()))
        return int(answer[9:12]), content


async def load(host: str, port: int, seconds: float, rate: float, users: int, items: int) -> dict[str, object]:
    """Run the load, see the module."""
    draw, pool = random.Random(1), Pool(host, port)
    answers: list[float] = []
    fresh: list[float] = []
    failures = 0

    async def sent(head: bytes, body: bytes = b"") -> tuple[int, bytes]:
        try:
            return await pool.send(head, body)
        except BROKEN:
            return 0, b""

    async def answer(user: int) -> None:
        nonlocal failures
        began = time.perf_counter()
        status, _ = await sent(b"GET /v1/users/u%d/recommendations?k=20 HTTP/1.1" % user)
        answers.append(time.perf_counter() - began)
        failures += status != 200

    async def event(user: int, item: int) -> None:
        nonlocal failures
        began = time.perf_counter()
        body = b'{"events":[{"user_id":"u%d","item_id":"i%d","type":"dislike"}]}' % (user, item)
        status, written = await sent(b"POST /v1/events HTTP/1.1\r\nContent-Type: application/json", body)
        seq = int(written[written.rindex(b'"seq":') + 6 :].rstrip(b"} \n")) if status == 200 else 0
        status, listed = await sent(b"GET /v1/users/u%d/recommendations?k=20&min_seq=%d HTTP/1.1" % (user, seq))
        fresh.append(time.perf_counter() - began)
        failures += status != 200 or b'"item":"i%d"' % item in listed

    tasks, began = [], time.perf_counter()
    for turn in range(int(seconds * rate)):
        await asyncio.sleep(max(0.0, began + turn / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(answer(draw.randrange(users))))
        tasks.append(asyncio.create_task(event(draw.randrange(users), int(items * draw.random() ** 2))))
    await asyncio.gather(*tasks)
    return {"answers": answers, "fresh": fresh, "failures": failures, "cpu": time.process_time()}


def main() -> None:
    """Run the load that the words of the command line describe."""
    host, port, seconds, rate, users, items = sys.argv[1:]
    print(json.dumps(asyncio.run(load(host, int(port), float(seconds), float(rate), int(users), int(items)))))


if __name__ == "__main__":
    main()
