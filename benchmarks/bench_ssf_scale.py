"""The spectral filter on large graphs: fit from arrays, fit from shards on disk, and the best items for users.

    python benchmarks/bench_ssf_scale.py                               # 10M edges, and serving
    python benchmarks/bench_ssf_scale.py --edges 10M 100M --shards 100M
    python benchmarks/bench_ssf_scale.py --edges --ordered 10M 100M --no-serving   # SSF-T

Graphs are synthetic, of the profile kuairand, made by a process of their own. Limits (two cores, k = 64): 10M edges in
8 s and 1.5 GB, 100M in 100 s and 8 GB, from arrays of edges to a fitted filter, arrays included; from shards at most
the time and memory that, in proportion to edges and items, give a billion edges in 45 minutes and 20 GB; SSF-T with
given weights, from arrays of edges with their times, 10M edges in 90 s and 4 GB, 100M in 4 minutes and 8 GB; top 20 of
1.7M items for one user in 100 ms on one core, SSF-T 60 ms, of 170k items for 1,024 users in 5 s, of 1.7M items for
20,000 users in 60 s on two cores. SSF-T is also given with what items have for all users worked out again, as after an
event. Processor time stands beside each wall time: on a shared machine the wall time is also that of others.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Figure, in_fresh_process, memory, parser, report

GB = 1e9
LIMITS = {10_000_000: (8.0, 1.5), 100_000_000: (100.0, 8.0)}
ORDERED_LIMITS = {10_000_000: (90.0, 4.0), 100_000_000: (240.0, 8.0)}
SERVING = ((1_700_000, 1, 1, 0.1), (170_000, 1024, 1, 5.0), (1_700_000, 20_000, 2, 60.0))
"""Items, users, threads, and the limit in seconds."""
SERVING_ORDERED, SERVING_EVENTS = (1_700_000, 1, 0.06), 4_000_000
"""Items, threads and the limit for one user with SSF-T, and the verdicts whose pairs are counted for it."""
BILLION_SECONDS, BILLION_GB, BILLION = 45 * 60.0, 20.0, 1_000_000_000
K = 64
NAMES = ("users", "items", "signs")


class Clock:
    """Wall and processor time since it was made."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self, name: str) -> dict[str, float]:
        return {f"{name}_s": time.perf_counter() - self.wall, f"{name}_cpu_s": time.process_time() - self.cpu}


def make(edges: int, folder: Path) -> dict[str, Any]:
    """Write the arrays of a synthetic graph."""
    from recbole_signed.lab.synth import generate

    graph = generate("kuairand", edges, seed=0)
    for name in (*NAMES, "times"):
        np.save(folder / f"{name}.npy", getattr(graph, name))
    return {"n_users": graph.n_users, "n_items": graph.n_items}


def measure_arrays(folder: Path, n_users: int, n_items: int, threads: int, how: str) -> dict[str, float]:
    """Fit from arrays in memory: by the exposure matrix (as the model SSF does), or without it."""
    import torch

    from recbole_signed.graph import SignedGraph
    from recbole_signed.lab.sharded import fit_graph
    from recbole_signed.ssf import FilterSettings, SpectralFilter

    torch.set_num_threads(threads)
    users, items, signs = (np.load(folder / f"{name}.npy") for name in NAMES)
    settings = FilterSettings(rank=K, cutoff=16)
    clock = Clock()
    liked = signs > 0
    likes, dislikes = ((users[chosen], items[chosen]) for chosen in (liked, ~liked))
    graph = SignedGraph.from_edges(likes, dislikes, n_users, n_items)
    del likes, dislikes, liked
    readings = clock.read("graph")
    fitted = SpectralFilter.fit(graph, settings)[0] if how == "matrix" else fit_graph(graph, settings)
    return readings | clock.read("fit") | {"peak": memory("VmHWM"), "first": float(fitted.values[0])}


