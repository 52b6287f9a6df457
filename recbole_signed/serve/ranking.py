"""Rankings for what a request asks: filters, parameters of a variant, sessions without an id, explanations.

A learner ranks by the edges of a user as they are; what differs between requests is laid over it here, without a copy
of anything large.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from recbole_signed.errors import UsageError
from recbole_signed.online import DISLIKE, LIKE
from recbole_signed.online.learners import IntArray, Learner
from recbole_signed.online.store import EdgeState, Row, Rows
from recbole_signed.serve.experiments import Assignment

SAMPLE = 256
"""Items, evenly spaced, among which the percentile of an item's score is told."""
SESSION = 2**31 - 2
"""The id under which a session is asked for; no user has it, so a model knows nothing of it but the edges."""


@dataclass(frozen=True)
class Ranked:
    """A list of items for one user."""

    items: list[tuple[str, float]]
    seq: int
    version: str
    known: bool
    assignments: list[Assignment]
    teams: list[str] | None = None
    request_id: str = ""
    draws: Sequence[tuple[str, str, float, float]] = ()
    """See :class:`~recbole_signed.serve.traffic.Shown`."""

    @property
    def variant(self) -> str:
        """``experiment=variant`` of each experiment, comma-separated."""
        return ",".join(f"{each.experiment}={each.variant}" for each in self.assignments)


def with_parameters(learner: Learner, parameters: Mapping[str, float]) -> Learner:
    """Return a learner that shares everything with ``learner`` but parameters that act at query time.

    Raises:
        UsageError: the model has no such parameter.
    """
    if not parameters:
        return learner
    changed: Any = copy.copy(learner)
    for name, value in parameters.items():
        if name == "dislike_push":
            changed.dislike_push = value
        elif name == "dislike_aversion" and hasattr(changed, "with_aversion"):
            changed = changed.with_aversion(value)
        else:
            raise UsageError(f"{learner.name} has no parameter '{name}' that can be changed at query time.")
    return cast(Learner, changed)


class SessionEdges:
    """The edges of a session without an id, in front of those of the state: every user that is asked for is it.

    Args:
        edges: of the state.
        likes, dislikes: ids of items, the newest last.
    """

    def __init__(self, edges: EdgeState, likes: IntArray, dislikes: IntArray) -> None:
        self._edges = edges
        items = np.concatenate([likes, dislikes])
        kinds = np.repeat(np.array([LIKE, DISLIKE], dtype=np.int8), [len(likes), len(dislikes)])
        last = {int(item): place for place, item in enumerate(items)}  # a later verdict replaces an earlier one
        ids = np.array(sorted(last), dtype=np.int32)
        places = np.array([last[int(item)] for item in ids], dtype=np.int64)
        self._ids, self._kinds = ids, kinds[places]
        self._times = time.time_ns() // 1_000_000 - len(items) + places
        self._newest_dislike = int(dislikes[-1]) if len(dislikes) else 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._edges, name)

    @property
    def n_users(self) -> int:
        """Number of ids, that of the session included."""
        return SESSION + 1

    def of_user(self, user: int) -> Row:
        """Return the session's edges."""
        return Row(self._ids, self._kinds, self._times)

    def of_users(self, users: np.ndarray, *, times: bool = False) -> Rows:
        """Return the session's edges, once for each user."""
        n = len(users)
        columns = (np.tile(each, n) for each in (self._ids, self._kinds, self._times))
        ids, kinds, stamps = columns
        return Rows(np.arange(n + 1) * len(self._ids), ids, kinds, stamps if times else None)

    def newest_dislikes(self, users: np.ndarray) -> np.ndarray:
        """Return the last dislike, once for each user."""
        return np.full(len(users), self._newest_dislike, dtype=np.int64)


def percentile(learner: Learner, edges: EdgeState, user: int, item: int, counts: np.ndarray | None = None) -> float:
    """Return the share of a sample of items that score below ``item`` for a user, ties counting one half.

    Args:
        learner: that ranks.
        edges: as they are now.
        user: its number.
        item: its number.
        counts: what ranks in the place of the learner, ``[n_items]``.
    """
    n = edges.n_items
    sample = np.linspace(1, n - 1, min(SAMPLE, max(n - 1, 1))).astype(np.int64)
    items = np.append(sample, item)
    found = learner.pair_scores(edges, np.array([user]), items[None])[0] if counts is None else counts[items]
    others, own = found[:-1], found[-1]
    return float(((others < own).sum() + 0.5 * (others == own).sum()) / len(others))


def explain(learner: Learner, edges: EdgeState, user: int, item: int) -> Any:
    """Return why a user gets an item, see :class:`~recbole_signed.ssf.Explanation`.

    Raises:
        UsageError: the model can't tell.
    """
    if not hasattr(learner, "explain"):
        raise UsageError(f"{learner.name} can't explain its recommendations; SSF, SSF-L and SSF-T can.")
    return learner.explain(edges, user, item)


def most_liked(
    counts: np.ndarray, k: int, hidden: IntArray, include_only: IntArray | None = None
) -> tuple[IntArray, np.ndarray]:
    """Return the ``k`` items with the highest counts, and these, best first, ties by id.

    Args:
        counts: ``[n_items]`` likes of each item, whatever their weights.
        k: how many; fewer where there are no more.
        hidden: items that are left out.
        include_only: items to choose from; all of them if None.
    """
    shown = np.full(len(counts), include_only is None)
    shown[[] if include_only is None else include_only] = True
    counts = np.where(shown, counts.astype(np.float64), -np.inf)
    counts[0] = -np.inf
    counts[hidden] = -np.inf
    best = np.lexsort((np.arange(len(counts)), -counts))[: min(k, len(counts) - 1)]
    best = best[np.isfinite(counts[best])]
    return best.astype(np.int64), counts[best]
