"""The service under load, over HTTP on the loopback interface: latencies, freshness, rates, memory.

    python tests/benchmarks/bench_serve.py [--edges 1000000] [--items 7500] [--seconds 20] [--workers 1]

A state of random edges is begun and served by ``recbole-signed serve`` in processes of its own. Answers are asked for
at 100 a second beside 100 events a second; then the same during a snapshot, a refresh and a refit; then as fast as
they come, and events in batches of 100. Every loop is bounded in time. Prints a table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from recbole_signed.online import DISLIKE, LIKE, OnlineRecommender
from recbole_signed.online.learners import make_learner

NOW = 1_700_000_000_000


def begin(folder: Path, n_edges: int, n_items: int, rank: int) -> int:
    """Begin a state of random edges; return the number of users."""
    rng = np.random.default_rng(0)
    n_users = max(n_edges // 50, 10)
    pairs = np.unique(
        rng.integers(n_users, size=n_edges) * n_items + (n_items * rng.random(n_edges) ** 2).astype(np.int64)
    )
    kinds = rng.choice([LIKE, DISLIKE], len(pairs), p=[0.7, 0.3]).astype(np.int8)
    edges = pairs // n_items + 1, pairs % n_items + 1, kinds, NOW - len(pairs) + np.arange(len(pairs))
    users, items = [f"u{i}" for i in range(n_users)], [f"i{i}" for i in range(n_items)]
    OnlineRecommender.begin(folder, make_learner("SSF", {"rank": rank}), users, items, edges).close()
    return n_users


def start(folder: Path, workers: int, schedule: dict[str, float]) -> tuple[subprocess.Popen[str], str, float]:
    """Start the service; return the process, its address, and the seconds until its first answer."""
    config = folder.parent / "serve.yaml"
    config.write_text(json.dumps({"schedule": {"refresh": 0, "refit": 0, "snapshot": 0, "compact": 0, **schedule}}))
    words = ["serve", "--state", str(folder), "--port", "0", "--workers", str(workers), "--config", str(config)]
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "recbole_signed", *words], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    address = next(line.split()[2] for line in process.stderr if line.startswith("Serving on "))
    httpx.get(f"{address}/v1/users/u1/recommendations", timeout=60)
    return process, address, time.perf_counter() - began


def stop(process: subprocess.Popen[str]) -> None:
    """End the service."""
    process.send_signal(signal.SIGTERM)
    process.wait(60)


async def paced(client: httpx.AsyncClient, n_users: int, n_items: int, seconds: float, rate: float) -> dict[str, Any]:
    """Ask for lists and send events at a rate each; each event is followed by its user's list."""
    rng = np.random.default_rng(1)
    answers, fresh, failures = [], [], 0

    async def answer(user: int) -> None:
        nonlocal failures
        began = time.perf_counter()
        response = await client.get(f"/v1/users/u{user}/recommendations?k=20")
        failures += response.status_code != 200
        answers.append(time.perf_counter() - began)

    async def event(user: int, item: int) -> None:
        nonlocal failures
        began = time.perf_counter()
        row = {"user_id": f"u{user}", "item_id": f"i{item}", "type": "dislike"}
        written = await client.post("/v1/events", json={"events": [row]})
        after = await client.get(f"/v1/users/u{user}/recommendations?k=20&min_seq={written.json()['seq']}")
        failures += f"i{item}" in [each["item"] for each in after.json()["items"]]
        fresh.append(time.perf_counter() - began)

    tasks, began = [], time.perf_counter()
    for turn in range(int(seconds * rate)):
        await asyncio.sleep(max(0.0, began + turn / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(answer(int(rng.integers(n_users)))))
        tasks.append(asyncio.create_task(event(int(rng.integers(n_users)), int(n_items * rng.random() ** 2))))
    await asyncio.gather(*tasks)
    return {"answer": np.array(answers), "fresh": np.array(fresh), "failures": failures}


async def flat_out(client: httpx.AsyncClient, n_users: int, seconds: float, callers: int = 8) -> float:
    """Return answers a second, asked for by several callers without a pause."""
    rng, count, until = np.random.default_rng(2), 0, time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal count
        while time.perf_counter() < until:
            await client.get(f"/v1/users/u{rng.integers(n_users)}/recommendations?k=20")
            count += 1

    await asyncio.gather(*(caller() for _ in range(callers)))
    return count / seconds


async def bulk(client: httpx.AsyncClient, n_users: int, n_items: int, seconds: float) -> float:
    """Return durable events a second, sent in batches of 100."""
    rng, count, until = np.random.default_rng(3), 0, time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal count
        while time.perf_counter() < until:
            users, items = rng.integers(n_users, size=100), (n_items * rng.random(100) ** 2).astype(int)
            kinds = rng.choice(["like", "dislike", "view"], 100)
            rows = [
                {"user_id": f"u{user}", "item_id": f"i{item}", "type": kind}
                for user, item, kind in zip(users, items, kinds.tolist(), strict=True)
            ]
            answer = await client.post("/v1/events", json={"events": rows})
            count += answer.json()["accepted"]

    await asyncio.gather(*(caller() for _ in range(4)))
    return count / seconds


def memory(address: str) -> float:
    """Return the resident memory of the service, MB."""
    text = httpx.get(f"{address}/metrics", timeout=60).text
    found = re.search(r"^recbole_signed_resident_memory_bytes (\S+)", text, re.MULTILINE)
    return float(found.group(1)) / 1e6 if found else float("nan")


def show(name: str, value: str) -> None:
    """Print a line of the table."""
    print(f"{name:58} {value}", flush=True)


def quantiles(seconds: np.ndarray) -> str:
    """Return the median, the 99th percentile and the largest, in ms."""
    return "  ".join(
        f"{name} {1e3 * value:.1f} ms"
        for name, value in zip(("p50", "p99", "max"), (*np.quantile(seconds, [0.5, 0.99]), seconds.max()), strict=True)
    )


async def measure(address: str, n_users: int, n_items: int, seconds: float, label: str, everything: bool) -> None:
    """Run the loads and print what they took."""
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
        found = await paced(client, n_users, n_items, seconds, 100.0)
        show(f"answers at 100/s beside 100 events/s, {label}", quantiles(found["answer"]))
        show(f"event to visible in the next answer, {label}", quantiles(found["fresh"]))
        show("failed answers, and dislikes that were shown again", str(found["failures"]))
        if everything:
            show("answers a second, 8 callers", f"{await flat_out(client, n_users, seconds / 2):.0f}")
            show("durable events a second, batches of 100", f"{await bulk(client, n_users, n_items, seconds / 2):.0f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edges", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=7500)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    show("load of the machine before", " ".join(f"{each:.1f}" for each in os.getloadavg()))
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "state"
        n_users = begin(folder, given.edges, given.items, given.rank)
        process, address, seconds = start(folder, given.workers, {})
        show("start from the state alone, to the first answer", f"{seconds:.1f} s")
        show("resident memory before", f"{memory(address):.0f} MB")
        asyncio.run(measure(address, n_users, given.items, given.seconds, "quiet", True))
        show("resident memory after", f"{memory(address):.0f} MB")
        stop(process)
        often = {"refresh": 5.0, "snapshot": 3.0, "refit": 15.0}
        process, address, _ = start(folder, given.workers, often)
        label = "snapshot every 3 s, refresh 5 s, refit 15 s"
        asyncio.run(measure(address, n_users, given.items, given.seconds, label, False))
        stop(process)


if __name__ == "__main__":
    main()
