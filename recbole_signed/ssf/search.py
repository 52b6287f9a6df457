"""How SSF chooses its parameters on the validation part: coordinate-wise, with few decompositions; and their price."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from logging import getLogger
from typing import Any

import numpy as np
import torch

from recbole_signed.graph import SignedGraph
from recbole_signed.model.verdicts import PersonalVerdicts, ScoresOf, lowered
from recbole_signed.sequences import IntArray
from recbole_signed.ssf.filter import SpectralFilter
from recbole_signed.ssf.settings import FilterSettings
from recbole_signed.ssf.shortlist import Candidate, FactorCandidate, FactorsOf, Pieces, ShortVectors
from recbole_signed.ssf.validation import Validation

ExposureOf = Callable[[slice], torch.Tensor]
"""Gives the exposure scores of all items for some of the users, ``[rows, n_items]``."""

FAINT = 1e-3
"""Share of the largest response below which a singular vector is left out of an evaluation."""

HOPE = 0.97
"""Share of the best value below which what lies further in the same direction is not tried."""

FIRST_WEIGHT = 0.3
WEIGHTS = ((0.6, 1.0), (0.0, -0.2, -0.4))
"""What is tried of w from there, each way as long as there is hope."""
WEIGHT_STEPS = (-0.15, 0.15)
SMOOTHINGS = ((10.0, 20.0), (2.5,))
COARSE_CUTOFFS = (16, 64, 192)
COARSE_POWERS = (1.0, 3.0)
SWEEPS: dict[str, tuple[float, ...]] = {
    "cutoff": (2, 8, 16, 32, 64, 128, 192, 254),
    "rolloff": (4.0, 16.0),
    "response_power": (-0.5, 0.5),  # steps from the chosen value
    "activity_exponent": (0.0, 2.0),
}
"""What is tried on the chosen decomposition, one after the other, each way as long as there is hope."""
FACTORS: dict[str, tuple[float, ...]] = {
    "popularity_exponent": (-0.1, 0.0, 0.1, 0.25, 0.5),
    "popularity_floor": (1e-4, 0.1, 0.3, 1.0, 3.0),
    "dislike_aversion": (0.0, 0.25, 0.5),
}
"""What is tried then: settings that leave the exposure scores as they are, which are computed once for all values."""
SIGN_AWARE_AVERSIONS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""What is tried of the dislike aversion, here and by ``tune``, by a metric in which dislikes have a price."""
SEARCH_EDGES = 4_000_000
"""In a larger graph, weight and smoothing, which take some ten decompositions, are chosen on users with that many."""
PART_RANK, PART_PASSES = 128, 2
"""How many singular vectors are looked at there, and passes from one decomposition to the next; all, and half, else."""
PASSES = 2
"""Times that all are gone through; more is no better on users that the search does not see."""
STRENGTHS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.2, 0.15, 0.12, 0.1, 0.08, 0.065, 0.05)
"""What is tried of the personal verdict's strength, the strongest first."""
AVERSIONS = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""What is tried of the dislike aversion above the one that is best."""
CELLS = 100_000_000
"""Scores of all users of a validation that is chosen on, about."""
LEAST_USERS = 300

CandidateAt = Callable[[FilterSettings], Candidate]
"""Gives the scoring of a model at some settings."""


@dataclass(frozen=True)
class SearchResult:
    """What was chosen, and what that took."""

    settings: FilterSettings
    value: float
    """The metric on validation."""
    decompositions: int
    evaluations: int
    """Candidates that were ranked with, most of them for a part of the users."""
    fitted: SpectralFilter | None = field(default=None, repr=False, compare=False)
    """The filter that the settings were measured with, fitted to the whole graph."""
    alone: bool = False
    """Whether that is what :meth:`~SpectralFilter.fit` makes of graph and settings, from a random start."""

    def fit(self, graph: SignedGraph, iterations: int) -> SpectralFilter:
        """Return what the fit makes of graph and settings: :attr:`fitted`, or made now."""
        if self.fitted is not None and self.alone:
            return self.fitted
        return SpectralFilter.fit(graph, self.settings, iterations=iterations)[0]

    def followed(self, fitted: SpectralFilter, value: float, evaluations: int) -> SearchResult:
        """Return what a further search on :meth:`fit` ends with: its filter and value, and how many it ranked with."""
        made = self.decompositions + (not self.alone)
        return SearchResult(fitted.settings, value, made, self.evaluations + evaluations, fitted, alone=True)


@dataclass(frozen=True)
class _Fit:
    """A decomposition, and the edges of the validation users on its vectors."""

    fitted: SpectralFilter
    projected: torch.Tensor
    short: ShortVectors
    alone: bool
    """Whether it began at random, and so depends on the graph and the settings alone."""


@dataclass(frozen=True)
class _Best:
    fit: _Fit
    settings: FilterSettings
    value: float
    per_user: np.ndarray


class _Search:
    """The best settings so far, a warm start for the next decomposition, and what has been evaluated."""

    def __init__(self, graph: SignedGraph, validation: Validation, iterations: int, fewer: int) -> None:
        self.graph, self.validation, self.iterations, self.fewer = graph, validation, iterations, fewer
        self.best: _Best | None = None
        self.block: torch.Tensor | None = None
        self.values: dict[FilterSettings, float] = {}
        self.decompositions = self.ranked_before = 0
        self.fixed: frozenset[str] = frozenset()

    def decompose(self, settings: FilterSettings) -> _Fit:
        alone = self.block is None
        iterations = self.iterations if alone else self.fewer
        fitted, self.block = SpectralFilter.fit(self.graph, settings, iterations=iterations, start=self.block)
        self.decompositions += 1
        return _Fit(fitted, fitted.project(self.validation.users), ShortVectors(fitted.vectors), alone)

    def go_on_with(self, graph: SignedGraph, rank: int) -> None:
        """Take the best settings to another graph, and forget what was measured on the one before."""
        settings, self.graph = replace(self.chosen.settings, rank=rank), graph
        self.ranked_before += len(self.values)
        self.best, self.block, self.values = None, None, {}
        self.offer(self.decompose(settings))

    def offer(self, fit: _Fit, changes: Iterable[dict[str, Any]] = ({},)) -> float:
        """Evaluate a decomposition with changes, but for what is fixed; keep the best, and return their best value."""
        free = [{name: value for name, value in change.items() if name not in self.fixed} for change in changes]
        changed = [fit.fitted.changed(**change) for change in free]
        new = list({fitted.settings: fitted for fitted in changed if fitted.settings not in self.values}.values())
        candidates = [candidate(fitted, fit.projected, self.validation, fit.short) for fitted in new]
        standings = self.validation.contest(candidates, self.best.per_user if self.best else None)
        for fitted, standing in zip(new, standings, strict=True):
            self.values[fitted.settings] = standing.value
            better = self.best is None or standing.value > self.best.value
            if better and standing.per_user is not None:
                self.best = _Best(fit, fitted.settings, standing.value, standing.per_user)
        return max(self.values[fitted.settings] for fitted in changed)

    def all_of(self, name: str, values: Iterable[float]) -> None:
        """Try all values of one setting at once, on the decomposition of the best."""
        others = self._others(name)
        self.offer(self.chosen.fit, [{**others, name: value} for value in values])

    def walk(self, name: str, values: Iterable[float]) -> None:
        """Try other values of one setting on the decomposition of the best, each way as long as there is hope."""
        at, now = self.chosen.fit, getattr(self.chosen.settings, name)
        others = self._others(name)
        for way in (sorted(v for v in values if v > now), sorted((v for v in values if v < now), reverse=True)):
            for value in way:
                if self.hopeless(self.offer(at, [{**others, name: value}])):
                    break

    def hopeless(self, value: float) -> bool:
        best = self.chosen.value  # which a price on dislikes may make negative
        return value < best - (1 - HOPE) * abs(best)

    def _others(self, name: str) -> dict[str, Any]:
        return {key: value for key, value in vars(self.chosen.settings).items() if key != name}

    @property
    def chosen(self) -> _Best:
        assert self.best is not None
        return self.best


def candidate(
    fitted: SpectralFilter, projected: torch.Tensor, validation: Validation, short: ShortVectors | None = None
) -> FactorCandidate:
    """Return the scoring of a filter by its projection of the validation users; equal exposure scores are shared."""
    spectral = tuple(value for name, value in vars(fitted.settings).items() if name not in FACTORS)
    strangers = fitted.strangers(projected[:, : fitted.k])
    factors = responding(fitted, projected, validation)
    return FactorCandidate(fitted, validation.users, factors, (id(projected), spectral), strangers, short)


def exposures(fitted: SpectralFilter, projected: torch.Tensor, validation: Validation) -> ExposureOf:
    """Return what gives the exposure scores of some of the users, ``[rows, n_items]``; arguments as in `candidate`."""
    factors = responding(fitted, projected, validation)
    return lambda rows: fitted.exposure_of(factors(rows))


def responding(fitted: SpectralFilter, projected: torch.Tensor, validation: Validation) -> FactorsOf:
    """Return what gives the factors of some of the users without those that hardly matter; arguments as before."""
    degrees = fitted.degrees(validation.users)
    kept = _loud(fitted.response(degrees))
    # the factors of all users, of each of several candidates, would be more than the scores
    return lambda rows: (projected[rows, : fitted.k] * fitted.response(degrees[rows]))[:, :kept]


def _loud(response: torch.Tensor) -> int:
    """Return how many of the vectors matter for users' responses ``[n_users, k]``, which fall with s."""
    return int((response.amax(dim=0) > FAINT * response.max()).sum()) if response.numel() else 0


