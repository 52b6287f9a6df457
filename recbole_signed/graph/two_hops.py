r"""Means over those that share neighbours, by products with the two-hop graph that is never made."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from recbole_signed.graph.propagation import SparseOperator


class TwoHopMean:
    r"""The mean over all paths of two edges to other rows, of equal signs (agreement) or of different ones.

    For likes P and dislikes N, ``[n_rows, n_columns]`` 0/1, a row ``i`` and a row ``j != i`` have

    .. math:: (P P^T + N N^T)_{ij} \text{ paths that agree}, \quad (P N^T + N P^T)_{ij} \text{ that disagree.}

    A message takes four sparse products, one after the other; the paths of a row to itself are taken off. Where both
    matrices hold the same pair, its path from a row to itself is one that disagrees.
    """

    def __init__(self, likes: sp.csr_matrix, dislikes: sp.csr_matrix, device: torch.device | str = "cpu") -> None:
        matrices = likes.astype(np.float64), dislikes.astype(np.float64)
        self.likes, self.dislikes = (SparseOperator(each, device) for each in matrices)
        sizes = [np.asarray(each.sum(axis=1)).ravel() for each in matrices]
        both = np.asarray(matrices[0].multiply(matrices[1]).sum(axis=1)).ravel()
        of_columns = [np.asarray(each.sum(axis=0)).ravel() for each in matrices]
        agreeing = matrices[0] @ of_columns[0] + matrices[1] @ of_columns[1]
        disagreeing = matrices[0] @ of_columns[1] + matrices[1] @ of_columns[0]
        self._loops = tuple(_column(each, device) for each in (2.0 * both, sizes[0] + sizes[1]))
        counts = disagreeing - 2.0 * both, agreeing - sizes[0] - sizes[1]
        self._inverses = tuple(_column(1.0 / np.maximum(each, 1.0), device) for each in counts)

    def __call__(self, rows: torch.Tensor, *, agreeing: bool) -> torch.Tensor:
        """Return the mean of ``rows [n_rows, d]`` over the paths of each row: ``[n_rows, d]``, 0 without any."""
        liked, disliked = self.likes.T @ rows, self.dislikes.T @ rows
        if not agreeing:
            liked, disliked = disliked, liked
        total = self.likes @ liked + self.dislikes @ disliked
        loops, inverses = (each[agreeing].to(rows.dtype) for each in (self._loops, self._inverses))
        return (total - loops * rows) * inverses

    def __deepcopy__(self, memo: dict[int, Any]) -> TwoHopMean:
        return self


def _column(values: np.ndarray, device: torch.device | str) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float64))[:, None].to(device)
