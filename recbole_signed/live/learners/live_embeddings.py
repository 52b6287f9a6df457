r"""Embeddings that follow the edges of a stream between two versions of a model, in closed form.

With item embeddings v, degrees d and weights :math:`c_i = d_i^{-1/2}`, a user with likes P and dislikes N has

.. math:: \phi_u = \Big[ \tfrac{1}{\sqrt{|P|}} \sum_{i \in P} c_i v_i ;\; \tfrac{1}{|P|} \sum_{i \in P} v_i ;\;
          \text{the same of } N ;\; \ln(1 + |P|) ;\; \ln(1 + |N|) \Big]

and :math:`\phi W + b` is fitted to the known embeddings by ridge regression, chosen by generalised cross-validation
(Golub, Heath, Wahba 1979).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from recbole_signed.arrays import grown
from recbole_signed.graph import SignedGraph
from recbole_signed.live import LIKE
from recbole_signed.live.learners.base import IntArray, rows_of
from recbole_signed.live.store.edges import EdgeState

GROWTH = 1.25  # an item is folded in again once it has this many times the edges that the last version knew of
MAX_NEW_USERS = 200  # users without a row that count for an item at most: each takes a fold-in
BLOCK = 100_000  # rows whose features are made at a time


@dataclass
class EmbeddingSide:
    """Users or items, ``[n]`` rows that grow; a node *has a row* where it had an edge when the version was made."""

    base: np.ndarray  # embeddings of the version, `[n, d]`
    rest: np.ndarray  # what the fold-in map does not explain of them, `[n, d]`; 0 of a node without a row
    degree: np.ndarray  # likes and dislikes that the version knew of, float32 `[n]`; 0: it has no row
    fold_in: RidgeMap  # to the embedding, and behind it to the rows of the model's tables of this side
    nobody: np.ndarray  # the embedding of a node of which nothing is known, `[d]`

    @classmethod
    def empty(cls) -> EmbeddingSide:
        """Return a side that holds the padding alone, in 0 dimensions."""
        none = np.zeros((1, 0), dtype=np.float32)
        zero = np.zeros(0, np.float32)
        return cls(none, none, np.zeros(1, np.float32), RidgeMap(np.zeros((2, 0), np.float32), zero), zero)

    @classmethod
    def from_tables(
        cls,
        graph: SignedGraph,
        own: np.ndarray,
        others: np.ndarray,
        tables: list[np.ndarray],
        *,
        keep_cold: bool,
        users: bool,
        likes_only: bool = False,
    ) -> EmbeddingSide:
        """Fit the map of one side to its embeddings ``own`` ``[n, d]``; users' also from parts of their edges."""
        degree, other_degree = (degrees.astype(np.float32) for degrees in graph.degrees())
        weights = degree_weights(other_degree)
        if likes_only:  # what such a model has for a node with dislikes alone was drawn, never trained
            degree[np.diff(graph.likes.indptr) == 0] = 0.0
        known = np.flatnonzero(degree > 0)
        if len(known) > MAX_ROWS:
            known = np.sort(np.random.default_rng(0).choice(known, MAX_ROWS, replace=False))
        targets = np.concatenate([own[known], *(table[known] for table in tables)], axis=1)
        whole = graph.rows(known)
        inputs = features(whole, others, weights)
        if users:
            parts = features(_parts(whole), others, weights)
            fold_in = RidgeMap.fit(np.concatenate([inputs, parts]), np.concatenate([targets, targets]))
        else:
            fold_in = RidgeMap.fit(inputs, targets)
        size = own.shape[1]
        map_ = fold_in.first(size)
        explained = np.empty_like(own)
        for first in range(0, len(own), BLOCK):
            rows = np.arange(first, min(first + BLOCK, len(own)))
            explained[rows] = map_(features(graph.rows(rows), others, weights))
        rest, cold = own - explained, degree == 0
        rest[cold] = 0.0
        nobody = targets[:, :size].mean(axis=0) if users and len(known) else map_.offset
        base = own.copy()
        base[cold if not keep_cold else 0] = nobody
        return cls(base, rest, degree, fold_in, nobody.astype(np.float32))

    @property
    def map(self) -> RidgeMap:
        """The fold-in map to embeddings alone."""
        return self.fold_in.first(self.base.shape[1])

    def grow(self, n: int) -> None:
        """Make room for ids below ``n``, of which nothing is known."""
        before = len(self.base)
        self.base, self.rest, self.degree = (grown(array, n) for array in (self.base, self.rest, self.degree))
        if len(self.base) > before:
            self.base[before:] = self.nobody

    def tensors(self, prefix: str, n: int) -> dict[str, np.ndarray]:
        """Return the first ``n`` rows and the map."""
        rows = {"base": self.base[:n], "rest": self.rest[:n], "degree": self.degree[:n]}
        whole = {"weights": self.fold_in.weights, "offset": self.fold_in.offset, "nobody": self.nobody}
        return {f"{prefix}/{name}": value for name, value in {**rows, **whole}.items()}

    @classmethod
    def from_tensors(cls, prefix: str, tensors: Mapping[str, np.ndarray]) -> EmbeddingSide:
        """Make the side again that :meth:`tensors` gave."""
        base, rest, degree, weights, offset, nobody = (
            np.array(tensors[f"{prefix}/{name}"]) for name in ("base", "rest", "degree", "weights", "offset", "nobody")
        )
        return cls(base, rest, degree, RidgeMap(weights, offset), nobody)


