"""Losses that several models share."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch.nn.functional import logsigmoid, softplus

from recbole_signed.graph.pair_products import SparsePairs, pair_scores


def bpr(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`-\ln \sigma(y_{ui} - y_{uj})` of each pair (BPR, UAI 2009), in the shape of the difference."""
    return -logsigmoid(positive - negative)


def half_squared_norm(*embeddings: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`\frac12 \sum \|e\|^2` over all rows given, a scalar."""
    return 0.5 * torch.stack([each.square().sum() for each in embeddings]).sum()


def sign_aware_bpr(known: torch.Tensor, sampled: torch.Tensor, coefficient: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`-\sum_k \ln \sigma(c\,y_{ui} - y_{uj_k})` of each edge (SiReN, TNNLS 2022), ``[B]``.

    Args:
        known: scores of the edges, ``[B]``.
        sampled: scores of the items sampled for each edge, ``[B, K]``.
        coefficient: c of each edge, ``[B]``.
    """
    return softplus(sampled - (coefficient * known)[:, None]).sum(dim=1)


def reversed_bpr(known: torch.Tensor, sampled: torch.Tensor, coefficient: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`-\sum_k \ln \sigma(y_{uj_k} - c\,y_{ui})` of each edge, ``[B]``; see :func:`sign_aware_bpr`."""
    return softplus((coefficient * known)[:, None] - sampled).sum(dim=1)


class SampledEdges:
    """A batch of edges with ``K`` sampled items each, sorted by user, whose scores need no tensor ``[B, K, d]``.

    Scores and their gradients go through the kernels of :mod:`recbole_signed.graph.pair_products`, and norms through
    counts, so a batch holds one number for each pair and one row for each user and item, whatever K is.

    Attributes:
        sign: 1 for likes and -1 for dislikes, in the order of the scores, ``[B]``.
        users, items: ids of the edges in that order, ``[B]``.
        sampled: the items sampled for each edge in that order, ``[B, K]``.
    """

    def __init__(
        self,
        users: torch.Tensor,
        items: torch.Tensor,
        sampled: torch.Tensor,
        sign: torch.Tensor,
        shape: tuple[int, int],
    ) -> None:
        self.edges, order = SparsePairs.sorted_by_row(users, items, shape)
        self.users, self.items, self.sign = (each.index_select(0, order) for each in (users, items, sign))
        self.sampled = sampled.reshape(len(users), -1).index_select(0, order)

    @classmethod
    def of(cls, model: Any, batch: Any) -> SampledEdges:
        """Return the edges of a batch, with the ids of ``model``."""
        users, items, sampled = (batch[field] for field in (model.USER_ID, model.ITEM_ID, model.NEG_ITEM_ID))
        return cls(users, items, sampled, batch["sign"], (model.n_users, model.n_items))

    def __len__(self) -> int:
        return len(self.sign)

    @cached_property
    def _all(self) -> SparsePairs:
        columns = torch.cat([self.items[:, None], self.sampled], dim=1)
        return SparsePairs(self.edges.indptr * columns.shape[1], columns.reshape(-1).int(), self.edges.shape[1])

    def coefficient(self, like: float, dislike: float) -> torch.Tensor:
        """Return one number for likes and another for dislikes, ``[B]``."""
        return torch.where(self.sign > 0, like, dislike)

    def scores(self, users: torch.Tensor, items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scores of the edges ``[B]`` and of the sampled items ``[B, K]``.

        They are inner products of ``users [n_users, d]`` and ``items [n_items, d]``.
        """
        scores = pair_scores(users, items, self._all).view(len(self), -1)
        return scores[:, 0], scores[:, 1:]

    def known_scores(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Return the inner products of the edges alone, ``[B]``."""
        return pair_scores(users, items, self.edges)

    def squared_norms(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        r"""Return :math:`\sum \|e_u\|^2 + \|e_i\|^2 + \sum_k \|e_{j_k}\|^2` over the edges, a scalar."""
        counts = self.edges.indptr.diff(), torch.bincount(self._all.columns, minlength=self.edges.shape[1])
        return sum(  # type: ignore[return-value]
            count.to(table.dtype) @ table.square().sum(dim=1)
            for count, table in zip(counts, (users, items), strict=True)
        )
