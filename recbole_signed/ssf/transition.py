r"""What a user meets next, from the last likes and dislikes: a signed transition operator in closed form.

For each time scale :math:`\tau` the recent likes of a user are :math:`z^+ = \sum_e e^{-r_e/\tau}\, V_{i_e}` over its
likes e, with :math:`r_e` the number of the user's events that are later than e; so are its dislikes, :math:`z^-`. A
source z holds both at all scales, :math:`2sk` numbers. Each like is one row: the source just before it, and the target
:math:`y = V_i` of the liked item. The operator is the ridge regression

.. math:: B = (Z^T Z + \lambda I)^{-1} Z^T Y

and the transition's score of item j is :math:`z B V_j^T`. Kept are the sums :math:`Z^T Z` and :math:`Z^T Y`, which
processes add up, over the last likes of each user. Without signs and scales: SLIST (WWW 2021), TALE (WSDM 2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse as sp
import torch

from recbole_signed.arrays import begins
from recbole_signed.graph.shards import all_reduced
from recbole_signed.sequences import IntArray, Sequences

LIKES, MOST_LIKES, ROWS = 4, 64, 8
"""Last likes of a user that are learned from: some ROWS an item, from LIKES to MOST_LIKES, and their ties."""
# four likes of each of a few hundred users are too few to learn from; where users are many, more cost time alone
RANK = 96
"""Leading singular vectors that are moved between."""
SCALES = (2.0, 10.0, 50.0)
"""In events."""
RIDGE = 0.03
"""As a part of the mean square of a source's numbers."""
EVENTS = 25_000
"""Events whose sources are held at a time."""
NOISE = 1e-5
"""Length of a source times the operator, over the product of both lengths, up to which it is rounding of float32."""

FloatTable = npt.NDArray[np.float32]
Float64Table = npt.NDArray[np.float64]


def sources(
    sequences: Sequences, user: IntArray, end: IntArray, vectors: FloatTable, scales: Sequence[float]
) -> FloatTable:
    """Return users' sources before events ``end``, ``[n_rows, 2 * n_scales * k]``: likes, then dislikes, by scale."""
    # in one pass: each event is added to the first row that it lies before, and a row takes the one before it over;
    # rows are sorted by user and end
    n_rows, (n_items, k) = len(user), vectors.shape
    if not n_rows:
        return np.zeros((0, 2 * len(scales) * k), dtype=np.float32)
    place = np.arange(len(sequences.item))
    row = np.searchsorted(end, place, side="right")
    inside = row < n_rows
    inside[inside] = user[row[inside]] == sequences.owner[inside]
    own = np.flatnonzero(inside)
    age = end[row[own]] - sequences.end[own]
    weight = np.exp(-age[:, None] / np.asarray(scales)).astype(np.float32)
    slot = 2 * row[own] + ~sequences.like[own]
    places = slot[:, None] * len(scales) + np.arange(len(scales))
    items = np.repeat(sequences.item[own], len(scales))
    summed = sp.csr_matrix((weight.ravel(), (places.ravel(), items)), shape=(2 * len(scales) * n_rows, n_items))
    table = (summed @ vectors).reshape(n_rows, 2, len(scales), k)
    first = np.flatnonzero(begins(user))
    follows = np.arange(n_rows) - np.repeat(first, np.diff(np.append(first, n_rows)))  # which row of its user it is
    for number in range(1, int(follows.max()) + 1):
        rows = np.flatnonzero(follows == number)
        step = (end[rows] - end[rows - 1])[:, None] / np.asarray(scales)
        table[rows] += np.exp(-step).astype(np.float32)[:, None, :, None] * table[rows - 1]
    return table.reshape(n_rows, -1)


def sources_now(sequences: Sequences, vectors: FloatTable, scales: Sequence[float]) -> FloatTable:
    """Return the sources of users after all their events, float32 ``[n_users, 2 * n_scales * k]``."""
    return sources(sequences, np.arange(sequences.n_users), sequences.indptr[1:], vectors, scales)


def sources_moved(
    sequences: Sequences, vectors: FloatTable, scales: Sequence[float], operator: torch.Tensor
) -> torch.Tensor:
    """Return users' sources times B, ``[n_users, k]``; 0 where a source is orthogonal to all that were learned from."""
    # of such a product rounding would be left, which the share would bring to the length of a taste
    source = torch.from_numpy(sources_now(sequences, vectors, scales)).to(operator.device)
    moved = source @ operator
    size = source.norm(dim=1, keepdim=True) * operator.norm()
    return moved * (moved.norm(dim=1, keepdim=True) > NOISE * size)


def shares_now(sequences: Sequences, scales: Sequence[float]) -> Float64Table:
    """Return the weight of each event in its user's source after all its events, ``[n_events, n_scales]``."""
    age = sequences.indptr[1:][sequences.owner] - sequences.end
    return np.exp(-age[:, None] / np.asarray(scales))


