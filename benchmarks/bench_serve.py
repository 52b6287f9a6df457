"""The service under load, over HTTP on the loopback interface: latencies, freshness, rates, memory.

    python benchmarks/bench_serve.py [--edges 1000000] [--items 7500] [--seconds 20] [--workers 1] [--rate 100]

A state of random edges is begun and served by ``recbole-signed serve`` in processes of its own. Answers are asked for
at a rate beside as many events a second; then the same during a snapshot, a refresh and a refit; then as fast as
they come, and events in batches of 100. Every loop is bounded in time. Prints a table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from recbole_signed.live import LIKE, OnlineRecommender
from recbole_signed.live.events import DISLIKE
from recbole_signed.live.learners import make_learner

NOW = 1_700_000_000_000


def users_of(n_edges: int) -> int:
    """Return the number of users that a state of so many edges has."""
    return max(n_edges // 50, 10)


def drawn_pairs(rng: np.random.Generator, n_edges: int, n_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Return users and items of pairs, from 0 on, ``[n_edges]``; some come more than once."""
    return rng.integers(users_of(n_edges), size=n_edges), (n_items * rng.random(n_edges) ** 2).astype(np.int64)


def begin(folder: Path, n_edges: int, n_items: int, rank: int) -> int:
    """Begin a state of random edges; return the number of users."""
    rng = np.random.default_rng(0)
    n_users = users_of(n_edges)
    first, second = drawn_pairs(rng, n_edges, n_items)
    pairs = np.unique(first * n_items + second)
    kinds = rng.choice([LIKE, DISLIKE], len(pairs), p=[0.7, 0.3]).astype(np.int8)
    edges = pairs // n_items + 1, pairs % n_items + 1, kinds, NOW - len(pairs) + np.arange(len(pairs))
    users, items = [f"u{i}" for i in range(n_users)], [f"i{i}" for i in range(n_items)]
    OnlineRecommender.begin(folder, make_learner("SSF", {"rank": rank}), users, items, edges).close()
    os.sync()  # else the commits that are measured wait until the disk has taken the state in
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
    httpx.get(f"{address}/v1/users/u1/recommendations", timeout=60).raise_for_status()
    return process, address, time.perf_counter() - began


def stop(process: subprocess.Popen[str]) -> None:
    """End the service; a refit that has begun a round finishes it."""
    process.send_signal(signal.SIGTERM)
    process.wait(600)


def paced(address: str, n_users: int, n_items: int, seconds: float, rate: float) -> dict[str, Any]:
    """Ask for lists and send events at a rate each, from a process of its own that needs little (``http_load.py``)."""
    host, port = address.removeprefix("http://").split(":")
    words = [host, port, *map(str, (seconds, rate, n_users, n_items))]
    script = Path(__file__).with_name("http_load.py")
    done = subprocess.run([sys.executable, str(script), *words], stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def flat_out(address: str, seconds: float) -> str:
    """Return answers a second that ``wrk`` gets over four connections."""
    if shutil.which("wrk") is None:
        return "not measured: wrk is not installed"
    url = f"{address}/v1/users/u17/recommendations?k=20"
    words = ["wrk", "-t1", "-c4", f"-d{max(1, int(seconds))}", url]
    text = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
    match = re.search(r"Requests/sec:\s+(\S+)", text)
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return f"{float(match.group(1)) if match else float('nan'):.0f}" + (f", {failed.group(1)} failed" if failed else "")


def processor_time(process: subprocess.Popen[str]) -> float:
    """Return the processor time of a process, seconds."""
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
    match = re.search(r"^recbole_signed_resident_memory_bytes (\S+)", text, re.MULTILINE)
    return float(match.group(1)) / 1e6 if match else float("nan")


def show(name: str, value: str) -> None:
    """Print a line of the table."""
    print(f"{name:58} {value}", flush=True)


def quantiles(seconds: np.ndarray) -> str:
    """Return the median, the 99th percentile and the largest, in ms."""
    return "  ".join(
        f"{name} {1e3 * value:.1f} ms"
        for name, value in zip(("p50", "p99", "max"), (*np.quantile(seconds, [0.5, 0.99]), seconds.max()), strict=True)
    )


async def bulk_load(address: str, n_users: int, n_items: int, seconds: float) -> float:
    """Return durable events a second."""
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        return await bulk(client, n_users, n_items, seconds)


def measure(
    process: subprocess.Popen[str], address: str, n_users: int, n_items: int, seconds: float, rate: float, label: str
) -> None:
    """Run the paced load and print what it took."""
    before = processor_time(process)
    outcome = paced(address, n_users, n_items, seconds, rate)
    used = processor_time(process) - before
    show("load of the machine", " ".join(f"{load:.1f}" for load in os.getloadavg()))
    show(f"answers at {rate:g}/s beside {rate:g} events/s, {label}", quantiles(np.array(outcome["answers"])))
    show(f"event to visible in the next answer, {label}", quantiles(np.array(outcome["fresh"])))
    show("failed answers, and dislikes that were shown again", str(outcome["failures"]))
    n = len(outcome["answers"]) + 2 * len(outcome["fresh"])
    if outcome["failures"] > n / 100:
        raise SystemExit(f"{outcome['failures']} of {n} answers failed: these latencies are not those of lists.")
    show(
        "processor time of the writer, for a request; of the client", f"{1e3 * used / n:.1f} ms; {outcome['cpu']:.1f} s"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edges", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=7500)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=100.0, help="lists and events a second, each")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    show("load of the machine before", " ".join(f"{load:.1f}" for load in os.getloadavg()))
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "state"
        n_users = begin(folder, given.edges, given.items, given.rank)
        process, address, seconds = start(folder, given.workers, {})
        try:
            show("start from the state alone, to the first answer", f"{seconds:.1f} s")
            show("resident memory before", f"{memory(address):.0f} MB")
            measure(process, address, n_users, given.items, given.seconds, given.rate, "quiet")
            show("answers a second, wrk with 4 connections", flat_out(address, given.seconds / 2))
            rate = asyncio.run(bulk_load(address, n_users, given.items, given.seconds / 2))
            show("durable events a second, batches of 100", f"{rate:.0f}")
            show("resident memory after", f"{memory(address):.0f} MB")
        finally:
            stop(process)
        often = {"refresh": 5.0, "snapshot": 3.0, "refit": 15.0}
        process, address, _ = start(folder, given.workers, often)
        try:
            label = "snapshot every 3 s, refresh 5 s, refit 15 s"
            measure(process, address, n_users, given.items, given.seconds, given.rate, label)
        finally:
            stop(process)


if __name__ == "__main__":
    main()