def measure_ordered(folder: Path, n_users: int, n_items: int, threads: int) -> dict[str, float]:
    """Fit SSF-T from arrays in memory, with given weights: the filter, the transition, the pairs and the trends."""
    import torch

    from recbole_signed.counts import PairCounts
    from recbole_signed.graph import SignedGraph
    from recbole_signed.lab.sharded import fit_graph
    from recbole_signed.sequences import Sequences
    from recbole_signed.ssf import FilterSettings
    from recbole_signed.ssf.order import recent_of
    from recbole_signed.ssf.transition import TransitionSums, leading

    torch.set_num_threads(threads)
    users, items, signs, times = (np.load(folder / f"{name}.npy") for name in (*NAMES, "times"))
    clock = Clock()
    liked = signs > 0
    likes, dislikes = ((users[chosen], items[chosen]) for chosen in (liked, ~liked))
    graph = SignedGraph.from_edges(likes, dislikes, n_users, n_items)
    del likes, dislikes, signs
    vectors = leading(fit_graph(graph, FilterSettings(rank=K, cutoff=16)).vectors)
    del graph
    readings = clock.read("filter")
    recent_of(items, times * 1000, liked, n_items)
    sequences = Sequences.from_edges(users, items, liked, times, n_users)
    del users, items, liked, times
    readings |= clock.read("order")
    TransitionSums.from_sequences(sequences, vectors).solve()
    readings |= clock.read("transition")
    PairCounts.from_sequences(sequences, n_items)
    return readings | clock.read("pairs") | {"peak": memory("VmHWM")}


def measure_shards(folder: Path, n_users: int, n_items: int, threads: int, oversampling: int) -> dict[str, float]:
    """Write shards from pieces of the arrays, and fit from them."""
    import torch

    from recbole_signed.graph import write_shards
    from recbole_signed.lab.sharded import fit_shards
    from recbole_signed.memory import reset_peak_memory
    from recbole_signed.ssf import FilterSettings

    torch.set_num_threads(threads)

    def pieces() -> Iterator[Any]:
        n_edges = len(np.load(folder / f"{NAMES[0]}.npy", mmap_mode="r"))
        for first in range(0, n_edges, 1 << 23):  # mapped again: pages that stay mapped count as memory of this process
            arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in NAMES]
            yield tuple(np.array(array[first : first + (1 << 23)]) for array in arrays)

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        clock = Clock()
        shards = write_shards(Path(scratch) / "shards", pieces(), n_users, n_items)
        readings = clock.read("write") | {"write_peak": memory("VmHWM")}
        reset_peak_memory()
        clock = Clock()
        fit_shards(shards, FilterSettings(rank=K, cutoff=16), oversampling=oversampling)
        return readings | clock.read("fit") | {"peak": memory("VmHWM")}


def random_filter(rng: np.random.Generator, n_items: int) -> Any:
    """Return a filter of random factors and degrees."""
    import torch

    from recbole_signed.ssf import FilterSettings, SpectralFilter
    from recbole_signed.ssf.item_counters import ItemCounters

    vectors = torch.from_numpy(rng.standard_normal((n_items, K), dtype=np.float32))
    likes, dislikes = (torch.from_numpy(rng.integers(0, 50, n_items)).float() for _ in range(2))
    settings = FilterSettings(rank=K, cutoff=16, dislike_aversion=0.5)
    return SpectralFilter(
        vectors, torch.linspace(1, 0.1, K), ItemCounters.from_counts(likes, dislikes), 1e6, 10.0, settings
    )


