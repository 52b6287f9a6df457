"""Features under a stream: those of the data set, those of items that are announced, and what was learned from them.

What is learned follows from the sums over the items and users that had edges at the last fit or refresh. An item that
is announced is predicted at once; it enters the sums at the first refresh after its first edge.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp
import torch

from recbole_signed.atomic import Features, FeatureSpace, table_of
from recbole_signed.errors import UsageError
from recbole_signed.graph import SignedGraph
from recbole_signed.ssf.feature_parts import explained
from recbole_signed.ssf.features import FeatureSettings, gains, item_sums, user_prior, user_sums
from recbole_signed.ssf.filter import Explanation, SpectralFilter
from recbole_signed.ssf.item_counters import ExpectedCounts
from recbole_signed.ssf.user_edges import UserEdges, UserPrior

IntArray = npt.NDArray[np.int64]
MATRIX = ("data", "indices", "indptr")


class LiveFeatures:
    """Features by the ids of a state, and the predictions in force.

    Args:
        items: of the data set that the state began with, None for none; rows by id.
        users: the same of users.
        settings: the parameters; they stay as they are.
    """

    def __init__(self, items: Features | None, users: Features | None, settings: FeatureSettings) -> None:
        self.settings = settings
        sides = {"item": items, "user": users}
        self.spaces: dict[str, FeatureSpace | None] = {k: None if v is None else v.space for k, v in sides.items()}
        self.matrices: dict[str, Any] = {k: None if v is None else v.matrix for k, v in sides.items()}
        self.item_map = self.user_map = np.zeros((0, 0), dtype=np.float32)
        self.gains = np.zeros(0, dtype=np.float32)

    def __deepcopy__(self, memo: dict[int, Any]) -> LiveFeatures:
        """Return a copy that shares the arrays: they are replaced, never written to."""
        made = copy.copy(self)
        made.spaces, made.matrices = dict(self.spaces), dict(self.matrices)
        return made

    @property
    def tells_of_items(self) -> bool:
        """Whether anything is predicted of items."""
        return bool(self.item_map.size and self.settings.predict_items)

    def announce(self, items: Mapping[int, Mapping[str, Any]]) -> IntArray:
        """Take the features of items by their ids, in place of earlier ones; return the ids, ascending.

        Raises:
            UsageError: a number or vector can't be read.
        """
        space = self.spaces["item"]
        if space is None or not items:
            return np.zeros(0, dtype=np.int64)
        ids = np.array(sorted(items), dtype=np.int64)
        columns = {name: [_text(items[int(each)].get(name)) for each in ids] for name in space.kinds}
        frame = pl.DataFrame({"\0id": ids.astype(str), **columns}, schema=dict.fromkeys(("\0id", *columns), pl.String))
        rows = space.matrix(table_of(frame, "\0id", space.kinds, "the features of an item"), frame["\0id"])
        matrix = self._grown("item", int(ids[-1]) + 1).tolil()
        matrix[ids] = rows
        self.matrices["item"] = matrix.tocsr()
        return ids

    def forget(self, users: IntArray) -> None:
        """Drop the features of users by their ids; what was learned from them goes with the next fit."""
        matrix = self.matrices["user"]
        if matrix is None or not len(users):
            return
        kept = np.ones(matrix.shape[0], dtype=matrix.dtype)
        kept[users[users < len(kept)]] = 0
        matrix = sp.csr_matrix(sp.diags_array(kept) @ matrix)
        matrix.eliminate_zeros()
        self.matrices["user"] = matrix

    def _grown(self, side: str, n: int) -> sp.csr_matrix:
        """Return the features of ids below ``n`` and of all others that have some."""
        matrix = self.matrices[side]
        assert matrix is not None
        if matrix.shape[0] < n:
            indptr = np.append(matrix.indptr, np.full(n - matrix.shape[0], matrix.indptr[-1]))
            matrix = sp.csr_matrix((matrix.data, matrix.indices, indptr), shape=(n, matrix.shape[1]))
            self.matrices[side] = matrix
        return matrix

    def learn(self, fitted: SpectralFilter, graph: SignedGraph) -> None:
        """Learn from the items and users that have edges, all of whom are in ``graph``."""
        s = self.settings
        if self.matrices["item"] is not None and s.predict_items:
            own = self._grown("item", graph.n_items)[: graph.n_items]
            self.item_map = item_sums(fitted, own).solve(s.feature_ridge)
            self.gains = gains(fitted, s.feature_gain).numpy()
        if self.matrices["user"] is not None and s.predict_users:
            own = self._grown("user", graph.n_users)[: graph.n_users]
            self.user_map = user_sums(fitted, graph, own).solve(s.user_feature_ridge)

    # ---- predictions

    def expected(self, n_items: int) -> ExpectedCounts | None:
        """Return the likes and dislikes that features let expect of items; None for nothing."""
        if not self.tells_of_items:
            return None
        matrix = self._grown("item", n_items)[:n_items]
        counts = np.expm1(np.asarray(matrix @ self.item_map[:, -2:])).clip(min=0.0)
        given = torch.from_numpy(np.diff(matrix.indptr) > 0)
        likes, dislikes = torch.from_numpy(counts.T.copy()).float() * given
        s = self.settings
        return ExpectedCounts(likes, dislikes, given, s.feature_weight, s.feature_popularity, s.feature_lift)

    def blended(self, vectors: np.ndarray, items: IntArray, share: np.ndarray) -> np.ndarray:
        """Return the factors of items ``[n, k]`` with as much of the predicted ones as ``share`` says, ``[n]``."""
        rows = np.flatnonzero(share > 0)
        if not len(rows):
            return vectors
        matrix = self._grown("item", int(items[rows].max()) + 1)
        predicted = np.asarray(matrix[items[rows]] @ self.item_map[:, :-2]) * self.gains
        found = vectors.copy()
        part = share[rows, None]
        found[rows, : len(self.gains)] = (1 - part) * found[rows, : len(self.gains)] + part * predicted
        return found

    def prior(self, users: IntArray) -> UserPrior | None:
        """Return what features say of users; None for nothing."""
        if not self.user_map.size or not self.settings.predict_users or not len(users):
            return None
        return user_prior(self._grown("user", int(users.max()) + 1)[users], self.user_map, self.settings)

    def explained(
        self, told: Explanation, fitted: SpectralFilter, user: UserEdges, number: int, item: int
    ) -> Explanation:
        """Return an explanation that names features; see `feature_parts.explained`."""
        return explained(
            told,
            fitted,
            user,
            (self._features("item", item), item, self.item_map, self.gains),
            (self._features("user", number), number, self.user_map),
        )

    def _features(self, side: str, number: int) -> Features | None:
        space = self.spaces[side]
        return None if space is None else Features(self._grown(side, number + 1), space)

    # ---- keeping

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return tensors and JSON from which :meth:`load` makes the same."""
        tensors = {"item_map": self.item_map, "user_map": self.user_map, "gains": self.gains}
        for side, matrix in self.matrices.items():
            if matrix is not None:
                tensors |= {f"{side}_{name}": getattr(matrix, name) for name in MATRIX}
        spaces = {side: space.to_json() for side, space in self.spaces.items() if space is not None}
        # the tokens of a space are values of columns, which may name a person as an id does
        return {f"features_{name}": each for name, each in tensors.items()}, {"feature_spaces": json.dumps(spaces)}

    @classmethod
    def load(cls, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any], s: FeatureSettings) -> LiveFeatures:
        """Make what :meth:`state` was called on."""
        made = cls(None, None, s)
        for side, content in json.loads(meta["feature_spaces"]).items():
            space = FeatureSpace.from_json(content)
            data, indices, indptr = (np.array(tensors[f"features_{side}_{name}"]) for name in MATRIX)
            made.spaces[side] = space
            made.matrices[side] = sp.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, space.n_features))
        for name in ("item_map", "user_map", "gains"):
            setattr(made, name, np.array(tensors[f"features_{name}"]))
        return made


def _text(value: Any) -> str | None:
    """Return a feature of an event as a cell of an ``.item`` file has it.

    Raises:
        UsageError: it is no text, number or list of them.
    """
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        return " ".join(str(each) for each in value if each is not None)
    if isinstance(value, (str, int, float, bool)):
        return str(value)
    raise UsageError(f"a feature is {value!r}; it must be a text, a number, or a list of them.")
