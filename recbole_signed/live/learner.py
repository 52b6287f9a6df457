"""What the online system asks of a model, tier by tier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from recbole_signed.graph import SignedGraph
from recbole_signed.online.edges import Changes, EdgeArrays, EdgeState

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Refreshed:
    """What a refresh found."""

    staleness: float
    """How far the item side had drifted before, as a part of its size (0: not at all); its own error bar."""
    passes: int
    """Passes over the edges."""


class Learner(Protocol):
    """A model under a stream. Ids are those of the vocabularies, 0 is padding; tables grow with them.

    What :meth:`update` makes of the model is a function of what the last :meth:`fit` or :meth:`refresh` left and of the
    edges as they are now, never of the way to them: an event that is delivered twice, or that is taken back, leaves
    no trace.
    """

    name: str

    def fit(self, edges: EdgeArrays, n_users: int, n_items: int) -> None:
        """Learn from scratch (T3)."""

    def update(self, edges: EdgeState, changes: Changes) -> None:
        """Take a batch of changes in, at once: counters, the touched users and items (T0 and T1)."""

    def refresh(self, edges: EdgeArrays, n_users: int, n_items: int) -> Refreshed:
        """Bring the item side up to date from where it is (T2)."""

    def attach(self, edges: EdgeState) -> None:
        """Bring counters and touched items in line with edges that may have moved on since a fit or refresh."""

    def scores(self, edges: EdgeState, users: IntArray) -> torch.Tensor:
        """Return the scores of all items for users with the edges they have now, ``[len(users), n_items]``."""

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return tensors and JSON from which :meth:`load` makes the same learner."""

    def load(self, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` gave."""


def graph_of(edges: EdgeArrays, n_users: int, n_items: int) -> SignedGraph:
    """Return the likes and dislikes of all users as a graph ``[n_users, n_items]``."""
    likes, dislikes = edges.likes, edges.dislikes
    return SignedGraph.from_edges((likes[0], likes[1]), (dislikes[0], dislikes[1]), n_users, n_items)


def rows_of(edges: EdgeState, users: IntArray, n_items: int) -> SignedGraph:
    """Return the likes and dislikes of some users as a graph ``[len(users), n_items]``; unknown users have none."""
    found = [edges.of_user(int(user)) for user in users if user < edges.n_users]
    counts = np.zeros(len(users), dtype=np.int64)
    counts[np.asarray(users) < edges.n_users] = [len(row.ids) for row in found]
    place = np.repeat(np.arange(len(users)), counts)
    item = np.concatenate([row.ids for row in found]) if found else np.zeros(0, dtype=np.int32)
    sign = np.concatenate([row.sign for row in found]) if found else np.zeros(0, dtype=np.int8)
    likes, dislikes = ((place[sign == wanted], item[sign == wanted]) for wanted in (1, -1))
    return SignedGraph.from_edges(likes, dislikes, len(users), n_items)


def grown(table: np.ndarray, n: int) -> np.ndarray:
    """Return the table with at least ``n`` rows, doubled where they do not suffice; new rows are zero."""
    if n <= len(table):
        return table
    larger = np.zeros((max(n, 2 * len(table)), *table.shape[1:]), dtype=table.dtype)
    larger[: len(table)] = table
    return larger