def likes_each(n_users: int, n_items: int) -> int:
    """Return how many likes of each of so many users are learned from."""
    return min(max(ROWS * n_items // max(n_users, 1), LIKES), MOST_LIKES)


def learned_rows(sequences: Sequences, n_likes: int) -> tuple[IntArray, IntArray, IntArray]:
    """Return user, end of the source, and item of each user's last ``n_likes`` likes, ``[n_rows]`` each."""
    likes = np.concatenate([[0], np.cumsum(sequences.like)])
    owner = sequences.owner
    later = likes[sequences.indptr[1:][owner]] - likes[sequences.end]
    something_before = sequences.start > sequences.indptr[owner]
    rows = np.flatnonzero(sequences.like & (later < n_likes) & something_before)
    return owner[rows], sequences.start[rows].astype(np.int64), sequences.item[rows].astype(np.int64)


@dataclass
class TransitionSums:
    """The sums that the operator is solved from; float64, so that what is added can be taken away again."""

    gram: Float64Table
    """:math:`Z^T Z`, ``[w, w]``."""
    cross: Float64Table
    """:math:`Z^T Y`, ``[w, k]``."""
    n_likes: int
    """Of each user, that are learned from."""

    @classmethod
    def from_sequences(
        cls, sequences: Sequences, vectors: FloatTable, scales: Sequence[float] = SCALES
    ) -> TransitionSums:
        """Count users' last likes; with torch.distributed initialised each process counts its own users."""
        width = 2 * len(scales) * vectors.shape[1]
        n_users = int(all_reduced(torch.tensor(np.count_nonzero(np.diff(sequences.indptr)))))
        n_likes = likes_each(n_users, len(vectors))
        sums = cls(np.zeros((width, width)), np.zeros((width, vectors.shape[1])), n_likes)
        for users in sequences.pieces(EVENTS):
            sums.add(sequences.of_users(users), vectors, scales)
        for matrix in (sums.gram, sums.cross):
            all_reduced(torch.from_numpy(matrix))
        return sums

    def add(self, sequences: Sequences, vectors: FloatTable, scales: Sequence[float], times: float = 1.0) -> None:
        """Add the rows of users; ``times`` -1: take them away."""
        user, end, item = learned_rows(sequences, self.n_likes)
        if not len(user):
            return
        source = sources(sequences, user, end, vectors, scales)
        self.gram += times * (source.T @ source)
        self.cross += times * (source.T @ vectors[item])

    def solve(self, ridge: float = RIDGE) -> FloatTable:
        """Return B, float32 ``[w, k]``, 0 with nothing to learn from; ``ridge`` is over the sources' mean square."""
        mean = float(np.trace(self.gram)) / max(len(self.gram), 1)
        if not mean > 0:
            return np.zeros(self.cross.shape, dtype=np.float32)
        regular = self.gram + ridge * mean * np.eye(len(self.gram))
        solution = scipy.linalg.solve(regular, self.cross, assume_a="pos", overwrite_a=True)
        return np.ascontiguousarray(solution, dtype=np.float32)  # as it is read again: the layout decides on rounding


@dataclass(frozen=True)
class Transition:
    """The operator."""

    operator: torch.Tensor
    """B, float32 ``[2 * n_scales * k', k']``, with k' leading singular vectors."""

    def moved(self, sequences: Sequences, vectors: torch.Tensor) -> torch.Tensor:
        """Return :func:`sources_moved`, ``[n_users, k']``, from the vectors of items ``[n_items, >= k']``."""
        items, place = np.unique(sequences.item, return_inverse=True)  # of all items a copy would be made
        own = leading(vectors[torch.from_numpy(items)], self.operator.shape[1])
        return sources_moved(replace(sequences, item=place), own, SCALES, self.operator)

    def contributions(self, sequences: Sequences, vectors: torch.Tensor, items: IntArray) -> Float64Table:
        """Return what each event of one user adds to :meth:`moved` times items, ``[n_items, n_events]``."""
        table = vectors[:, : self.operator.shape[1]]
        own = table[torch.from_numpy(sequences.item)].double().cpu().numpy()
        spread = np.zeros((len(own), 2, len(SCALES), own.shape[1]))  # where the operator takes each event from
        spread[np.arange(len(own)), 1 - sequences.like.astype(np.int64)] = (
            shares_now(sequences, SCALES)[:, :, None] * own[:, None]
        )
        targets = (table[items].double() @ self.operator.double().T).cpu().numpy()
        return np.asarray(targets @ spread.reshape(len(own), -1).T)


def leading(vectors: torch.Tensor, rank: int = RANK) -> FloatTable:
    """Return the vectors that transitions are learned on, float32 ``[n_items, <= rank]``."""
    return np.ascontiguousarray(vectors[:, :rank].cpu().numpy())
