"""A day's worth of events replayed through HTTP: does the service's memory grow?

    python benchmarks/bench_replay.py [--events 1000000] [--edges 1000000]

The graph is there at the beginning; of the events 95 % are on its pairs and 5 % add pairs: likes, dislikes, views, and
verdicts taken back; one in a hundred is sent a second time. Lists are asked for meanwhile, and refresh, refit, snapshot
and compaction run every few minutes. Prints the resident memory before and at each tenth.
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
from bench_serve import begin, drawn_pairs, memory, start, stop, users_of
from http_load import Pool

SCHEDULE = {"refresh": 60.0, "refit": 150.0, "snapshot": 45.0, "compact": 200.0}
BATCH = 500
REST = 20
"""Seconds without events before memory is looked at."""


async def at_rest(address: str) -> float:
    """Return the smallest resident memory of some seconds, MB: a refit that runs needs some for itself."""
    sizes = []
    for _ in range(REST):
        await asyncio.sleep(1.0)
        sizes.append(await asyncio.to_thread(memory, address))
    return min(sizes)


async def replay(address: str, n_edges: int, n_items: int, n_events: int) -> tuple[list[float], int]:
    """Send the events; return resident memory in MB before and at each tenth, and how many were accepted."""
    first, second = drawn_pairs(np.random.default_rng(0), n_edges, n_items)  # those of the state
    n_users, draw = users_of(n_edges), np.random.default_rng(1)
    chosen = draw.integers(n_edges, size=n_events)
    first, second = first[chosen], second[chosen]
    new = draw.random(n_events) < 0.05
    second[new] = draw.integers(n_items, size=int(new.sum()))
    kinds = draw.choice(
        ["like", "dislike", "view", "unlike", "undislike"], n_events, p=[0.45, 0.25, 0.2, 0.05, 0.05]
    ).tolist()
    number = np.arange(n_events)
    again = np.flatnonzero(draw.random(n_events) < 0.01)[1:]
    for column in (first, second, number):
        column[again] = column[again - 1]
    host, port = address.removeprefix("http://").split(":")
    pool, sizes, accepted = Pool(host, int(port)), [await at_rest(address)], 0
    print(f"  0 %  {sizes[0]:.0f} MB", flush=True)
    for start_at in range(0, n_events, 2 * BATCH):
        sent: list[Any] = []
        for begin_at in (start_at, start_at + BATCH):
            rows = [
                {"user_id": f"u{first[i]}", "item_id": f"i{second[i]}", "type": kinds[i], "event_id": f"e{number[i]}"}
                for i in range(begin_at, min(begin_at + BATCH, n_events))
            ]
            body = json.dumps({"events": rows}).encode()
            sent.append(pool.send(b"POST /v1/events HTTP/1.1\r\nContent-Type: application/json", body))
        user = int(draw.integers(n_users))
        sent.append(pool.send(b"GET /v1/users/u%d/recommendations?k=20 HTTP/1.1" % user))
        for status, content in (await asyncio.gather(*sent))[:2]:
            assert status == 200, content
            accepted += json.loads(content)["accepted"]
        if (start_at + 2 * BATCH) * 10 // n_events >= len(sizes):
            sizes.append(await at_rest(address))
            print(f"{(len(sizes) - 1) * 10:3d} %  {sizes[-1]:.0f} MB", flush=True)
    return sizes, accepted


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--edges", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=7500)
    parser.add_argument("--rank", type=int, default=64)
    given = parser.parse_args()
    print("load of the machine before", *(f"{load:.1f}" for load in os.getloadavg()))
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "state"
        begin(folder, given.edges, given.items, given.rank)
        process, address, _ = start(folder, 1, SCHEDULE)
        began = time.perf_counter()
        try:
            sizes, accepted = asyncio.run(replay(address, given.edges, given.items, given.events))
        finally:
            stop(process)
    seconds = time.perf_counter() - began
    growth, later = (sizes[-1] / size - 1 for size in sizes[:2])
    print(f"{accepted:,} events accepted in {seconds:.0f} s")
    print(f"growth of resident memory {growth:+.1%}, from the first tenth on {later:+.1%} (asked: below 10 %)")


if __name__ == "__main__":
    main()
