r"""SSF-T under a stream.

T0: degrees, like rates and the trend are those of the edges, always; the counters that forget are kept by the edges
themselves, exact under retractions and in O(1) an event. T1: a user is the fold-in of its own edges, and its sources
are its own events in their order. T2: a step of subspace iteration; the transition's sums are counted again on the new
vectors, so that nothing of the old ones and of erased users is left. T3: the full fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from recbole_signed.live import LIKE
from recbole_signed.live.learners.base import IntArray, Refreshed, user_rows
from recbole_signed.live.learners.ssf.learner import SpectralLearner
from recbole_signed.live.learners.ssf.live_choice import USERS, LiveChoice
from recbole_signed.live.store.edge_views import Rows
from recbole_signed.live.store.edges import Changes, EdgeArrays, EdgeState
from recbole_signed.recent_counts import RecentCounts
from recbole_signed.ssf.filter import SpectralFilter
from recbole_signed.ssf.sequences import Sequences
from recbole_signed.ssf.settings import CHOSEN, FilterSettings, TimeSettings, number_of
from recbole_signed.ssf.time_search import leading, trend_of
from recbole_signed.ssf.transition import Transition, TransitionSums
from recbole_signed.ssf.user_edges import UserEdges


class TimeLearner(SpectralLearner):
    """A :class:`SpectralLearner` that knows the order of events and the trend of items.

    Args:
        settings: parameters of the filter; they stay as they are.
        time_settings: those of transition and trend.
        iterations: subspace iterations of a full fit.
        passes: those of a refresh.
        choice: goes on choosing some of ``time_settings``; None: they stay as they are.
    """

    name = "SSFT"

    def __init__(
        self,
        settings: FilterSettings,
        time_settings: TimeSettings,
        iterations: int = 20,
        passes: int = 1,
        choice: LiveChoice | None = None,
    ) -> None:
        self.choice = LiveChoice(time_settings, 0) if choice is None else choice
        self.operator = np.zeros((0, 0), dtype=np.float32)
        self.recent = self._no_counts()
        super().__init__(settings, iterations, passes)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> TimeLearner:
        """Make a learner of parameters by the names in SSF-T's yaml, and ``iterations`` and ``passes``.

        Args:
            settings: ``choose_again`` and ``held`` are those of :class:`.LiveChoice`, ``users`` and ``held``; the
                latter may be one name. Where it is not given, all that is given is held.

        Raises:
            UsageError: there is no such parameter, or a value is out of its range.
        """
        own, rest = TimeSettings.split(settings)
        users = number_of("choose_again", int, rest.pop("choose_again", USERS))
        held = rest.pop("held", [name for name in CHOSEN if name in settings])
        names = (held,) if isinstance(held, str) else tuple(held)
        return cls._of(rest, time_settings=own, choice=LiveChoice(own, users, names))

    @property
    def time_settings(self) -> TimeSettings:
        """The parameters of transition and trend in force."""
        return self.choice.settings

    @property
    def needs_times(self) -> bool:
        """Whether a fit looks at the times of edges: yes."""
        return True

    @property
    def refresh_needs_times(self) -> bool:
        """Whether a refresh does: yes."""
        return True

    @property
    def remembers(self) -> bool:
        """Whether a fit depends on those before it: it chooses by what they have measured."""
        return self.choice.chooses

    # ---- T3 and T2

    def fit(self, edges: EdgeArrays, n_users: int, n_items: int) -> None:
        """Fit to all edges from a random start, and solve the transition; before, choose again on what is new."""
        self._choose(edges, n_users, n_items)
        super().fit(edges, n_users, n_items)
        self._learn(edges, n_users, n_items)

    def refresh(self, edges: EdgeArrays, n_users: int, n_items: int) -> Refreshed:
        """Choose again, take ``passes`` steps of subspace iteration over all edges, and solve the transition."""
        self._choose(edges, n_users, n_items)
        refreshed = super().refresh(edges, n_users, n_items)
        self._learn(edges, n_users, n_items)
        return refreshed

    def _choose(self, edges: EdgeArrays, n_users: int, n_items: int) -> None:
        if self.fitted.vectors.shape[1]:
            self.choice.measure(self.fitted, self.operator, edges, n_users, n_items)
        self.choice.until = float(edges.timestamp.max()) if len(edges) else -np.inf

    def _learn(self, edges: EdgeArrays, n_users: int, n_items: int) -> None:
        s = self.time_settings
        user, item, like, time = edges.verdicts
        self.recent = [RecentCounts.of(item, time, life, n_items, s.since) for life in s.half_lives]
        self._filter = None
        if not self.choice.start.transition_share:
            return
        sequences = Sequences.of(user, item, like, time, n_users)
        sums = TransitionSums.of(sequences, leading(torch.from_numpy(self.items.base), s), s.scales)
        self.operator = sums.solve(s.transition_ridge)

    # ---- T0 and T1

    def update(self, edges: EdgeState, changes: Changes) -> None:
        """Take over the counters of the touched items, and fold in what has grown."""
        super().update(edges, changes)
        if len(changes.forgotten):
            self.choice.clear()
        self._count(edges)

    def keep_without_forgotten(self, of: Any) -> bool:
        """Take over what another learner has left of users, and drop what was measured if it did meanwhile."""
        kept = super().keep_without_forgotten(of)
        if of.choice.n_cleared != self.choice.n_cleared:
            self.choice.clear()
            self.choice.n_cleared = of.choice.n_cleared
        return kept

    def attach(self, edges: EdgeState) -> None:
        """Take over all counters, and fold in what has grown since the refresh."""
        super().attach(edges)
        self._count(edges)

    def _count(self, edges: EdgeState) -> None:
        s = self.time_settings
        self.recent = [edges.recent(life, since=s.since) for life in s.half_lives]

    def _no_counts(self) -> list[RecentCounts]:
        return [RecentCounts(life) for life in self.time_settings.half_lives]

    # ---- scores

    @property
    def filter(self) -> SpectralFilter:
        """The filter in force, which shares this learner's arrays; it holds until the next update."""
        if self._filter is None:
            made, s = super().filter, self.time_settings
            counts = torch.zeros(2, made.counters.n_items, dtype=torch.float64)
            for own, each in zip(counts, self.recent, strict=True):
                recent = each.counts[: len(own)]
                own[: len(recent)] = torch.from_numpy(recent)
            transition = None
            if s.transition_share and self.operator.size:
                transition = Transition(torch.from_numpy(self.operator), s.scales, s.transition_share)
            trend = trend_of(counts, made, s) if s.tells else None
            self._filter = replace(made, transition=transition, trend=trend)
        return self._filter

    def _users(self, edges: EdgeState, users: IntArray) -> UserEdges:
        rows = user_rows(edges, users, times=True)
        return self._with_prior(replace(self._edges(rows), sequences=sequences_of(rows)), users)

    # ---- keeping

    def parameters(self) -> dict[str, Any]:
        """Return the parameters, by the names in the model's yaml."""
        return {**super().parameters(), **self.choice.parameters()}

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return everything but the counters and what is made of the edges."""
        (tensors, meta), (measured, choice) = super().state(), self.choice.state()
        return {**tensors, **measured, "operator": self.operator}, {**meta, "choice": choice}

    def load(self, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` gave; :meth:`attach` brings what is made of the edges."""
        super().load(tensors, meta)
        self.choice.load(tensors, meta["choice"])
        self.operator = np.array(tensors["operator"])
        self.recent = self._no_counts()


def sequences_of(rows: Rows) -> Sequences:
    """Return likes and dislikes that were read with their times in order."""
    assert rows.timestamp is not None
    owner = np.repeat(np.arange(len(rows.indptr) - 1), np.diff(rows.indptr))
    return Sequences.of(owner, rows.ids, rows.kind == LIKE, rows.timestamp, len(rows.indptr) - 1)
