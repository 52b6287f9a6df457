"""Measures a model that follows events: latency of one event, events a second, a refresh beside them, memory.

    python benchmarks/bench_online.py --edges 1000000 10000000 --folder /somewhere/on/the/disk

SSF, or with --model SSFT SSF-T (k = 64), on synthetic graphs of the profile 'kuairand', or of another --profile,
through :class:`OnlineTrainer`, on one thread. Latency is from the call of ``update`` with one event to the user's new
list of 20, the event being on the disk by then; the part for the disk (``durable``) and the processor time of the
rest are given apart. The folder should lie on the disk that will hold the state. Each size runs in a process of its
own, and the memory is that of this process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Figure, in_fresh_process, memory, parser, report

from recbole_signed.lab.synth import generate
from recbole_signed.live import LIKE, EventBatch, OnlineTrainer
from recbole_signed.live.events import DISLIKE, UNDISLIKE, UNLIKE
from recbole_signed.live.learners import make_learner
from recbole_signed.live.learners.ssf.learner import SpectralLearner
from recbole_signed.live.store.state import OnlineState

LATENCY = {1_000_000: 10.0, 10_000_000: 25.0}
"""Milliseconds that the 99th percentile of a single event may take, by edges."""
WHEN = {"alone": "one event alone", "beside": "one event beside a refresh"}
SETTINGS: dict[str, dict[str, Any]] = {
    "SSF": {"rank": 64, "dislike_aversion": 0.5},
    "SSFT": {"rank": 64, "dislike_aversion": 0.5, "transition_rank": 64},
}
KINDS = np.array([LIKE, DISLIKE, UNLIKE, UNDISLIKE], dtype=np.int8)


class Follower(OnlineTrainer):
    """The online half of the trainer, without a RecBole run before it."""

    def __new__(cls, state: OnlineState, learner: SpectralLearner) -> Follower:
        return object.__new__(cls)

    def __init__(self, state: OnlineState, learner: SpectralLearner) -> None:
        self._prepare(state.directory, "SSF")
        self.state, self.learner = state, learner
        self.durable = self.durable_cpu = 0.0
        append = state.log.append

        def timed(*arguments: Any) -> Any:
            started, cpu = time.perf_counter(), time.thread_time()
            done = append(*arguments)
            self.durable, self.durable_cpu = time.perf_counter() - started, time.thread_time() - cpu
            return done

        state.log.append = timed  # type: ignore[method-assign, assignment]


class Events:
    """New events: users as active and items as popular as in the graph, one in a hundred new, one in ten retracted."""

    def __init__(self, user: np.ndarray, item: np.ndarray, n_users: int, n_items: int) -> None:
        self.user, self.item, self.sizes = user, item, (n_users, n_items)
        self.rng = np.random.default_rng(1)
        self.drawn = 0

    def draw(self, n: int) -> EventBatch:
        """Return n events with ids of their own."""
        first, rng = self.drawn, self.rng
        self.drawn += n
        edge, other = rng.integers(0, len(self.user), (2, n))
        kind = rng.choice(KINDS, n, p=[0.6, 0.3, 0.07, 0.03])
        item = np.where(kind >= UNLIKE, self.item[edge], self.item[other])  # what is taken back was there
        fresh = first + np.arange(n)
        user = np.where(rng.random(n) < 0.01, self.sizes[0] + fresh, self.user[edge])
        item = np.where(rng.random(n) < 0.01, self.sizes[1] + fresh, item)
        return EventBatch(
            [f"event-{number}" for number in fresh.tolist()],
            [f"user-{number}" for number in user.tolist()],
            [f"item-{number}" for number in item.tolist()],
            kind,
            2**41 + fresh,
            np.full(n, np.nan),
        )


def seconds(call: Any) -> float:
    """Wall time of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


class Disk:
    """A file with room, as the log's own write-ahead file has, of which the disk keeps a piece at a time."""

    PIECE, SIZE = 12 << 10, 8 << 20

    def __init__(self, folder: Path) -> None:
        self.file = (folder / "sync").open("wb+")
        self.file.write(bytes(self.SIZE))
        self.sync()

    def sync(self) -> float:
        """Return how long the disk takes to keep three pages, in milliseconds."""
        if self.file.tell() + self.PIECE > self.SIZE:
            self.file.seek(0)
        self.file.write(bytes(self.PIECE))
        self.file.flush()
        return seconds(lambda: os.fdatasync(self.file.fileno())) * 1e3