def tune(
    graph: SignedGraph,
    validation: Validation,
    start: FilterSettings,
    iterations: int = 8,
    fixed: Iterable[str] = (),
    part: SignedGraph | None = None,
    *,
    taste_alone: bool = False,
) -> SearchResult:
    """Choose the settings with the highest metric on validation, but for ``fixed``, one coordinate after the other."""
    # weight, with coarse responses, and degree smoothing need decompositions, on `part` of a large graph; then response
    # and what multiplies the scores are tried, and both again; rank, degree exponent and verdict smoothing stay
    # a metric with a price of dislikes first chooses without it: else weight and response, not the aversion, would keep
    # dislikes away, at a higher cost of likes
    asked, rank = start.rank, _rank(start.rank, graph)
    if part is None or validation.gamma:
        search = _Search(graph, validation, iterations, max(1, iterations // 2))
        start = replace(start, rank=rank)
    else:
        search = _Search(part, validation, iterations, PART_PASSES)
        start = replace(start, rank=_rank(min(rank, PART_RANK), part))
    search.fixed = frozenset(fixed)
    if validation.gamma:
        first = tune(graph, replace(validation, gamma=0.0), start, iterations, fixed, part, taste_alone=taste_alone)
        search.offer(search.decompose(first.settings))
        search.all_of("dislike_aversion", SIGN_AWARE_AVERSIONS)
        _step_weight(search)
    else:
        first = SearchResult(start, 0.0, 0, 0)
        if "dislike_aversion" not in search.fixed:
            start = replace(start, dislike_aversion=0.0)
        if "dislike_weight" not in search.fixed:
            start = replace(start, dislike_weight=FIRST_WEIGHT)
        _choose_weight(search, start)
        _choose_smoothing(search)
        if part is not None:
            search.go_on_with(graph, rank)
    for _ in range(1 if taste_alone else PASSES):
        for name, values in SWEEPS.items():
            search.walk(name, _values(name, values, search.chosen.settings))
        for name, values in () if taste_alone else factors(validation).items():
            search.all_of(name, values)
    n_fits, n_ranked = (
        first.decompositions + search.decompositions,
        first.evaluations + search.ranked_before + len(search.values),
    )
    best = search.chosen
    settings = replace(best.settings, rank=asked)  # which a graph that grows has room for later
    fitted = replace(best.fit.fitted, settings=settings)
    return SearchResult(settings, best.value, n_fits, n_ranked, fitted, best.fit.alone)


def _rank(asked: int, graph: SignedGraph) -> int:
    """Return how many singular vectors a graph has, or as many of them as are asked for."""
    return max(1, min(asked, graph.n_users - 1, graph.n_items - 1))


def factors(validation: Validation) -> dict[str, tuple[float, ...]]:
    """Return :data:`FACTORS`, with more of the dislike aversion where the metric knows of dislikes."""
    return {**FACTORS, "dislike_aversion": SIGN_AWARE_AVERSIONS} if validation.gamma else FACTORS


def _choose_weight(search: _Search, start: FilterSettings) -> None:
    rank = start.rank
    coarse = [{"cutoff": c} for c in COARSE_CUTOFFS if c < rank] or [{"cutoff": rank // 2}]
    # no decomposition has a name here: only the best one is kept while another is made
    search.offer(search.decompose(start), coarse)
    settings = search.chosen.settings
    search.offer(search.chosen.fit, [{"cutoff": settings.cutoff, "response_power": p} for p in COARSE_POWERS])
    if "dislike_weight" in search.fixed:
        return
    for way in WEIGHTS:
        for weight in way:
            changed = replace(search.chosen.settings, dislike_weight=weight)
            if search.hopeless(search.offer(search.decompose(changed), [{}, *coarse])):
                break
    _step_weight(search)


def _step_weight(search: _Search) -> None:
    if "dislike_weight" in search.fixed:
        return
    base = search.chosen.settings
    for step in WEIGHT_STEPS:
        search.offer(search.decompose(replace(base, dislike_weight=round(base.dislike_weight + step, 3))))


def _choose_smoothing(search: _Search) -> None:
    if "degree_smoothing" in search.fixed:
        return
    for smoothings in SMOOTHINGS:
        for smoothing in smoothings:
            base = search.chosen.settings
            wider = sorted({max(base.cutoff // 2, 2), min(base.cutoff * 2, max(base.rank - 2, 1))})
            changes = [{}, *({"cutoff": cutoff} for cutoff in wider)]
            search.offer(search.decompose(replace(base, degree_smoothing=smoothing)), changes)
            if search.chosen.settings.degree_smoothing != smoothing:
                break


def _values(name: str, values: tuple[float, ...], now: FilterSettings) -> list[Any]:
    if name == "cutoff":
        return [value for value in values if value < now.rank]
    if name == "response_power":
        return [now.response_power + step for step in values]
    return list(values)


# ---- what fewer disliked items may cost ----


def judging(
    personal: PersonalVerdicts,
    numbers: IntArray,
    scores_of: ScoresOf,
    neutral: torch.Tensor,
    settings: FilterSettings,
) -> Candidate:
    """Return the ranking of validation users, by their ``numbers``, after the fall of what is near to their dislikes.

    Rankings by settings that differ in their strength alone share the scores; other arguments as
    :meth:`~recbole_signed.model.verdicts.PersonalVerdicts.judged` has them.
    """
    key = replace(settings, dislike_strength=0.0)

    def ranked(pieces: Pieces) -> torch.Tensor:
        made = pieces.get(key, lambda rows: personal.falls(numbers[rows], scores_of, neutral), alone=True)
        scores, fallen, heights = made
        return lowered(scores.clone(), fallen, heights, settings.dislike_strength).cpu()

    return ranked


def spend(
    at: CandidateAt,
    validation: Validation,
    start: FilterSettings,
    price: float,
    timed: bool,
    fixed: Collection[str] = (),
) -> FilterSettings:
    """Return settings with the strongest verdicts whose metric is at most ``price`` of it below that without."""
    # the personal verdict comes first, where timed dislikes tell what a new one costs, and the aversion has the rest;
    # with any price a dislike lifts nothing near it, whatever that costs: the strength is at least the last of
    # STRENGTHS, and half of the price may be spent below that; a metric that counts dislikes has chosen, and nothing is
    # spent

    def value(**changes: Any) -> float:
        return float(validation.values([at(replace(start, **changes))]).mean())

    best, strength, aversion = value(dislike_strength=0.0), start.dislike_strength, start.dislike_aversion
    least = best - price * abs(best)
    if timed and "dislike_strength" not in fixed:
        values = validation.values([at(replace(start, dislike_strength=tried)) for tried in STRENGTHS]).mean(axis=1)
        least = min(least, float(values[-1]) - 0.5 * price * abs(best)) if price else least
        strength = next((tried for tried, metric in zip(STRENGTHS, values, strict=True) if metric >= least), 0.0)
    if "dislike_aversion" not in fixed and not validation.gamma:
        stronger = [tried for tried in AVERSIONS if tried > start.dislike_aversion]

        def too_dear(tried: float) -> bool:
            return value(dislike_strength=strength, dislike_aversion=tried) < least

        aversion = [aversion, *stronger][bisect_left(stronger, True, key=too_dear)]
    if not strength and "dislike_strength" not in fixed:
        also = "" if aversion else ", and what many dislike is not held back"
        getLogger().warning(
            f"A dislike lowers nothing that is near to it here{also}: on validation that costs more than "
            f"accuracy_price ({price:g}) allows; set dislike_strength."
        )
    return replace(start, dislike_strength=strength, dislike_aversion=aversion)
