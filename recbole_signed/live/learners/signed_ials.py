"""SignediALS under a stream: users are half-steps of their edges, made when they are ranked for; none is kept.

A grown item is a half-step of its users (``growing_items.py``), a refresh one pass of alternation, a refit the full
fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from recbole_signed.graph.least_squares import SignedLeastSquares
from recbole_signed.graph.propagation import symmetric
from recbole_signed.graph.spectral import right_factors
from recbole_signed.live.learners.base import IntArray, Learner, Neighbours, Refreshed, graph_of, matrices, user_rows
from recbole_signed.live.learners.growing_items import GrowingItems
from recbole_signed.live.store.edge_views import Rows
from recbole_signed.live.store.edges import Changes, EdgeArrays, EdgeState


class LeastSquaresLearner(Learner):
    """Item factors, and of the users their Gram matrix only."""

    name = "SignediALS"
    ranks_without_edges = False

    def __init__(
        self,
        embedding_size: int = 64,
        n_iterations: int = 12,
        like_weight: float = 1.0,
        dislike_weight: float = 0.5,
        dislike_target: float = 0.5,
        unobserved_weight: float = 0.1,
        reg_weight: float = 0.003,
        reg_exponent: float = 1.0,
    ) -> None:
        self.size, self.n_iterations = int(embedding_size), int(n_iterations)
        self.problem = SignedLeastSquares(
            like_weight=float(like_weight),
            dislike_weight=float(dislike_weight),
            dislike_target=float(dislike_target),
            unobserved_weight=float(unobserved_weight),
            regularisation=float(reg_weight),
            regularisation_exponent=float(reg_exponent),
        )
        self._take(np.zeros((1, 0), dtype=np.float32), np.zeros(1), torch.zeros(0, 0), 1)

    def _take(self, items: np.ndarray, degree: np.ndarray, user_gram: torch.Tensor, n_users: int) -> None:
        self.items = GrowingItems(items, degree, 1.0)
        self.user_gram, self.n_users = user_gram, n_users
        self._base = torch.from_numpy(items)
        self._base_gram = self._base.T @ self._base
        self._near = Neighbours(items)
        self._gram: torch.Tensor | None = None

    # ---- T3 and T2

    def fit(self, edges: EdgeArrays, n_users: int, n_items: int) -> None:
        """Alternate from the leading singular vectors of the normalised likes, as the model does."""
        graph = graph_of(edges, n_users, n_items)
        start = right_factors(symmetric(graph.likes, smoothing=1.0), self.size)
        self.alternate(graph.likes, graph.dislikes, start.vectors * start.values.sqrt(), self.n_iterations)

    def refresh(self, edges: EdgeArrays, n_users: int, n_items: int) -> Refreshed:
        """Make one pass over all users and items (a fit where the rank may have grown); return how far items went."""
        graph, width = graph_of(edges, n_users, n_items), self.items.vectors.shape[1]
        degrees = np.diff(graph.likes.indptr), np.bincount(graph.likes.indices)  # whose rank is at most that of either
        if width < self.size and width < min(map(np.count_nonzero, degrees)):
            self.fit(edges, n_users, n_items)
            return Refreshed(1.0, self.n_iterations)
        old = torch.zeros(n_items, width)
        old[: self.items.n_items] = torch.from_numpy(self.items.vectors)
        self.alternate(graph.likes, graph.dislikes, old, 1)
        size = self._base.norm().clamp(min=1e-30)
        return Refreshed(float((self._base - old).norm() / size), 1)

    def alternate(self, likes: sp.csr_matrix, dislikes: sp.csr_matrix, items: torch.Tensor, passes: int) -> None:
        """Make passes over all users and items from ``items [n_items, d]`` on, and take the result over."""
        columns = likes.T.tocsr(), dislikes.T.tocsr()
        users = torch.zeros(likes.shape[0], items.shape[1])
        for _ in range(passes):
            users = self.problem.half_step(likes, dislikes, items)
            items = self.problem.half_step(*columns, users)
        degree = np.diff(columns[0].indptr) + np.diff(columns[1].indptr)
        self._take(items.numpy(), degree, users.T @ users, likes.shape[0])

    # ---- T0 and T1

    def update(self, edges: EdgeState, changes: Changes) -> None:
        """Make again the items that have grown."""
        self._gram = None
        self.items.update(edges, changes.users, changes.items, self)

    def attach(self, edges: EdgeState) -> None:
        """Make all items that have grown since the refresh."""
        self._gram = None
        self.items.attach(edges, self)

    def make_users(self, rows: Rows) -> np.ndarray:
        """Return the half-steps of users, given the items of the last refresh."""
        known = matrices(rows.where(rows.ids < len(self._base)), len(self._base))
        return self.problem.half_step(*known, self._base, self._base_gram).numpy()

    def make_items(self, likes: sp.csr_matrix, dislikes: sp.csr_matrix, users: np.ndarray) -> np.ndarray:
        """Return the half-steps of items."""
        fixed = torch.from_numpy(users)
        return self.problem.half_step(likes, dislikes, fixed, self.user_gram, self.n_users).numpy()

    # ---- scores

    @property
    def gram(self) -> torch.Tensor:
        """The Gram matrix of the items in force, ``[d, d]``."""
        if self._gram is None:
            moved = self.items.moved
            now = torch.from_numpy(self.items.vectors[moved])
            before = self._base[torch.from_numpy(moved[moved < len(self._base)])]
            self._gram = self._base_gram + now.T @ now - before.T @ before
        return self._gram

    def scores(self, edges: EdgeState, users: IntArray) -> torch.Tensor:
        """Return the scores of all items for users with the edges they have now, ``[len(users), n_items]``."""
        return self._users(edges, users) @ torch.from_numpy(self.items.vectors).T

    def pair_scores(self, edges: EdgeState, users: IntArray, items: IntArray) -> np.ndarray:
        """Return the scores of some items for each user, ``[len(users), m]``."""
        return np.einsum("nk,nmk->nm", self._users(edges, users).numpy(), self.items.vectors[items])

    def _users(self, edges: EdgeState, users: IntArray) -> torch.Tensor:
        items = torch.from_numpy(self.items.vectors)
        return self.problem.half_step(*matrices(user_rows(edges, users), len(items)), items, self.gram)

    # ---- keeping

    def parameters(self) -> dict[str, Any]:
        """Return the parameters, by the names in the model's yaml."""
        problem = asdict(self.problem)
        problem["reg_weight"] = problem.pop("regularisation")
        problem["reg_exponent"] = problem.pop("regularisation_exponent")
        return {**problem, "embedding_size": self.size, "n_iterations": self.n_iterations}

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the item side of the last refresh; what has been made since is that of the edges."""
        tensors = {"items": self.items.base, "degree": self.items.degree, "user_gram": self.user_gram.numpy()}
        return tensors, {"n_users": self.n_users}

    def load(self, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` gave; :meth:`attach` brings the items that have grown."""
        items, degree, gram = (np.array(tensors[name]) for name in ("items", "degree", "user_gram"))
        self._take(items, degree, torch.from_numpy(gram), int(meta["n_users"]))
