r"""TurboCF
################################################
Reference:
    Jin-Duk Park et al. "Turbo-CF: Matrix Decomposition-Free Graph Filtering for Fast Recommendation." in SIGIR 2024.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from recbole_signed.graph.inverse import refuse_too_large
from recbole_signed.graph.sparse_kernels import rows_product
from recbole_signed.graph.spectral import inverse_power
from recbole_signed.model.training_free import FilterRecommender

CELLS = 1 << 26


class TurboCF(FilterRecommender):
    r"""Polynomial low-pass filters of an item graph, without a decomposition.

    :math:`\tilde R = D_u^{-\alpha} P D_i^{\alpha - 1}` (eq. 4), :math:`\bar P = (\tilde R^T \tilde R)^{\circ s}`
    (eq. 5, elementwise power), scores :math:`p_u f(\bar P)` with :math:`f(x)` of order 1: x; of order 2:
    :math:`2x - x^2`; of order 3: :math:`x + 0.01(-x^3 + 10x^2 - 29x)` (section 3.3).

    Memory: :math:`f(\bar P)` is dense items x items in float32; orders 2 and 3 hold three of them while fitting.
    """

    fitted = ("item_filter",)

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.alpha = float(config["alpha"])
        self.power = float(config["power"])
        self.order = int(config["filter_order"])
        self.register_buffer("item_filter", torch.zeros(self.n_items, 0))

    def fit(self) -> None:
        """Compute the filter of the item graph."""
        refuse_too_large(self.n_items, n_matrices=1 if self.order == 1 else 3)
        signal = self.signal()
        degrees = [np.asarray(abs(signal).sum(axis=axis), np.float64).ravel() for axis in (1, 0)]
        users = sp.diags(inverse_power(degrees[0], 0.0, self.alpha))
        items = sp.diags(inverse_power(degrees[1], 0.0, 1.0 - self.alpha))
        matrix = (users @ signal @ items).tocsr().astype(np.float32)
        transposed = matrix.T.tocsr()
        graph = np.empty((self.n_items, self.n_items), dtype=np.float32)
        step = max(1, CELLS // self.n_items)
        for first in range(0, self.n_items, step):
            rows = transposed[first : first + step] @ matrix
            # entries that are not stored stay 0; negative ones occur where dislikes weigh below 0, and keep their sign
            rows.data = np.sign(rows.data) * abs(rows.data) ** np.float32(self.power)
            rows.toarray(out=graph[first : first + step])
        self.item_filter = self._polynomial(torch.from_numpy(graph)).to(self.device)

    def _polynomial(self, graph: torch.Tensor) -> torch.Tensor:
        if self.order == 1:
            return graph
        square = graph @ graph
        if self.order == 2:
            return square.neg_().add_(graph, alpha=2.0)
        cube = square @ graph
        return cube.mul_(-0.01).add_(square, alpha=0.1).add_(graph, alpha=0.71)

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items for ``users [batch]``: ``[batch, n_items]``."""
        if not self.item_filter.numel():
            return torch.zeros(len(users), self.n_items, device=self.device)
        return rows_product(self.signal(users), self.item_filter)


class SignedTurboCF(TurboCF):
    r"""Turbo-CF on :math:`X = P + wN` in place of the likes P, normalised by the sums of :math:`|X|`; with w = 0 it is
    Turbo-CF.

    The elementwise power keeps the sign of an entry, :math:`\mathrm{sgn}(x) |x|^s`. It shows what signs add to a
    published filter by themselves; the authors of Turbo-CF do not propose it.
    """

    reads_both_signs = True
