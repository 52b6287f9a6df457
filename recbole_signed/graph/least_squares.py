r"""Half-steps of alternating least squares over likes and dislikes, for all rows or for some."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

CELLS = 1 << 19  # numbers of one chunk of rows, 2 MiB of float32: it stays in the cache
ROWS_EACH = 64  # with fewer rows than one for so many nodes of the other side, another basis takes longer than it saves


@dataclass(frozen=True)
class SignedLeastSquares:
    r"""Weighted squared errors with a weight and a target for each sign.

    .. math::
        \sum_{(u,i) \in P} a_+ (1 - w_u \cdot h_i)^2 + \sum_{(u,i) \in N} a_- (y_- - w_u \cdot h_i)^2
        + a_0 \sum_{u,i} (w_u \cdot h_i)^2 + \lambda \Big( \sum_u c_u^\nu \|w_u\|^2 + \sum_i c_i^\nu \|h_i\|^2 \Big)

    with :math:`c = |E| + a_0 n`, the edges of a row and the weight of all pairs that it is in. Without dislikes it is
    iALS (Hu, Koren, Volinsky, ICDM 2008, in the form and with the regularisation of Rendle et al., "Revisiting the
    Performance of iALS on Item Recommendation Benchmarks", RecSys 2022, eq. 2 and 4).
    """

    like_weight: float = 1.0
    dislike_weight: float = 1.0
    dislike_target: float = 0.0
    unobserved_weight: float = 0.1
    regularisation: float = 0.003
    regularisation_exponent: float = 1.0

    def half_step(
        self,
        likes: sp.csr_matrix,
        dislikes: sp.csr_matrix,
        fixed: torch.Tensor,
        gram: torch.Tensor | None = None,
        n_fixed: int | None = None,
    ) -> torch.Tensor:
        r"""Return the minimiser of the objective for each row, the other side ``fixed [n_fixed, d]``: ``[n_rows, d]``.

        :math:`(a_0 H^T H + \sum_s a_s \sum_{i \in N_s} h_i h_i^T + \lambda c^\nu I)\, w = \sum_s a_s y_s \sum_{i \in
        N_s} h_i`. Rows with at most d/2 edges are solved in the eigenvectors of :math:`H^T H`. ``gram`` and
        ``n_fixed`` are of the whole other side, of which ``fixed`` may hold what the rows need.
        """
        gram = fixed.T @ fixed if gram is None else gram
        edges = _Edges.join(likes, dislikes)
        result = fixed.new_zeros(likes.shape[0], fixed.shape[1])
        if not result.numel():
            return result
        n_fixed = len(fixed) if n_fixed is None else n_fixed
        penalties = torch.from_numpy(self.penalties(edges.lengths, n_fixed)).to(fixed)
        basis = None
        if np.count_nonzero(edges.lengths) > fixed.shape[1] + len(fixed) // ROWS_EACH:
            values, basis = (tensor.to(fixed) for tensor in torch.linalg.eigh(gram.double()))
            gram, fixed = values.clamp(min=0).diag(), fixed @ basis
        roots = fixed.new_tensor([self.like_weight, self.dislike_weight]).sqrt()
        targets = roots * fixed.new_tensor([1.0, self.dislike_target])
        for chunk in edges.chunks(fixed.shape[1]):
            rows, item, sign, mask = (torch.from_numpy(array).to(fixed.device) for array in chunk)
            present = mask.to(fixed.dtype)
            factors = fixed[item] * (roots[sign] * present).unsqueeze(-1)  # X, [chunk, longest, d]
            target = (targets[sign] * present).unsqueeze(-1)
            penalty = penalties[rows].unsqueeze(-1)
            if basis is not None and 2 * item.shape[1] <= fixed.shape[1]:
                # (D + X'X)^-1 X'y = D^-1 X'(I + X D^-1 X')^-1 y: as many unknowns as the row has edges
                scaled = factors / (self.unobserved_weight * gram.diagonal() + penalty).unsqueeze(1)
                small = torch.bmm(scaled, factors.mT)
                small.diagonal(dim1=1, dim2=2).add_(1.0)
                solved = scaled.mT @ torch.cholesky_solve(target, torch.linalg.cholesky(small))
            else:
                normal = torch.baddbmm(
                    self.unobserved_weight * gram.expand(len(rows), *gram.shape), factors.mT, factors
                )
                normal.diagonal(dim1=1, dim2=2).add_(penalty)
                solved = torch.cholesky_solve(factors.mT @ target, torch.linalg.cholesky(normal))
            result[rows] = solved.squeeze(-1)
        return result if basis is None else result @ basis.T

    def penalties(self, lengths: npt.NDArray[np.int64], n_other: int) -> npt.NDArray[np.float64]:
        r"""Return :math:`\lambda c^\nu` of rows with that many edges, ``n_other`` nodes on the other side."""
        counts = lengths + self.unobserved_weight * n_other
        return np.asarray(self.regularisation * counts**self.regularisation_exponent, dtype=np.float64)


@dataclass(frozen=True)
class _Edges:
    """Likes and dislikes of each row, one after the other."""

    indptr: npt.NDArray[np.int64]
    items: npt.NDArray[np.integer]
    dislike: npt.NDArray[np.bool_]
    lengths: npt.NDArray[np.int64]

    @classmethod
    def join(cls, likes: sp.csr_matrix, dislikes: sp.csr_matrix) -> _Edges:
        counts = [np.diff(side.indptr).astype(np.int64) for side in (likes, dislikes)]
        lengths = counts[0] + counts[1]
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        dislike = np.repeat(np.tile([False, True], len(lengths)), np.stack(counts, axis=1).ravel())
        items = np.empty(len(dislike), dtype=likes.indices.dtype)
        items[~dislike], items[dislike] = likes.indices, dislikes.indices
        return cls(indptr, items, dislike, lengths)

    def chunks(
        self, width: int
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]]:
        """Yield rows, and their items, signs and mask padded to the longest: ``[chunk]``, ``[chunk, longest]``."""
        order = np.argsort(self.lengths, kind="stable")
        order = order[self.lengths[order] > 0]
        sizes = self.lengths[order]
        first = 0
        while first < len(order):
            # sorted by length, so a chunk of n rows is as wide as its last one; the shortest always fits alone
            ahead = sizes[first : first + max(1, CELLS // (width * width))]
            room = np.arange(1, len(ahead) + 1) * ahead * width <= CELLS
            # a chunk also ends where a row is twice as long as its first: at most half of it is padding
            last = first + max(1, int(np.count_nonzero(room & (ahead <= 2 * ahead[0] + 8))))
            rows = order[first:last]
            places = np.arange(sizes[last - 1])
            real = places < sizes[first:last, None]
            at = np.where(real, self.indptr[rows][:, None] + places, 0)
            yield rows, self.items[at].astype(np.int64), self.dislike[at].astype(np.int64), real
            first = last


# ---- ridge regression from sparse features, of which the sums alone are kept ----

BIAS_RIDGE = 1e-3  # regularisation of the first feature, which every id with a row has: next to none
PIECE = 20_000  # ids whose features are multiplied at a time


@dataclass
class RidgeSums:
    """The sums over ids that a ridge regression from features needs."""

    gram: npt.NDArray[np.float64]  # f'F, `[n_features, n_features]`
    cross: npt.NDArray[np.float64]  # f'T, `[n_features, n_targets]`
    _solved: dict[float, npt.NDArray[np.float32]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_rows(cls, features: sp.csr_matrix, targets: npt.NDArray[np.floating]) -> RidgeSums:
        """Sum over ids with features ``[n, n_features]`` and targets ``[n, n_targets]``."""
        n_features = features.shape[1]
        sums = cls(np.zeros((n_features, n_features)), np.zeros((n_features, targets.shape[1])))
        for first in range(0, features.shape[0], PIECE):
            sums.add(features[first : first + PIECE], targets[first : first + PIECE])
        return sums

    def add(self, features: sp.csr_matrix, targets: npt.NDArray[np.floating], times: float = 1.0) -> None:
        """Add ids to the sums, or take them back with ``times`` -1."""
        self._solved.clear()
        features = features.astype(np.float64)
        transposed = features.T.tocsr()
        gram = (transposed @ features).tocoo()
        self.gram[gram.row, gram.col] += times * gram.data  # each pair stands there once
        self.cross += times * (transposed @ targets)

    def solve(self, ridge: float) -> npt.NDArray[np.float32]:
        """Return the map from features to targets, float32 ``[n_features, n_targets]``."""
        if ridge in self._solved:
            return self._solved[ridge]
        penalty = np.full(len(self.gram), ridge)
        penalty[0] = min(BIAS_RIDGE, ridge)
        system = torch.from_numpy(self.gram + np.diag(penalty))
        solution = torch.cholesky_solve(torch.from_numpy(self.cross), torch.linalg.cholesky(system))
        self._solved[ridge] = solution.float().numpy()
        return self._solved[ridge]
