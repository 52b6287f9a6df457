r"""The signed spectral filter: what SSF computes, free of RecBole.

A user is the fold-in of its own edges, a row of the exposure matrix: :math:`z_u = f_u(S) \odot (R_u V)`. Score of an
item: :math:`(z_u V_i^T + \text{prior}_i)\, r_i^g\, \bar d_i^{\,\pi}` (see the functions below).
Everything that is kept is per item: ``k + 2`` floats.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from recbole_signed.errors import UsageError
from recbole_signed.graph import RightFactors, SignedGraph, exposure_rows, inverse_power, right_factors, user_degrees
from recbole_signed.ssf.number_settings import NumberSettings

NOT_NEGATIVE = (
    "degree_smoothing",
    "degree_exponent",
    "cutoff",
    "rolloff",
    "popularity_floor",
    "dislike_aversion",
)


@dataclass(frozen=True)
class FilterSettings(NumberSettings):
    """The parameters of the filter; in brackets their letters in the formulas.

    Raises:
        UsageError: a value is out of its range.
    """

    dislike_weight: float = 0.5
    """[w] Weight of a dislike in the exposure matrix, of either sign."""
    degree_smoothing: float = 5.0
    """[a] Added to every degree, in edges."""
    degree_exponent: float = 0.5
    """[e] How strongly degrees are divided out."""
    rank: int = 256
    """[k] Number of singular vectors."""
    cutoff: int = 64
    """[c] Index of the singular value at which the response of a user of median degree has fallen to one half."""
    response_power: float = 2.0
    """[p] The response below the cutoff is s^p."""
    rolloff: float = 8.0
    """[q] Steepness at the cutoff."""
    activity_exponent: float = 1.0
    """[delta] How much wider the response is for a user with more edges."""
    popularity_exponent: float = 0.0
    """[pi] Scores are multiplied by the item's degree to this power."""
    popularity_floor: float = 1e-4
    """[eta] Share of popularity in the score; decides for users without edges."""
    dislike_aversion: float = 0.0
    """[g] Scores are multiplied by the item's like rate to this power; can be changed at any time."""
    verdict_smoothing: float = 5.0
    """[t] Exposures of the global like rate that are added to those of each item."""

    def __post_init__(self) -> None:
        for name in NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be 0 or more.")
        if self.rank < 1:
            raise UsageError(f"rank is {self.rank}; it must be 1 or more.")
        if not self.verdict_smoothing > 0:
            raise UsageError(f"verdict_smoothing is {self.verdict_smoothing}; it must be above 0.")
        if not all(np.isfinite(value) for value in asdict(self).values()):
            raise UsageError(f"every setting must be finite, these are not: {asdict(self)}.")


@dataclass(frozen=True)
class Explanation:
    """Why a user gets an item with its score: ``score = (contributions.sum() + prior) * factor``.

    Exact, as the score is linear in the user's edges. An item that nobody has an edge to has no score of its own:
    ``score`` is then below that of any other.
    """

    items: np.ndarray
    """int64 ``[n_edges]``: the items that the user has an edge to, likes first, then dislikes."""
    signs: np.ndarray
    """int8 ``[n_edges]``: 1 for a like, -1 for a dislike, 0 for a neutral edge."""
    contributions: np.ndarray
    """float64 ``[n_edges]``: what each edge adds to the exposure score, their sum."""
    prior: float
    """What popularity adds."""
    verdict: float
    """Smoothed share of likes among the verdicts on the item, 0 to 1."""
    factor: float
    """``verdict ** dislike_aversion`` times the item's degree, over the mean, to the popularity exponent."""
    score: float


@dataclass(frozen=True)
class Exposure:
    """What a filter is fitted to: the normalised exposure matrix of a graph, and what is counted in it."""

    matrix: sp.csr_matrix
    """R, float32 ``[n_users, n_items]``."""
    likes: torch.Tensor
    """Likes of each item, float32 ``[n_items]``."""
    dislikes: torch.Tensor
    """Dislikes of each item, float32 ``[n_items]``."""
    n_users: float
    """Number of users with an edge."""
    median_degree: float
    """Median of their degrees; 1 without any."""

    @classmethod
    def of(cls, graph: SignedGraph, settings: FilterSettings) -> Exposure:
        """Count the edges of a graph, and normalise them."""
        w, a, e = settings.dislike_weight, settings.degree_smoothing, settings.degree_exponent
        likes, dislikes = (np.bincount(each.indices, minlength=graph.n_items) for each in (graph.likes, graph.dislikes))
        matrix = exposure_rows(graph, inverse_power(likes + abs(w) * dislikes, a, e), w, a, e)
        degrees = user_degrees(graph, w)
        active = degrees[degrees > 0]
        median = float(np.median(active)) if len(active) else 1.0
        counts = torch.from_numpy(likes).float(), torch.from_numpy(dislikes).float()
        return cls(matrix, *counts, float(len(active)), median)

    def filter(self, found: RightFactors, settings: FilterSettings) -> SpectralFilter:
        """Return the filter of singular pairs of the matrix."""
        # rounding must not give a direction to items without edges
        found.vectors[(self.likes + self.dislikes) == 0] = 0.0
        return SpectralFilter(
            vectors=found.vectors,
            values=found.values,
            likes=self.likes,
            dislikes=self.dislikes,
            n_users=self.n_users,
            median_degree=self.median_degree,
            settings=settings,
        )


