"""How SSF-L chooses the parameters of its learned items on the validation part, once those of the filter are chosen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch

from recbole_signed.graph import SignedGraph
from recbole_signed.ssf.filter import SpectralFilter
from recbole_signed.ssf.learned_items import LearnedItems, LearnedSettings
from recbole_signed.ssf.pieces import Candidate, Pieces
from recbole_signed.ssf.search import SearchResult, exposures, factors
from recbole_signed.ssf.validation import Standing, Validation

REGULARISATIONS = (0.02, 0.04, 0.08, 0.2)
SHARES = (0.3, 0.6, 1.0, 1.5)


@dataclass(frozen=True)
class TunedLearned:
    """What was chosen for both parts of the score."""

    settings: LearnedSettings
    tuned: SearchResult
    """The settings of the filter; value and effort of the whole choice."""
    items: LearnedItems
    """What the fit to the whole graph makes of these settings."""


def tune_learned(
    graph: SignedGraph,
    validation: Validation,
    found: SearchResult,
    start: LearnedSettings,
    iterations: int,
    fixed: Iterable[str] = (),
) -> TunedLearned:
    """Choose regularisation and share of the learned items, then what multiplies the sum; share 0 is tried too.

    Args:
        graph: the training graph.
        validation: users and held-out likes.
        found: what was chosen for the filter alone.
        start: values of what is not tried.
        iterations: of the filter's decomposition.
        fixed: names of settings, of the filter or the learned items, that stay as they are.
    """
    fixed = frozenset(fixed)
    regularisations = (start.learned_regularisation,) if "learned_regularisation" in fixed else REGULARISATIONS
    shares = (start.learned_share,) if "learned_share" in fixed else (0.0, *SHARES)
    fitted = found.fit(graph, iterations)
    filtered = exposures(fitted, fitted.project(validation.users), validation)
    learned = {
        each: LearnedItems.fit(graph, fitted, replace(start, learned_regularisation=each)) for each in regularisations
    }
    users = {each: items.fold_in(validation.users) for each, items in learned.items()}

    def candidate(filter_: SpectralFilter, settings: LearnedSettings) -> Candidate:
        def score(pieces: Pieces) -> torch.Tensor:
            exposure = pieces.of("filter", filtered)
            if not settings.learned_share:
                return filter_.finished(exposure)
            key = settings.learned_regularisation
            own = pieces.of(key, lambda rows: users[key][rows] @ learned[key].factors.T)
            return filter_.finished(torch.add(exposure, own, alpha=settings.learned_share))

        return score

    tried = [replace(start, learned_share=0.0)] if 0.0 in shares else []
    tried += [replace(start, learned_regularisation=r, learned_share=s) for r in regularisations for s in shares if s]
    standings = validation.contest([candidate(fitted, each) for each in tried])
    settings, best = max(zip(tried, standings, strict=True), key=lambda each: _rank(each[1]))
    evaluations = len(tried)
    for name, values in factors(validation).items() if settings.learned_share else ():
        if name in fixed:
            continue
        filters = [fitted.changed(**{name: value}) for value in values if value != getattr(fitted.settings, name)]
        standings = validation.contest([candidate(each, settings) for each in filters], best.per_user)
        evaluations += len(filters)
        for each, standing in zip(filters, standings, strict=True):
            if _rank(standing) > best.value:
                fitted, best = each, standing
    items = learned[settings.learned_regularisation]
    return TunedLearned(settings, found.followed(fitted, best.value, evaluations), items)


def _rank(standing: Standing) -> float:
    """Return the value of a candidate that was measured on all users; one that was given up is not a choice."""
    return -np.inf if standing.per_user is None else standing.value
