r"""Item factors learned by least squares, from the singular vectors of a signed filter on.

Items are :math:`H \leftarrow` one pass of alternation (``least_squares.py``) from the singular vectors. A user is the
ridge regression of its own edges on them, in which two edges that say the same do not count twice,
:math:`z_u = (a_0 H^T H + \sum_j a_j h_j h_j^T + \lambda c_u I)^{-1} \sum_j a_j y_j h_j`, and :math:`z_u \cdot h_i` is
added to the filter's score. Dislikes weigh :math:`|w|` and have the sign of the filter's w as their target.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from recbole_signed.errors import UsageError
from recbole_signed.graph import SignedGraph
from recbole_signed.graph.least_squares import SignedLeastSquares
from recbole_signed.sequences import IntArray
from recbole_signed.ssf.explanation import Explanation
from recbole_signed.ssf.filter import SpectralFilter
from recbole_signed.ssf.search import SearchResult, exposures, factors
from recbole_signed.ssf.settings import NumberSettings, finite_not_negative
from recbole_signed.ssf.shortlist import Candidate, Pieces
from recbole_signed.ssf.validation import Standing, Validation

START = 0.1
"""Root mean square of the entries that the alternation starts from."""
REGULARISATIONS = (0.02, 0.04, 0.08, 0.2)
SHARES = (0.3, 0.6, 1.0, 1.5)


@dataclass(frozen=True)
class LearnedSettings(NumberSettings):
    """The parameters of the learned items; a value out of its range is refused."""

    learned_rank: int = 64
    """Number of factors; fewer where the filter has fewer singular vectors."""
    learned_share: float = 0.6
    """Weight of the learned scores, in units in which both are equally large; 0 leaves the filter alone."""
    learned_passes: int = 1
    """Passes of alternation over users and items."""
    learned_regularisation: float = 0.04
    """L2 regularisation, per edge."""
    unobserved_weight: float = 0.003
    """Weight of the squared error of every pair, observed or not."""

    def __post_init__(self) -> None:
        if self.learned_rank < 1 or self.learned_passes < 1:
            raise UsageError(
                f"learned_rank is {self.learned_rank}, learned_passes {self.learned_passes}; both must be 1 or more."
            )
        self._refuse_unless(finite_not_negative, "0 or more, and finite", "learned_share", "unobserved_weight")
        self._refuse_unless(lambda value: 0 < value < np.inf, "above 0, and finite", "learned_regularisation")

    def problem(self, dislike_weight: float) -> SignedLeastSquares:
        """Return the objective for a filter's weight of dislikes."""
        return SignedLeastSquares(
            dislike_weight=abs(dislike_weight),
            dislike_target=float(np.sign(dislike_weight)),
            unobserved_weight=self.unobserved_weight,
            regularisation=self.learned_regularisation,
        )


@dataclass(frozen=True)
class LearnedItems:
    """Fitted item factors, and what is needed to fold users in."""

    factors: torch.Tensor
    """H, float32 ``[n_items, d]``; zeros for items without edges."""
    gram: torch.Tensor
    """:math:`H^T H`, ``[d, d]``."""
    unit: float
    """Root mean square of the filter's scores over that of these."""
    problem: SignedLeastSquares

    @classmethod
    def fit(cls, graph: SignedGraph, fitted: SpectralFilter, settings: LearnedSettings) -> LearnedItems:
        """Learn from the edges of the graph that ``fitted`` was fitted to; the same graph gives the same factors."""
        problem = settings.problem(fitted.settings.dislike_weight)
        rows, order = graph.in_order, torch.from_numpy(graph.order[1])
        columns = rows.likes.T.tocsr(), rows.dislikes.T.tocsr()
        items, users = start_of(fitted, settings.learned_rank)[order], torch.zeros(0)
        for _ in range(settings.learned_passes):
            users = problem.half_step(rows.likes, rows.dislikes, items)
            items = problem.half_step(*columns, users)
        gram = items.T @ items
        factors = torch.empty_like(items)
        factors[order] = items
        return cls(factors, gram, unit_of(fitted, users.T @ users, gram), problem)

    def fold_in(self, users: SignedGraph) -> torch.Tensor:
        """Return the factors of any users, given by their edges, ``[n_users, d]``, in the filter's unit."""
        return self.problem.half_step(users.likes, users.dislikes, self.factors, self.gram) * self.unit

    def contributions(self, user: SignedGraph, items: IntArray) -> np.ndarray:
        """Return what each edge of one user adds to the scores: likes, then dislikes, ``[n_items, n_edges]``."""
        # the ridge regression is linear in the targets, so these add up to fold_in(user) @ factors[items].T
        sides = user.likes.indices, user.dislikes.indices
        own = self.factors[np.concatenate(sides)].double()
        weights, pulls = (
            torch.from_numpy(np.repeat(values, [len(side) for side in sides])).to(own)
            for values in (
                [self.problem.like_weight, self.problem.dislike_weight],
                [self.problem.like_weight, self.problem.dislike_weight * self.problem.dislike_target],
            )
        )
        penalty = self.problem.penalties(np.array([len(own)]), len(self.factors))[0]
        normal = self.problem.unobserved_weight * self.gram.double() + (own.T * weights) @ own
        normal.diagonal().add_(penalty)
        solved = torch.linalg.solve(normal, self.factors[items].double().T)
        return (self.unit * pulls * (own @ solved).T).cpu().numpy()

    def explained(
        self, explanations: Sequence[Explanation], user: SignedGraph, items: IntArray, share: float, scores: np.ndarray
    ) -> list[Explanation]:
        """Return the explanations of ``scores``: of the filter's, with its ``explanations``, plus ``share`` of ours."""
        extended = []
        for explanation, own, score in zip(
            explanations, share * self.contributions(user, items), scores.tolist(), strict=True
        ):
            contributions = explanation.contributions.copy()
            contributions[: len(own)] += own
            extended.append(replace(explanation, contributions=contributions, score=score))
        return extended


