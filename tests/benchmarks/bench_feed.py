"""Events a second that a service takes from a Redis stream, and the processor time that an event costs.

    python tests/benchmarks/bench_feed.py redis://127.0.0.1:6379/0 [--events 20000] [--edges 1000000]

The stream is filled first; then one engine follows it to its end.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import redis
from bench_serve import begin

from recbole_signed.online import OnlineRecommender
from recbole_signed.serve import Engine, ServeSettings


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of a Redis server; the key 'bench' is written and deleted")
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--edges", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=7500)
    given = parser.parse_args()
    stream = redis.Redis.from_url(given.url)
    stream.delete("bench")
    draw = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "state"
        n_users = begin(folder, given.edges, given.items, 64)
        users, items = draw.integers(n_users, size=given.events), draw.integers(given.items, size=given.events)
        pipe = stream.pipeline(transaction=False)
        now = time.time_ns() // 1_000_000
        for n, (user, item) in enumerate(zip(users.tolist(), items.tolist(), strict=True)):
            fields = {"event_id": f"e{n}", "user_id": f"u{user}", "item_id": f"i{item}", "timestamp": now}
            pipe.xadd("bench", {**fields, "type": "dislike" if n % 3 == 0 else "like"})
        pipe.execute()
        trainer = OnlineRecommender.open(folder)
        began, cpu = time.perf_counter(), time.process_time()
        engine = Engine(trainer, ServeSettings(source=f"{given.url}?stream=bench"), folder=folder)
        while engine.seq < given.events:
            time.sleep(0.01)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        engine.close()
        trainer.close()
    size = stream.memory_usage("bench") or 0
    stream.delete("bench")
    print(f"load {os.getloadavg()[0]:.1f}; {given.events / seconds:,.0f} events a second")
    print(f"{1e6 * cpu / given.events:.0f} microseconds of processor time an event: {given.events / cpu:,.0f} a core")
    print(f"{size / given.events:.0f} bytes an event in Redis")


if __name__ == "__main__":
    main()
