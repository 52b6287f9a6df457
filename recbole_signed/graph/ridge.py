"""Ridge regression from sparse features, of which the sums alone are kept."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

BIAS_RIDGE = 1e-3
"""Regularisation of the first feature, which every id with a row has: next to none."""
PIECE = 20_000
"""Ids whose features are multiplied at a time."""


@dataclass
class RidgeSums:
    """The sums over ids that a ridge regression from features needs."""

    gram: npt.NDArray[np.float64]
    """F'F, ``[n_features, n_features]``."""
    cross: npt.NDArray[np.float64]
    """F'T, ``[n_features, n_targets]``."""
    _solved: dict[float, npt.NDArray[np.float32]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, features: sp.csr_matrix, targets: npt.NDArray[np.floating]) -> RidgeSums:
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
        found = torch.cholesky_solve(torch.from_numpy(self.cross), torch.linalg.cholesky(system))
        self._solved[ridge] = found.float().numpy()
        return self._solved[ridge]