class LiveEmbeddings:
    """Users and items of a version, with the fold-ins since; users are folded in from the items ``source``."""

    def __init__(self, users: EmbeddingSide, items: EmbeddingSide, *, likes_only: bool = False) -> None:
        self.users, self.items, self.likes_only = users, items, likes_only
        self.n_items = len(items.base)
        self.vectors, self.source = items.base.copy(), items.base.copy()

    def grow(self, n_users: int, n_items: int) -> None:
        """Make room for ids below these."""
        self.users.grow(n_users)
        self.items.grow(n_items)
        before = len(self.vectors)
        self.vectors, self.source = grown(self.vectors, n_items), grown(self.source, n_items)
        for table in (self.vectors, self.source):
            table[before:] = self.items.base[before : len(table)]
        self.n_items = max(self.n_items, n_items)

    def forget(self, users: IntArray) -> None:
        """Make users into ones that were never seen."""
        self.users.base[users] = self.users.nobody
        self.users.rest[users] = 0.0
        self.users.degree[users] = 0.0

    # ---- users

    def of_users(self, edges: EdgeState, users: IntArray) -> np.ndarray:
        """Return the embeddings of users with the edges they have now, ``[len(users), d]``.

        Under a model that reads likes alone, a user with dislikes alone is one of whom nothing is known.
        """
        rows = rows_of(edges, users, self.n_items)
        vectors = self.users.map(features(rows, self.source, self._item_weights(edges)))
        row = np.where(users < len(self.users.degree), users, 0)
        vectors += self.users.rest[row]
        has_row = self.users.degree[row] > 0
        likes, dislikes = (np.diff(matrix.indptr) > 0 for matrix in (rows.likes, rows.dislikes))
        none = ~(likes | dislikes)
        vectors[none] = np.where(has_row[none, None], self.users.nobody, self.users.base[row[none]])
        if self.likes_only:
            vectors[dislikes & ~likes & ~has_row] = self.users.nobody
        return vectors

    def _item_weights(self, edges: EdgeState) -> np.ndarray:
        known = self.items.degree[: self.n_items]
        new = np.flatnonzero(known == 0)
        weights = degree_weights(known)
        new = new[new < edges.n_items]
        weights[new] = degree_weights(_degree(edges.item_likes, edges.item_dislikes, new))
        return weights

    # ---- items

    def live_items(self, edges: EdgeState) -> IntArray:
        """Return all items that are new or have grown."""
        return np.flatnonzero(self._is_live(edges, np.arange(edges.n_items)))

    def touched(self, edges: EdgeState, users: IntArray, items: IntArray) -> IntArray:
        """Return the items that a change of ``users`` and ``items`` bears on: those of new users too."""
        new = edges.of_users(users[self.users.degree[users] == 0]).verdicts
        return np.unique(np.concatenate([items, new.ids])).astype(np.int64)

    def update_items(self, edges: EdgeState, items: IntArray) -> None:
        """Fold in those of ``items`` that are new or have grown; set the others to what the version says."""
        live = self._is_live(edges, items)
        still = items[~live]
        self.vectors[still] = self.source[still] = self.items.base[still]
        items = items[live]
        if not len(items):
            return
        rows = edges.of_items(items).verdicts
        owner = np.repeat(np.arange(len(items)), np.diff(rows.indptr))
        new_user = self.users.degree[rows.ids] == 0
        # the number of new users up to each edge, from the start of its item
        so_far = np.cumsum(new_user)
        start = np.concatenate([[0], so_far])[rows.indptr[:-1]]
        counts = ~new_user | (so_far - start[owner] <= MAX_NEW_USERS)
        owner, likes = owner[counts], rows.kind[counts] == LIKE
        distinct, column = np.unique(rows.ids[counts].astype(np.int64), return_inverse=True)
        liked, disliked = ((owner[of], column[of]) for of in (likes, ~likes))
        graph = SignedGraph.from_edges(liked, disliked, len(items), len(distinct))
        vectors, degrees = self._users_as_sources(edges, distinct)
        folded = self.items.map(features(graph, vectors, degree_weights(degrees))) + self.items.rest[items]
        self.vectors[items] = folded
        new = self.items.degree[items] == 0
        self.source[items[new]] = folded[new]

    def _is_live(self, edges: EdgeState, items: IntArray) -> np.ndarray:
        now, known = _degree(edges.item_likes, edges.item_dislikes, items), self.items.degree[items]
        return np.asarray((now > GROWTH * known) & (items > 0))

    def _users_as_sources(self, edges: EdgeState, users: IntArray) -> tuple[np.ndarray, np.ndarray]:
        """Return embeddings and degrees: those of the version, for new users from items of the version alone."""
        vectors, degrees = self.users.base[users].copy(), self.users.degree[users].copy()
        new = np.flatnonzero(degrees == 0)
        if len(new):
            rows = rows_of(edges, users[new], self.n_items)
            known = sp.diags((self.items.degree[: self.n_items] > 0).astype(np.float32))
            rows = SignedGraph(*(_without_zeros(matrix @ known) for matrix in (rows.likes, rows.dislikes)))
            weights = degree_weights(self.items.degree[: self.n_items])
            vectors[new] = self.users.map(features(rows, self.items.base, weights))
            degrees[new] = _degree(edges.user_likes, edges.user_dislikes, users[new])
        return vectors, degrees

    # ---- the next version

    def starts(self, graph: SignedGraph) -> tuple[tuple[IntArray, np.ndarray], tuple[IntArray, np.ndarray]]:
        """Return ids and fold-ins ``[n, n_targets]`` of the users, and of the items, that have edges but no row yet."""
        degrees = graph.degrees()
        users, items = (
            np.flatnonzero((side.degree[: len(degree)] == 0) & (degree > 0))
            for side, degree in zip((self.users, self.items), degrees, strict=True)
        )
        weights = [
            degree_weights(np.where(side.degree[: len(degree)] > 0, side.degree[: len(degree)], degree))
            for side, degree in zip((self.users, self.items), degrees, strict=True)
        ]
        of_users = self.users.fold_in(features(graph.rows(users), self.source, weights[1]))
        base = self.users.base[: graph.n_users].copy()
        base[users] = of_users[:, : base.shape[1]]
        turned = SignedGraph(*(matrix[:, items].T.tocsr() for matrix in (graph.likes, graph.dislikes)))
        of_items = self.items.fold_in(features(turned, base, weights[0]))
        return (users, of_users), (items, of_items)

    # ---- keeping

    def tensors(self, n_users: int) -> dict[str, np.ndarray]:
        """Return what does not follow from the edges."""
        return {**self.users.tensors("users", n_users), **self.items.tensors("items", self.n_items)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray], *, likes_only: bool) -> LiveEmbeddings:
        """Make it again; :meth:`update_items` brings the fold-ins."""
        users, items = (EmbeddingSide.from_tensors(side, tensors) for side in ("users", "items"))
        return cls(users, items, likes_only=likes_only)


