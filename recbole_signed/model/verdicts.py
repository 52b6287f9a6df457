"""Verdicts for every model: scores are weighed by the like rates of items, and what is near a user's dislikes falls.

SSF has both in its score. Any other model becomes one of a subclass (:func:`class_for`) that ranks by weighed scores in
validation, test and recommendation; the loss and the parameters stay as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from recbole.data.interaction import Interaction

from recbole_signed.arrays import contains, distinct, in_rows
from recbole_signed.errors import UsageError
from recbole_signed.graph import SignedGraph, aversion_factors, like_rates
from recbole_signed.graph.personal_verdict import (
    LARGE,
    Demotions,
    Heights,
    IntArray,
    Neighbourhoods,
    Verdicts,
    first_likers,
    middle_items,
)
from recbole_signed.plugin.facts import facts_of

BLOCK = 1_024
"""Items whose neighbourhoods are worked out at a time."""

ScoresOf = Callable[[SignedGraph, IntArray, torch.Tensor | None], torch.Tensor]
"""Gives the scores of all items, ``[n_users, n_items]``, or of some of each user, for users with these edges."""
# arguments: the edges, the numbers of the users, and the items, [n_users, m], None for all

SPARSE = 16
"""How many times as many items there are at least, where the scores of some are worked out alone."""


Side = tuple[npt.NDArray[np.integer], npt.NDArray[np.integer], npt.NDArray[Any] | None]
"""User, item and time, ``[n]`` each, of the likes or the dislikes; None where no time is known."""
Pairs = tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]


class PersonalVerdicts:
    """The verdicts of all users of a training part, and what is near to what, worked out when it is used."""

    def __init__(
        self,
        graph: SignedGraph,
        likes: Side,
        dislikes: Side,
        views: Pairs | None = None,
        fitted: PersonalVerdicts | None = None,
        leads: bool = False,
    ) -> None:
        # views: seen without a verdict; fitted: says which items are near, None for the likes of the graph; leads: in
        # models of order, what comes after a dislike is told from it at once, but for what is near it
        self._fitted, self.leads = fitted, leads
        self._graph, self.n_items, self._sides, self._viewed = graph, graph.n_items, (likes, dislikes), views
        self._known: dict[int, tuple[IntArray, npt.NDArray[np.float64]]] = {}
        self._fallen: dict[bytes, Demotions] | None = None

    @classmethod
    def from_dataset(
        cls, dataset: Any, graph: SignedGraph, fitted: PersonalVerdicts | None = None, leads: bool = False
    ) -> PersonalVerdicts | None:
        """Return those of a training part; None where it has no dislike."""
        if not graph.dislikes.nnz or not hasattr(dataset, "times"):
            return None
        fields = dataset.uid_field, dataset.iid_field

        def pairs(name: str) -> Pairs:
            table = getattr(dataset, name)
            return table[fields[0]].numpy(), table[fields[1]].numpy()

        sides = [(*pairs(name), dataset.times(name)) for name in ("inter_feat", "neg_feat")]
        views = pairs("neutral_feat") if getattr(dataset, "neutral_feat", None) is not None else None
        return cls(graph, sides[0], sides[1], views, fitted, leads)

    @cached_property
    def _views(self) -> sp.csr_matrix:
        user, item = self._viewed if self._viewed is not None else (np.zeros(0, dtype=np.int64),) * 2
        return sp.csr_matrix((np.ones(len(user), dtype=np.float32), (user, item)), shape=self._graph.likes.shape)

    @cached_property
    def _middle(self) -> torch.Tensor:
        n_edges = np.bincount(np.concatenate([side.indices for side in sides_of(self._graph)]), minlength=self.n_items)
        return torch.from_numpy(middle_items(self.n_items, lambda items: n_edges[items] > 0))

    @cached_property
    def _times(self) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """The times of likes and of dislikes, float64 ``[n_users, n_items]``; stored zeros where none is known."""
        matrices = []
        for user, item, time in self._sides:
            stamps = np.zeros(len(user)) if time is None else np.nan_to_num(np.asarray(time, dtype=np.float64))
            matrices.append(_newest(stamps, user, item, self._graph.likes.shape))
        return matrices[0], matrices[1]

    def verdicts(self, users: IntArray) -> Verdicts:
        """Return the verdicts of some users, in their order."""
        rows = [side[users] for side in self._times]
        user = np.concatenate([np.repeat(np.arange(len(users)), np.diff(side.indptr)) for side in rows])
        item, time = (np.concatenate([getattr(side, name) for side in rows]) for name in ("indices", "data"))
        like = np.arange(len(user)) < rows[0].nnz
        return Verdicts.from_edges(user, item, like, time, len(users), self._graph.item_keys)

    @cached_property
    def _likers(self) -> sp.csr_matrix:
        """Who likes each item, ``[n_items, n_users]``."""
        return self._graph.likes.T.tocsr()

    @cached_property
    def _n_likes(self) -> IntArray:
        return np.bincount(self._graph.likes.indices, minlength=self.n_items)

    @property
    def timed(self) -> bool:
        """Whether the time of any dislike is known."""
        time = self._sides[1][2]
        return time is not None and bool(np.nan_to_num(time).any())

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Remember what falls for users of the training part that are asked for again meanwhile."""
        self._fallen = {}
        try:
            yield
        finally:
            self._fallen = None

    def __deepcopy__(self, memo: dict[int, Any]) -> PersonalVerdicts:
        """Return itself: RecBole copies a model just to count its operations."""
        return self

    def near(self, items: IntArray) -> Neighbourhoods:
        """Return the neighbourhoods of items, which are worked out once."""
        if self._fitted is not None:
            return self._fitted.near(items)
        missing = np.array([item for item in items.tolist() if item not in self._known], dtype=np.int64)
        for first in range(0, len(missing), BLOCK):
            self._find(missing[first : first + BLOCK])
        return Neighbourhoods.joined([self._known[item] for item in items.tolist()])

    def _find(self, items: IntArray) -> None:
        likers = self._likers[items]
        if self.n_items > LARGE:
            likers.data = first_likers(likers.indptr, likers.indices, self._graph.user_keys).astype(np.float32)
            likers.eliminate_zeros()
        neighbours = Neighbourhoods.from_common_likes(
            likers @ self._graph.likes, self._n_likes, items, self._graph.item_keys
        )
        for place, item in enumerate(items.tolist()):
            self._known[item] = neighbours.items_of(place)

    def middle(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the middle of each user's scores ``[n_users, n_items]``, ``[n_users, 1]``."""
        medians = np.median(scores[:, self._middle].cpu().numpy(), axis=1, keepdims=True)
        return torch.from_numpy(medians).to(scores)

    def demotions(self, verdicts: Verdicts, edges: Sequence[sp.csr_matrix]) -> Demotions:
        """Return what falls for users, given by their verdicts and all their edges."""
        keys = [
            np.repeat(np.arange(side.shape[0]), np.diff(side.indptr)) * self.n_items + side.indices for side in edges
        ]
        seen = distinct(np.concatenate(keys).astype(np.int64))
        return Demotions.from_verdicts(verdicts, seen, self.near, self.n_items)

    def exposing(self, own: SignedGraph, number: int) -> tuple[SignedGraph, IntArray]:
        """Return the edges that a user's score is made of, of its ``own``, and the dislikes left out."""
        verdicts = self.verdicts(np.array([number]))
        held_back = verdicts.held_back(self.leads)
        return without(own, verdicts, held_back), verdicts.item[held_back]

    def before_last_run(self, numbers: IntArray) -> SignedGraph:
        """Return the edges of users without the dislikes that are later than all likes."""
        verdicts = self.verdicts(numbers)
        return without(self._graph.rows(numbers), verdicts, verdicts.last_run)

    def likers(self, item: int) -> IntArray:
        """Return the users that like an item."""
        return self._likers[[item]].indices.astype(np.int64)

    def judged(
        self,
        numbers: IntArray,
        scores_of: ScoresOf,
        neutral: torch.Tensor,
        strength: float,
        of: tuple[SignedGraph, Verdicts] | None = None,
    ) -> torch.Tensor:
        """Return what users are ranked by, ``[n_users, n_items]``; ``neutral``: m, to be broadcast to that."""
        # of: their edges and verdicts, if not those of the training part
        return lowered(*self.falls(numbers, scores_of, neutral, of), strength)

    def falls(
        self,
        numbers: IntArray,
        scores_of: ScoresOf,
        neutral: torch.Tensor,
        of: tuple[SignedGraph, Verdicts] | None = None,
    ) -> tuple[torch.Tensor, Demotions, Heights]:
        """Return the scores before any fall, ``[n_users, n_items]``, what falls, and what this depends on."""
        users, verdicts = of or (self._graph.rows(numbers), self.verdicts(numbers))
        held_back = verdicts.held_back(self.leads)
        scores = scores_of(without(users, verdicts, held_back), numbers, None)
        key = numbers.tobytes()
        known = self._fallen if of is None and self._fallen is not None else {}
        if key not in known:
            views = [] if of else [self._views[numbers]]
            known[key] = self.demotions(verdicts, [*sides_of(users), *views])
        fallen = known[key]
        pairs, dislikes = (fallen.user, fallen.item), (fallen.user[fallen.pair], fallen.dislike)
        neutral = neutral.expand_as(scores)
        own, run, acting = at(scores, *pairs), verdicts.last_run, verdicts.acting

        def again_without(
            left_out: npt.NDArray[np.bool_],
            differs: npt.NDArray[np.bool_],
            values: npt.NDArray[np.floating],
            user: IntArray,
            item: IntArray,
        ) -> npt.NDArray[np.floating]:
            """Return scores of pairs, those without some verdicts where that differs."""
            again = distinct(verdicts.user[differs])
            inside = contains(again, user)
            if not inside.any():
                return values
            edges = without(users.rows(again), verdicts.rows(again), left_out[np.isin(verdicts.user, again)])
            row, item = np.searchsorted(again, user[inside]), item[inside]
            items, place = in_rows(row, item, len(again))
            few, values = items.shape[1] * SPARSE <= self.n_items, values.copy()
            before = scores_of(edges, numbers[again], torch.from_numpy(items) if few else None)
            values[inside] = at(before, row, place if few else item)
            return values

        both = [np.concatenate(columns) for columns in zip(pairs, dislikes, strict=True)]
        alone = again_without(run, run & ~held_back, at(scores, *both), *both)
        alone, of_dislikes = np.split(alone, [len(fallen)])
        calm = again_without(acting, acting & ~run, alone, *pairs)
        lowest = np.minimum(np.minimum(own, alone), calm)
        return scores, fallen, Heights(lowest, alone, at(neutral, *pairs), of_dislikes - at(neutral, *dislikes))


def _newest(
    times: npt.NDArray[np.float64],
    user: npt.NDArray[np.integer],
    item: npt.NDArray[np.integer],
    shape: tuple[int, int],
) -> sp.csr_matrix:
    """Return the newest time of each pair, which may be there several times, in a matrix of ``shape``."""
    matrix = sp.csr_matrix((times, (user, item)), shape=shape)
    if matrix.nnz < len(times):  # it has added them up
        order = np.lexsort((times, item, user))
        user, item, times = user[order], item[order], times[order]
        last = np.append((np.diff(user) != 0) | (np.diff(item) != 0), True)
        matrix = sp.csr_matrix((times[last], (user[last], item[last])), shape=shape)
    return matrix


def lowered(scores: torch.Tensor, fallen: Demotions, heights: Heights, strength: float) -> torch.Tensor:
    """Return scores ``[n_users, n_items]``, which are changed, after their fall; arguments as `falls` has them."""
    if len(fallen):
        after = torch.from_numpy(fallen.lowered(heights, strength)).to(scores)
        scores[torch.from_numpy(fallen.user), torch.from_numpy(fallen.item)] = after
    return scores


def sides_of(graph: SignedGraph) -> list[sp.csr_matrix]:
    """Return the matrices of a graph's edges."""
    return [matrix for matrix in (graph.likes, graph.dislikes, graph.neutrals) if matrix is not None]


def at(scores: torch.Tensor, user: IntArray, item: IntArray) -> npt.NDArray[np.floating]:
    """Return the scores of pairs, ``[n]``."""
    values: npt.NDArray[np.floating] = scores[torch.from_numpy(user), torch.from_numpy(item)].cpu().numpy()
    return values


def _of_items(scores: torch.Tensor, items: torch.Tensor | None) -> torch.Tensor:
    """Return scores ``[n_users, n_items]``, or those of some items of each user."""
    return scores if items is None else scores.gather(1, items.to(scores.device))


def without(users: SignedGraph, verdicts: Verdicts, left_out: npt.NDArray[np.bool_]) -> SignedGraph:
    """Return the edges of users without the dislikes that ``left_out`` marks among their verdicts."""
    if not left_out.any():
        return users
    n_items, dislikes = users.n_items, users.dislikes.copy()
    keys = distinct(verdicts.user[left_out] * n_items + verdicts.item[left_out])
    row = np.repeat(np.arange(users.n_users), np.diff(dislikes.indptr))
    dislikes.data = np.where(contains(keys, row * n_items + dislikes.indices), 0, dislikes.data)
    dislikes.eliminate_zeros()
    return SignedGraph(users.likes, dislikes, users.neutrals, users.neutral_weight)


# ---- the kinds of models that rank so ----

SMOOTHING = 5.0
"""Default of ``verdict_smoothing``, as in SSF."""
KEYS = "dislike_aversion", "dislike_strength"


def weighed(scores: torch.Tensor, rates: torch.Tensor, aversion: float, *, logits: bool) -> torch.Tensor:
    r"""Return scores with the :math:`v_i` of :func:`~recbole_signed.graph.aversion_factors` in them.

    An item of a lower like rate never gains, and between items of one rate nothing changes.

    * **Estimates** (closed forms, neighbours, popularity, SSF): a score is proportional to the probability that a user
      meets the item, so it is multiplied by :math:`v`; a negative one is divided, since a product would raise it.
    * **Logits** (trained by gradients): differences of scores are log odds, so :math:`\log v` is added, and no constant
      in a user's scores changes a ranking.
    """
    if not aversion:
        return scores
    factor = aversion_factors(rates, 1.0, aversion)
    if logits:
        return scores + factor.log()
    return torch.where(scores < 0, scores / factor, scores * factor)


class RateWeighted:
    """What a model's class is mixed with; see :func:`weighed`."""

    dislike_aversion: float = 0.0
    dislike_strength: float = 0.0
    relative_rates: torch.Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)  # type: ignore[call-arg]
        self.weigh(config, dataset)

    def weigh(self, config: Any, dataset: Any) -> None:
        """Take the aversion from the configuration and the like rates from the training part."""
        self.dislike_aversion = float(config["dislike_aversion"] or 0)
        self.dislike_strength = float(config["dislike_strength"] or 0)
        self._personal = (
            PersonalVerdicts.from_dataset(dataset, dataset.signed_graph()) if self.dislike_strength else None
        )
        self.scores_are_logits = facts_of(str(config["model"])).trained_by_gradients
        smoothing = config["verdict_smoothing"]
        rates = rates_of(dataset, SMOOTHING if smoothing is None else float(smoothing))
        self.register_buffer("relative_rates", rates.to(self.device), persistent=False)  # type: ignore[attr-defined]

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """Return the weighed scores of all items, in the shape that the model gives."""
        try:
            plain: torch.Tensor = super().full_sort_predict(interaction)  # type: ignore[misc]
        except NotImplementedError:  # it scores pairs alone
            if self._personal is None:
                raise
            plain = self._scores_of_pairs(interaction)
        scores = self._weighed(plain.view(-1, len(self.relative_rates)), self.relative_rates)
        if self._personal is not None:
            users = interaction[self.USER_ID].cpu().numpy()  # type: ignore[attr-defined]
            order = np.argsort(users, kind="stable")
            own, again = scores.clone(), getattr(super(), "scores_of", None)

            def scores_of(edges: SignedGraph, some: IntArray, items: torch.Tensor | None) -> torch.Tensor:
                if again is not None:
                    return _of_items(self._weighed(again(edges), self.relative_rates), items)
                # what is made beforehand is the same with and without some dislikes
                return _of_items(own[torch.from_numpy(order[np.searchsorted(users, some, sorter=order)])], items)

            # without the last run: another dislike in it must not move what an earlier one makes items fall from
            middle = self._personal.middle(scores_of(self._personal.before_last_run(users), users, None))
            scores = self._personal.judged(users, scores_of, middle, self.dislike_strength)
        return scores.view(plain.shape)

    def lowered_for(self, users: IntArray, scores: torch.Tensor) -> torch.Tensor:
        """Return scores ``[n_users, n_items]`` that are the same for all users, lower near to what these dislike."""
        if self._personal is None:
            return scores

        def scores_of(_: SignedGraph, some: IntArray, items: torch.Tensor | None) -> torch.Tensor:
            return _of_items(scores[: len(some)], items).clone()

        return self._personal.judged(users, scores_of, self._personal.middle(scores), self.dislike_strength)

    def _scores_of_pairs(self, interaction: Any) -> torch.Tensor:
        """Return the scores of all items, ``[n_users, n_items]``, a user at a time."""
        items = torch.arange(len(self.relative_rates), device=self.device)  # type: ignore[attr-defined]
        scores = []
        for number in range(len(interaction)):
            pairs = interaction[number : number + 1].repeat_interleave(len(items))
            pairs.update(Interaction({self.ITEM_ID: items}))  # type: ignore[attr-defined]
            scores.append(super().predict(pairs))  # type: ignore[misc]
        return torch.stack(scores)

    def predict(self, interaction: Any) -> torch.Tensor:
        """Return the weighed scores of (user, item) pairs, ``[batch]``."""
        items = interaction[self.ITEM_ID]  # type: ignore[attr-defined]
        if self._personal is not None:  # which compares with all scores of a user
            scores = self.full_sort_predict(interaction).view(len(items), -1)
            return scores.gather(1, items[:, None])[:, 0]
        return self._weighed(super().predict(interaction), self.relative_rates[items])  # type: ignore[misc]

    def _weighed(self, scores: torch.Tensor, rates: torch.Tensor) -> torch.Tensor:
        return weighed(scores, rates.to(scores), self.dislike_aversion, logits=self.scores_are_logits)


