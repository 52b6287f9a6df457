r"""Random walks on the signed graph, all at once, the pairs of nodes that they join, and attention over these pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from recbole_signed.graph.sparse_kernels import SparsePairs

CEILING = 5.0  # weights are cut off here before they are normalised


@dataclass(frozen=True)
class WalkPairs:
    """Pairs (start of a walk, node that it reached), sorted by start, and the path between them.

    ``types [n_pairs]`` numbers the sequences of signs along a path, the shorter first: 0 a dislike, 1 a like, and so
    on.
    """

    pairs: SparsePairs
    types: torch.Tensor


def n_path_types(length: int) -> int:
    """Return the number of sequences of signs of length 1 to ``length``."""
    return 2 ** (length + 1) - 2


@dataclass(frozen=True)
class WalkGraph:
    """Edges of both signs in both directions, sorted by node, users first; ``neighbours [2 n_edges]``."""

    indptr: torch.Tensor
    neighbours: torch.Tensor
    likes: torch.Tensor

    @classmethod
    def from_edges(
        cls, users: torch.Tensor, items: torch.Tensor, likes: torch.Tensor, n_users: int, n_items: int
    ) -> WalkGraph:
        """Build the graph from edges ``(users[j], items[j])`` in any order, likes where ``likes[j]``."""
        n_nodes = n_users + n_items
        sources, targets = torch.cat([users, items + n_users]), torch.cat([items + n_users, users])
        keys = ((sources.long() * n_nodes + targets) * 2 + likes.long().repeat(2)).sort().values
        counts = torch.bincount(keys // (2 * n_nodes), minlength=n_nodes)
        indptr = torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int()
        return cls(indptr, (keys // 2 % n_nodes).int(), (keys % 2).int())

    def __deepcopy__(self, memo: dict[int, Any]) -> WalkGraph:
        return self

    def to(self, device: torch.device | str) -> WalkGraph:
        """Return the graph on a device."""
        return WalkGraph(self.indptr.to(device), self.neighbours.to(device), self.likes.to(device))

    def draw(self, length: int, generator: torch.Generator | None = None) -> WalkPairs:
        """Start a walk of ``length`` steps along each edge; it gives pairs until it comes to a node again."""
        if length < 1:
            raise ValueError(f"a walk has one step or more, not {length}")
        n_walks = len(self.neighbours)
        if n_walks * length >= np.iinfo(np.int32).max:
            raise ValueError(f"{n_walks} walks of {length} steps give more pairs than int32 can number")
        degrees = self.indptr.diff()
        source = torch.arange(len(degrees), dtype=torch.int32, device=degrees.device).repeat_interleave(degrees)
        path = self.likes + 2  # a leading 1 keeps paths of different lengths apart
        visited, types = [source, self.neighbours], [self.likes]
        fresh = [torch.ones(n_walks, dtype=torch.bool, device=degrees.device)]
        for step in range(2, length + 1):
            here = visited[-1]
            degree = degrees.index_select(0, here)
            chance = torch.rand(n_walks, generator=generator).to(degree.device)
            edge = self.indptr.index_select(0, here) + torch.minimum((chance * degree).int(), degree - 1)
            path = path * 2 + self.likes.index_select(0, edge)
            reached = self.neighbours.index_select(0, edge)
            new = fresh[-1].clone()
            for earlier in visited[step % 2 :: 2]:  # the graph is bipartite: only they can be the same node
                new &= reached != earlier
            visited.append(reached)
            types.append(path - 2)
            fresh.append(new)
        kept = torch.stack(fresh, dim=1).reshape(-1)
        before = torch.nn.functional.pad(kept.cumsum(0, dtype=torch.int32), (1, 0))
        columns, kinds = (torch.stack(steps, dim=1).reshape(-1)[kept] for steps in (visited[1:], types))
        pairs = SparsePairs(before.index_select(0, self.indptr * length), columns, len(degrees))
        return WalkPairs(pairs, kinds)


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
