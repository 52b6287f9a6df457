"""How SSF-T's learner goes on choosing its trend while it follows a stream.

Each refresh and each fit first measures all settings on the likes that have come since the one before, with the model
as it was then: nothing that is measured has been learned from. Kept are sums over users of what each setting gains on
those that the learner began with, and of the squares; what is older counts less, so that few users at a time suffice
and the choice follows what changes. The one with the largest gain, less one standard error, goes into force.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recbole_signed.errors import UsageError
from recbole_signed.graph import SignedGraph
from recbole_signed.live.store.edges import EdgeArrays
from recbole_signed.ssf.filter import SpectralFilter
from recbole_signed.ssf.item_counters import ItemCounters
from recbole_signed.ssf.sequences import IntArray, Sequences
from recbole_signed.ssf.settings import CHOSEN, POPULARITY, TREND, TimeSettings
from recbole_signed.ssf.time_search import (
    HALF_LIVES,
    POPULARITIES,
    REACH,
    SHARES,
    SMOOTHINGS,
    Exposures,
    TimeScores,
    leading,
)
from recbole_signed.ssf.transition import sources_moved
from recbole_signed.ssf.validation import Validation, drawn

METRIC = "NDCG@20"
USERS = 300
"""Users whose new likes are measured at a time at most."""
MEMORY = 1000
"""After how many more users a measurement counts half."""
ENOUGH = 30
"""Users before whom nothing is chosen."""
EXPONENTS = (0.35, 0.7, 1.0, 1.5)
WITH = ((1,), (0, 2), (0, 1))
"""Trends, shares and popularities are measured one after the other: each with what is in force of which others."""

MEASURED = tuple(f"{of}_{what}" for what in ("gains", "squares") for of in ("trend", "share", "popularity"))

Change = dict[str, Any]
"""Values of some settings."""


class LiveChoice:
    """The settings in force, and what was measured of the others.

    Trends are measured with the share in force, and popularity follows each of them, so that users with and without
    edges tell of it. Shares are measured with the trends in force. That popularity forgets faster or slower than the
    trend in force is measured by itself. Which is best follows from the edges and from the models that were in force,
    in order: a learner that starts again from a saved state chooses as one that went on.

    Args:
        start: the settings to begin with; they are among those that are measured.
        users: see :data:`USERS`; 0: nothing is chosen again.
        held: names of settings that stay as they are.

    Raises:
        UsageError: ``users`` is negative, or ``held`` names what is not chosen.
    """

    def __init__(self, start: TimeSettings, users: int = USERS, held: tuple[str, ...] = ()) -> None:
        if users < 0:
            raise UsageError(f"choose_again is {users}; give a number of users, or 0 to choose nothing again.")
        for name in held:
            if name not in CHOSEN:
                raise UsageError(f"held names '{name}', which is not chosen again; give some of {', '.join(CHOSEN)}.")
        self.start, self.users, self.held = start, users, tuple(sorted(held))
        trends = (
            dict(zip(TREND, (life, smoothing, exponent, 0.0, max(exponent, 1.0)), strict=True))
            for life in HALF_LIVES
            for smoothing in SMOOTHINGS
            for exponent in EXPONENTS
        )
        shares = ({"transition_share": each} for each in SHARES if start.transition_share)
        popularities = (
            dict(zip(POPULARITY, (life, exponent), strict=True))
            for life in HALF_LIVES
            for exponent in POPULARITIES
            if exponent
        )
        self.changes = [
            self._without_held(each)
            for each in (
                [{}, {"trend_exponent": 0.0, "recent_popularity": 0.0}, *trends],
                [{}, *shares],
                [{}, *popularities],
            )
        ]
        """Trends, shares, popularities that are measured; the first of each changes nothing."""
        self.best: list[Change] = [{} for _ in self.changes]
        """What is in force of each."""
        self.gains, self.squares = ([np.zeros(len(each)) for each in self.changes] for _ in range(2))
        self.measured = 0.0
        self.until = -np.inf
        self.n_cleared = 0

    def clear(self) -> None:
        """Drop all that was measured, of which users were a part who are to be forgotten; what is in force stays."""
        for sums in (*self.gains, *self.squares):
            sums[:] = 0.0
        self.measured, self.n_cleared = 0.0, self.n_cleared + 1

    @property
    def chooses(self) -> bool:
        """Whether there is anything to choose."""
        return self.users > 0 and any(len(each) > 1 for each in self.changes)

    def _without_held(self, changes: list[Change]) -> list[Change]:
        free = [{name: value for name, value in each.items() if name not in self.held} for each in changes]
        return list({tuple(sorted(each.items())): each for each in free}.values())

    @property
    def settings(self) -> TimeSettings:
        """What is in force."""
        return self._with(range(len(self.best)), {})

    def _with(self, groups: Iterable[int], change: Change) -> TimeSettings:
        changes: Change = {}
        for group in groups:
            changes |= self.best[group]
        return replace(self.start, **{**changes, **change})

    def measure(
        self, fitted: SpectralFilter, operator: npt.NDArray[np.float32], edges: EdgeArrays, n_users: int, n_items: int
    ) -> None:
        """Measure all settings on likes that are later than :attr:`until`, and put the best in force.

        Args:
            fitted: the filter as it was fitted or refreshed at that time.
            operator: its transition, ``[w, k']``, if it has one.
            edges: as they are now.
            n_users: of them.
            n_items: of them.
        """
        if not self.chooses:
            return
        likes = _unseen(fitted, edges, self.start.since, self.until, self.users, n_users, n_items)
        if likes is None:
            return
        earlier, validation, sequences, exposures = likes
        older = 0.5 ** (validation.n_users / MEMORY)
        self.measured = self.measured * older + validation.n_users
        scores = TimeScores(
            earlier,
            exposures,
            validation,
            lambda s: sources_moved(sequences, leading(earlier.vectors, s), s.scales, torch.from_numpy(operator)),
        )
        best = list(self.best)
        for number, (others, changes) in enumerate(zip(WITH, self.changes, strict=True)):
            tried = [self._with(others, each) for each in changes]
            longest = [max(each.get("half_life", 0.0), each.get("popularity_half_life", 0.0)) for each in changes]
            near = [n for n, life in enumerate(longest) if life <= REACH * exposures.days]
            values = validation.values([scores.candidate(earlier, tried[n]) for n in near])
            gained = values - values[0]
            for sums, new in ((self.gains, gained), (self.squares, gained**2)):
                sums[number] *= older
                sums[number][near] += new.sum(axis=1)
            if self.measured >= ENOUGH:
                cautious = self.gains[number] - np.sqrt(self.squares[number])
                best[number] = changes[int(cautious.argmax())]
        self.best = best

    # ---- keeping

    def parameters(self) -> dict[str, Any]:
        """Return what a choice is made again from, by the names in a learner's settings."""
        return {**asdict(self.start), "choose_again": self.users, "held": list(self.held)}

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return tensors and JSON from which :meth:`load` makes the same."""
        tensors = {f"measured_{name}": each for name, each in zip(MEASURED, (*self.gains, *self.squares), strict=True)}
        until = self.until if np.isfinite(self.until) else None
        return tensors, {"best": self.best, "measured": self.measured, "until": until}

    def load(self, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` gave."""
        self.best = [dict(each) for each in meta["best"]]
        sums = [np.array(tensors[f"measured_{name}"]) for name in MEASURED]
        self.gains, self.squares = sums[: len(self.changes)], sums[len(self.changes) :]
        self.measured = float(meta["measured"])
        self.until = -np.inf if meta["until"] is None else float(meta["until"])


def _unseen(
    fitted: SpectralFilter,
    edges: EdgeArrays,
    since: float,
    until: float,
    max_users: int,
    n_users: int,
    n_items: int,
) -> tuple[SpectralFilter, Validation, Sequences, Exposures] | None:
    """Return a filter with counters as they were, users with later likes, their earlier verdicts, and all of these."""
    user, item, like, time = edges.verdicts
    old = time <= until
    users = drawn(np.unique(user[~old & like]), max_users)
    # a history that spans less time than what follows it tells nothing of trends: its times may be made up
    timed = old & (time >= since)
    if not len(users) or not timed.any() or np.ptp(time[timed]) < np.ptp(time[~old]):
        return None
    row = np.full(n_users, -1)
    row[users] = np.arange(len(users))
    own = old & (row[user] >= 0)
    side = [(row[user[own & each]], item[own & each]) for each in (like, ~like)]
    held = ~old & like & (row[user] >= 0)
    keys = np.sort(row[user[held]] * n_items + item[held])
    validation = Validation(
        users=SignedGraph.from_edges(side[0], side[1], len(users), n_items),
        like_keys=keys,
        like_count=np.bincount(keys // n_items, minlength=len(users)),
        hidden=touched(edges.where(edges.timestamp <= until), row),
        metric=METRIC,
    )
    vectors = torch.zeros(n_items, fitted.vectors.shape[1])
    vectors[: len(fitted.vectors)] = fitted.vectors
    likes, dislikes = (
        torch.from_numpy(np.bincount(item[old & each], minlength=n_items)).float() for each in (like, ~like)
    )
    sequences = Sequences.of(row[user[own]], item[own], like[own], time[own], len(users))
    exposures = Exposures.since(since, item[old], time[old])
    return fitted.following(vectors, ItemCounters.of(likes, dislikes)), validation, sequences, exposures


def touched(edges: EdgeArrays, row: IntArray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return row and item of the edges of users who have a row, rows ascending."""
    place = row[edges.user]
    own = np.flatnonzero(place >= 0)
    order = own[np.argsort(place[own], kind="stable")]
    return torch.from_numpy(place[order]), torch.from_numpy(edges.item[order].astype(np.int64))
