"""Clients that keep their connections and ask again as soon as they have an answer.

    python tests/reviews/closed_loop.py PORT CONNECTIONS SECONDS PATH

Prints a line once all connections are there, then the number of answers by status as JSON, of lost connections too.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any


async def ask(port: int, request: bytes, until: float, found: Counter[str], streams: Any) -> None:
    """Ask on a connection until the time is over, and on another one where it is lost."""
    while time.monotonic() < until:
        try:
            reader, writer = streams or await asyncio.open_connection("127.0.0.1", port)
            while time.monotonic() < until:
                writer.write(request)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r")[0] or 0))
                found[head[9:12].decode()] += 1
        except (OSError, EOFError):
            found["lost"] += 1
            streams = None
            await asyncio.sleep(0.1)


async def main(port: int, connections: int, seconds: float, path: str) -> Counter[str]:
    """Ask on so many connections, and return what was answered."""
    until, found = time.monotonic() + seconds, Counter[str]()
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    opened = (asyncio.open_connection("127.0.0.1", port) for _ in range(connections))
    made = await asyncio.gather(*opened, return_exceptions=True)
    print("connected", flush=True)
    asking = (ask(port, request, until, found, each if isinstance(each, tuple) else None) for each in made)
    await asyncio.wait([asyncio.create_task(each) for each in asking], timeout=max(0.0, until - time.monotonic()))
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]))))
