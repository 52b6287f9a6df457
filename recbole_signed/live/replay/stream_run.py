"""Runs a stream: predict a window with every arm, then let each learn from it in its own way."""

from __future__ import annotations

import copy
import itertools
import json
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from tqdm import tqdm

from recbole_signed import __version__
from recbole_signed.atomic.feature_space import Features
from recbole_signed.convert.sources.movielens import ensure_ml100k
from recbole_signed.errors import UsageError, ending
from recbole_signed.files import path_of
from recbole_signed.live.events import EventBatch
from recbole_signed.live.learners import make_learner
from recbole_signed.live.learners.base import Learner
from recbole_signed.live.learners.ranking import best_items, ranked_scores
from recbole_signed.live.learners.ssf.stream_choice import chosen_features, chosen_settings
from recbole_signed.live.replay import summarise
from recbole_signed.live.replay.stream_spec import POP, WINDOW, ModelSpec, StreamSpec, milliseconds
from recbole_signed.live.replay.windows import Cases, Replay, announced_features, measure, write_window
from recbole_signed.live.store.edge_views import LogBatch
from recbole_signed.live.store.edges import EdgeState
from recbole_signed.live.store.state import OnlineState
from recbole_signed.plugin.assignments import RUNS, yaml_if_there
from recbole_signed.plugin.configuration import DATA_ROOT, ML_100K_SIGNED, check_dataset_name, dataset_names
from recbole_signed.plugin.ranges import without_removed
from recbole_signed.runs import data_sha256
from recbole_signed.runs.provenance import digest, machine, versions

TOP = 20


