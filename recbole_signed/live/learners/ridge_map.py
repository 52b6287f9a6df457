r"""A map from a node's edges to its embedding, learned from the nodes whose embeddings are known.

Whatever a model does inside, its users are roughly a function of the items they like and dislike. With item
embeddings v, degrees d and weights :math:`c_i = d_i^{-1/2}`, a user with likes P and dislikes N has the features

.. math:: \phi_u = \Big[ \tfrac{1}{\sqrt{|P|}} \sum_{i \in P} c_i v_i ;\; \tfrac{1}{|P|} \sum_{i \in P} v_i ;\;
          \text{the same of } N ;\; \ln(1 + |P|) ;\; \ln(1 + |N|) \Big]

and :math:`\phi W + b` is fitted to the known embeddings by ridge regression, the ridge chosen by generalised
cross-validation (Golub, Heath, Wahba 1979). The first feature is a layer of LightGCN, which so is in reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from recbole_signed.graph import SignedGraph

MAX_ROWS = 50_000
"""Nodes that a map is fitted to; more of them add time and no accuracy."""
RIDGES = np.logspace(-4, 4, 33)


def degree_weights(degrees: np.ndarray) -> np.ndarray:
    """Return :math:`d^{-1/2}`, 0 where there is no edge."""
    return np.where(degrees > 0, np.maximum(degrees, 1.0) ** -0.5, 0.0).astype(np.float32)


def features(rows: SignedGraph, vectors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the features of nodes, float32 ``[n, 4d + 2]``.

    Args:
        rows: their likes and dislikes, ``[n, m]``.
        vectors: embeddings of what the columns stand for, ``[m, d]`` or longer.
        weights: their c, ``[m]``.
    """
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
    """Return the ridge with the least generalised cross-validation error.

    Args:
        values: eigenvalues of the Gram matrix of the inputs.
        power: squared size of the targets along each eigenvector.
        total: squared size of the targets.
        n: number of nodes.
    """
    ridges = RIDGES * max(float(values.mean()), 1e-12)
    scores = []
    for ridge in ridges:
        error = total - float((power * (values + 2 * ridge) / (values + ridge) ** 2).sum())
        freedom = 1.0 + float((values / (values + ridge)).sum())
        scores.append(n * max(error, 0.0) / (n - freedom) ** 2 if freedom < n else np.inf)
    return float(ridges[int(np.argmin(scores))])