def _degree(likes: np.ndarray, dislikes: np.ndarray, ids: Any) -> np.ndarray:
    return (likes[ids] + dislikes[ids]).astype(np.float32)


def _parts(rows: SignedGraph) -> SignedGraph:
    """Return a part of each row's edges at random: its size is uniform on a logarithmic scale, from one to all."""
    rng = np.random.default_rng(0)
    count = np.diff(rows.likes.indptr) + np.diff(rows.dislikes.indptr)
    share = np.maximum(count, 1.0) ** -rng.random(len(count))
    return SignedGraph(*(_sampled(matrix, share, rng) for matrix in (rows.likes, rows.dislikes)))


def _sampled(matrix: sp.csr_matrix, share: np.ndarray, rng: np.random.Generator) -> sp.csr_matrix:
    kept = matrix.copy()
    kept.data = (rng.random(matrix.nnz) < np.repeat(share, np.diff(matrix.indptr))).astype(np.float32)
    return _without_zeros(kept)


def _without_zeros(matrix: Any) -> sp.csr_matrix:
    matrix = matrix.tocsr()
    matrix.eliminate_zeros()
    return matrix


MAX_ROWS = 50_000  # nodes that a map is fitted to; more of them add time and no accuracy
RIDGES = np.logspace(-4, 4, 33)