def rates_of(dataset: Any, smoothing: float) -> torch.Tensor:
    """Return the smoothed like rates of a training part over their mean, float32 ``[n_items]``."""
    likes, dislikes = (
        torch.from_numpy(np.bincount(items, minlength=dataset.item_num)).float()
        for items in (dataset.liked_pairs()[1], dataset.neg_feat[dataset.iid_field].numpy())
    )
    n_likes, n_dislikes = (float(counts.double().sum()) for counts in (likes, dislikes))
    mean = n_likes / max(1.0, n_likes + n_dislikes)
    return like_rates(likes, dislikes, smoothing, mean) / max(mean, 1e-15)


def class_for(cls: type, config: Any) -> type:
    """Return ``cls``, or its weighed kind where one of :data:`KEYS` is set; UsageError for data without signs."""
    given = [key for key in KEYS if _given(config, key) is not None]
    if hasattr(cls, "dislike_aversion") or not given:
        return cls
    if config["signed"] is None:
        raise UsageError(
            f"{given[0]} is set, but the data set '{config['dataset']}' has no dislikes; use a data set with a "
            "sign, or leave the key out."
        )
    return _weighed_kind(cls)


def unweighed(cls: Any, config: Any) -> tuple[Any, Any]:
    """Return the class that a weighed kind was made of, or the class itself, and a configuration that weighs none."""
    config = copy.copy(config)
    config.final_config_dict = {key: value for key, value in config.final_config_dict.items() if key not in KEYS}
    return next(base for base in cls.__mro__ if not issubclass(base, RateWeighted)), config


def _given(config: Any, key: str) -> Any:
    return dict(getattr(config, "final_config_dict", config)).get(key)


@cache
def _weighed_kind(cls: type) -> type:
    """Return the subclass, which goes by the name of ``cls``: names lead to trainers, facts and learners."""
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (RateWeighted, cls), names)