@dataclass(frozen=True)
class SpectralFilter:
    """A fitted filter: singular pairs of the training graph, what is known of each item, and the settings."""

    vectors: torch.Tensor
    """V, float32 ``[n_items, >= k]``."""
    values: torch.Tensor
    """Singular values, float32 ``[>= k]``, descending."""
    likes: torch.Tensor
    """Likes of each item, float32 ``[n_items]``."""
    dislikes: torch.Tensor
    """Dislikes of each item, float32 ``[n_items]``."""
    n_users: float
    """Number of fitted users with an edge."""
    median_degree: float
    """Median of their degrees."""
    settings: FilterSettings

    @classmethod
    def fit(
        cls, graph: SignedGraph, settings: FilterSettings, *, iterations: int = 4, start: torch.Tensor | None = None
    ) -> tuple[SpectralFilter, torch.Tensor]:
        """Fit to a graph, on the CPU; also return the block for the warm start of a fit to a similar graph."""
        exposure = Exposure.of(graph, settings)
        found = right_factors(exposure.matrix, settings.rank, iterations=iterations, start=start)
        return exposure.filter(found, settings), found.block

    def changed(self, **settings: Any) -> SpectralFilter:
        """Return the filter with other settings; w, a and e are part of the fit and must stay."""
        return replace(self, settings=replace(self.settings, **settings))

    # ---- users ----

    @property
    def k(self) -> int:
        """Number of singular vectors in use."""
        return min(self.settings.rank, self.vectors.shape[1])

    def project(self, users: SignedGraph) -> torch.Tensor:
        """Return :math:`R_u V` of any users, ``[n_users, k]``, before the response."""
        return _product(self.rows(users), self.vectors)[:, : self.k]

    def rows(self, users: SignedGraph) -> sp.csr_matrix:
        """Return :math:`R_u`, the exposure matrix's rows of any users, float32 ``[n_users, n_items]``."""
        s = self.settings
        degrees = (self.likes.double() + abs(s.dislike_weight) * self.dislikes.double()).cpu().numpy()
        scale = inverse_power(degrees, s.degree_smoothing, s.degree_exponent)
        return exposure_rows(users, scale, s.dislike_weight, s.degree_smoothing, s.degree_exponent)

    def response(self, degrees: torch.Tensor) -> torch.Tensor:
        r"""Return :math:`f_u(s) = s^p / (1 + (s_c/s)^q (\tilde d/d_u)^\delta)`, ``[n_users, k]``.

        A Butterworth low-pass filter of the singular values, over the largest one, whose band widens with the user's
        degree :math:`d_u` over the median :math:`\tilde d`. By logarithms, which neither overflow nor divide by 0.
        """
        s = self.settings
        if not self.k:
            return torch.zeros(len(degrees), 0, device=self.values.device)
        log_s = (self.values[: self.k] / self.values[0]).clamp(min=1e-9).log()
        activity = (degrees.clamp(min=0.5) / self.median_degree).log()[:, None]
        passes = s.rolloff * (log_s - log_s[min(s.cutoff, self.k - 1)]) + s.activity_exponent * activity
        return (s.response_power * log_s).exp() * torch.sigmoid(passes)

    def degrees(self, users: SignedGraph) -> torch.Tensor:
        """Return the users' degrees, float32 ``[n_users]``."""
        return torch.from_numpy(user_degrees(users, self.settings.dislike_weight)).float().to(self.values.device)

    # ---- items ----

    def verdict(self) -> torch.Tensor:
        r"""Return the smoothed like rates :math:`r_i = (p_i + t m) / (p_i + n_i + t)`, ``[n_items]``; m: the mean."""
        t, exposures = self.settings.verdict_smoothing, self.likes + self.dislikes
        mean = self.likes.double().sum() / exposures.double().sum().clamp(min=1)
        return ((self.likes + t * mean) / (exposures + t)).float()

    def factor(self) -> torch.Tensor:
        r"""Return :math:`r_i^g (d_i / \text{mean } d)^\pi`, ``[n_items]``, degrees smoothed; 1 for unknown items."""
        s = self.settings
        known = self.known()
        degrees = self.likes + abs(s.dislike_weight) * self.dislikes + s.degree_smoothing
        relative = degrees / degrees[known].mean() if bool(known.any()) else torch.ones_like(degrees)
        return torch.where(known, self.verdict() ** s.dislike_aversion * relative**s.popularity_exponent, 1.0)

    def prior(self) -> torch.Tensor:
        """Return eta times log popularity on the scale of a typical score, ``[n_items]``.

        That scale is the root mean square length of the users' factors, were all of median degree, times that of
        the items'. It follows from the singular values, so that no user has to be kept or drawn.
        """
        popularity = self.likes.log1p()
        size = float((self.user_energy() * self.k / self.known().sum()) ** 0.5) if self.k and self.n_users else 1.0
        return self.settings.popularity_floor * size * popularity / popularity.max().clamp(min=1e-9)

    def user_energy(self) -> float:
        """Return the mean square length of the users' factors, were all users of median degree; 0 without any.

        As the vectors are orthonormal, it is also the mean over users of the sum of squares of their scores.
        """
        if not (self.k and self.n_users):
            return 0.0
        median = self.response(torch.tensor([self.median_degree], device=self.values.device))[0]
        return float(((self.values[: self.k] * median) ** 2).sum() / self.n_users)

    def known(self) -> torch.Tensor:
        """Return which items have an edge, bool ``[n_items]``."""
        return (self.likes + self.dislikes) > 0

    # ---- scores ----

    def scores(self, users: SignedGraph, added: torch.Tensor | None = None) -> torch.Tensor:
        """Return the scores of all items for any users, given by their edges, ``[n_users, n_items]``.

        Args:
            users: known or new.
            added: exposure scores from elsewhere, ``[n_users, n_items]``; used up.
        """
        return self.scores_of(self.project(users) * self.response(self.degrees(users)), added)

    def scores_of(self, factors: torch.Tensor, added: torch.Tensor | None = None) -> torch.Tensor:
        """Return the scores of all items for users' factors ``[n_users, <= k]``, of which the last may be left out.

        Args:
            factors: what :meth:`scores` makes of the users' edges.
            added: exposure scores from elsewhere, ``[n_users, n_items]``; used up.
        """
        prior = self.prior()
        start = prior if added is None else added.add_(prior)
        return self._weighed(torch.addmm(start, factors, self.vectors[:, : factors.shape[1]].T))

    def exposure_of(self, factors: torch.Tensor) -> torch.Tensor:
        """Return the exposure scores alone, ``[n_users, n_items]``, for users' factors ``[n_users, <= k]``."""
        return factors @ self.vectors[:, : factors.shape[1]].T

    def finished(self, exposure: torch.Tensor) -> torch.Tensor:
        """Return the scores that exposure scores ``[n_users, n_items]`` come to; the latter stay as they are."""
        return self._weighed(exposure + self.prior())

    def _weighed(self, scores: torch.Tensor) -> torch.Tensor:
        scores.mul_(self.factor())
        unknown = ~self.known()
        if bool(unknown.any()):
            scores[:, unknown] = scores.amin(dim=1, keepdim=True) - 1.0
        return scores

    def explain(self, user: SignedGraph, item: int) -> Explanation:
        """Return what each edge of the one user in ``user`` adds to the score of ``item``."""
        items, signs, weights = self.edges_of(user)
        band = self.response(self.degrees(user))[0] * self.vectors[item, : self.k]
        similarity = (self.vectors[items][:, : self.k].double() @ band.double()).cpu().numpy()
        return Explanation(
            items=items,
            signs=signs,
            contributions=weights * similarity,
            prior=float(self.prior()[item]),
            verdict=float(self.verdict()[item]),
            factor=float(self.factor()[item]),
            score=float(self.scores(user)[0, item]),
        )

    def edges_of(self, user: SignedGraph) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return items, signs and entries in R of one user's edges, ``[n_edges]`` each: likes, dislikes, neutral ones.

        An item that the user both likes and dislikes has two edges, whose entries add up to the one of R.
        """
        s = self.settings
        edges = {1: user.likes, -1: user.dislikes}
        if user.neutrals is not None:
            edges[0] = user.neutrals
        items = np.concatenate([each.indices.astype(np.int64) for each in edges.values()])
        sign = np.repeat(np.array(list(edges), dtype=np.int8), [each.nnz for each in edges.values()])
        weight = np.select([sign > 0, sign < 0], [1.0, s.dislike_weight], user.neutral_weight)
        degrees = self.likes[items].double() + abs(s.dislike_weight) * self.dislikes[items].double()
        scale = inverse_power(degrees.cpu().numpy(), s.degree_smoothing, s.degree_exponent)
        scale = scale * inverse_power(user_degrees(user, s.dislike_weight), s.degree_smoothing, s.degree_exponent)
        return items, sign, weight * scale


def _product(rows: sp.csr_matrix, dense: torch.Tensor) -> torch.Tensor:
    """Sparse times dense, on the device of the dense one; on a CPU SciPy is as fast as torch, with or without MKL."""
    if dense.device.type == "cpu":
        return torch.from_numpy(np.asarray(rows @ dense.numpy()))
    indptr, indices, data = (torch.from_numpy(each).to(dense.device) for each in (rows.indptr, rows.indices, rows.data))
    return torch.sparse_csr_tensor(indptr, indices, data, size=rows.shape) @ dense
