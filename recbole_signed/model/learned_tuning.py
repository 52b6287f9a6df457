"""How SSF-L chooses the parameters of its learned items on the validation part, once those of the filter are chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from recbole_signed.graph import SignedGraph
from recbole_signed.graph.learned_items import LearnedItems, LearnedSettings
from recbole_signed.graph.spectral_filter import SpectralFilter
from recbole_signed.model.ssf_tuning import SWEEPS, Tuned, Validation

REGULARISATIONS = (0.02, 0.04, 0.08, 0.2)
SHARES = (0.3, 0.6, 1.0, 1.5)
AGAIN = ("popularity_exponent", "popularity_floor", "dislike_aversion")
"""Settings of the filter that need no new factors, and are chosen anew for the sum."""


@dataclass(frozen=True)
class TunedLearned:
    """What was chosen for both parts of the score."""

    settings: LearnedSettings
    tuned: Tuned
    """The settings of the filter; value and effort of the whole choice."""


def tune_learned(
    graph: SignedGraph, validation: Validation, found: Tuned, start: LearnedSettings, iterations: int
) -> TunedLearned:
    """Choose regularisation and share of the learned items, then what multiplies the sum; share 0 is tried too.

    Args:
        graph: the training graph.
        validation: users and held-out likes.
        found: what was chosen for the filter alone.
        start: values of what is not tried.
        iterations: of the filter's decomposition.
    """
    fitted, _ = SpectralFilter.fit(graph, found.settings, iterations=iterations)
    factors = fitted.project(validation.users) * fitted.response(fitted.degrees(validation.users))
    evaluations = 0

    def value(filter_: SpectralFilter, items: torch.Tensor, users: torch.Tensor, share: float) -> float:
        nonlocal evaluations
        evaluations += 1
        return validation.measure_scores(lambda rows: filter_.scores_of(factors[rows], (share * users[rows]) @ items.T))

    nothing = torch.zeros(graph.n_items, 0), torch.zeros(validation.n_users, 0)
    best = (value(fitted, *nothing, 0.0), replace(start, learned_share=0.0), nothing)
    for regularisation in REGULARISATIONS:
        settings = replace(start, learned_regularisation=regularisation)
        learned = LearnedItems.fit(graph, fitted, settings)
        both = learned.factors, learned.fold_in(validation.users)
        for share in SHARES:
            reached = value(fitted, *both, share)
            if reached > best[0]:
                best = (reached, replace(settings, learned_share=share), both)
    reached, settings, both = best
    for name in AGAIN if settings.learned_share else ():
        for other in SWEEPS[name]:
            changed = fitted.changed(**{name: other})
            tried = value(changed, *both, settings.learned_share)
            if tried > reached:
                reached, fitted = tried, changed
    tuned = Tuned(fitted.settings, reached, found.decompositions + 1, found.evaluations + evaluations)
    return TunedLearned(settings, tuned)