def degree_weights(degrees: np.ndarray) -> np.ndarray:
    """Return :math:`d^{-1/2}`, 0 where there is no edge."""
    return np.where(degrees > 0, np.maximum(degrees, 1.0) ** -0.5, 0.0).astype(np.float32)


def features(rows: SignedGraph, vectors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the features of nodes, float32 ``[n, 4d + 2]``, from ``rows`` ``[n, m]`` and ``vectors`` ``[m, d]``."""
    parts, counts = [], []
    for matrix in (rows.likes, rows.dislikes):
        count = np.diff(matrix.indptr).astype(np.float32)[:, None]
        scale = 1.0 / np.maximum(count, 1.0)
        # weights go to the edges: there are few rows as a rule, and many columns
        weighted = sp.csr_matrix((weights[matrix.indices], matrix.indices, matrix.indptr), shape=matrix.shape)
        here = vectors[: matrix.shape[1]]
        parts += [(weighted @ here) * np.sqrt(scale), (matrix @ here) * scale]
        counts.append(np.log1p(count))
    return np.concatenate([*parts, *counts], axis=1).astype(np.float32)


@dataclass(frozen=True)
class RidgeMap:
    """The map: ``weights`` float32 ``[n_features, n_targets]``, ``offset`` float32 ``[n_targets]``."""

    weights: np.ndarray
    offset: np.ndarray

    @classmethod
    def fit(cls, inputs: np.ndarray, targets: np.ndarray) -> RidgeMap:
        """Fit to nodes with edges, ``inputs [n, n_features]``, ``targets [n, n_targets]``."""
        n = len(inputs)
        if n < 2:
            offset = targets.mean(axis=0) if n else np.zeros(targets.shape[1])
            return cls(np.zeros((inputs.shape[1], targets.shape[1]), np.float32), offset.astype(np.float32))
        x, y = inputs.astype(np.float64), targets.astype(np.float64)
        x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
        spread = x.std(axis=0)
        spread[spread < 1e-9 * max(float(spread.max()), 1e-30)] = np.inf  # a constant column says nothing
        x, y = (x - x_mean) / spread, y - y_mean
        values, basis = scipy.linalg.eigh(x.T @ x)
        values = np.maximum(values, 0.0)
        inside = basis.T @ (x.T @ y)
        ridge = _best_ridge(values, (inside**2).sum(axis=1), float((y**2).sum()), n)
        weights = basis @ (inside / (values + ridge)[:, None]) / spread[:, None]
        return cls(weights.astype(np.float32), (y_mean - x_mean @ weights).astype(np.float32))

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Return the embeddings of nodes with the given features, ``[n, n_targets]``."""
        return inputs @ self.weights + self.offset

    def first(self, size: int) -> RidgeMap:
        """Return the map to the first ``size`` targets alone."""
        return RidgeMap(np.ascontiguousarray(self.weights[:, :size]), self.offset[:size].copy())


def _best_ridge(values: np.ndarray, power: np.ndarray, total: float, n: int) -> float:
    """Return the ridge with the least generalised cross-validation error; targets by eigenvector in ``power``."""
    ridges = RIDGES * max(float(values.mean()), 1e-12)
    scores = []
    for ridge in ridges:
        error = total - float((power * (values + 2 * ridge) / (values + ridge) ** 2).sum())
        freedom = 1.0 + float((values / (values + ridge)).sum())
        scores.append(n * max(error, 0.0) / (n - freedom) ** 2 if freedom < n else np.inf)
    return float(ridges[int(np.argmin(scores))])
