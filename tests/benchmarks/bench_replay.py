"""A day's worth of events replayed through HTTP: does the service's memory grow?

    python tests/benchmarks/bench_replay.py [--events 1000000] [--edges 1000000]

The graph is there at the beginning; of the events 95 % change verdicts on its pairs and 5 % add pairs. Lists are asked
for meanwhile, and refresh, refit, snapshot and compaction run every few minutes. Prints the resident memory at each
tenth; growth is that from the first tenth on, when all code and caches are in.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_serve import begin, memory, start, stop
from http_load import Pool

SCHEDULE = {"refresh": 60.0, "refit": 150.0, "snapshot": 45.0, "compact": 200.0}
BATCH = 500
REST = 20
"""Seconds without events before memory is looked at."""


async def at_rest(address: str) -> float:
    """Return the smallest resident memory of some seconds, MB: a refit that runs needs some for itself."""
    found = []
    for _ in range(REST):
        await asyncio.sleep(1.0)
        found.append(await asyncio.to_thread(memory, address))
    return min(found)


async def replay(address: str, n_users: int, n_items: int, n_events: int) -> tuple[list[float], int]:
    """Send the events; return resident memory in MB at each tenth, and how many were accepted."""
    rng = np.random.default_rng(0)  # the same as that of the state, so that pairs are its pairs
    first = rng.integers(n_users, size=n_events)
    second = (n_items * rng.random(n_events) ** 2).astype(np.int64)
    draw = np.random.default_rng(1)
    new = draw.random(n_events) < 0.05
    second[new] = draw.integers(n_items, size=int(new.sum()))
    kinds = draw.choice(["like", "dislike", "view", "unlike"], n_events, p=[0.5, 0.3, 0.1, 0.1]).tolist()
    host, port = address.removeprefix("http://").split(":")
    pool, sizes, accepted = Pool(host, int(port)), [], 0
    for start_at in range(0, n_events, 2 * BATCH):
        sent: list[Any] = []
        for begin_at in (start_at, start_at + BATCH):
            rows = [
                {"user_id": f"u{first[i]}", "item_id": f"i{second[i]}", "type": kinds[i], "event_id": f"e{i}"}
                for i in range(begin_at, min(begin_at + BATCH, n_events))
            ]
            body = json.dumps({"events": rows}).encode()
            sent.append(pool.send(b"POST /v1/events HTTP/1.1\r\nContent-Type: application/json", body))
        user = int(draw.integers(n_users))
        sent.append(pool.send(b"GET /v1/users/u%d/recommendations?k=20 HTTP/1.1" % user))
        for status, content in (await asyncio.gather(*sent))[:2]:
            assert status == 200, content
            accepted += json.loads(content)["accepted"]
        if (start_at + 2 * BATCH) * 10 // n_events > len(sizes):
            sizes.append(await at_rest(address))
            print(f"{len(sizes) * 10:3d} %  {sizes[-1]:.0f} MB", flush=True)
    return sizes, accepted


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--edges", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=7500)
    parser.add_argument("--rank", type=int, default=64)
    given = parser.parse_args()
    print("load of the machine before", *(f"{each:.1f}" for each in os.getloadavg()))
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "state"
        n_users = begin(folder, given.edges, given.items, given.rank)
        process, address, _ = start(folder, 1, SCHEDULE)
        began = time.perf_counter()
        try:
            sizes, accepted = asyncio.run(replay(address, n_users, given.items, given.events))
        finally:
            stop(process)
    seconds = time.perf_counter() - began
    print(
        f"{accepted:,} events accepted in {seconds:.0f} s; growth {sizes[-1] / sizes[0] - 1:+.1%} (asked: below 10 %)"
    )


if __name__ == "__main__":
    main()
