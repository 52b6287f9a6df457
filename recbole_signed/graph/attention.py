r"""Attention over the pairs of random walks, with a backward pass that stores one number for each pair."""

from __future__ import annotations

from typing import Any

import torch

from recbole_signed.graph.pair_products import SparsePairs
from recbole_signed.graph.random_walks import WalkPairs

CEILING = 5.0
"""Weights are cut off here before they are normalised."""


def _weights(logits: torch.Tensor) -> torch.Tensor:
    return logits.clamp(max=10.0).exp().clamp_(max=CEILING)  # the first clamp only keeps exp from overflowing


def _normalised_gradient(
    pairs: SparsePairs, weights: torch.Tensor, totals: torch.Tensor, gradient: torch.Tensor
) -> torch.Tensor:
    """Return the gradient of the logits of ``weights / totals``, given that of the quotients; ``[n_pairs]``."""
    mean = pairs.row_sums(weights * gradient) / totals
    gradient = (gradient - pairs.spread(mean)) / pairs.spread(totals)
    return gradient.mul_(weights).mul_(weights < CEILING)


class _PathAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        states: torch.Tensor,
        position_weight: torch.Tensor,
        path_logits: torch.Tensor,
        positions: torch.Tensor,
        walks: WalkPairs,
    ) -> torch.Tensor:
        pairs, scale = walks.pairs, states.shape[1] ** -0.5
        nearness = pairs.dots(positions, positions)
        content = _weights(pairs.dots(states, states).mul_(scale).add_(nearness * position_weight))
        path = _weights(path_logits)
        totals = _totals(pairs, content), _totals(pairs, path.index_select(0, walks.types))
        attention = _mix(walks, content, path, totals)
        context.save_for_backward(states, position_weight, nearness, content, path, *totals)
        context.walks, context.scale = walks, scale
        return pairs.sum(attention, states)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, position_weight, nearness, content, path, *totals = context.saved_tensors
        walks: WalkPairs = context.walks
        pairs, gradient = walks.pairs, gradient.contiguous()
        of_attention = pairs.dots(gradient, states).mul_(0.5)  # of each of the two halves
        of_logits = _normalised_gradient(pairs, content, totals[0], of_attention)
        by_path = _normalised_gradient(pairs, path.index_select(0, walks.types), totals[1], of_attention)
        of_path = torch.bincount(walks.types, by_path, minlength=len(path)).to(path.dtype)
        of_weight = (of_logits @ nearness).reshape(position_weight.shape)
        of_logits.mul_(context.scale)
        of_states = pairs.sum(of_logits, states)
        of_states += pairs.sum_transposed(of_logits, states)
        of_states += pairs.sum_transposed(_mix(walks, content, path, totals), gradient)
        return of_states, of_weight, of_path, None, None


def _totals(pairs: SparsePairs, weights: torch.Tensor) -> torch.Tensor:
    """Row sums; 1 where a row has no pair."""
    sums = pairs.row_sums(weights)
    return torch.where(sums > 0, sums, torch.ones_like(sums))


def _mix(walks: WalkPairs, content: torch.Tensor, path: torch.Tensor, totals: Any) -> torch.Tensor:
    """Return the mean of both attentions, ``[n_pairs]``."""
    pairs = walks.pairs
    by_path = path.index_select(0, walks.types).div_(pairs.spread(totals[1]))
    return (content / pairs.spread(totals[0])).add_(by_path).mul_(0.5)


def path_attention(
    states: torch.Tensor,
    position_weight: torch.Tensor,
    path_logits: torch.Tensor,
    positions: torch.Tensor,
    walks: WalkPairs,
) -> torch.Tensor:
    r"""Return :math:`y_i = \sum_{(i,j)} s_{ij} x_j` over the pairs of the walks, ``[n_nodes, d]``.

    .. math:: s_{ij} = \tfrac12 \Big[ \frac{g(x_i \cdot x_j / \sqrt d + w\, p_i \cdot p_j)}{\sum_j g(\cdot)}
              + \frac{g(\phi_{t(i,j)})}{\sum_j g(\cdot)} \Big], \quad g(z) = \min(e^z, 5)

    (SIGformer, SIGIR 2024, section 4: sign-aware spectral encoding and sign-aware path encoding; the cut at 5 is its
    published code's.) A pair that several walks give counts as often. A node that starts no walk gets zeros. There are
    gradients of first order for ``states``, ``position_weight`` and ``path_logits``.

    Args:
        states: x, ``[n_nodes, d]``.
        position_weight: w, ``[1]``.
        path_logits: :math:`\phi`, ``[n_path_types]``.
        positions: p, ``[n_nodes, k]``, a constant.
        walks: the pairs (i, j) and their path types t.
    """
    return _PathAttention.apply(states.contiguous(), position_weight, path_logits, positions, walks)
