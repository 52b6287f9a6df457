"""Events a second that a service takes from a stream, and the processor time that an event costs.

    python benchmarks/bench_feed.py redis://127.0.0.1:6379/0 [--events 20000] [--edges 1000000]
    python benchmarks/bench_feed.py kafka

The stream is filled first; then one engine follows it to its end. 'kafka' is a broker that librdkafka brings along, in
another process, whose processor time does not count.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench_serve import begin

from recbole_signed.live import OnlineRecommender
from recbole_signed.live.serve.engine import Engine
from recbole_signed.live.serve.settings import ServeSettings


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of a Redis server; the key 'bench' is written and deleted; or 'kafka'")
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--edges", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=7500)
    given = parser.parse_args()
    draw = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "state"
        n_users = begin(folder, given.edges, given.items, 64)
        users, items = draw.integers(n_users, size=given.events), draw.integers(given.items, size=given.events)
        now = time.time_ns() // 1_000_000
        rows = [
            {"event_id": f"e{n}", "user_id": f"u{user}", "item_id": f"i{item}", "timestamp": now, "type": kind}
            for n, (user, item) in enumerate(zip(users.tolist(), items.tolist(), strict=True))
            for kind in ("dislike" if n % 3 == 0 else "like",)
        ]
        with in_kafka(rows) if given.url == "kafka" else in_redis(given.url, rows) as source:
            trainer = OnlineRecommender.open(folder)
            began, cpu = time.perf_counter(), time.process_time()
            engine = Engine(trainer, ServeSettings(source=source), folder=folder)
            while engine.seq < given.events:
                time.sleep(0.01)
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
            engine.close()
            trainer.close()
    print(f"load {os.getloadavg()[0]:.1f}; {given.events / seconds:,.0f} events a second")
    print(f"{1e6 * cpu / given.events:.0f} microseconds of processor time an event: {given.events / cpu:,.0f} a core")


@contextlib.contextmanager
def in_redis(url: str, rows: list[dict[Any, Any]]) -> Iterator[str]:
    """Fill a stream of a server, give its address, and delete it."""
    import redis

    stream = redis.Redis.from_url(url)
    stream.delete("bench")
    pipe = stream.pipeline(transaction=False)
    for row in rows:
        pipe.xadd("bench", row)
    pipe.execute()
    try:
        yield f"{url}?stream=bench"
        print(f"{(stream.memory_usage('bench') or 0) / len(rows):.0f} bytes an event in Redis")
    finally:
        stream.delete("bench")


@contextlib.contextmanager
def in_kafka(rows: list[dict[Any, Any]]) -> Iterator[str]:
    """Fill a topic of four partitions in a process of its own, by user, and give its address."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_broker, args=(there, rows), daemon=True)
    process.start()
    try:
        yield f"kafka://{here.recv()}/bench"
    finally:
        process.terminate()


def _broker(pipe: Any, rows: list[dict[Any, Any]]) -> None:
    import confluent_kafka

    producer = confluent_kafka.Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "none", "log_level": 0})
    (broker,) = producer.list_topics(timeout=10).brokers.values()
    for row in rows:
        producer.produce("bench", json.dumps(row).encode(), key=row["user_id"].encode())
        producer.poll(0)
    producer.flush(60)
    pipe.send(f"{broker.host}:{broker.port}")
    time.sleep(3600)


if __name__ == "__main__":
    main()
