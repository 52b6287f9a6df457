"""Arms of a stream: a fitted learner each, what it does between windows, and what it makes of cases."""

from __future__ import annotations

import copy
import json
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from tqdm import tqdm

from recbole_signed.atomic.feature_space import Features
from recbole_signed.errors import UsageError
from recbole_signed.live.events import EventBatch
from recbole_signed.live.learners import make_learner
from recbole_signed.live.learners.base import Learner
from recbole_signed.live.learners.ranking import ranked_scores
from recbole_signed.live.learners.ssf.stream_choice import chosen_features, chosen_settings
from recbole_signed.live.replay.stream_spec import WINDOW, ModelSpec, StreamSpec, milliseconds
from recbole_signed.live.replay.windows import Cases, Replay, is_finished, measure, told, write_window
from recbole_signed.live.store.edge_views import LogBatch
from recbole_signed.live.store.edges import EdgeState
from recbole_signed.live.store.state import OnlineState
from recbole_signed.plugin.ranges import without_removed

LIVE = ("choose_again", "dislike_strength", "iterations", "passes")  # of following a stream, not chosen
RUN = 200  # events of a run at most
_NOT_TIMED = ("latency_seconds", "refresh_seconds", "refit_seconds", "staleness")


@dataclass
class Arm:
    """A learner and what it does between windows."""

    label: str
    model: str
    kind: str
    learner: Learner
    frozen: EdgeState | None = None  # the edges as they were at the cut, for the arm that is never updated
    log: dict[str, Any] = field(default_factory=dict)
    aversions: tuple[float, ...] = ()  # further values of `dislike_aversion` that it ranks with

    def variants(self) -> list[Arm]:
        """Return it, and for each further aversion one that shares its learner."""
        with_aversion = getattr(self.learner, "with_aversion", None)
        if with_aversion is None:
            return [self]
        others = [(f"{self.label}, g = {each:g}", with_aversion(each)) for each in self.aversions]
        return [self, *(replace(self, label=label, learner=learner) for label, learner in others)]

    def scores(self, live: EdgeState, users: np.ndarray, n_items: int) -> torch.Tensor:
        """Return the scores of all items known now; those it does not know yet come last."""
        edges = self.frozen or live
        known = np.where(users < edges.n_users, users, 0)
        found = ranked_scores(self.learner, edges, known)
        missing = n_items - found.shape[1]
        if missing > 0:
            worst = found.amin(dim=1, keepdim=True) - 1.0
            found = torch.cat([found, worst.expand(-1, missing)], dim=1)
        return found


def chosen_learner(
    model: ModelSpec, state: OnlineState, seed: int, features: Features | None = None
) -> tuple[Learner, dict[str, Any]]:
    """Return a model that was fitted to the base, and its settings."""
    base, sizes = state.edges.export(), (state.edges.n_users, state.edges.n_items)
    settings = _settings(model, base, sizes, features)
    learner = make_learner(model.model, settings)
    if features is not None:
        learner.take_features(features, None)
        if getattr(learner, "features", None) is None:
            raise UsageError(f"{model.label} has features, but {model.model} does not use any under a stream.")
    torch.manual_seed(seed)
    learner.fit(base, *sizes)
    return learner, settings


def _settings(model: ModelSpec, base: Any, sizes: tuple[int, int], features: Features | None) -> dict[str, Any]:
    if not model.auto:
        return model.settings
    settings = without_removed(dict(model.settings))
    kept = {key: settings.pop(key) for key in LIVE if key in settings}
    found = chosen_settings(model.model, base, *sizes, settings)
    if features is not None:
        found |= chosen_features(base, *sizes, found, features.matrix, settings)
    return {**found, **kept}


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

    label: str
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


def run_by_event(
    spec: StreamSpec,
    replay: Replay,
    files: Sequence[Path],
    folder: Path,
    out: Path,
    made: Mapping[str, Any],
    *,
    progress: bool = True,
) -> None:
    """Run an experiment on freshness: each like is predicted at its own moment, after each delay, in runs of events."""
    with tempfile.TemporaryDirectory() as temporary, OnlineState.open(Path(temporary) / "state") as state:
        replay.start(state)
        n_base = state.edges.n_users
        delays = _delays(spec, state, out, folder)
        for number in tqdm(range(len(replay)), desc=spec.title, unit="window", disable=not progress, file=sys.stderr):
            window, path = replay.window(number), files[number]
            done = is_finished(path)
            tables = []
            for run in _runs(window):
                for each in delays:
                    each.see(int(run.timestamp[0]))
                if not done:
                    tables += _predict(spec, delays, state, run, n_base)
                logged = state.ingest(run).logged
                for each in delays:
                    each.waiting.append((int(run.timestamp[-1]), logged))
            for each in delays:
                each.see(None if each.delay is None else int(window.timestamp[-1]))
                each.refresh()
            if done:
                continue
            write_window(path, pl.concat(tables), {name: {} for name in _NOT_TIMED}, window, made)


def _delays(spec: StreamSpec, state: OnlineState, out: Path, folder: Path) -> list[Delayed]:
    features = told(spec.models, folder, state)
    chosen: dict[str, Any] = {}
    learners = {}
    for model in spec.models:
        learners[model.label], chosen[model.label] = chosen_learner(model, state, spec.seed, features.get(model.label))
    (out / "settings.json").write_text(json.dumps(chosen, indent=1), encoding="utf-8")
    found = []
    for label in spec.freshness:
        edges = EdgeState.from_tensors(copy.deepcopy(state.edges.to_tensors()), state.edges.n_items)
        arms = [Arm(each.label, each.model, label, copy.deepcopy(learners[each.label])) for each in spec.models]
        for arm in arms:
            arm.learner.attach(edges)
        found.append(Delayed(label, None if label == WINDOW else milliseconds(label), edges, arms))
    return found


def _runs(window: EventBatch) -> Iterator[EventBatch]:
    """Yield runs of events in which every user occurs once."""
    first, users = 0, set[str]()
    for place, user in enumerate(window.user_id):
        if user in users or place - first == RUN:
            yield window[first:place]
            first, users = place, set()
        users.add(user)
    yield window[first : len(window)]


def _predict(
    spec: StreamSpec, delays: list[Delayed], state: OnlineState, run: EventBatch, n_base: int
) -> list[pl.DataFrame]:
    """Predict the likes of a run with all models and delays."""
    cases = Cases.of(state, run, n_base)
    n_items = state.edges.n_items
    return [case_table(spec, arm, each.edges, cases, n_items) for each in delays for arm in each.arms]
