"""The best items of users given by their edges, from a fitted filter, in pieces: never all users by all items."""

from __future__ import annotations

import numpy as np
import torch

from recbole_signed.graph import SignedGraph, exposure_rows, inverse_power
from recbole_signed.ssf.filter import SpectralFilter

CELLS = 8_000_000
"""Scores that are held at a time."""


class Ranker:
    """A filter with what does not depend on the user worked out once; made anew for other settings.

    Memory beside the filter: four numbers an item.
    """

    def __init__(self, fitted: SpectralFilter) -> None:
        s = fitted.settings
        self.fitted = fitted
        self.factor, prior, self.unknown = fitted.factor(), fitted.prior(), ~fitted.known()
        self.offset = prior * self.factor
        self.some_unknown = bool(self.unknown.any())
        degrees = fitted.likes.double() + abs(s.dislike_weight) * fitted.dislikes.double()
        self.item_scale = inverse_power(degrees.numpy(), s.degree_smoothing, s.degree_exponent)

    def factors(self, users: SignedGraph) -> torch.Tensor:
        """Return the users' factors, ``[n_users, k]``, from their edges."""
        s, k = self.fitted.settings, self.fitted.k
        rows = exposure_rows(users, self.item_scale, s.dislike_weight, s.degree_smoothing, s.degree_exponent)
        projected = torch.from_numpy(np.asarray(rows @ self.fitted.vectors.numpy()))[:, :k]
        return projected * self.fitted.response(self.fitted.degrees(users))

    def top(self, users: SignedGraph, k: int = 20, hide: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the ``k`` best items of each user and their scores, two ``[n_users, <= k]``, best first.

        The scores are those of :meth:`SpectralFilter.scores`. Items without edges, and with ``hide`` those the user
        has an edge to, have the score -inf, and come last if there are not enough others.

        Args:
            users: any users, known or new.
            k: how many.
            hide: leave out what the user has an edge to.
        """
        n_items = users.n_items
        k = min(k, n_items)
        factors, vectors = self.factors(users), self.fitted.vectors[:, : self.fitted.k]
        best = torch.empty(users.n_users, k, dtype=torch.int64)
        values = torch.empty(users.n_users, k)
        size = max(1, CELLS // n_items)
        for first in range(0, users.n_users, size):
            piece = factors[first : first + size]
            # one user is a matrix by a vector: reads the items once, at the speed of the memory
            scores = (vectors @ piece[0])[None] if len(piece) == 1 else piece @ vectors.T
            torch.addcmul(self.offset, scores, self.factor, out=scores)
            if self.some_unknown:
                scores.masked_fill_(self.unknown, -torch.inf)
            if hide:
                self._hide(scores, users, first)
            values[first : first + size], best[first : first + size] = scores.topk(k, dim=1)
        return best, values

    @staticmethod
    def _hide(scores: torch.Tensor, users: SignedGraph, first: int) -> None:
        for edges in (users.likes, users.dislikes, users.neutrals):
            if edges is not None:
                bounds = edges.indptr[first : first + len(scores) + 1]
                rows = np.repeat(np.arange(len(scores)), np.diff(bounds))
                items = edges.indices[bounds[0] : bounds[-1]].astype(np.int64)
                scores[torch.from_numpy(rows), torch.from_numpy(items)] = -torch.inf
