"""How much slower things get beside other load: each task quiet, then beside two processes that do nothing but compute.

    python benchmarks/bench_contention.py [--edges 1000000] [--repeats 3] [--only update]

Prints seconds and ratios; each task runs in a process of its own, so that threads are those of a fresh start.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BURN = "while True: sum(range(10_000))"
RUN = """
import json, sys, time, recbole_signed
from recbole_signed.runs import run
row = run({model!r}, {dataset!r}, overrides={settings!r}, save=False)
print(json.dumps({{"seconds": {figure}}}))
"""
FIT = """
import json, time, recbole_signed, numpy as np, torch
from recbole_signed.graph import SignedGraph
from recbole_signed.ssf import FilterSettings, SpectralFilter
rng = np.random.default_rng(0)
n, users, items = {edges}, {edges} // 100, max({edges} // 400, 100)
draw = lambda m: (rng.integers(users, size=m), (items * rng.random(m) ** 2).astype(np.int64))
likes, dislikes = draw(n // 2), draw(n // 2)
graph = SignedGraph.from_edges(likes, dislikes, users, items)
started = time.perf_counter()
SpectralFilter.fit(graph, FilterSettings(rank=64))
print(json.dumps({{"seconds": time.perf_counter() - started}}))
"""
UPDATE = """
import json, tempfile, time, recbole_signed, numpy as np
from recbole_signed.live import Event, LIKE, OnlineRecommender
from recbole_signed.live.learners import make_learner
rng = np.random.default_rng(0)
n, users, items = {edges}, {edges} // 100, max({edges} // 400, 100)
pairs = np.unique(rng.integers(users, size=n) * items + (items * rng.random(n) ** 2).astype(np.int64))
edges = pairs // items + 1, pairs % items + 1, np.full(len(pairs), LIKE, dtype=np.int8), np.arange(len(pairs))
with tempfile.TemporaryDirectory() as folder:
    made = OnlineRecommender.begin(
        folder + "/state", make_learner("SSF", dict(rank=64)), [f"u{{i}}" for i in range(users)],
        [f"i{{i}}" for i in range(items)], edges)
    times = []
    for i in range(200):
        started = time.perf_counter()
        made.update([Event(f"e{{i}}", f"u{{i}}", f"i{{i % items}}", "dislike", 1_700_000_000_000 + i)])
        made.recommend(f"u{{i}}")
        times.append(time.perf_counter() - started)
    made.close()
print(json.dumps({{"seconds": float(np.quantile(times, 0.5))}}))
"""
ONE_THREAD = """
import recbole_signed
from recbole_signed.live.serve.start import compute_on_one_thread
compute_on_one_thread()
"""


def tasks(edges: int) -> dict[str, str]:
    """Return the script of each task."""

    def run(model: str, figure: str, **settings: object) -> str:
        return RUN.format(model=model, dataset="ml-100k-signed", settings=settings, figure=figure)

    return {
        "SSF, fit": FIT.format(edges=edges),
        "LightGCN, 10 epochs": run("LightGCN", "row.fit_seconds", epochs=10),
        "EASE, fit": run("EASE", "row.fit_seconds"),
        "Pop, evaluation": run("Pop", "row.eval_seconds"),
        "SSF, live update and list (median)": UPDATE.format(edges=edges),
        "live update and list on one thread, as in a service": ONE_THREAD + UPDATE.format(edges=edges),
    }


def seconds(script: str, folder: Path) -> float:
    """Run a script in a fresh process and return what it measured."""
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.strip().splitlines()[-1])["seconds"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edges", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="tasks whose name holds this")
    given = parser.parse_args()
    print(f"{'':52} {'quiet (s)':>10} {'beside two':>10} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as folder:
        chosen = {name: script for name, script in tasks(given.edges).items() if given.only in name}
        for name, script in chosen.items():
            quiet, loaded = [], []
            for _ in range(given.repeats):
                quiet.append(seconds(script, Path(folder)))
                burners = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(2)]
                try:
                    time.sleep(0.2)
                    loaded.append(seconds(script, Path(folder)))
                finally:
                    for burner in burners:
                        burner.kill()
            one, other = statistics.median(quiet), statistics.median(loaded)
            print(f"{name:52} {one:10.4f} {other:10.4f} {other / one:6.2f}", flush=True)


if __name__ == "__main__":
    main()