PARTS = ("total", "durable", "compute", "all_cpu", "compute_cpu", "rank", "bare_sync")


def singles(trainer: Follower, events: Events, n: int, disk: Disk) -> dict[str, list[float]]:
    """Take n events one by one, and rank for the user of each; milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in PARTS}
    for _ in range(n):
        batch = events.draw(1)
        started, cpu = time.perf_counter(), time.thread_time()
        trainer.update(batch)
        middle = time.perf_counter()
        trainer.recommend(batch.user_id[0], 20)
        total, used = time.perf_counter() - started, time.thread_time() - cpu
        compute = total - trainer.durable
        values = (total, trainer.durable, compute, used, used - trainer.durable_cpu, total - (middle - started))
        for name, value in zip(PARTS, values, strict=False):
            times[name].append(value * 1e3)
        times["bare_sync"].append(disk.sync())
    return times


def felt(trainer: Follower, events: Events, n: int) -> dict[str, list[float]]:
    """Take n events one by one, and rank for the user of each with and without dislikes that are felt; milliseconds.

    Of processor time, and of users with a dislike; which of the two rankings comes first alternates.
    """
    times: dict[str, list[float]] = {"felt": [], "not_felt": []}
    learner, state = trainer.learner, trainer.state
    assert learner is not None
    assert state is not None
    strengths = {"felt": learner.dislike_strength, "not_felt": 0.0}
    while len(times["felt"]) < n:
        batch = events.draw(1)
        trainer.update(batch)
        if not state.edges.user_dislikes[state.users.id_of(batch.user_id[0])]:
            continue
        for name in sorted(strengths, reverse=bool(len(times["felt"]) % 2)):
            learner.dislike_strength = strengths[name]
            cpu = time.thread_time()
            trainer.recommend(batch.user_id[0], 20)
            times[name].append((time.thread_time() - cpu) * 1e3)
    learner.dislike_strength = strengths["felt"]
    return times


def percentiles(times: list[float]) -> dict[str, float]:
    """Return p50, p95, p99 and the longest."""
    return dict(zip(("p50", "p95", "p99", "max"), np.percentile(times, [50, 95, 99, 100]).tolist(), strict=True))


def measure(edges: int, n_singles: int, model: str, graph: Path, folder: Path) -> dict[str, Any]:
    """Run all on one graph."""
    torch.set_num_threads(1)
    with np.load(graph) as loaded:
        user, item, sign, times = (loaded[name] for name in ("users", "items", "signs", "times"))
    n_users, n_items = int(user.max()) + 1, int(item.max()) + 1
    readings: dict[str, Any] = {"edges": edges, "users": n_users, "items": n_items}
    state = OnlineState.open(folder / "state")
    tokens = [[f"{what}-{number}" for number in range(n)] for what, n in (("user", n_users), ("item", n_items))]
    kind = np.where(sign > 0, LIKE, DISLIKE).astype(np.int8)
    base = (*tokens, user + 1, item + 1, kind, times * 1000)
    readings["bulk_load_s"] = seconds(lambda base=base: state.bulk_load(*base))
    del base, kind, tokens, sign, times
    learner: Any = make_learner(model, SETTINGS[model])
    trainer = Follower(state, learner)
    sizes = state.edges.n_users, state.edges.n_items
    readings["fit_s"] = seconds(lambda: learner.fit(state.edges.export(), *sizes))
    readings["attach_s"] = seconds(lambda: learner.attach(state.edges))
    readings["peak_after_fit"] = memory("VmHWM")
    events, disk = Events(user, item, n_users, n_items), Disk(folder)
    singles(trainer, events, 20, disk)

    readings["alone"] = {
        name: percentiles(values) for name, values in singles(trainer, events, n_singles, disk).items()
    }
    for name, values in felt(trainer, events, n_singles).items():
        readings["alone"][name] = percentiles(values)
    for size, count in ((100, 30), (1000, 5)):
        batches = [events.draw(size) for _ in range(count)]
        cpu = time.process_time()
        took = seconds(lambda batches=batches: [trainer.update(batch) for batch in batches])
        readings[f"events_per_s_{size}"] = size * count / took
        readings[f"events_per_cpu_s_{size}"] = size * count / (time.process_time() - cpu)

    refresh: dict[str, float] = {}

    def run() -> None:
        wall, cpu = time.perf_counter(), time.thread_time()
        refresh["staleness"] = trainer.refresh().staleness
        refresh["wall_s"], refresh["cpu_s"] = time.perf_counter() - wall, time.thread_time() - cpu

    run()
    readings["refresh_alone"] = dict(refresh)
    thread = threading.Thread(target=run)
    beside: dict[str, list[float]] = {}
    thread.start()
    while thread.is_alive():
        for name, values in singles(trainer, events, 1, disk).items():
            beside.setdefault(name, []).extend(values)
    thread.join()
    readings["refresh"] = refresh
    readings["beside"] = {name: percentiles(values) for name, values in beside.items()}
    readings["events_beside_refresh"] = len(beside["total"])
    readings["peak"] = memory("VmHWM")
    trainer.close()
    return readings


def figures(readings: dict[str, Any]) -> list[Figure]:
    """Set what was found against the limits."""
    edges = readings["edges"]
    large = edges >= 10_000_000
    name = f"{edges / 1e6:g}M edges ({readings['users']} users, {readings['items']} items): "
    made = [
        Figure(name + "latency of one event, p99", readings["alone"]["total"]["p99"], "ms", LATENCY.get(edges)),
        Figure(
            name + "list of a user with dislikes, p99, over that without the personal verdict",
            readings["alone"]["felt"]["p99"] / readings["alone"]["not_felt"]["p99"],
            "",
        ),
        Figure(
            name + "events a second, durable, in hundreds", readings["events_per_s_100"], "/s", 1000.0, at_least=True
        ),
        Figure(name + "refresh while events come", readings["refresh"]["wall_s"], "s", 5.0 if large else None),
        Figure(name + "peak memory", readings["peak"] / 1e9, "GB", 4.0 if large else None),
    ]
    for when in WHEN:
        for part, values in readings[when].items():
            label = name + f"{WHEN[when]}, {part}, "
            made += [Figure(label + which, value, "ms") for which, value in values.items()]
    for key, value in readings.items():
        if isinstance(value, float) and key not in ("peak", "events_per_s_100"):
            made.append(Figure(name + key, value, "s" if key.endswith("_s") else ""))
    for key in ("refresh_alone", "refresh"):
        made += [Figure(name + f"{key} {part}", value, "") for part, value in readings[key].items()]
    return made


def draw(profile: str, edges: int, path: Path) -> None:
    """Write a synthetic graph."""
    graph = generate(profile, edges, 0, threads=1)
    np.savez(path, users=graph.users, items=graph.items, signs=graph.signs, times=graph.times)


def main(arguments: argparse.Namespace) -> int:
    """Run the sizes, each in a fresh process; return 1 if a limit is not met."""
    if arguments.part:
        part, graph = arguments.part[0], Path(arguments.part[1])
        if part == "draw":
            draw(arguments.profile, arguments.edges[0], graph)
            print("{}")
        else:
            with tempfile.TemporaryDirectory(dir=graph.parent) as scratch:
                print(json.dumps(measure(arguments.edges[0], arguments.singles, arguments.model, graph, Path(scratch))))
        return 0
    folder = Path(arguments.folder or tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Figure] = []
    for edges in arguments.edges:
        graph = (folder / f"{arguments.profile}-{edges}.npz").resolve()
        options = [f"--edges={edges}", f"--singles={arguments.singles}", f"--model={arguments.model}"]
        options += [f"--profile={arguments.profile}", "--part"]
        if not graph.exists():
            in_fresh_process(__file__, *options, "draw", str(graph), folder=folder)
        made += figures(in_fresh_process(__file__, *options, "measure", str(graph), folder=folder))
    if not arguments.folder:
        shutil.rmtree(folder)
    return report(made, arguments.json)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--edges", type=int, nargs="+", default=list(LATENCY))
    options.add_argument("--singles", type=int, default=1000, help="events that are taken one by one")
    options.add_argument("--model", choices=SETTINGS, default="SSF")
    options.add_argument("--profile", default="kuairand", help="of 'recbole-signed synth'")
    options.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    sys.exit(main(options.parse_args()))
