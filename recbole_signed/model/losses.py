"""Losses that several models share, ranking and contrastive, and what a model takes from a batch of edges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import torch
from torch.nn.functional import logsigmoid, normalize, softplus

from recbole_signed.graph.sparse_kernels import SparsePairs, pair_scores


def bpr(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`-\ln \sigma(y_{ui} - y_{uj})` of each pair (BPR, UAI 2009), in the shape of the difference."""
    return -logsigmoid(positive - negative)


def half_squared_norm(*embeddings: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`\frac12 \sum \|e\|^2` over all rows given, a scalar."""
    return 0.5 * torch.stack([embedding.square().sum() for embedding in embeddings]).sum()


def sign_aware_bpr(known: torch.Tensor, sampled: torch.Tensor, coefficient: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`-\sum_k \ln \sigma(c\,y_{ui} - y_{uj_k})` of each edge (SiReN, TNNLS 2022), ``[B]``."""
    return softplus(sampled - (coefficient * known)[:, None]).sum(dim=1)


def reversed_bpr(known: torch.Tensor, sampled: torch.Tensor, coefficient: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`-\sum_k \ln \sigma(y_{uj_k} - c\,y_{ui})` of each edge, ``[B]``; see :func:`sign_aware_bpr`."""
    return softplus((coefficient * known)[:, None] - sampled).sum(dim=1)


class SampledEdges:
    """A batch of edges with ``K`` sampled items each, sorted by user, whose scores need no tensor ``[B, K, d]``."""

    def __init__(
        self,
        users: torch.Tensor,
        items: torch.Tensor,
        sampled: torch.Tensor,
        sign: torch.Tensor,
        shape: tuple[int, int],
    ) -> None:
        self.edges, order = SparsePairs.sorted_by_row(users, items, shape)
        self.users, self.items, self.sign = (tensor.index_select(0, order) for tensor in (users, items, sign))
        self.sampled = sampled.reshape(len(users), -1).index_select(0, order)

    @classmethod
    def from_batch(cls, model: Any, batch: Any) -> SampledEdges:
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
        """Return the inner products of the edges, ``[B]``, and of the sampled items, ``[B, K]``."""
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


# ---- a batch of edges with sampled items, and the scores of its pairs ----


def columns(model: Any, batch: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return users ``[B]``, items ``[B]`` and sampled items ``[B, K]``; RecBole's own batches have K = 1."""
    users = batch[model.USER_ID]
    return users, batch[model.ITEM_ID], batch[model.NEG_ITEM_ID].reshape(len(users), -1)


def dots(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the inner products of rows, ``[B]``."""
    return (left * right).sum(dim=-1)


def scores_of(user_rows: torch.Tensor, item_vectors: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """Return the inner products of ``user_rows [B, d]`` with the items ``[B, K]`` of each: ``[B, K]``."""
    if user_rows.device.type != "cpu":
        rows = item_vectors.index_select(0, items.reshape(-1)).view(*items.shape, -1)
        return torch.einsum("bd,bkd->bk", user_rows, rows)
    begins = torch.arange(len(items) + 1, dtype=torch.int32) * items.shape[1]
    pairs = SparsePairs(begins, items.reshape(-1).int(), len(item_vectors))
    return pair_scores(user_rows, item_vectors, pairs).view_as(items)


def mean_bpr(
    user_vectors: torch.Tensor,
    item_vectors: torch.Tensor,
    users: torch.Tensor,
    items: torch.Tensor,
    sampled: torch.Tensor,
) -> torch.Tensor:
    """Return the mean BPR loss over the pairs of ``items [B]`` and ``sampled [B, K]``, a scalar."""
    user_rows = user_vectors.index_select(0, users)
    known = dots(user_rows, item_vectors.index_select(0, items))
    return bpr(known[:, None], scores_of(user_rows, item_vectors, sampled)).mean()


def batch_norm_penalty(
    user_table: torch.Tensor, item_table: torch.Tensor, users: torch.Tensor, items: torch.Tensor, sampled: torch.Tensor
) -> torch.Tensor:
    """Return half the squared norms of the table rows that a batch names, per edge (LightGCN's code): a scalar."""
    rows = (
        user_table.index_select(0, users),
        item_table.index_select(0, items),
        item_table.index_select(0, sampled.reshape(-1)),
    )
    return half_squared_norm(*rows) / max(len(users), 1)


# ---- contrastive losses over the rows of a batch; their memory does not grow with the square of it ----


CELLS, CELLS_IN_CACHE = 4_000_000, 1 << 17  # products held at a time, on a GPU and on a CPU
SCALE = 2.0  # of the squared distances in `uniformity`


def _blocks(queries: torch.Tensor, keys: torch.Tensor) -> Iterator[slice]:
    cells = CELLS_IN_CACHE if queries.device.type == "cpu" else CELLS
    size = max(cells // max(len(keys), 1), 1)
    return (slice(first, first + size) for first in range(0, len(queries), size))


Term = Callable[[torch.Tensor, slice], tuple[torch.Tensor, torch.Tensor]]
"""Gives, of the logarithms of some rows ``[b]``, what they add to a loss, and its derivatives, ``[b]`` each."""


class _SumOverRows(torch.autograd.Function):
    """Makes the gradients with the value: the products, and their exponentials, are needed once and are not kept."""

    @staticmethod
    def forward(
        context: Any, queries: torch.Tensor, keys: torch.Tensor, temperature: float, term: Term
    ) -> torch.Tensor:
        total, learns = queries.new_zeros(()), any(context.needs_input_grad)
        of_queries, of_keys = torch.empty_like(queries), torch.zeros_like(keys)
        scaled = queries / temperature
        for rows in _blocks(queries, keys):
            products = scaled[rows] @ keys.T
            largest = products.amax(dim=1, keepdim=True)
            shares = products.sub_(largest).exp_()
            sums = shares.sum(dim=1, keepdim=True)
            values, slopes = term((sums.log() + largest)[:, 0], rows)
            total += values.sum()
            if learns:
                shares *= slopes[:, None] / sums
                torch.mm(shares, keys, out=of_queries[rows])
                of_keys.addmm_(shares.T, scaled[rows])
        if learns:
            context.save_for_backward(of_queries.div_(temperature), of_keys)
        return total

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        of_queries, of_keys = context.saved_tensors
        return gradient * of_queries, gradient * of_keys, None, None


def log_sum_exp(
    queries: torch.Tensor, keys: torch.Tensor, temperature: float, weights: torch.Tensor | None = None
) -> torch.Tensor:
    r"""Return :math:`\sum_i w_i \ln \sum_j \exp(q_i \cdot k_j / \tau)`; ``weights`` None stands for the mean."""
    if weights is None:
        weights = queries.new_full((len(queries),), 1.0 / max(len(queries), 1))
    return _sum_over_rows(queries, keys, temperature, lambda logs, rows: (weights[rows] * logs, weights[rows]))


def _sum_over_rows(queries: torch.Tensor, keys: torch.Tensor, temperature: float, term: Term) -> torch.Tensor:
    return _SumOverRows.apply(queries.contiguous(), keys.contiguous(), temperature, term)


def info_nce(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    r"""Return the mean of :math:`-\ln(\exp(\cos_{ii}/\tau) / \sum_j \exp(\cos_{ij}/\tau))` (arXiv 1807.03748)."""
    first, second = normalize(first, dim=-1), normalize(second, dim=-1)
    return log_sum_exp(first, second, temperature) - (first * second).sum(dim=-1).mean() / temperature


def uniformity(rows: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`\ln` of the mean of :math:`e^{-t \|x - y\|^2}` over pairs (Wang, Isola, ICML 2020, eq. 2)."""
    n = len(rows)
    if n < 2:
        return 0.0 * rows.sum()

    def others(logs: torch.Tensor, _: slice) -> tuple[torch.Tensor, torch.Tensor]:
        # |x - y|^2 = 2 - 2 xy; the sum has each row with itself too, which adds 1; so expm1
        return torch.expm1(logs - 2.0 * SCALE), torch.exp(logs - 2.0 * SCALE)

    total = _sum_over_rows(rows, rows, 0.5 / SCALE, others).clamp(min=torch.finfo(rows.dtype).tiny)
    return torch.log(total / (n * (n - 1)))


def perturbed(rows: torch.Tensor, size: float) -> torch.Tensor:
    r"""Return each row :math:`x` of ``[n, d]`` plus noise of length ``size`` in the orthant of x (SimGCL, eq. 7)."""
    return rows + torch.sign(rows) * normalize(torch.rand_like(rows), dim=-1) * size
