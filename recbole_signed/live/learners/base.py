"""What the online system asks of a model, tier by tier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from recbole_signed.atomic.feature_space import Features
from recbole_signed.graph import SignedGraph
from recbole_signed.graph.personal_verdict import STRENGTH
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, AnnouncedFeatures
from recbole_signed.live.store.edge_views import PIECE, Rows
from recbole_signed.live.store.edges import Changes, EdgeArrays, EdgeState

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Refreshed:
    """What a refresh found."""

    staleness: float  # how far the item side had drifted before, as a part of its size; its own error bar
    passes: int  # passes over the edges


WISH_STRENGTH = 0.7
"""Default of :attr:`Learner.wish_strength`; at 1 the items with a value would no longer differ."""


class Learner:
    """A model under a stream. Ids are those of the vocabularies, 0 is padding; tables grow with them.

    What :meth:`update` makes of the model is a function of what the last :meth:`fit` or :meth:`refresh` left and of the
    edges as they are now, never of the way to them. Methods for what most models do not know do nothing here.
    """

    name: str
    dislike_strength: float = STRENGTH
    """How far what is near to a dislike falls, from 0 to 1, see ``ranking.py``. Can be changed any time."""
    wish_strength: float = WISH_STRENGTH
    """How far an item moves if a user asked for less or more of one of its values, from 0 to 1. No fit chooses it."""
    dislikes_lead: bool = False
    """Whether what comes after a dislike is told from it at once, but for what is near it."""
    ranks_without_edges: bool = True
    """Whether the scores of a user without edges tell items apart; else all are 0, and it gets items by their likes."""
    needs_times: bool = False
    """Whether :meth:`fit` looks at the times of edges."""
    refresh_needs_times: bool = False
    """Whether :meth:`refresh` does."""
    remembers: bool = False
    """Whether what :meth:`fit` learns depends on the fits before it, too."""
    _near: Any = None  # `Neighbours`, where items have vectors

    def fit(self, edges: EdgeArrays, n_users: int, n_items: int) -> None:
        """Learn from scratch (T3)."""
        raise NotImplementedError

    def update(self, edges: EdgeState, changes: Changes) -> None:
        """Take a batch of changes in, at once: counters, the touched users and items (T0 and T1)."""
        raise NotImplementedError

    def refresh(self, edges: EdgeArrays, n_users: int, n_items: int) -> Refreshed:
        """Bring the item side up to date from where it is (T2)."""
        raise NotImplementedError

    def attach(self, edges: EdgeState) -> None:
        """Bring counters and touched items in line with edges that may have moved on since a fit or refresh."""
        raise NotImplementedError

    def scores(self, edges: EdgeState, users: IntArray) -> torch.Tensor:
        """Return the scores of all items for users with the edges they have now, ``[len(users), n_items]``."""
        raise NotImplementedError

    def top(self, edges: EdgeState, user: int, k: int, hidden: IntArray) -> tuple[IntArray, np.ndarray] | None:
        """Return the ``k`` best items of one user, and their scores; None: they have to be found among all scores."""
        return None

    def pair_scores(self, edges: EdgeState, users: IntArray, items: IntArray) -> np.ndarray:
        """Return the scores of some items for each user, ``[len(users), m]`` of items as many."""
        raise NotImplementedError

    def without_taste(self, items: IntArray) -> np.ndarray | None:
        """Return where the scores of items tell nothing of a user's taste, ``[n]``; None: the middle of a user's."""
        return None

    def from_scratch(self) -> Learner:
        """Return this, with no trained parameters to take over in the next :meth:`fit`."""
        return self

    def take_features(self, items: Features | None, users: Features | None) -> None:
        """Take the features of the items and users that a state begins with, by its ids."""

    def take_features_of(self, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any], forgotten: IntArray) -> None:
        """Take the features that :meth:`state` gave, less those of forgotten users, for the next :meth:`fit`."""

    def keep_without_forgotten(self, of: Any) -> bool:
        """Take over what another learner of the state has of users; return whether that is all that was announced."""
        return True

    def forget(self, users: IntArray) -> None:
        """Drop the features of users by their ids."""

    def announce(self, announced: AnnouncedFeatures) -> None:
        """Take features by side and id, in place of earlier ones; the ids may have no edge yet."""

    def unfit(self, side: str, features: Sequence[Mapping[str, Any]]) -> dict[int, str]:
        """Return which features of items or users can't be announced, by their place, and why."""
        return {}

    def knows(self, user: int) -> bool:
        """Return whether something is known of a user beside its edges."""
        return False

    def parameters(self) -> dict[str, Any]:
        """Return what :func:`make_learner` makes a learner of the same settings from, as JSON."""
        raise NotImplementedError

    def columns(self) -> dict[str, dict[str, str]]:
        """Return how each column of the features of items and users is read, as JSON; nothing where none is used."""
        return {}

    def similar(self, item: int, k: int, keys: IntArray | None = None) -> tuple[IntArray, np.ndarray]:
        """Return the ``k`` nearest items of one and their cosines, best first; equal ones in the order of ``keys``."""
        found: tuple[IntArray, np.ndarray] = self._near.similar(item, k, keys)
        return found

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return tensors and JSON from which :meth:`load` makes the same learner of one of the same parameters."""
        raise NotImplementedError

    def load(self, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` gave."""
        raise NotImplementedError


def graph_of(edges: EdgeArrays, n_users: int, n_items: int) -> SignedGraph:
    """Return the likes and dislikes of all users as a graph ``[n_users, n_items]``."""
    indptr = np.zeros(n_users + 1, dtype=np.int64)
    for first in range(0, len(edges.user), PIECE):
        indptr[1:] += np.bincount(edges.user[first : first + PIECE], minlength=n_users)
    np.cumsum(indptr, out=indptr)
    return SignedGraph(*matrices(Rows(indptr, edges.item, edges.kind), n_items))


def rows_of(edges: EdgeState, users: IntArray, n_items: int) -> SignedGraph:
    """Return the likes and dislikes of some users as a graph ``[len(users), n_items]``; unknown users have none."""
    return SignedGraph(*matrices(user_rows(edges, users), n_items))


def user_rows(edges: EdgeState, users: npt.NDArray[Any], *, times: bool = False) -> Rows:
    """Return the likes and dislikes of some users, with their times if asked for; unknown users have none."""
    return edges.of_users(np.where(users < edges.n_users, users, 0), times=times).verdicts


def matrices(rows: Rows, n_columns: int) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Return the likes and the dislikes among some edges as matrices of ones, ``[n, n_columns]``."""
    both = []
    for kind in (LIKE, DISLIKE):
        own = rows.where(rows.kind == kind)
        # edges come sorted, and each pair once: nothing is left to sort or add up
        both.append(csr(np.ones(len(own.ids), dtype=np.float32), own.ids, own.indptr, n_columns))
    return both[0], both[1]


def csr(data: np.ndarray, ids: np.ndarray, indptr: np.ndarray, n_columns: int) -> sp.csr_matrix:
    """Return a matrix of rows that are sorted and free of duplicates; ids are not copied."""
    matrix = sp.csr_matrix((data, ids, indptr.astype(np.int32)), shape=(len(indptr) - 1, n_columns))
    matrix.has_canonical_format = True
    return matrix