def start_of(fitted: SpectralFilter, rank: int) -> torch.Tensor:
    r"""Return :math:`(D_i + a)^e V S^{1/2}`, the singular vectors without the filter's normalisation, to start from."""
    s, k = fitted.settings, min(rank, fitted.k)
    if not k:
        return fitted.vectors[:, :0]
    counters = fitted.counters
    degrees = (counters.degrees(s) + s.degree_smoothing) ** s.degree_exponent
    start = fitted.vectors[:, :k] * fitted.values[:k].sqrt() * degrees[:, None]
    return start * (START * (counters.n_known * k) ** 0.5 / max(float(start.double().norm()), 1e-30))


def unit_of(fitted: SpectralFilter, user_gram: torch.Tensor, item_gram: torch.Tensor) -> float:
    """Return what gives the learned scores the filter's root mean square; the grams are ``[d, d]``."""
    learned = float((user_gram.double() * item_gram.double()).sum()) / max(fitted.n_users, 1.0)
    return (fitted.user_energy / learned) ** 0.5 if learned > 0 else 0.0


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
    tuned: SearchResult,
    start: LearnedSettings,
    iterations: int,
    fixed: Iterable[str] = (),
) -> TunedLearned:
    """Choose regularisation and share of the learned items, then what multiplies the sum; share 0 is tried too."""
    fixed = frozenset(fixed)
    regularisations = (start.learned_regularisation,) if "learned_regularisation" in fixed else REGULARISATIONS
    shares = (start.learned_share,) if "learned_share" in fixed else (0.0, *SHARES)
    fitted = tuned.fit(graph, iterations)
    filtered = exposures(fitted, fitted.project(validation.users), validation)
    learned = {
        value: LearnedItems.fit(graph, fitted, replace(start, learned_regularisation=value))
        for value in regularisations
    }
    users = {value: items.fold_in(validation.users) for value, items in learned.items()}

    def candidate(filter_: SpectralFilter, settings: LearnedSettings) -> Candidate:
        def score(pieces: Pieces) -> torch.Tensor:
            exposure = pieces.get("filter", filtered)
            if not settings.learned_share:
                return filter_.finished(exposure)
            key = settings.learned_regularisation
            own = pieces.get(key, lambda rows: users[key][rows] @ learned[key].factors.T)
            return filter_.finished(torch.add(exposure, own, alpha=settings.learned_share))

        return score

    tried = [replace(start, learned_share=0.0)] if 0.0 in shares else []
    tried += [replace(start, learned_regularisation=r, learned_share=s) for r in regularisations for s in shares if s]
    standings = validation.contest([candidate(fitted, settings) for settings in tried])
    settings, best = max(zip(tried, standings, strict=True), key=lambda pair: _rank(pair[1]))
    evaluations = len(tried)
    for name, values in factors(validation).items() if settings.learned_share else ():
        if name in fixed:
            continue
        filters = [fitted.changed(**{name: value}) for value in values if value != getattr(fitted.settings, name)]
        standings = validation.contest([candidate(filter_, settings) for filter_ in filters], best.per_user)
        evaluations += len(filters)
        for filter_, standing in zip(filters, standings, strict=True):
            if _rank(standing) > best.value:
                fitted, best = filter_, standing
    items = learned[settings.learned_regularisation]
    return TunedLearned(settings, tuned.followed(fitted, best.value, evaluations), items)


def _rank(standing: Standing) -> float:
    """Return the value of a candidate that was measured on all users; one that was given up is not a choice."""
    return -np.inf if standing.per_user is None else standing.value
