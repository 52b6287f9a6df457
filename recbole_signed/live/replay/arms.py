"""Arms of a stream: a fitted learner each, what it does between windows, and what it makes of cases."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
import torch

from recbole_signed.atomic.feature_space import Features
from recbole_signed.errors import UsageError
from recbole_signed.live.learners import make_learner
from recbole_signed.live.learners.base import Learner
from recbole_signed.live.learners.ranking import ranked_scores
from recbole_signed.live.learners.ssf.stream_choice import chosen_features, chosen_settings
from recbole_signed.live.replay.stream_spec import POP, ModelSpec, StreamSpec
from recbole_signed.live.replay.windows import Cases, measure
from recbole_signed.live.store.edges import EdgeState
from recbole_signed.live.store.state import OnlineState
from recbole_signed.plugin.ranges import without_removed

LIVE = ("choose_again", "dislike_strength", "iterations", "passes")
"""Settings of following a stream, which are not chosen."""


@dataclass
class Arm:
    """A learner and what it does between windows."""

    label: str
    model: str
    kind: str
    learner: Learner
    frozen: EdgeState | None = None
    """The edges as they were at the cut, for the arm that is never updated."""
    log: dict[str, Any] = field(default_factory=dict)
    aversions: tuple[float, ...] = ()
    """Further values of ``dislike_aversion`` that it ranks with."""

    @property
    def follows(self) -> bool:
        """Whether it takes each batch in."""
        return self.kind in ("fold-in", "online", POP)

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
    """Return a row per case: who it is of, and what an arm makes of it.

    Args:
        spec: of the experiment.
        arm: to rank with; its kind is the column ``arm``.
        edges: that it sees.
        cases: to predict; there may be none.
        n_items: items known at the moment, padding included.
    """

    def scores(rows: np.ndarray) -> torch.Tensor:
        return arm.scores(edges, cases.user[rows], n_items)

    values = measure(cases, scores, n_items, spec.cutoffs)
    user = pl.Series(cases.token, dtype=pl.String)
    about = {"user": user, "group": cases.group, "known_likes": cases.n_known_likes}
    counts = {"n_likes": cases.n_likes, "n_unknown": cases.n_unknown}
    frame = pl.DataFrame({**about, **counts, **values})
    return frame.with_columns(pl.lit(arm.label).alias("model"), pl.lit(arm.kind).alias("arm"))
