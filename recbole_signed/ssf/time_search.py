"""How SSF-T chooses what it knows of time on the validation part, once the parameters of the filter are chosen."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recbole_signed.graph import SignedGraph
from recbole_signed.recent_counts import DAY, RecentCounts
from recbole_signed.ssf.filter import SpectralFilter
from recbole_signed.ssf.pieces import Candidate
from recbole_signed.ssf.search import SearchResult, factors
from recbole_signed.ssf.sequences import IntArray, Sequences
from recbole_signed.ssf.settings import SCALES, FilterSettings, TimeSettings
from recbole_signed.ssf.shortlist import FactorCandidate, ShortVectors
from recbole_signed.ssf.transition import TransitionSums, added, likes_of_each, sources_moved
from recbole_signed.ssf.trend import Trend
from recbole_signed.ssf.validation import Validation

SCALE_SETS = ((2.0, 10.0, 50.0), (1.0, 5.0, 20.0))
RIDGES = (0.01, 0.1)
SHARES = (0.0, 0.25, 0.5, 1.0, 2.0)
HALF_LIVES = (1 / 24, 0.25, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Days."""
COARSE_SHARE = 0.5
"""With which scales and ridges are tried."""
COARSE_TRENDS = ((0.0, 1.0, 0.3), (0.35, 1.0, 0.3), (0.7, 1.0, 0.3), (1.0, 1.0, 0.3), (0.7, 1.0, 2.0))
"""Exponent of the trend, its part in popularity, and its smoothing, that are tried with each half-life."""
EXPONENTS = (0.0, 0.2, 0.35, 0.5, 0.7, 1.0, 1.5)
POPULARITIES = (0.0, 0.5, 1.0, 1.5)
SMOOTHINGS = (0.03, 0.3, 2.0)
REACH = 4.0
"""Half-lives of more than so many times the time that exposures span can't be told apart, and are not tried."""

LEARNED_EDGES = 1_000_000
"""In a large graph, transitions are chosen as users with that many edges teach them: some hundred thousand likes for
less than a thousand numbers of a source. The fit learns from all."""

KEPT_CELLS = 32_000_000
"""Exposure scores of validation users that are kept at most, as long as what is tried does not change them."""


@dataclass(frozen=True)
class Exposures:
    """When items were met: ``item`` and ``time`` in milliseconds, ``[n_events]`` each."""

    item: npt.NDArray[np.integer]
    time: npt.NDArray[np.float64]

    @classmethod
    def since(cls, moment: float, item: npt.NDArray[np.integer], time: npt.NDArray[np.generic]) -> Exposures:
        """Return those that are not from before a moment in milliseconds."""
        counted = np.asarray(time) >= moment
        return cls(item[counted], time[counted].astype(np.float64))

    @property
    def days(self) -> float:
        """The time they span."""
        return float(np.ptp(self.time)) / DAY if len(self.time) else 0.0


@dataclass(frozen=True)
class TimeSearchResult:
    """What was chosen for both parts of the score."""

    settings: TimeSettings
    tuned: SearchResult
    """The settings of the filter; value and effort of the whole choice."""


def tune_time(
    graph: SignedGraph,
    sequences: Sequences,
    exposures: Exposures,
    validation: Validation,
    found: SearchResult,
    start: TimeSettings,
    iterations: int,
    fixed: Collection[str] = (),
    part: IntArray | None = None,
) -> TimeSearchResult:
    """Choose transition and trend, one after the other, and what multiplies their sum; SSF itself is tried first.

    Either may come first: what is chosen second is fitted to the first, and on few users the wrong one is easily kept.
    The better of both ends is taken.

    Where exposures span too little time to tell half-lives apart, the trend of ``start`` holds.

    Args:
        graph: the training graph.
        sequences: of its users.
        exposures: of its items.
        validation: users, known or new, and held-out likes.
        found: what was chosen for the filter alone.
        start: values of what is not tried.
        iterations: of the filter's decomposition.
        fixed: names of settings, of the filter or of time, that stay as they are.
        part: some users of a large graph, who teach the transitions that are tried; None for all.
    """
    fitted = found.fit(graph, iterations)
    search = _TimeSearch(fitted, sequences, exposures, validation, start, frozenset(fixed), part)
    lives = [life for life in HALF_LIVES if life <= REACH * exposures.days]
    ends = []
    refine, transitions, trends = search.refine, search.transitions, search.trends
    for steps in ((transitions, trends, refine, refine), (trends, refine, transitions, refine)):
        search.begin(fitted, start.without_time())
        for step in steps:
            step(lives)
        ends.append((search.value, search.fitted, search.best))
    value, fitted, best = max(ends, key=lambda each: each[0])
    tuned = found.followed(fitted, value, search.n)
    return TimeSearchResult(best, tuned)


