r"""PCTM
################################################
Reference:
    Aleksandr V. Petrov et al. "Do Sequential Recommendation Benchmarks Really Require Higher-Order Sequence Modelling?"
    in RecSys 2026. arXiv:2608.19833.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from recbole_signed.arrays import spans
from recbole_signed.model.training_free import OrderedLikesRecommender


class PCTM(OrderedLikesRecommender):
    r"""Probabilistic collaborative transition model: counts of what follows an item, with nothing learned.

    :math:`C_{ha}` sums :math:`\gamma^{d-1}` over the likes of a that come d moments after a like of h of the same
    user, up to ``max_distance``. With :math:`\tau` prior counts, spread evenly over the N items,

    .. math::
        \hat P(a \mid h) = \frac{C_{ha} + \tau / N}{C_{h\cdot} + \tau}, \qquad
        s_u(a) = \sum_{h \in u} e^{-r_h/\delta} \log \hat P(a \mid h) + \lambda \log p(a),

    where :math:`r_h` moments of the user are later than the like of h. For the ranking of one user
    :math:`\log(1 + N C_{ha} / \tau)` stands for :math:`\log \hat P(a \mid h)`: the difference is the same for all a.

    The paper has no public code, and was not at hand; the form is that of public summaries. Chosen here: the decays of
    distance and history are geometric, :math:`p(a)` has one prior count for each item, likes of one time are one
    moment. The paper's other model, SeqRules, is not this one. Without timestamps, and on data without a sign, it is
    Pop.
    """

    without_order = "PCTM is Pop here, without an order of likes"
    fitted = ("evidence", "followers", "item_ends")

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.max_distance, self.distance_decay = int(config["max_distance"]), float(config["distance_decay"])
        self.prior_count = float(config["prior_count"])
        self.popularity_weight = float(config["popularity_weight"])
        if not self.has_order:
            self.popularity_weight = 1.0
        likes = torch.from_numpy(np.bincount(self._rows[1], minlength=len(self.liked)))
        self.register_buffer("log_popularity", ((likes + 1.0) / (likes + 1.0).sum()).log().float())
        self.register_buffer("evidence", torch.zeros(0))
        self.register_buffer("followers", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("item_ends", torch.zeros(0, dtype=torch.int64))

    def counts(self) -> sp.csr_matrix:
        """Return C over the liked items, CSR ``[n_liked, n_liked]``."""
        user, column, moment, last = self._rows
        n_moments = np.zeros(self.n_users, dtype=np.int64)
        np.maximum.at(n_moments, user, last + 1)
        ends = np.cumsum(n_moments)
        n_places = int(ends[-1])
        place = (ends - n_moments)[user] + moment
        at = sp.csr_matrix((np.ones(len(user)), (place, column)), shape=(n_places, len(self.liked)))
        here = np.arange(n_places)
        reach = np.minimum(self.max_distance, np.repeat(ends, n_moments) - here - 1)
        source, later = np.repeat(here, reach), spans(here + 1, reach)
        weight = self.distance_decay ** (later - source - 1.0)
        return (at.T @ (sp.csr_matrix((weight, (source, later)), shape=(n_places, n_places)) @ at)).tocsr()

    def fit(self) -> None:
        """Count; the same likes in the same order give the same model."""
        counts = self.counts()
        evidence = np.log1p(self.n_items * counts.data / self.prior_count)
        self.evidence = torch.from_numpy(evidence).float().to(self.device)
        self.followers = torch.from_numpy(counts.indices.astype(np.int64)).to(self.device)
        self.item_ends = torch.from_numpy(counts.indptr[1:].astype(np.int64)).to(self.device)

    def _evidence(self) -> sp.csr_matrix:
        """Return what a like adds to the logarithm of each item's probability, CSR ``[n_liked, n_liked]``."""
        n = len(self.liked)
        ends = self.item_ends.cpu().numpy() if len(self.item_ends) else np.zeros(n, dtype=np.int64)
        parts = self.evidence.cpu().numpy(), self.followers.cpu().numpy(), np.append(0, ends)
        return sp.csr_matrix(parts, shape=(n, n))

    def weights_of(self, item: int) -> torch.Tensor:
        """Return what a like of an item adds to the score of each, ``[n_items]``; -inf where none is."""
        weights = torch.full((self.n_items,), -torch.inf, device=self.device)
        if bool((self.liked == item).any()):
            row = self._evidence()[int(torch.searchsorted(self.liked, item))].toarray()[0]
            weights[self.liked] = torch.from_numpy(row).to(self.device)
        return weights

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items for ``users [batch]``: ``[batch, n_items]``; lowest without a like."""
        known = torch.from_numpy((self._users[users.cpu().numpy()] @ self._evidence()).toarray()).to(self.device)
        known_scores = known + self.popularity_weight * self.log_popularity
        scores = known_scores.min().expand(len(users), self.n_items).clone()
        scores[:, self.liked] = known_scores
        return scores
