"""Users as the filter reads them: their edges, and what features predict of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from recbole_signed.arrays import contains, distinct
from recbole_signed.graph import SignedGraph
from recbole_signed.graph.spectral import inverse_power, user_degrees
from recbole_signed.sequences import Sequences
from recbole_signed.ssf.item_counters import ItemCounters
from recbole_signed.ssf.settings import FilterSettings

ROWS = 1_024
"""Users whose edges are normalised at a time."""


@dataclass(frozen=True)
class UserPrior:
    """What features predict of users."""

    projected: torch.Tensor
    """Predicted rows of :math:`R V`, float32 ``[n_users, k]``."""
    given: torch.Tensor
    """Which users something is predicted of, bool ``[n_users]``."""
    weight: float
    """[c'] Edges that the prediction counts as, for users with edges."""

    def share(self, degrees: torch.Tensor) -> torch.Tensor:
        """Return how much of users with these degrees is predicted, c' / (d + c'), ``[n_users, 1]``."""
        share = torch.where(degrees > 0, self.weight / (degrees + self.weight).clamp(min=1e-9), 1.0)
        return (share * self.given)[:, None]

    def added(self, projected: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
        """Return the mean of users' own rows of R V and the predicted ones."""
        share = self.share(degrees)
        return (1 - share) * projected + share * self.projected


@dataclass(frozen=True)
class UserEdges:
    """Any users, known or new, as the filter reads them: their rows of P + wN, and their degrees."""

    indptr: npt.NDArray[np.integer]
    """Where the edges of each user begin, ``[n_users + 1]``."""
    items: npt.NDArray[np.integer]
    """``[n_edges]``."""
    weights: npt.NDArray[np.floating]
    """1 of a like, w of a dislike, ``[n_edges]``."""
    degrees: npt.NDArray[np.float64]
    """Row sums of P + abs(w) N, ``[n_users]``."""
    sequences: Sequences | None = None
    """The likes and dislikes in order of time; None where it is not known."""
    prior: UserPrior | None = None
    """None where no feature tells anything."""

    @classmethod
    def from_graph(
        cls,
        users: SignedGraph,
        dislike_weight: float,
        sequences: Sequences | None = None,
        prior: UserPrior | None = None,
    ) -> UserEdges:
        """Read the rows of a graph; what has both signs, or is neutral, has the sum of its weights."""
        plain = not dislike_weight and users.neutrals is None
        rows = users.likes if plain else users.weighted(dislike_weight)
        return cls(rows.indptr, rows.indices, rows.data, user_degrees(users, dislike_weight), sequences, prior)

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.degrees)

    def entries(self, counters: ItemCounters, s: FilterSettings) -> npt.NDArray[np.float32]:
        r"""Return the entries :math:`(d_u + a)^{-e} w_{ui} (d_i + a)^{-e}` of R, ``[n_edges]``, rounded once."""
        user_scale = inverse_power(self.degrees, s.degree_smoothing, s.degree_exponent)
        many = len(self.items) > counters.n_items  # a power costs more than a look-up
        scale = counters.scale(s, np.arange(counters.n_items) if many else self.items)
        entries = np.empty(len(self.items), dtype=np.float32)
        for first in range(0, self.n_users, ROWS):  # in pieces, for the memory: the product is float64
            bounds = self.indptr[first : first + ROWS + 1]
            edges = slice(int(bounds[0]), int(bounds[-1]))
            item_scale = scale[self.items[edges]] if many else scale[edges]
            entries[edges] = (
                self.weights[edges] * item_scale * np.repeat(user_scale[first : first + ROWS], np.diff(bounds))
            )
        return entries

    def matrix(self, counters: ItemCounters, s: FilterSettings) -> sp.csr_matrix:
        """Return the rows of R, the exposure matrix, float32 ``[n_users, n_items]``."""
        shape = (self.n_users, counters.n_items)
        return sp.csr_matrix((self.entries(counters, s), self.items, self.indptr), shape=shape)


def of_edges(sequences: Sequences, users: SignedGraph) -> Sequences:
    """Return the sequences of users without the dislikes that are not among their edges."""
    if np.count_nonzero(~sequences.like) <= users.dislikes.nnz:
        return sequences
    row = np.repeat(np.arange(users.n_users), np.diff(users.dislikes.indptr))
    keys = distinct(row * users.n_items + users.dislikes.indices)
    return sequences.only(sequences.like | contains(keys, sequences.owner * users.n_items + sequences.item))