def measure_serving(n_items: int, batch: int, threads: int) -> dict[str, float]:
    """Rank for some users, on random factors and degrees: time does not depend on their values."""
    import torch

    from recbole_signed.graph import SignedGraph

    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    fitted = random_filter(rng, n_items)
    edges = [(np.repeat(np.arange(batch), 8), rng.integers(0, n_items, 8 * batch)) for _ in range(2)]
    users = SignedGraph.from_edges(edges[0], edges[1], batch, n_items)
    times = []
    for _ in range(7 if batch * n_items < 1e9 else 1):
        clock = Clock()
        fitted.top(users, 20)
        times.append(clock.read("top"))
    return sorted(times, key=lambda reading: reading["top_s"])[len(times) // 2] | {"peak": memory("VmHWM")}


def measure_serving_ordered(n_items: int, threads: int) -> dict[str, float]:
    """Rank for one user with SSF-T, on random factors, degrees and verdicts."""
    import torch

    from recbole_signed.counts import PairCounts
    from recbole_signed.graph.top_scores import best_of_each
    from recbole_signed.sequences import Sequences
    from recbole_signed.ssf.order import TRENDS, Order, OrderFilter, weights_of
    from recbole_signed.ssf.transition import SCALES, Transition
    from recbole_signed.ssf.user_edges import UserEdges

    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    user, length = np.repeat(np.arange(SERVING_EVENTS // 20), 20), 20
    item = (rng.random(len(user)) ** 2 * n_items).astype(np.int64)
    like, moment = rng.random(len(user)) < 0.7, rng.integers(0, 1 << 30, len(user))
    sequences = Sequences.from_edges(user, item, like, moment, len(user) // length)
    fitted = random_filter(rng, n_items)
    transition = Transition(torch.randn(2 * len(SCALES) * K, K))
    order = Order(
        weights_of(None), PairCounts.from_sequences(sequences, n_items), torch.rand(len(TRENDS), n_items), transition
    )
    own = sequences.of_users(np.array([0]))
    indptr, edges = np.array([0, length]), np.argsort(own.item)
    weights = np.where(own.like[edges], 1.0, fitted.settings.dislike_weight)
    one = UserEdges(indptr, own.item[edges], weights, np.abs(weights).sum(keepdims=True), sequences=own)
    times: dict[str, list[float]] = {name: [] for name in ("top_s", "top_cpu_s", "again_s", "again_cpu_s")}
    for _ in range(7):
        made = OrderFilter(replace(fitted), order)  # of which nothing is worked out yet
        for name in ("again", "top"):  # the second time what items have for all users is known
            clock = Clock()
            best_of_each(made.scores(one), 20, torch.arange(n_items))
            for part, value in clock.read(name).items():
                times[part].append(value)
    return {name: float(np.median(values)) for name, values in times.items()} | {"peak": memory("VmHWM")}


def timed(label: str, readings: dict[str, Any], name: str, limit: float | None = None) -> list[Figure]:
    return [
        Figure(label, readings[f"{name}_s"], "s", limit),
        Figure(f"{label}, processor time", readings[f"{name}_cpu_s"], "s"),
    ]


def main() -> int:
    from recbole_signed.cli.data import parse_count

    options = parser(__doc__)
    options.add_argument("--edges", type=parse_count, nargs="*", default=[10_000_000], help="fit from arrays")
    options.add_argument("--shards", type=parse_count, nargs="*", default=[], help="fit from shards")
    options.add_argument("--ordered", type=parse_count, nargs="*", default=[], help="fit SSF-T from arrays with times")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--oversampling", type=int, default=32, help="of the fit from shards")
    options.add_argument("--how", choices=("edges", "matrix"), nargs="+", default=["edges", "matrix"])
    options.add_argument("--no-serving", action="store_true")
    options.add_argument("--measure", nargs="+", help="for the script itself: what to measure right here")
    chosen = options.parse_args()
    if chosen.measure:
        what, *rest = chosen.measure
        if what == "make":
            readings: dict[str, Any] = make(int(rest[0]), Path(rest[1]))
        elif what == "arrays":
            readings = measure_arrays(Path(rest[0]), int(rest[1]), int(rest[2]), chosen.threads, rest[3])
        elif what == "ordered":
            readings = measure_ordered(Path(rest[0]), int(rest[1]), int(rest[2]), chosen.threads)
        elif what == "shards":
            readings = measure_shards(Path(rest[0]), int(rest[1]), int(rest[2]), chosen.threads, chosen.oversampling)
        elif what == "serve-ordered":
            readings = measure_serving_ordered(int(rest[0]), int(rest[1]))
        else:
            readings = measure_serving(int(rest[0]), int(rest[1]), int(rest[2]))
        print(json.dumps(readings))
        return 0
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as scratch:
        common = ["--threads", str(chosen.threads), "--oversampling", str(chosen.oversampling)]
        for edges in sorted({*chosen.edges, *chosen.ordered, *chosen.shards}):
            folder = (chosen.folder or Path(scratch)).resolve() / f"edges-{edges}"
            record = folder / "size.json"
            if not record.is_file():
                print(f"making {edges:,} edges ...", file=sys.stderr)
                folder.mkdir(parents=True, exist_ok=True)
                made = in_fresh_process(__file__, "--measure", "make", str(edges), str(folder), folder=folder)
                record.write_text(json.dumps(made))
            size = json.loads(record.read_text())
            label = f"{edges:,} edges ({size['n_users']:,} x {size['n_items']:,})"
            where = (str(folder), str(size["n_users"]), str(size["n_items"]))
            seconds, gigabytes = LIMITS.get(edges, (None, None))
            for how in chosen.how if edges in chosen.edges else ():
                print(f"fitting {edges:,} edges ({how}) ...", file=sys.stderr)
                readings = in_fresh_process(__file__, *common, "--measure", "arrays", *where, how, folder=folder)
                name = f"{label}, arrays to filter, {how}"
                figures += timed(name, readings, "fit", seconds if how == "edges" else None)
                figures += timed(f"{name}, of it making the graph", readings, "graph")
                figures.append(Figure(f"{name}, peak memory", readings["peak"] / GB, "GB", gigabytes))
            if edges in chosen.ordered:
                print(f"fitting SSF-T to {edges:,} edges ...", file=sys.stderr)
                readings = in_fresh_process(__file__, *common, "--measure", "ordered", *where, folder=folder)
                name, (seconds, gigabytes) = f"{label}, arrays to SSF-T", ORDERED_LIMITS.get(edges, (None, None))
                figures += timed(name, readings, "pairs", seconds)
                figures += timed(f"{name}, until the filter is fitted", readings, "filter")
                figures += timed(f"{name}, until events are in order", readings, "order")
                figures += timed(f"{name}, until the transition is solved", readings, "transition")
                figures.append(Figure(f"{name}, peak memory", readings["peak"] / GB, "GB", gigabytes))
            if edges in chosen.shards:
                print(f"fitting {edges:,} edges from shards ...", file=sys.stderr)
                readings = in_fresh_process(__file__, *common, "--measure", "shards", *where, folder=folder)
                name, part = f"{label}, shards", edges / BILLION
                figures += timed(f"{name}, writing", readings, "write")
                figures += timed(f"{name} to filter", readings, "fit", BILLION_SECONDS * part)
                figures.append(Figure(f"{name}, peak memory of writing", readings["write_peak"] / GB, "GB"))
                figures.append(Figure(f"{name}, peak memory of fitting", readings["peak"] / GB, "GB"))
        if not chosen.no_serving:
            for n_items, batch, threads, limit in SERVING:
                print(f"ranking {n_items:,} items for {batch:,} users ...", file=sys.stderr)
                asked = ("serve", str(n_items), str(batch), str(threads))
                readings = in_fresh_process(__file__, "--measure", *asked, folder=Path(scratch))
                name = f"top 20 of {n_items:,} items for {batch:,} user{'s' * (batch > 1)}, {threads} threads"
                figures += timed(name, readings, "top", limit)
                figures.append(Figure(f"{name}, peak memory", readings["peak"] / GB, "GB"))
            n_items, threads, limit = SERVING_ORDERED
            ordered = ("serve-ordered", str(n_items), str(threads))
            readings = in_fresh_process(__file__, "--measure", *ordered, folder=Path(scratch))
            name = f"top 20 of {n_items:,} items for 1 user by SSF-T, {threads} threads"
            figures += timed(name, readings, "top", limit)
            figures += timed(f"{name}, after an event", readings, "again")
            figures.append(Figure(f"{name}, peak memory", readings["peak"] / GB, "GB"))
    return report(figures, chosen.json)


if __name__ == "__main__":
    sys.exit(main())