def run_stream(spec: StreamSpec, folder: Path, work: Path, *, progress: bool = True) -> Path:
    """Run a stream, or what is left of it, and return the folder of its results; finished windows are kept."""
    settings = yaml_if_there(folder / f"{folder.name}.yaml")
    data = data_sha256(folder, spec.dataset)
    state_of = digest([spec.hash(), data, settings, __version__])
    out = work / f"{spec.path.stem}-{state_of[:12]}"
    replay = Replay.read(folder, spec.cut, spec.windows, spec.sign_rule, spec.max_windows)
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"window-{number:03d}.parquet" for number in range(len(replay))]
    missing = [n for n, file in enumerate(files) if not (file.exists() and file.with_suffix(".json").exists())]
    if not missing:
        return out
    made = {"data_sha256": data, "versions": versions(), "machine": machine(), "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as temporary, OnlineState.open(Path(temporary) / "state") as state:
        replay.start(state)
        learners = fitted_learners(spec, state, out, folder)
        follow = (_ByEvent if spec.freshness else _ByWindow)(spec, state, learners)
        bar = tqdm(range(len(replay)), desc=spec.title, unit="window", disable=not progress, file=sys.stderr)
        for number in bar:
            window, needed = replay.window(number), number in missing
            tables = list(follow.predicted(window, needed))
            times = follow.renewed([later - number for later in missing if later > number])
            if needed:
                write_window(files[number], pl.concat(tables), times, window, made)
    return out


class _ByWindow:
    """Predicts the likes of a window as one case per user, then lets each arm learn from the window in its own way."""

    def __init__(self, spec: StreamSpec, state: OnlineState, learners: Mapping[str, Learner]) -> None:
        self.spec, self.state, self.n_base = spec, state, state.edges.n_users
        self.arms: list[Arm] = []
        for model in spec.models:
            learner = learners[model.label]
            if model.aversions and not hasattr(learner, "with_aversion"):
                raise UsageError(f"{model.model} has no dislike_aversion to vary; leave out 'aversions'.")
            for kind in model.arms:
                aversions = model.aversions if kind == "online" else ()
                arm = Arm(model.label, kind, copy.deepcopy(learner), aversions=aversions)
                arm.frozen = _copy_of(state.edges) if kind == "none" else None
                arm.learner.attach(arm.frozen or state.edges)
                self.arms.append(arm)
        popular = make_learner("Pop")
        popular.dislike_strength = 0.0  # the baseline is popularity alone
        popular.fit(state.edges.export(), state.edges.n_users, state.edges.n_items)
        self.arms.append(Arm("Pop", POP, popular))

    def predicted(self, window: EventBatch, needed: bool) -> Iterator[pl.DataFrame]:
        """Yield the cases of a window where they are needed, by arm, and take the window in."""
        if needed:
            cases = Cases.from_window(self.state, window, self.n_base)
            for arm in (variant for base_arm in self.arms for variant in base_arm.variants()):
                yield case_table(self.spec, arm, self.state.edges, cases, self.state.edges.n_items)
        self.latency = _learn(self.spec, self.arms, self.state, window)

    def renewed(self, open_: list[int]) -> dict[str, Any]:
        """Renew the arms; return the times of the window."""
        return {"latency_seconds": self.latency, **_renew(self.arms, self.state, open_=open_)}


def _copy_of(edges: EdgeState) -> EdgeState:
    copy = EdgeState.from_tensors(edges.to_tensors(), edges.n_items)
    copy.vocabularies = edges.vocabularies
    return copy


def _learn(spec: StreamSpec, arms: list[Arm], state: OnlineState, window: EventBatch) -> dict[str, list[float]]:
    """Take the window in: its first events one by one with the clock running, the rest in batches."""
    timed = min(spec.timed_events, len(window))
    latency: dict[str, list[float]] = {arm.label: [] for arm in arms if arm.kind == "online"}
    for first, last in itertools.pairwise([*range(timed), *range(timed, len(window), spec.batch), len(window)]):
        started = time.perf_counter()
        update = state.ingest(window[first:last])
        durable = time.perf_counter() - started
        for arm in (arm for arm in arms if arm.kind in ("fold-in", "online", POP)):
            before = time.perf_counter()
            arm.learner.update(state.edges, update.changes)
            if arm.kind == "online" and first < timed:
                for user in update.changes.users[:1].tolist():  # whose list is made again
                    best_items(arm.learner, state.edges, user, TOP, state.items.keys, user_keys=state.users.keys)
                latency[arm.label].append(durable + time.perf_counter() - before)
    return latency


def _renew(arms: list[Arm], state: OnlineState, *, open_: list[int]) -> dict[str, Any]:
    """Refresh the online arms, and fit the others from scratch where one of the windows ``open_`` ahead looks at it."""
    edges = state.edges.export()
    sizes = state.edges.n_users, state.edges.n_items
    refreshing, staleness, fitting = {}, {}, {}
    for arm in arms:
        started = time.perf_counter()
        if arm.kind == "online":
            refreshed = arm.learner.refresh(edges, *sizes)
            arm.learner.attach(state.edges)
            refreshing[arm.label], staleness[arm.label] = time.perf_counter() - started, refreshed.staleness
        elif arm.kind == "refit" and (1 in open_ or (open_ and arm.learner.remembers)):
            arm.learner.fit(edges, *sizes)
            arm.learner.attach(state.edges)
            fitting[arm.label] = time.perf_counter() - started
    return {"refresh_seconds": refreshing, "staleness": staleness, "refit_seconds": fitting}


def replay(file: Path | str, data_path: Path | str = DATA_ROOT) -> dict[str, Any]:
    """Compare online updates with retraining on a stream: predict a window, then learn from it, and so on.

    Windows that an earlier call has finished are not run again; they are in ``runs/online/`` of the current folder.

    Args:
        file: yaml file of the replay, as those under ``yaml/online/``.
        data_path: folder of the data sets.

    Returns:
        The figures: ``windows`` (a row per window and arm), ``pooled`` (a row per subset and arm, with retention),
        ``gate``, ``cost`` and ``settings`` by model.

    Raises:
        UsageError: the file asks for something that does not exist, or the data set is not there.
    """
    spec = StreamSpec.read(path_of(file, "file"))
    return summarise(run_stream(spec, _folder(spec, path_of(data_path, "data_path")), Path(RUNS) / "online"))


def _folder(spec: StreamSpec, data_path: Path) -> Path:
    check_dataset_name(spec.dataset)
    folder = data_path / spec.dataset
    if not folder.is_dir():
        if spec.dataset != ML_100K_SIGNED:
            hint = ending(spec.dataset, dataset_names(data_path))
            has_head = spec.path.read_text(encoding="utf-8").startswith("#")  # as those of this repository have
            how = f"{spec.path} says how to make it" if has_head else "'recbole-signed convert' makes one"
            raise UsageError(f"there is no data set '{spec.dataset}' in {data_path} ({how}){hint}")
        ensure_ml100k(data_path)
    return folder


# ---- arms: a fitted learner each, what it does between windows, and what it makes of cases ----

LIVE = ("choose_again", "dislike_strength", "iterations", "passes")  # of following a stream, not chosen
RUN = 200  # events of a run at most
_NOT_TIMED = ("latency_seconds", "refresh_seconds", "refit_seconds", "staleness")


@dataclass
class Arm:
    """A learner and what it does between windows."""

    label: str
    kind: str
    learner: Learner
    frozen: EdgeState | None = None  # the edges as they were at the cut, for the arm that is never updated
    aversions: tuple[float, ...] = ()  # further values of `dislike_aversion` that it ranks with

    def variants(self) -> list[Arm]:
        """Return it, and for each further aversion one that shares its learner."""
        with_aversion = getattr(self.learner, "with_aversion", None)
        if with_aversion is None:
            return [self]
        others = [(f"{self.label}, g = {aversion:g}", with_aversion(aversion)) for aversion in self.aversions]
        return [self, *(replace(self, label=label, learner=learner) for label, learner in others)]

    def scores(self, live: EdgeState, users: np.ndarray, n_items: int) -> torch.Tensor:
        """Return the scores of all items known now; those it does not know yet come last."""
        edges = self.frozen or live
        known = np.where(users < edges.n_users, users, 0)
        scores = ranked_scores(self.learner, edges, known)
        missing = n_items - scores.shape[1]
        if missing > 0:
            worst = scores.amin(dim=1, keepdim=True) - 1.0
            scores = torch.cat([scores, worst.expand(-1, missing)], dim=1)
        return scores


def fitted_learners(spec: StreamSpec, state: OnlineState, out: Path, folder: Path) -> dict[str, Learner]:
    """Return the models of a stream, fitted to the base, by their labels, and write their settings."""
    features_of = announced_features(spec.models, folder, state)
    base, sizes = state.edges.export(), (state.edges.n_users, state.edges.n_items)
    learners, chosen = {}, {}
    for model in spec.models:
        features = features_of.get(model.label)
        chosen[model.label] = _settings(model, base, sizes, features)
        learner = learners[model.label] = make_learner(model.model, chosen[model.label])
        if features is not None:
            learner.take_features(features, None)
            if getattr(learner, "features", None) is None:
                raise UsageError(f"{model.label} has features, but {model.model} does not use any under a stream.")
        torch.manual_seed(spec.seed)
        learner.fit(base, *sizes)
    (out / "settings.json").write_text(json.dumps(chosen, indent=1), encoding="utf-8")
    return learners


def _settings(model: ModelSpec, base: Any, sizes: tuple[int, int], features: Features | None) -> dict[str, Any]:
    if not model.auto:
        return model.settings
    settings = without_removed(dict(model.settings))
    kept = {key: settings.pop(key) for key in LIVE if key in settings}
    chosen = chosen_settings(model.model, base, *sizes, settings)
    if features is not None:
        chosen |= chosen_features(base, *sizes, chosen, features.matrix, settings)
    return {**chosen, **kept}


def case_table(spec: StreamSpec, arm: Arm, edges: EdgeState, cases: Cases, n_items: int) -> pl.DataFrame:
    """Return a row per case: who it is of, and what an arm makes of it."""

    def scores(rows: np.ndarray) -> torch.Tensor:
        return arm.scores(edges, cases.user[rows], n_items)

    values = measure(cases, scores, n_items, spec.cutoffs)
    user = pl.Series(cases.token, dtype=pl.String)
    about = {"user": user, "group": cases.group, "known_likes": cases.n_known_likes}
    counts = {"n_likes": cases.n_likes, "n_unknown": cases.n_unknown}
    frame = pl.DataFrame({**about, **counts, **values})
    return frame.with_columns(pl.lit(arm.label).alias("model"), pl.lit(arm.kind).alias("arm"))


@dataclass
class Delayed:
    """Edges as they were some time ago, and the models that see them."""

    delay: int | None  # milliseconds; None: until the window ends
    edges: EdgeState
    arms: list[Arm]
    waiting: deque[tuple[int, LogBatch]] = field(default_factory=deque)  # the last time of a run, and its rows

    def see(self, now: int | None) -> None:
        """Take in what lies as far back as the delay; all of it where ``now`` is None."""
        while self.waiting and (now is None or (self.delay is not None and self.waiting[0][0] <= now - self.delay)):
            changes = self.edges.apply(self.waiting.popleft()[1])
            for arm in self.arms:
                arm.learner.update(self.edges, changes)

    def refresh(self) -> None:
        """Refresh the models on the edges they see."""
        exported, sizes = self.edges.export(), (self.edges.n_users, self.edges.n_items)
        for arm in self.arms:
            arm.learner.refresh(exported, *sizes)
            arm.learner.attach(self.edges)


class _ByEvent:
    """Predicts each like at its own moment, in runs of events, by models that see events after each delay."""

    def __init__(self, spec: StreamSpec, state: OnlineState, learners: Mapping[str, Learner]) -> None:
        self.spec, self.state, self.n_base = spec, state, state.edges.n_users
        self.delays: list[Delayed] = []
        for label in spec.freshness:
            edges = _copy_of(state.edges)
            arms = [Arm(model.label, label, copy.deepcopy(learners[model.label])) for model in spec.models]
            for arm in arms:
                arm.learner.attach(edges)
            self.delays.append(Delayed(None if label == WINDOW else milliseconds(label), edges, arms))

    def predicted(self, window: EventBatch, needed: bool) -> Iterator[pl.DataFrame]:
        """Yield the cases of a window where they are needed, run by run, and take the window in."""
        for run in _runs(window):
            for delayed in self.delays:
                delayed.see(int(run.timestamp[0]))
            if needed:
                yield from self._predicted(run)
            logged = self.state.ingest(run).logged
            for delayed in self.delays:
                delayed.waiting.append((int(run.timestamp[-1]), logged))
        for delayed in self.delays:
            delayed.see(None if delayed.delay is None else int(window.timestamp[-1]))

    def _predicted(self, run: EventBatch) -> Iterator[pl.DataFrame]:
        cases = Cases.from_window(self.state, run, self.n_base)
        for delayed in self.delays:
            for arm in delayed.arms:
                yield case_table(self.spec, arm, delayed.edges, cases, self.state.edges.n_items)

    def renewed(self, open_: list[int]) -> dict[str, Any]:
        """Refresh the models on the edges they see; nothing is timed."""
        for delayed in self.delays:
            delayed.refresh()
        return {name: {} for name in _NOT_TIMED}


def _runs(window: EventBatch) -> Iterator[EventBatch]:
    """Yield runs of events in which every user occurs once."""
    first, users = 0, set[str]()
    for place, user in enumerate(window.user_id):
        if user in users or place - first == RUN:
            yield window[first:place]
            first, users = place, set()
        users.add(user)
    yield window[first : len(window)]
