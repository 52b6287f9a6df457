"""What the online system asks of a model, tier by tier; which learner a model has, and what is near to an item."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from recbole_signed.arrays import contains
from recbole_signed.atomic.feature_space import Features
from recbole_signed.errors import UsageError, ending
from recbole_signed.graph import SignedGraph
from recbole_signed.graph.personal_verdict import STRENGTH, Verdicts
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, AnnouncedFeatures
from recbole_signed.live.store.edge_views import PIECE, Rows
from recbole_signed.live.store.edges import Changes, EdgeArrays, EdgeState
from recbole_signed.plugin import registry
from recbole_signed.plugin.facts import STOCK, facts_of, lineage
from recbole_signed.plugin.ranges import RANGES, check_range, declared_ranges, without_numpy, without_removed

IntArray = npt.NDArray[np.int64]
LEARNERS = {
    "DecayPop": "recbole_signed.live.learners.popular:DecayPopularLearner",
    "Pop": "recbole_signed.live.learners.popular:PopularLearner",
    "SSF": "recbole_signed.live.learners.ssf.learner:SpectralLearner",
    "SSFL": "recbole_signed.live.learners.ssf.learned_learner:LearnedSpectralLearner",
    "SSFT": "recbole_signed.live.learners.ssf.time_learner:TimeLearner",
    "SignedEASE": "recbole_signed.live.learners.ease:EaseLearner",
    "SignediALS": "recbole_signed.live.learners.signed_ials:LeastSquaresLearner",
}
"""Learners of models and of those that extend them; any other model has :data:`EMBEDDING`."""
EMBEDDING = "recbole_signed.live.learners.embedding:EmbeddingLearner"
POOL = 32_768  # items with the longest vectors, among which neighbours are looked for
BITS = 14  # to which a cosine counts: the rest is rounding, which depends on how many are worked out at a time


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
        near: tuple[IntArray, np.ndarray] = self._near.similar(item, k, keys)
        return near

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
    graph = SignedGraph(*matrices(Rows(indptr, edges.item, edges.kind), n_items))
    return graph if edges.keys is None else graph.keyed(edges.keys[0][:n_users], edges.keys[1][:n_items])


def rows_of(edges: EdgeState, users: IntArray, n_items: int) -> SignedGraph:
    """Return the likes and dislikes of some users as a graph ``[len(users), n_items]``; unknown users have none."""
    return SignedGraph(*matrices(user_rows(edges, users), n_items))


def user_rows(edges: EdgeState, users: npt.NDArray[Any], *, times: bool = False) -> Rows:
    """Return the likes and dislikes of some users, with their times if asked for; unknown users have none."""
    return edges.of_users(np.where(users < edges.n_users, users, 0), times=times).verdicts


def rows_without(rows: Rows, owner: IntArray, verdicts: Verdicts, left_out: np.ndarray, n_items: int) -> Rows:
    """Return rows without some of their verdicts; ``owner`` is the row of each edge."""
    if not left_out.any():
        return rows
    keys = np.sort(verdicts.user[left_out] * n_items + verdicts.item[left_out])
    return rows.where(~contains(keys, owner * n_items + rows.ids))


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


# ---- the learner of a model ----


def make_learner(model: str, settings: Mapping[str, Any] | None = None) -> Learner:
    """Return an unfitted learner with a model's parameters, or UsageError where it can't go on learning."""
    given = without_numpy(dict(settings or {}))
    strength = _strength_of(given, STRENGTH)
    try:
        learner = _make(model, given)
    except UsageError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        listed = ", ".join(f"{key}={value!r}" for key, value in given.items())
        raise UsageError(f"{model} can't follow a stream with {listed} ({type(error).__name__}: {error}).") from error
    learner.dislike_strength = strength
    return learner


def described(learner: Learner) -> dict[str, Any]:
    """Return what :func:`learner_from` makes an unfitted learner of the same settings from, as JSON."""
    return {
        "model": learner.name,
        "parameters": learner.parameters(),
        "columns": learner.columns(),
        "dislike_strength": learner.dislike_strength,
    }


def learner_from(description: Mapping[str, Any]) -> Learner:
    """Return an unfitted learner of the settings that :func:`described` gave."""
    try:
        model, parameters = str(description["model"]), dict(description["parameters"])
        strength = _strength_of(dict(description), STRENGTH)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError("The version does not say what model it is of; fit it again from the data set.") from error
    known = [*registry.models(), *STOCK]
    if model not in known:
        raise UsageError(f"The version is of the model '{model}', which can't go on learning{ending(model, known)}")
    learner = make_learner(model, parameters)
    learner.dislike_strength = strength
    return learner


def _strength_of(settings: dict[str, Any], default: float) -> float:
    """Take the strength of the personal verdict out of settings."""
    without_removed(settings)
    value = settings.pop("dislike_strength", None)
    check_range("dislike_strength", value := default if value is None else value, RANGES["dislike_strength"])
    return float(value)


def _factory(model: str) -> Any:
    ours = (LEARNERS[name] for name in lineage(model) if name in LEARNERS)
    return registry.load_object(facts_of(model).learner or next(ours, EMBEDDING))


def _make(model: str, given: dict[str, Any]) -> Learner:
    factory = _factory(model)
    learner: Learner
    if hasattr(factory, "from_model"):  # one class for many models
        learner = factory(model, given)
    elif hasattr(factory, "from_settings"):
        learner = factory.from_settings(given)
    else:
        known = list(inspect.signature(factory).parameters)
        ranges = declared_ranges(facts_of(model).parameter_ranges)
        for key, value in given.items():
            if key not in known:
                raise UsageError(f"{model} has no parameter '{key}' under a stream{ending(key, known)}")
            if key in ranges:
                check_range(key, value, ranges[key])
        learner = factory(**given)
    return learner


def learner_of(model: Any, config: Any) -> Learner:
    """Return a learner with the settings of a trained model; one that learns embeddings starts from its."""
    name = type(model).__name__
    if getattr(model, "dislike_aversion", 0.0) and not hasattr(model, "chosen"):
        raise UsageError(
            f"dislike_aversion is {model.dislike_aversion:g}, which {name} has at evaluation alone; its live learner "
            "has none: leave the key out, or use SSF, SSFL or SSFT."
        )
    online = dict(config["online_settings"] or {})
    strength = _strength_of(online, getattr(model, "dislike_strength", STRENGTH))
    factory = _factory(name)
    if hasattr(factory, "from_model"):
        learner: Learner = factory.from_model(model, config, online)
    else:
        if getattr(getattr(model, "graph", None), "neutrals", None) is not None:
            raise UsageError(
                f"neutral_weight is {model.graph.neutral_weight:g}, but the live learner of {name} knows likes and "
                "dislikes alone; set neutral_weight: 0."
            )
        for key in online:
            raise UsageError(f"'online_settings' has a key '{key}' that {name} does not know; only dislike_strength.")
        if hasattr(model, "chosen"):
            settings = {**model.chosen, "iterations": model.iterations, **model.live_settings}
        else:
            known = inspect.signature(factory).parameters
            settings = {key: config[key] for key in known if config[key] is not None}
        learner = make_learner(name, settings)
        features = getattr(model, "features", None)
        if features is not None:
            learner.take_features(features.items, features.users)
    learner.dislike_strength = strength
    return learner


# ---- what is near ----


class Neighbours:
    """Neighbours among the items of one version; an item whose vector is zero has none, and is none."""

    def __init__(self, vectors: np.ndarray, scale: np.ndarray | None = None) -> None:
        self._vectors = vectors
        self._scale = np.ones(vectors.shape[1], dtype=np.float32) if scale is None else scale.astype(np.float32)
        lengths = np.sqrt(np.square(vectors) @ np.square(self._scale))
        pool = np.arange(len(vectors))
        if len(vectors) > POOL:
            pool = np.sort(np.argpartition(lengths, len(vectors) - POOL)[len(vectors) - POOL :])
        self._pool = pool[(lengths[pool] > 0) & (pool > 0)]
        self._table = self._directions(self._pool)

    def __deepcopy__(self, memo: dict[int, Any]) -> Neighbours:
        """Return this itself, which nothing changes."""
        return self

    def _directions(self, items: IntArray) -> np.ndarray:
        directions: np.ndarray = self._vectors[items] * self._scale
        return directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-30)

    def similar(self, item: int, k: int, keys: IntArray | None = None) -> tuple[IntArray, np.ndarray]:
        """Return the ``k`` nearest items of one and their cosines, as :func:`nearest`; none of a younger item."""
        if item >= len(self._vectors):
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        return nearest(item, self._pool, (self._directions(np.array([item])) @ self._table.T)[0], k, keys)


def nearest(
    item: int, pool: IntArray, cosines: np.ndarray, k: int, keys: IntArray | None = None
) -> tuple[IntArray, np.ndarray]:
    """Return the ``k`` nearest of the ascending items of a pool, but for the item itself; equal ones by ``keys``."""
    n = min(k + 1, len(pool))
    cosines = np.rint(np.ldexp(cosines, BITS))
    least = np.partition(cosines, len(pool) - n)[len(pool) - n] if n else 0
    order = np.flatnonzero((cosines >= max(least, 1)) & (pool != item) & (pool != 0))
    order = order[np.lexsort(((pool if keys is None else keys[pool])[order], -cosines[order]))][:k]
    return pool[order], np.ldexp(cosines[order], -BITS)
