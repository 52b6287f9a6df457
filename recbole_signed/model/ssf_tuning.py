"""How SSF chooses its parameters on the validation part: coordinate-wise, with few decompositions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from recbole_signed.graph import SignedGraph
from recbole_signed.graph.spectral_filter import FilterSettings, SpectralFilter

CELLS = 4_000_000
"""Scores that are computed at a time."""

FAINT = 1e-5
"""Part of the largest response below which a singular vector is left out of an evaluation."""

HOPE = 0.97
"""Part of the best value below which what lies further in the same direction is not tried."""

WEIGHTS = (-0.4, -0.2, 0.0, 0.3, 0.6, 1.0)
WEIGHT_STEPS = (-0.15, 0.15)
SMOOTHINGS = (2.5, 10.0, 20.0)
COARSE_CUTOFFS = (16, 64, 192)
SWEEPS: dict[str, tuple[float, ...]] = {
    "cutoff": (2, 8, 16, 32, 64, 128, 192, 254),
    "rolloff": (4.0, 16.0),
    "response_power": (-0.5, 0.5),  # steps from the chosen value
    "rank": (64, 128),
    "activity_exponent": (0.0, 2.0),
    "popularity_exponent": (-0.1, 0.1, 0.25, 0.5),
    "popularity_floor": (0.1, 0.3, 1.0, 3.0),
    "dislike_aversion": (0.0, 0.25, 0.5),
}
"""What is tried on the chosen decomposition, one after the other."""


@dataclass(frozen=True)
class Validation:
    """Users with training edges and held-out likes, and what a ranking is measured by."""

    users: SignedGraph
    """The users' training edges, ``[n_users, n_items]``."""
    like_keys: np.ndarray
    """int64, ascending: row * n_items + item of each held-out like."""
    like_count: np.ndarray
    """int64 ``[n_users]``: held-out likes of each user."""
    hidden: tuple[torch.Tensor, torch.Tensor]
    """(row, item), rows ascending, of what must not be recommended."""
    metric: str
    """``NDCG@k`` or ``Recall@k``, as RecBole defines them."""

    @classmethod
    def from_loader(cls, loader: Any, graph: SignedGraph, metric: str, max_users: int) -> Validation | None:
        """Take what RecBole's evaluation would see of a part; of at most ``max_users`` users, drawn with a fixed seed.

        Returns:
            None if no user with training edges has a held-out like.
        """
        edges = np.diff(graph.likes.indptr) + np.diff(graph.dislikes.indptr)
        chosen = np.flatnonzero(edges[loader.users] > 0)
        if not len(chosen):
            return None
        if len(chosen) > max_users:
            chosen = np.sort(np.random.default_rng(0).choice(chosen, max_users, replace=False))
        batch, hidden, like_row, like_item = loader.collate_fn(chosen.tolist())
        users = loader.users[chosen]
        known = re.fullmatch(r"(NDCG|Recall)@(\d+)", metric, re.IGNORECASE)
        return cls(
            users=graph.rows(users),
            like_keys=np.unique((like_row * graph.n_items + like_item).numpy()),
            like_count=batch.like_count.numpy(),
            hidden=hidden,
            metric=metric if known else "NDCG@20",
        )

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.like_count)

    def measure(self, fitted: SpectralFilter, projected: torch.Tensor) -> float:
        """Return the metric of a filter, given its :meth:`~SpectralFilter.project` of :attr:`users`."""
        response = fitted.response(fitted.degrees(self.users))
        # the response falls with s: what comes after the last vector that matters is not worth its time
        first_faint = int((response.amax(dim=0) > FAINT * response.max()).sum()) if response.numel() else 0
        factors = (projected[:, : fitted.k] * response)[:, :first_faint]
        return self.measure_scores(lambda rows: fitted.scores_of(factors[rows]))

    def measure_scores(self, score: Callable[[slice], torch.Tensor]) -> float:
        """Return the metric of any scores.

        Args:
            score: gives the scores of all items for some rows of :attr:`users`, ``[rows, n_items]``; they are used up.
        """
        n_items = self.users.n_items
        name, depth = self.metric.split("@")
        k = min(int(depth), n_items)
        row, item = self.hidden
        size = max(1, CELLS // n_items)
        top = []
        for first in range(0, self.n_users, size):
            scores = score(slice(first, first + size))
            bounds = torch.tensor([first, first + size])
            start, end = torch.searchsorted(row, bounds).tolist()
            scores[row[start:end] - first, item[start:end]] = -torch.inf
            top.append(scores.topk(k, dim=1).indices)
        keys = torch.cat(top).numpy() + np.arange(self.n_users)[:, None] * n_items
        place = np.searchsorted(self.like_keys, keys).clip(max=len(self.like_keys) - 1)
        hits = self.like_keys[place] == keys
        if name.lower() == "recall":
            return float((hits.sum(axis=1) / self.like_count).mean())
        discount = 1.0 / np.log2(np.arange(2, k + 2))
        ideal = discount.cumsum()[self.like_count.clip(max=k) - 1]
        return float(((hits * discount).sum(axis=1) / ideal).mean())


@dataclass(frozen=True)
class Tuned:
    """What was chosen, and what that took."""

    settings: FilterSettings
    value: float
    """The metric on validation."""
    decompositions: int
    evaluations: int


@dataclass
class _Candidate:
    fitted: SpectralFilter
    projected: torch.Tensor
    value: float


class _Search:
    """The best candidate so far, a warm start for the next decomposition, and what has been evaluated."""

    def __init__(self, graph: SignedGraph, validation: Validation, iterations: int) -> None:
        self.graph, self.validation, self.iterations = graph, validation, iterations
        self.best: _Candidate | None = None
        self.block: torch.Tensor | None = None
        self.values: dict[FilterSettings, float] = {}
        self.decompositions = 0

    def decompose(self, settings: FilterSettings) -> tuple[SpectralFilter, torch.Tensor]:
        iterations = self.iterations if self.block is None else max(1, self.iterations // 2)
        fitted, self.block = SpectralFilter.fit(self.graph, settings, iterations=iterations, start=self.block)
        self.decompositions += 1
        return fitted, fitted.project(self.validation.users)

    def offer(self, fitted: SpectralFilter, projected: torch.Tensor, **settings: Any) -> float:
        """Evaluate the decomposition with these settings, and keep it if it is the best."""
        changed = fitted.changed(**settings)
        if changed.settings not in self.values:
            self.values[changed.settings] = value = self.validation.measure(changed, projected)
            if self.best is None or value > self.best.value:
                self.best = _Candidate(changed, projected, value)
        return self.values[changed.settings]

    def sweep(self, name: str, values: Iterable[float]) -> None:
        """Try other values of one setting on the decomposition of the best, each way as long as there is hope."""
        assert self.best is not None
        at = self.best
        now = getattr(at.fitted.settings, name)
        for way in (sorted(v for v in values if v > now), sorted((v for v in values if v < now), reverse=True)):
            for value in way:
                if self.hopeless(self.offer(at.fitted, at.projected, **{name: value})):
                    break

    def hopeless(self, value: float) -> bool:
        return self.best is not None and value < HOPE * self.best.value

    def settings(self) -> FilterSettings:
        assert self.best is not None
        return self.best.fitted.settings


def tune(graph: SignedGraph, validation: Validation, start: FilterSettings, iterations: int = 4) -> Tuned:
    """Choose the settings with the highest metric on validation, one coordinate after the other.

    Sign and size of the dislike weight come first, each with a coarse choice of responses, then the degree smoothing;
    both need a decomposition, started from the one before. The rest is tried on the chosen decomposition, and the
    dislike aversion last. ``degree_exponent`` and ``verdict_smoothing`` stay as they are.

    Args:
        graph: the training graph.
        validation: users and held-out likes.
        start: values of what is not tried yet; ``rank`` is the largest that is tried.
        iterations: of the first decomposition; the others take half of it.
    """
    search = _Search(graph, validation, iterations)
    rank = max(1, min(start.rank, graph.n_users - 1, graph.n_items - 1))
    start = replace(start, rank=rank, dislike_aversion=0.0)
    coarse = [c for c in COARSE_CUTOFFS if c < rank] or [rank // 2]
    for weight in WEIGHTS:
        fit = search.decompose(replace(start, dislike_weight=weight))
        tried = {cutoff: search.offer(*fit, cutoff=cutoff) for cutoff in coarse}
        cutoff = max(tried, key=lambda each: tried[each])
        for power in (1.0, 3.0) if not search.hopeless(tried[cutoff]) else ():
            search.offer(*fit, cutoff=cutoff, response_power=power)
    base = search.settings()
    for step in WEIGHT_STEPS:
        search.offer(*search.decompose(replace(base, dislike_weight=round(base.dislike_weight + step, 3))))
    base = search.settings()
    for smoothing in SMOOTHINGS:
        fit = search.decompose(replace(base, degree_smoothing=smoothing))
        if not search.hopeless(search.offer(*fit)):
            for cutoff in sorted({max(base.cutoff // 2, 2), min(base.cutoff * 2, max(rank - 2, 1))}):
                search.offer(*fit, cutoff=cutoff)
    for name, values in SWEEPS.items():
        search.sweep(name, _values(name, values, search.settings(), rank))
    assert search.best is not None
    return Tuned(search.settings(), search.best.value, search.decompositions, len(search.values))


def _values(name: str, values: tuple[float, ...], now: FilterSettings, rank: int) -> list[Any]:
    if name == "cutoff":
        return [value for value in values if value < rank]
    if name == "rank":
        return [value for value in values if now.cutoff < value < rank]
    if name == "response_power":
        return [now.response_power + step for step in values]
    return list(values)
