r"""SGFCF
################################################
Reference:
    Shaowen Peng et al. "How Powerful is Graph Filtering for Recommendation." in KDD 2024.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from recbole_signed.graph.propagation import GramFilter, symmetric
from recbole_signed.graph.sparse_kernels import homophily_ratio
from recbole_signed.graph.spectral import right_factors
from recbole_signed.model.training_free import FilterRecommender


class SGFCF(FilterRecommender):
    r"""A simplified graph filter of the likes with a generalised normalisation and an individual filter.

    G2N: :math:`\tilde R = (D_u + \alpha)^{-\epsilon} P (D_i + \alpha)^{-\epsilon} \approx U S V^T`, ``rank`` k.
    IGF: :math:`A_{ui} = \sum_k U_{uk} x_k^{\beta_u + \beta_i} V_{ik}` with :math:`x = S / \max S` and the exponent of
    a node between :math:`\beta_1` and :math:`\beta_2`, linear in its homophily ratio (``graph/sparse_kernels.py``).
    Score: :math:`A_u / \sum A_u + \gamma B_u / \sum B_u`, :math:`B = \tilde R \tilde R^T \tilde R`.
    ``individual_filter: False`` uses :math:`\beta_1` for all nodes and needs no homophily ratios.

    Departures from the authors' code: no sigmoid at the end (it keeps the order); a row of A whose sum is not clearly
    positive is divided by a hundredth of its absolute sum instead (theirs turns its order round); if all ratios are
    equal, the exponent is :math:`\beta_1` (theirs divides by zero); ratios in :math:`O(\sum d^2)`, without users x
    items; singular vectors by subspace iteration. With items of 100,000 likes and more turn the individual filter off.
    """

    fitted = ("item_factors", "item_response", "singular_values")

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.rank = int(config["rank"])
        self.betas = float(config["beta_1"]), float(config["beta_2"])
        self.individual = bool(config["individual_filter"])
        self.gamma = float(config["gamma"])
        self.linear = GramFilter(
            symmetric(self.signal(), smoothing=float(config["alpha"]), exponent=float(config["eps"]))
        )
        self.register_buffer("item_factors", torch.zeros(self.n_items, 0))
        self.register_buffer("item_response", torch.zeros(self.n_items, 0))
        self.register_buffer("singular_values", torch.zeros(0))
        self.register_buffer("user_exponents", torch.full((self.n_users,), self.betas[0]))

    def fit(self) -> None:
        """Find the singular vectors of the normalised matrix and the exponent of each node."""
        factors = right_factors(self.linear.matrix, self.rank)
        signal = self.signal()
        ratio = factors.values / factors.values[:1]
        self.user_exponents = self._exponents(signal, self.n_users).to(self.device)
        response = ratio ** self._exponents(signal.T.tocsr(), self.n_items).unsqueeze(1)
        self.item_factors = factors.vectors.to(self.device)
        self.item_response = (factors.vectors * response).to(self.device)
        self.singular_values = factors.values.to(self.device)

    def _exponents(self, matrix: Any, size: int) -> torch.Tensor:
        low, high = self.betas
        if not self.individual:
            return torch.full((size,), low)
        ratios = homophily_ratio(matrix)
        known = ratios[1:]  # id 0 is padding
        width = known.max() - known.min() if len(known) else 0.0
        place = (ratios - known.min()) / width if width > 0 else np.zeros(size)
        return torch.from_numpy(low + (high - low) * place.clip(0.0, 1.0)).float()

    def similarity_vectors(self) -> torch.Tensor:
        """Return item vectors, ``[n_items, k]``, whose product is A of a like, at the lowest homophily ratio."""
        return self.item_factors * (self.singular_values / self.singular_values[:1]) ** (self.betas[0] - 0.5)

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items for ``users [batch]``: ``[batch, n_items]``."""
        rows = self.linear.matrix[users.cpu().numpy()]
        with torch.no_grad():
            values = self.singular_values
            projected = torch.from_numpy(rows @ self.item_factors.cpu().numpy()).to(self.device)
            response = (values / values[:1]) ** self.user_exponents[users].unsqueeze(1) / values
            scores = (projected * response) @ self.item_response.T
            scores = scores / _row_sums(scores)
            if self.gamma:
                linear = torch.from_numpy(self.linear.rows(rows)).to(self.device)
                scores = scores + self.gamma * linear / _row_sums(linear)
            return scores


def _row_sums(scores: torch.Tensor) -> torch.Tensor:
    sums, sizes = scores.sum(dim=1, keepdim=True), scores.abs().sum(dim=1, keepdim=True)
    return torch.maximum(sums, 0.01 * sizes).clamp(min=1e-30)


class SignedSGFCF(SGFCF):
    """SGFCF on :math:`X = P + wN` in place of the likes P: what signs add to a published filter by themselves.

    Everything else is :class:`SGFCF`'s, a pair of items counts in the homophily if another user has rated both. With
    w = 0 it is SGFCF. It is the closest relative of SSF, which has a response of another form, exponents of the degrees
    in the score, and the verdict beside the filter. The authors of SGFCF do not propose it.
    """

    reads_both_signs = True
