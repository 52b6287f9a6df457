"""Features under a stream: those of the data set, those that are announced, and what was learned from them.

What is announced is predicted at once, and enters the sums at the first refresh after its first edge.
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp
import torch

from recbole_signed.atomic.feature_file import table_of
from recbole_signed.atomic.feature_space import Features, FeatureSpace
from recbole_signed.errors import UsageError, nearest
from recbole_signed.graph import SignedGraph
from recbole_signed.ids_and_times import quoted
from recbole_signed.live.event_fields import plain
from recbole_signed.ssf.explanation import Explanation
from recbole_signed.ssf.feature_maps import explained
from recbole_signed.ssf.features import MOST_LOG, FeatureSettings, gains, item_sums, user_prior, user_sums
from recbole_signed.ssf.filter import SpectralFilter
from recbole_signed.ssf.item_counters import ExpectedCounts
from recbole_signed.ssf.user_edges import UserEdges, UserPrior

IntArray = npt.NDArray[np.int64]
MATRIX = ("data", "indices", "indptr")
RECENT = 1024
"""Announced users whose rows are held beside the matrix, which is copied to take them in."""
LARGEST = 1000.0
"""How many times the root mean square of a vector of the data set a number may be: more are of another scale."""
_NOUNS = {"item": "items", "user": "users"}
_logger = logging.getLogger(__name__)


class LiveFeatures:
    """Features by the ids of a state, and the predictions in force; ``items`` and ``users`` are the data set's."""

    def __init__(self, items: Features | None, users: Features | None, settings: FeatureSettings) -> None:
        self.settings = settings
        sides = {"item": items, "user": users}
        self.spaces: dict[str, FeatureSpace | None] = {k: None if v is None else v.space for k, v in sides.items()}
        self.matrices: dict[str, Any] = {k: None if v is None else v.matrix for k, v in sides.items()}
        self.recent: dict[int, sp.csr_matrix] = {}
        """Rows of users, in the place of those of the matrix."""
        self._items_by_place: tuple[Any, dict[int, IntArray]] = None, {}
        """The matrix of items, and those with a feature by its place."""
        self.item_map = self.user_map = np.zeros((0, 0), dtype=np.float32)
        self.gains = np.zeros(0, dtype=np.float32)

    def __deepcopy__(self, memo: dict[int, Any]) -> LiveFeatures:
        """Return a copy that shares the arrays: they are replaced, never written to."""
        made = copy.copy(self)
        made.spaces, made.matrices, made.recent = dict(self.spaces), dict(self.matrices), dict(self.recent)
        return made

    @property
    def tells_of_items(self) -> bool:
        """Whether anything is predicted of items."""
        return bool(self.item_map.size and self.settings.predict_items)

    @property
    def columns(self) -> dict[str, dict[str, str]]:
        """How each column is read, by side."""
        return {side: dict(space.kinds) for side, space in self.spaces.items() if space is not None}

    def unfit(self, side: str, features: Sequence[Mapping[str, Any]]) -> dict[int, str]:
        """Return which features of one side can't be read, by their place, and why; nothing where none are used."""
        space = self.spaces[side]
        reasons: dict[int, str] = {}
        for place, row in enumerate(features if space is not None else ()):
            assert space is not None
            wrong = next((name for name in row if name not in space.kinds), None)
            if wrong is not None:
                hint = nearest(wrong, space.kinds) or f"; it knows {', '.join(space.kinds)}"
                reasons[place] = f"the model knows no feature {quoted(wrong)} of {_NOUNS[side]}{hint.rstrip('.')}"
        left = [place for place in range(len(features)) if place not in reasons]
        try:
            self._read(side, [features[place] for place in left])
        except UsageError:
            for place in left:
                try:
                    self._read(side, [features[place]])
                except UsageError as error:
                    reasons[place] = str(error).rstrip(".")
        return reasons

    def announce(self, side: str, features: Mapping[int, Mapping[str, Any]]) -> IntArray:
        """Take the features of items or users by id, in place of earlier ones; return the ids, ascending."""
        # an item without features is as the mean of all with some; what unfit finds to be unreadable counts as none
        if self.spaces[side] is None or not features:
            return np.zeros(0, dtype=np.int64)
        ids = np.array(sorted(features), dtype=np.int64)
        listed = [features[number] for number in ids.tolist()]
        try:
            rows = self._read(side, listed)
        except UsageError as error:
            _logger.warning("Announced features can't be read and count as none: %s", error)
            wrong = self.unfit(side, listed)
            rows = self._read(side, [{} if place in wrong else row for place, row in enumerate(listed)])
        if side == "user":
            self.recent |= {number: rows[[place]] for place, number in enumerate(ids.tolist())}
            if len(self.recent) > RECENT:
                self._take_in_recent()
        else:
            self._replace(side, ids, rows)
        return ids

    def _read(self, side: str, features: Sequence[Mapping[str, Any]]) -> sp.csr_matrix:
        """Return a row for each of the features; raise UsageError for what can't be read, or is of another scale."""
        space = self.spaces[side]
        if space is None or not features:
            return sp.csr_matrix((0, 0), dtype=np.float32)
        places = [str(place) for place in range(len(features))]
        columns = {name: [_text(row.get(name)) for row in features] for name in space.kinds}
        frame = pl.DataFrame({"\0id": places, **columns}, schema=dict.fromkeys(("\0id", *columns), pl.String))
        with np.errstate(over="ignore"):  # is found below
            rows = space.matrix(table_of(frame, "\0id", space.kinds, f"the features of {_NOUNS[side]}"), frame["\0id"])
        if not (np.abs(rows.data) <= LARGEST).all():
            raise UsageError(
                f"the features of {_NOUNS[side]}: a number of a vector is more than {LARGEST:,.0f} times as large as "
                "the vectors of the data set are long; give vectors of the same scale."
            )
        if side == "user":  # an announcement without features takes the one before back
            rows = _without_rows(rows, np.flatnonzero([not row for row in features]))
        return rows

    def _replace(self, side: str, ids: IntArray, rows: sp.csr_matrix) -> None:
        """Put rows in the place of those of some ids, ascending."""
        old = self._grown(side, int(ids[-1]) + 1)
        whole = sp.vstack([old, rows], format="csr")
        places = np.arange(old.shape[0])
        places[ids] = old.shape[0] + np.arange(len(ids))
        self.matrices[side] = whole[places]

    def _take_in_recent(self) -> None:
        if self.recent:
            recent, self.recent = sorted(self.recent.items()), {}
            ids = np.array([number for number, _ in recent], dtype=np.int64)
            self._replace("user", ids, sp.vstack([row for _, row in recent], format="csr"))

    def _user_rows(self, users: IntArray) -> sp.csr_matrix:
        """Return the features of users, ``[len(users), n_features]``; those that are not known have none."""
        if len(users) == 1 and int(users[0]) in self.recent:
            return self.recent[int(users[0])]
        self._take_in_recent()
        matrix = self.matrices["user"]
        assert matrix is not None
        return matrix[np.where(users < matrix.shape[0], users, 0)]  # nobody has the id 0

    def knows(self, user: int) -> bool:
        """Return whether something is predicted of a user."""
        prior = self.prior(np.array([user], dtype=np.int64))
        return prior is not None and bool(prior.given[0])

    def forget(self, users: IntArray) -> None:
        """Drop the features of users by their ids; what was learned from them goes with the next fit."""
        for user in users.tolist():
            self.recent.pop(user, None)
        matrix = self.matrices["user"]
        if matrix is not None and len(users):
            self.matrices["user"] = _without_rows(matrix, users)

    def take_users(self, of: LiveFeatures | None) -> bool:
        """Take over the features of all users; return whether they are read in the same way."""
        if of is None or of.spaces["user"] != self.spaces["user"]:
            return False
        of._take_in_recent()
        self.matrices["user"], self.recent = of.matrices["user"], {}
        return True

    def _grown(self, side: str, n: int) -> sp.csr_matrix:
        """Return the features of ids below ``n`` and of all others that have some."""
        if side == "user":
            self._take_in_recent()
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
        logs = np.asarray(matrix @ self.item_map[:, -2:])
        counts = np.expm1(np.minimum(logs, MOST_LOG)).clip(min=0.0)
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
        blended = vectors.copy()
        part = share[rows, None]
        blended[rows, : len(self.gains)] = (1 - part) * blended[rows, : len(self.gains)] + part * predicted
        return blended

    def prior(self, users: IntArray) -> UserPrior | None:
        """Return what features say of users; None for nothing."""
        if not self.user_map.size or not self.settings.predict_users or not len(users):
            return None
        return user_prior(self._user_rows(users), self.user_map, self.settings)

    def explained(
        self, explanations: Sequence[Explanation], fitted: SpectralFilter, user: UserEdges, number: int, items: IntArray
    ) -> list[Explanation]:
        """Return explanations that name features; see `feature_maps.explained`."""
        return explained(
            explanations,
            fitted,
            user,
            (self._features("item", int(items.max(initial=0))), items, self.item_map, self.gains),
            (self._features("user", number), number, self.user_map),
        )

    # ---- values

    @cached_property
    def item_tokens(self) -> dict[tuple[str, str], int]:
        """The places of the features of items that are tokens, by column and value."""
        space = self.spaces["item"]
        names = [] if space is None else space.names
        words = set() if space is None else {name for name, kind in space.kinds.items() if kind in ("token", "tokens")}
        return {(name, plain(value)): place for place, (name, value) in enumerate(names) if name in words}

    def items_with(self, column: str, value: str) -> IntArray:
        """Return the items with a value, rising."""
        place, matrix = self.item_tokens.get((column, value)), self.matrices["item"]
        if self._items_by_place[0] is not matrix:
            self._items_by_place = matrix, {}
        if place is not None and place not in self._items_by_place[1]:
            entries = np.flatnonzero(matrix.indices == place)
            self._items_by_place[1][place] = np.searchsorted(matrix.indptr, entries, side="right") - 1
        return np.zeros(0, dtype=np.int64) if place is None else self._items_by_place[1][place]

    def values_of(self, item: int) -> set[tuple[str, str]]:
        """Return column and value of what an item has."""
        matrix = self.matrices["item"]
        if matrix is None or item >= matrix.shape[0]:
            return set()
        own = set(matrix.indices[matrix.indptr[item] : matrix.indptr[item + 1]].tolist())
        return {pair for pair, place in self.item_tokens.items() if place in own}

    def _features(self, side: str, number: int) -> Features | None:
        space = self.spaces[side]
        return None if space is None else Features(self._grown(side, number + 1), space)

    # ---- keeping

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return tensors and JSON from which :meth:`load` makes the same."""
        self._take_in_recent()
        tensors = {"item_map": self.item_map, "user_map": self.user_map, "gains": self.gains}
        for side, matrix in self.matrices.items():
            if matrix is not None:
                tensors |= {f"{side}_{name}": getattr(matrix, name) for name in MATRIX}
        spaces = {side: space.to_json() for side, space in self.spaces.items() if space is not None}
        # the tokens of a space are values of columns, which may name a person as an id does
        return {f"features_{name}": tensor for name, tensor in tensors.items()}, {"feature_spaces": json.dumps(spaces)}

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


def _without_rows(matrix: sp.csr_matrix, rows: IntArray) -> sp.csr_matrix:
    """Return the matrix with nothing in some rows, of which it need not have all."""
    lengths = np.diff(matrix.indptr)
    stays = np.ones(len(lengths), dtype=bool)
    stays[rows[rows < len(lengths)]] = False
    kept = np.repeat(stays, lengths)
    indptr = np.concatenate([[0], np.cumsum(lengths * stays)])
    return sp.csr_matrix((matrix.data[kept], matrix.indices[kept], indptr), shape=matrix.shape)


def _text(value: Any) -> str | None:
    """Return a feature as a cell of an ``.item`` file, a value of a list as one word; UsageError for others."""
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        return " ".join("-".join(str(part).split()) for part in value if part is not None)
    if isinstance(value, (str, int, float, bool)):
        return str(value)
    raise UsageError(f"a feature is {value!r}; it must be a text, a number, or a list of them.")
