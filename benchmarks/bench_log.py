"""Measures the durable part of the online system: events a second, latency of one event, recovery, memory.

    python benchmarks/bench_log.py --edges 1000000 --folder /somewhere/on/the/disk

Edges are drawn with Zipf-like items and users; the folder should lie on the disk that will hold the state.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from recbole_signed.live import LIKE, EventBatch
from recbole_signed.live.events import DISLIKE, UNLIKE, VIEW
from recbole_signed.live.store.state import OnlineState


def draw(rng: np.random.Generator, n: int, size: int) -> np.ndarray:
    """Ids 1..size, the popular ones often."""
    return np.minimum((size ** rng.random(n)).astype(np.int64), size)


def events(rng: np.random.Generator, n: int, first: int, n_users: int, n_items: int) -> EventBatch:
    """A batch of n events with ids of their own; one in a hundred users or items is new."""
    user = np.where(rng.random(n) < 0.01, n_users + first + np.arange(n), rng.integers(1, n_users + 1, n))
    item = np.where(rng.random(n) < 0.01, n_items + first + np.arange(n), draw(rng, n, n_items))
    return EventBatch(
        [f"event-{first + i}" for i in range(n)],
        [f"user-{i}" for i in user.tolist()],
        [f"item-{i}" for i in item.tolist()],
        rng.choice([LIKE, DISLIKE, VIEW, UNLIKE], n, p=[0.5, 0.2, 0.2, 0.1]).astype(np.int8),
        np.arange(first, first + n, dtype=np.int64) + 2**40,
        np.full(n, np.nan),
    )


def seconds(call: Callable[[], object]) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def percentiles(times: list[float]) -> dict[str, float]:
    """p50, p95, p99 and the longest, in milliseconds."""
    p50, p95, p99 = np.percentile(times, [50, 95, 99]) * 1e3
    return {
        "p50_ms": round(p50, 3),
        "p95_ms": round(p95, 3),
        "p99_ms": round(p99, 3),
        "max_ms": round(max(times) * 1e3, 3),
    }


def main() -> None:
    """Run it and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edges", type=int, default=1_000_000)
    parser.add_argument("--singles", type=int, default=3000)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    n_users, n_items = max(10, options.edges // 20), max(10, options.edges // 200)
    readings: dict[str, object] = {"edges_drawn": options.edges, "users": n_users, "items": n_items}
    folder = Path(tempfile.mkdtemp(dir=options.folder))

    user, item = rng.integers(1, n_users + 1, options.edges), draw(rng, options.edges, n_items)
    kind = rng.choice([LIKE, DISLIKE, VIEW], options.edges, p=[0.6, 0.2, 0.2]).astype(np.int8)
    stamps = np.arange(options.edges, dtype=np.int64)
    users, items = [f"user-{i}" for i in range(1, n_users + 1)], [f"item-{i}" for i in range(1, n_items + 1)]
    state = OnlineState.open(folder)
    start = time.perf_counter()
    state.bulk_load(users, items, user, item, kind, stamps)
    readings["bulk_load_s"] = time.perf_counter() - start
    del user, item, kind, stamps
    readings["edges"] = len(state.edges)
    readings["largest_item_degree"] = int(np.max(state.edges.item_likes + state.edges.item_dislikes))

    first, durable = 0, {}
    for size, times in ((1, 300), (10, 100), (100, 50), (1000, 20), (10_000, 5)):
        batches = [events(rng, size, first + i * size, n_users, n_items) for i in range(times)]
        first += size * times
        durable[size] = round(size * times / sum(seconds(lambda b=b: state.ingest(b)) for b in batches))  # type: ignore[misc]
    readings["durable_and_applied_events_per_s_by_batch"] = durable

    append, apply, cpu = [], [], []
    for i in range(options.singles):
        batch = events(rng, 1, first + i, n_users, n_items)
        start, cpu_start = time.perf_counter(), time.process_time()
        logged, _ = state.log.append(batch)
        middle = time.perf_counter()
        state.edges.apply(logged)
        state.applied_seq = logged.last_seq
        end = time.perf_counter()
        cpu.append(time.process_time() - cpu_start)
        append.append(middle - start)
        apply.append(end - middle)
    readings["one_event_append"] = percentiles(append)
    readings["one_event_apply"] = percentiles(apply)
    readings["one_event_both"] = percentiles([a + b for a, b in zip(append, apply, strict=True)])
    readings["one_event_both_processor_time"] = percentiles(cpu)
    reads = rng.integers(1, n_users, 2000).tolist()
    readings["read_user"] = percentiles([seconds(lambda u=u: state.edges.of_user(u)) for u in reads])  # type: ignore[misc]

    readings["export_s"] = seconds(state.edges.export)
    readings["snapshot_s"] = seconds(lambda: state.snapshot({}, {}, model="bench"))
    replayed = 20_000
    for i in range(0, replayed, 1000):
        state.ingest(events(rng, 1000, first + options.singles + i, n_users, n_items))
    expected = state.edges.to_tensors()
    state.close()
    reopened: list[OnlineState] = []
    readings["open_s"] = seconds(lambda: reopened.append(OnlineState.open(folder)))
    readings["recover_s"] = seconds(reopened[0].recover)
    readings["replay_20000_events_s"] = seconds(lambda: list(reopened[0].replay()))
    found = reopened[0].edges.to_tensors()
    assert all(np.array_equal(found[name], column) for name, column in expected.items())
    readings["compact_s"] = seconds(reopened[0].compact)
    reopened[0].close()
    readings["state_MB"] = round(sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6, 1)
    readings["peak_memory_MB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
    print(json.dumps(readings, indent=1))


if __name__ == "__main__":
    main()