class _TimeSearch:
    """The best settings so far, and what was worked out of those that were tried."""

    def __init__(
        self,
        fitted: SpectralFilter,
        sequences: Sequences,
        exposures: Exposures,
        validation: Validation,
        start: TimeSettings,
        fixed: frozenset[str],
        part: IntArray | None,
    ) -> None:
        assert validation.numbers is not None
        self.fitted, self.validation = fitted, validation
        self.teachers = sequences if part is None else sequences.of_users(part)
        self.n_likes = likes_of_each(sequences, fitted.counters.n_items)
        self.start, self.fixed = start, fixed
        self.own = sequences.of_users(validation.numbers)
        self.scores = TimeScores(fitted, exposures, validation, self._moved)
        self.sums: dict[tuple[float, ...], TransitionSums] = {}
        self.moved: dict[tuple[float, ...], torch.Tensor] = {}
        self.best, self.value, self.n = start, -np.inf, 0
        self.per_user: np.ndarray | None = None
        self.known: set[tuple[FilterSettings, TimeSettings]] = set()

    def begin(self, fitted: SpectralFilter, settings: TimeSettings) -> None:
        """Begin with some settings, whatever was found before."""
        self.fitted, self.best, self.value, self.per_user = fitted, settings, -np.inf, None
        self.known.clear()
        self.offer([settings])

    def transitions(self, _: list[float]) -> None:
        """Choose the scales and the ridge of the transition, and its share."""
        names = (*SCALES, "transition_ridge", "transition_share")
        values = ((*scales, ridge, COARSE_SHARE) for scales in SCALE_SETS for ridge in RIDGES)
        self.change(dict(zip(names, each, strict=True)) for each in values)
        self.change({"transition_share": each} for each in SHARES)

    def trends(self, lives: list[float]) -> None:
        """Choose the trend; where no half-lives can be told apart, that of the start holds."""
        trend = ("half_life", "trend_exponent", "recent_popularity", "trend_smoothing")
        if lives:
            self.change([dict(zip(trend, (life, *each), strict=True)) for life in lives for each in COARSE_TRENDS])
        else:
            self.begin(self.fitted, replace(self.best, **{name: getattr(self.start, name) for name in trend}))

    def refine(self, lives: list[float]) -> None:
        """Choose one after the other again."""
        if lives:
            self.change({"trend_exponent": each} for each in EXPONENTS)
            self.change({"popularity_half_life": each} for each in lives)
            self.change({"recent_popularity": each} for each in POPULARITIES)
            self.change({"trend_smoothing": each} for each in SMOOTHINGS)
        self.factors()
        self.change({"transition_share": each} for each in SHARES)

    def change(self, changes: Iterable[dict[str, Any]]) -> None:
        """Try changes of the best settings."""
        self.offer([replace(self.best, **each) for each in changes])

    def offer(self, settings: Iterable[TimeSettings]) -> None:
        """Try settings, and keep the best; what is fixed stays as it is."""
        held = {name: value for name, value in vars(self.start).items() if name in self.fixed}
        distinct = list(dict.fromkeys(replace(each, **held) for each in settings))
        self._contest([(self.fitted, each) for each in distinct])

    def factors(self) -> None:
        """Try the settings that scores are multiplied by."""
        for name, values in factors(self.validation).items():
            if name in self.fixed:
                continue
            self._contest([(self.fitted.changed(**{name: value}), self.best) for value in values])

    def _contest(self, asked: list[tuple[SpectralFilter, TimeSettings]]) -> None:
        tried = [each for each in asked if (each[0].settings, each[1]) not in self.known]
        self.known.update((fitted.settings, settings) for fitted, settings in tried)
        self.scores.keep(self.best)
        standings = self.validation.contest([self._candidate(*each) for each in tried], self.per_user)
        self.n += len(tried)
        for (fitted, settings), standing in zip(tried, standings, strict=True):
            if standing.per_user is not None and standing.value > self.value:
                self.fitted, self.best = fitted, settings
                self.value, self.per_user = standing.value, standing.per_user

    def _candidate(self, fitted: SpectralFilter, s: TimeSettings) -> Candidate:
        return self.scores.candidate(fitted, s)

    def _moved(self, s: TimeSettings) -> torch.Tensor:
        """Return the validation users' sources times the operator, ``[n_users, k']``."""
        key = operator_of(s)
        if key not in self.moved:
            vectors = leading(self.fitted.vectors, s)
            if key[:-1] not in self.sums:
                self.sums[key[:-1]] = TransitionSums.of(self.teachers, vectors, s.scales, self.n_likes)
            operator = self.sums[key[:-1]].solve(s.transition_ridge)
            self.moved[key] = sources_moved(self.own, vectors, s.scales, torch.from_numpy(operator))
        return self.moved[key]


