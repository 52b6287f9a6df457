r"""The signed spectral filter: what SSF computes, free of RecBole.

A user is the fold-in of its own edges, a row of the exposure matrix: :math:`z_u = f_u(S) \odot (R_u V)`. Score of an
item: :math:`(z_u V_i^T + \text{prior}_i)\, \bar d_i^{\,\pi}\, v_i`. What is kept is per item: ``k + 2`` floats.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from recbole_signed.graph import SignedGraph, leading_factors
from recbole_signed.graph.signed_graph import arranged
from recbole_signed.graph.sparse_kernels import SparsePairs, rows_product
from recbole_signed.graph.spectral import RightFactors, user_degrees
from recbole_signed.graph.top_scores import largest
from recbole_signed.sequences import IntArray
from recbole_signed.ssf.explanation import Explanation
from recbole_signed.ssf.item_counters import ItemCounters
from recbole_signed.ssf.settings import FilterSettings
from recbole_signed.ssf.user_edges import UserEdges

FEW_USERS = 2
"""Users whose edges are summed one by one."""
RESPONSES = 4096
"""Degrees of which the response is kept."""
USERS, ITEMS = 128, 16_384
"""Users and items whose scores are held at a time when the best items are looked for: they fit into the cache."""


@dataclass(frozen=True)
class Exposure:
    """What a filter is fitted to: the normalised exposure matrix of a graph, and what is counted in it."""

    matrix: sp.csr_matrix
    """R, float32 ``[n_users, n_items]``."""
    counters: ItemCounters
    """Of each item."""
    n_users: float
    """Number of users with an edge."""
    median_degree: float
    """Median of their degrees; 1 without any."""
    graph: SignedGraph
    """The graph itself."""

    @classmethod
    def from_graph(cls, graph: SignedGraph, settings: FilterSettings) -> Exposure:
        """Count the edges of a graph, and normalise them."""
        likes, dislikes = (np.bincount(side.indices, minlength=graph.n_items) for side in (graph.likes, graph.dislikes))
        counters = ItemCounters.from_counts(torch.from_numpy(likes).float(), torch.from_numpy(dislikes).float())
        users = UserEdges.from_graph(graph, settings.dislike_weight)
        active = users.degrees[users.degrees > 0]
        median = float(np.median(active)) if len(active) else 1.0
        return cls(users.matrix(counters, settings), counters, float(len(active)), median, graph)

    def factors(self, k: int, degree: int, start: torch.Tensor | None = None) -> RightFactors:
        """Return the ``k`` singular pairs, found by keys: the same to the last bit in any order of the graph."""
        graph = self.graph
        if graph.user_keys is None or graph.item_keys is None:
            return leading_factors(self.matrix, k, degree=degree, start=start)
        users, items = graph.order
        factors = leading_factors(
            arranged(self.matrix, users, items),
            k,
            degree=degree,
            keys=graph.item_keys[items],
            start=None if start is None else start[torch.from_numpy(items)],
        )
        place = torch.from_numpy(np.argsort(items))
        block = factors.block[place]
        return replace(factors, vectors=block[:, : factors.vectors.shape[1]].contiguous(), block=block)

    def filter(self, factors: RightFactors, settings: FilterSettings) -> SpectralFilter:
        """Return the filter of singular pairs of the matrix."""
        factors.vectors[self.counters.unknown] = 0.0  # rounding must not give a direction to items without edges
        return SpectralFilter(
            vectors=factors.vectors,
            values=factors.values,
            counters=self.counters,
            n_users=self.n_users,
            median_degree=self.median_degree,
            settings=settings,
        )


@dataclass(frozen=True)
class SpectralFilter:
    """A fitted filter: singular pairs of the training graph, what is known of each item, and the settings.

    Users are given by their edges, as a graph or as :class:`UserEdges`.
    """

    vectors: torch.Tensor
    """V, float32 ``[n_items, >= k]``."""
    values: torch.Tensor
    """Singular values, float32 ``[>= k]``, descending."""
    counters: ItemCounters
    """Likes and dislikes of each item."""
    n_users: float
    """Number of fitted users with an edge."""
    median_degree: float
    """Median of their degrees."""
    settings: FilterSettings

    @classmethod
    def fit(
        cls, graph: SignedGraph, settings: FilterSettings, *, iterations: int = 20, start: torch.Tensor | None = None
    ) -> tuple[SpectralFilter, torch.Tensor]:
        """Fit to a graph, on the CPU; also return the block for the warm start of a fit to a similar graph.

        Args:
            graph: the training graph.
            settings: of the filter.
            iterations: products with all vectors at most, see :func:`~recbole_signed.graph.leading_factors`.
            start: the block of a similar graph, after which half of them are enough.
        """
        exposure = Exposure.from_graph(graph, settings)
        factors = exposure.factors(settings.rank, iterations, start)
        return exposure.filter(factors, settings), factors.block

    def changed(self, **settings: Any) -> SpectralFilter:
        """Return the filter with other settings; w, a and e are part of the fit and must stay."""
        return replace(self, settings=replace(self.settings, **settings))

    def following(self, vectors: torch.Tensor, counters: ItemCounters) -> SpectralFilter:
        """Return the filter for items that have changed since the fit; what follows from the fit alone is kept."""
        made = replace(self, vectors=vectors, counters=counters)
        kept = {"user_energy": self.user_energy, "_band": self._band, "_responses": self._responses}
        vars(made).update(kept)  # where cached_property puts them
        return made

    # ---- users ----

    @property
    def k(self) -> int:
        """Number of singular vectors in use."""
        return min(self.settings.rank, self.vectors.shape[1])

    def edges(self, users: SignedGraph | UserEdges) -> UserEdges:
        """Return users as this filter reads them."""
        return users if isinstance(users, UserEdges) else UserEdges.from_graph(users, self.settings.dislike_weight)

    def rows(self, users: SignedGraph | UserEdges) -> sp.csr_matrix:
        """Return :math:`R_u`, the exposure matrix's rows of any users, float32 ``[n_users, n_items]``."""
        return self.edges(users).matrix(self.counters, self.settings)

    def project(self, users: SignedGraph | UserEdges) -> torch.Tensor:
        """Return :math:`R_u V` of any users, ``[n_users, k]``, before the response, and what features add to it."""
        users = self.edges(users)
        projection = self._own_projection(users)
        if users.prior is None:
            return projection
        return users.prior.added(projection, torch.from_numpy(users.degrees).float()).to(projection)

    def _own_projection(self, users: UserEdges) -> torch.Tensor:
        if 0 < users.n_users <= FEW_USERS and self.vectors.device.type == "cpu":  # without the cost of making a matrix
            entries, table = users.entries(self.counters, self.settings), self.vectors.numpy()
            rows = [slice(*users.indptr[user : user + 2].tolist()) for user in range(users.n_users)]
            products = [entries[row] @ table[users.items[row]] for row in rows]
            return torch.from_numpy(np.stack(products)[:, : self.k])
        return rows_product(self.rows(users), self.vectors)[:, : self.k]

    def fold_in(self, users: SignedGraph | UserEdges) -> torch.Tensor:
        """Return the factors of any users, ``[n_users, k]``."""
        users = self.edges(users)
        return self.project(users).mul_(self.response(self.degrees(users)))

    def response(self, degrees: torch.Tensor) -> torch.Tensor:
        r"""Return :math:`f_u(s) = s^p / (1 + (s_c/s)^q (\tilde d/d_u)^\delta)`, ``[n_users, k]``.

        A Butterworth low-pass filter of the singular values over the largest one; its band widens with the degree
        :math:`d_u` of a user over the median :math:`\tilde d`.
        """
        one = float(degrees[0]) if len(degrees) == 1 else None
        if one in self._responses:
            return self._responses[one]
        # by logarithms, which neither overflow nor divide by 0
        gain, passes = self._band
        activity = (degrees.clamp(min=0.5) / self.median_degree).log_()[:, None]
        response = torch.sigmoid(passes + self.settings.activity_exponent * activity).mul_(gain)
        if one is not None and len(self._responses) < RESPONSES:
            self._responses[one] = response
        return response

    @cached_property
    def _responses(self) -> dict[float | None, torch.Tensor]:
        """Of one user by its degree, as a service asks for them again and again."""
        return {}

    @cached_property
    def _band(self) -> tuple[torch.Tensor, torch.Tensor]:
        """:math:`s^p`, and the logarithm of :math:`(s/s_c)^q`, ``[k]`` each."""
        s = self.settings
        log_s = (self.values[: self.k] / self.values[:1]).clamp(min=1e-9).log()
        middle = log_s[min(s.cutoff, max(self.k - 1, 0)) :][:1]
        return (s.response_power * log_s).exp(), s.rolloff * (log_s - middle)

    def degrees(self, users: SignedGraph | UserEdges) -> torch.Tensor:
        """Return the users' degrees, float32 ``[n_users]``."""
        users = self.edges(users)
        degrees = torch.from_numpy(users.degrees).float()
        if users.prior is not None:  # a user of whom features alone tell has a median degree
            degrees = torch.where((degrees == 0) & users.prior.given, self.median_degree, degrees)
        return degrees.to(self.values.device)

    # ---- items ----

    def verdict(self) -> torch.Tensor:
        """Return the smoothed like rates of the items, ``[n_items]``."""
        return self.counters.verdict(self.settings)

    @cached_property
    def factor(self) -> torch.Tensor | None:
        """What the sum of exposure and prior is multiplied by, ``[n_items]``; None for ones."""
        return self.counters.factor(self.settings)

    @cached_property
    def aversion(self) -> torch.Tensor | None:
        """The part of :attr:`factor` that holds back items of a low like rate, ``[n_items]``; None for ones."""
        return self.counters.aversion(self.settings)

    @cached_property
    def prior(self) -> torch.Tensor:
        """Popularity on the scale of a typical exposure score, ``[n_items]``; unknown items come last."""
        return self._prior(self.counters)

    def _prior(self, counters: ItemCounters) -> torch.Tensor:
        size = self.user_energy * self.k / max(counters.n_known, 1) if self.k and self.n_users else 1.0
        return counters.prior(self.settings, size**0.5)

    @cached_property
    def _prior_of_strangers(self) -> torch.Tensor:
        """The prior for users of whom nothing is known: predicted popularity counts as any other."""
        expected = self.counters.expected
        return self._prior(replace(self.counters, expected=expected and replace(expected, popularity=0.0)))

    def strangers(self, factors: torch.Tensor) -> torch.Tensor | None:
        """Return which users' factors are 0, bool ``[n_users, 1]``; None where no popularity is predicted."""
        if self.counters.expected is None or not self.counters.expected.popularity:
            return None
        return ~factors.any(dim=-1, keepdim=True)

    def prior_for(
        self, strangers: torch.Tensor | None = None, items: torch.Tensor | slice = slice(None)
    ) -> torch.Tensor:
        """Return :attr:`prior` of ``items``, without predicted popularity for :meth:`strangers`."""
        # it is on the scale of exposure scores, which are all 0 for them: predicted items would come before all others
        prior = self.prior[items]
        return prior if strangers is None else torch.where(strangers, self._prior_of_strangers[items], prior)

    @cached_property
    def user_energy(self) -> float:
        """Mean square length of the users' factors, were all users of median degree; 0 without any."""
        if not (self.k and self.n_users):
            return 0.0
        median = self.response(torch.tensor([self.median_degree], device=self.values.device))[0]
        return float(((self.values[: self.k] * median) ** 2).sum() / self.n_users)

    def known(self) -> torch.Tensor:
        """Return which items have an edge, bool ``[n_items]``."""
        return (self.counters.likes + self.counters.dislikes) > 0

    # ---- scores ----

    def exposure(self, users: SignedGraph | UserEdges) -> torch.Tensor:
        """Return the exposure scores of all items, ``[n_users, n_items]``."""
        return self.exposure_of(self.fold_in(users))

    def exposure_of(self, factors: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return :meth:`exposure` for the users' factors ``[n_users, <= k]``, of which the last may be left out."""
        vectors = self.vectors[:, : factors.shape[1]]
        # one user is a matrix by a vector: reads the items once, at the speed of the memory
        return (vectors @ factors[0])[None] if factors.shape[0] == 1 else torch.mm(factors, vectors.T, out=out)

    def finished(
        self,
        exposure: torch.Tensor,
        items: torch.Tensor | slice | None = None,
        out: torch.Tensor | None = None,
        strangers: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the scores that exposure scores, of all items or ``items``, come to; ``out`` may be ``exposure``."""
        every = slice(None) if items is None else items
        prior = self.prior_for(strangers, every)
        if isinstance(every, slice) or {"factor", "aversion"} <= vars(self).keys():
            factor, aversion = (None if tensor is None else tensor[every] for tensor in (self.factor, self.aversion))
        else:  # not worked out for all items
            factor, aversion = self.counters.factor(self.settings, every), self.counters.aversion(self.settings, every)
        scores = torch.add(exposure, prior, out=out)
        if factor is not None:
            scores.mul_(factor)
        # a product would raise what is below 0, so that there it is a quotient
        return scores if aversion is None else scores.div_(torch.where(scores < 0, aversion.square(), 1.0))

    def without_taste(self, items: torch.Tensor | slice = slice(None)) -> torch.Tensor:
        """Return 0 of items, of all ``[n_items]``: the score of what a user does not meet."""
        return torch.zeros_like(self.counters.likes[items])

    def scores(self, users: SignedGraph | UserEdges, added: torch.Tensor | None = None) -> torch.Tensor:
        """Return the scores of all items for any users, with ``added`` exposure scores, ``[n_users, n_items]``."""
        factors = self.fold_in(users)
        exposure = self.exposure_of(factors)
        if added is not None:
            exposure += added
        return self.finished(exposure, out=exposure, strangers=self.strangers(factors))

    def pair_scores(
        self, users: SignedGraph | UserEdges, items: torch.Tensor, added: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the scores of ``items`` for each user, with ``added`` exposure scores, all ``[n_users, m]``."""
        factors = self.fold_in(users)
        return self.scores_of(factors, items, added, self.strangers(factors))

    def scores_of(
        self,
        factors: torch.Tensor,
        items: torch.Tensor,
        added: torch.Tensor | None = None,
        strangers: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the scores of ``items``, ``[n_users, m]``, for users by their factors ``[n_users, <= k]``."""
        exposure = products_of(self.vectors, factors, items)
        return self.finished(exposure if added is None else exposure + added, items, strangers=strangers)

    def top(self, users: SignedGraph, k: int = 20, hide: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the ``k`` best items of each user and their scores, two ``[n_users, <= k]``, best first.

        Args:
            users: any users, known or new.
            k: how many.
            hide: what the user has an edge to has the score -inf, and comes last if there are not enough others.
        """
        k = min(k, users.n_items)
        best = torch.empty(users.n_users, k, dtype=torch.int64)
        values = torch.empty(users.n_users, k)
        for first in range(0, users.n_users, USERS):
            piece = slice(first, first + USERS)
            values[piece], best[piece] = self._top_of(
                users if users.n_users <= USERS else users.rows(piece), k, hide=hide
            )
        return best, values

    def _top_of(self, users: SignedGraph, k: int, *, hide: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the ``k`` best scores of each of a few users and the items, the items being gone through in blocks."""
        factors = self.fold_in(users)
        strangers = self.strangers(factors)
        row, item = _hidden(users) if hide else (np.zeros(0, dtype=np.int64),) * 2
        best: tuple[torch.Tensor, torch.Tensor] | None = None
        size = ITEMS * max(1, USERS // users.n_users)
        held = factors.new_empty(users.n_users * min(size, users.n_items))
        for first in range(0, users.n_items, size):
            block = slice(first, min(first + size, users.n_items))
            shape = (users.n_users, block.stop - block.start)
            scores = held[: shape[0] * shape[1]].view(shape)
            torch.mm(factors, self.vectors[block].T, out=scores)
            self.finished(scores, block, out=scores, strangers=strangers)
            start, end = np.searchsorted(item, (block.start, block.stop))
            scores[torch.from_numpy(row[start:end]), torch.from_numpy(item[start:end] - first)] = -torch.inf
            values, places = largest(scores, min(k, scores.shape[1]))
            top = values.cpu(), places.cpu() + first
            if best is not None:
                values, order = (joined := torch.cat((best[0], top[0]), dim=1)).topk(min(k, joined.shape[1]), dim=1)
                top = values, torch.cat((best[1], top[1]), dim=1).gather(1, order)
            best = top
        assert best is not None
        return best

    def explain(self, user: SignedGraph, items: IntArray, edges: UserEdges | None = None) -> list[Explanation]:
        """Return what each edge of a user adds to scores of items; ``edges``: the user as the filter reads it."""
        edges = self.edges(user) if edges is None else edges
        own, signs, entries = self._edges_of(user)
        bands = (self.response(self.degrees(edges)) * self.vectors[items, : self.k]).double()
        contributions = entries * (bands @ self.vectors[own, : self.k].double().T).cpu().numpy()
        from_features = np.zeros(len(items))
        if edges.prior is not None:
            share = float(edges.prior.share(torch.from_numpy(edges.degrees).float())[0, 0])
            contributions *= 1 - share
            from_features = share * (bands.cpu() @ edges.prior.projected[0].double()).numpy()
        prior = self.prior_for(self.strangers(self.fold_in(edges))).expand(1, -1)[0, items]
        verdicts, scores = self.verdict()[items], self.scores(edges)[0, items]
        factors = torch.ones_like(scores) if self.factor is None else self.factor[items]
        if self.aversion is not None:
            factors = torch.where(scores < 0, factors / self.aversion[items] ** 2, factors)
        numbers = torch.stack([prior, verdicts, factors, scores]).T.tolist()
        return [
            Explanation(own, signs, parts, popularity, verdict, factor, score, from_features=float(added))
            for parts, (popularity, verdict, factor, score), added in zip(
                contributions, numbers, from_features, strict=True
            )
        ]

    def _edges_of(self, user: SignedGraph) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return items, signs and entries in R of a user's edges, ``[n_edges]`` each: likes, dislikes, neutral."""
        # an item both liked and disliked has two edges, whose entries add up to the one of R
        sides = {1: user.likes, -1: user.dislikes}
        if user.neutrals is not None:
            sides[0] = user.neutrals
        items = np.concatenate([side.indices.astype(np.int64) for side in sides.values()])
        signs = np.repeat(np.array(list(sides), dtype=np.int8), [side.nnz for side in sides.values()])
        weights = np.select([signs > 0, signs < 0], [1.0, self.settings.dislike_weight], user.neutral_weight)
        degrees = user_degrees(user, self.settings.dislike_weight)
        edges = UserEdges(np.array([0, len(items)]), items, weights, degrees)
        return items, signs, edges.entries(self.counters, self.settings)


def products_of(vectors: torch.Tensor, factors: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """Return the products of users' factors ``[n_users, <= k]`` with the vectors of ``items [n_users, m]``."""
    n_users, m = items.shape
    if items.numel() > len(vectors):  # pays for a copy of the vectors where some are left out
        indptr = torch.arange(0, items.numel() + 1, m, dtype=torch.int32, device=vectors.device)
        pairs = SparsePairs(indptr, items.to(vectors.device).flatten().int(), len(vectors))
        return pairs.dots(factors, vectors[:, : factors.shape[1]]).view(n_users, m)
    return (vectors[items][..., : factors.shape[1]] @ factors[..., None])[..., 0]


def _hidden(users: SignedGraph) -> tuple[np.ndarray, np.ndarray]:
    """Return row and item of every edge, int64, in the order of the items."""
    sides = [side for side in (users.likes, users.dislikes, users.neutrals) if side is not None]
    row = np.concatenate([np.repeat(np.arange(users.n_users), np.diff(side.indptr)) for side in sides])
    item = np.concatenate([side.indices for side in sides]).astype(np.int64)
    order = np.argsort(item, kind="stable")
    return row[order], item[order]