class TimeScores:
    """The scores of validation users under many time settings, which share what they have in common.

    Args:
        fitted: the filter whose vectors and factors all settings have.
        exposures: of the items, before the held-out likes.
        validation: the users.
        moved: gives the users' sources times the operator of some settings, ``[n_users, k']``.
    """

    def __init__(
        self,
        fitted: SpectralFilter,
        exposures: Exposures,
        validation: Validation,
        moved: Callable[[TimeSettings], torch.Tensor],
    ) -> None:
        self.exposures, self.validation, self.moved = exposures, validation, moved
        self.taste = fitted.fold_in(validation.users)
        self.short = ShortVectors(fitted.vectors)
        self.recent: dict[float, torch.Tensor] = {}
        self.kept_key: tuple[Any, ...] | None = None
        self.kept: dict[tuple[int, int], torch.Tensor] = {}

    def keep(self, s: TimeSettings) -> None:
        """From now on keep the exposure scores of some settings, which others share that differ in the trend alone."""
        if self.kept_key != (key := _exposure_key(s)):
            self.kept_key, self.kept = key, {}

    def candidate(self, fitted: SpectralFilter, s: TimeSettings) -> Candidate:
        """Return the scoring of a filter, which may differ from the first in its factors alone, at some settings."""
        timed = replace(fitted, trend=self._trend(fitted, s))
        moved = self.moved(s) if s.transition_share else None
        key = _exposure_key(s)

        def factors(rows: slice) -> torch.Tensor:
            own = self.taste[rows]
            return own if moved is None else own + added(own, moved[rows], s.transition_share)

        kept = self.kept if key == self.kept_key else None
        return FactorCandidate(timed, self.validation.users, factors, key, None, self.short, kept, KEPT_CELLS)

    def _trend(self, fitted: SpectralFilter, s: TimeSettings) -> Trend:
        return trend_of([self._recent(life, fitted.counters.n_items) for life in s.half_lives], fitted, s)

    def _recent(self, half_life: float, n_items: int) -> torch.Tensor:
        if half_life not in self.recent:
            counts = RecentCounts.of(self.exposures.item, self.exposures.time, half_life, n_items)
            self.recent[half_life] = torch.from_numpy(counts.counts)
        return self.recent[half_life]


def _exposure_key(s: TimeSettings) -> tuple[Any, ...]:
    """Return what of the settings exposure scores depend on."""
    return ("time", s.transition_share, *operator_of(s)) if s.transition_share else ("time",)


def operator_of(s: TimeSettings) -> tuple[float, ...]:
    """Return what the transition operator of settings depends on."""
    return (*s.scales, float(s.transition_rank), s.transition_ridge)


def leading(vectors: torch.Tensor, settings: TimeSettings) -> npt.NDArray[np.float32]:
    """Return the vectors that transitions are learned on, float32 ``[n_items, <= k']``."""
    return np.ascontiguousarray(vectors[:, : settings.transition_rank].cpu().numpy())


def trend_of(counts: Iterable[torch.Tensor], fitted: SpectralFilter, s: TimeSettings) -> Trend:
    """Return the trends of a filter's items from what each of the half-lives leaves of exposures, ``[n_items]``."""
    exposures = fitted.counters.likes + fitted.counters.dislikes
    of_tastes, of_popularity = (each.to(exposures.device) for each in counts)
    return Trend.of(of_tastes, of_popularity, exposures, s)
