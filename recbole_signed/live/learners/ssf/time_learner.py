"""SSF-T under a stream.

T0: degrees, like rates, trends and counts of pairs are those of the edges, always. T1: a user is the fold-in of its own
edges, and its history is its own events in their order. T2: a step of subspace iteration; the transition's sums are
counted again, so that nothing of erased users is left, and the weights are fitted again. T3: the full fit.

Each refresh and fit fits the weights to the likes since the one before, among each user's best items, with features as
they were then. What was known counts by its information, so that they are the weights of all likes so far, of which
earlier ones fade (:data:`KEPT`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recbole_signed.counts import PairCounts, RecentCounts
from recbole_signed.errors import UsageError
from recbole_signed.graph import SignedGraph
from recbole_signed.graph.personal_verdict import Verdicts
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE
from recbole_signed.live.learners.base import IntArray, Refreshed, user_rows
from recbole_signed.live.learners.ssf.learner import SpectralLearner
from recbole_signed.live.store.edges import Changes, EdgeArrays, EdgeState
from recbole_signed.model.verdicts import without
from recbole_signed.sequences import Sequences
from recbole_signed.ssf.filter import SpectralFilter
from recbole_signed.ssf.item_counters import ItemCounters
from recbole_signed.ssf.order import TRENDS, Order, OrderFilter, Weights, recent_of, weights_of, with_sharp
from recbole_signed.ssf.order_weights import Fit, Likes, fitted_weights
from recbole_signed.ssf.settings import FilterSettings, number_of
from recbole_signed.ssf.transition import Transition, TransitionSums, leading
from recbole_signed.ssf.user_edges import UserEdges, of_edges
from recbole_signed.ssf.validation import Validation, drawn

USERS = 300
"""Users whose new likes are fitted to at a time at most."""
WORTH = 3.0
"""Users that the weights to begin with count as."""
KEPT = 500
"""New users after whom what was known before counts half."""


class TimeLearner(SpectralLearner):
    """A :class:`SpectralLearner` that knows the order of events and the trend of items."""

    name = "SSFT"
    dislikes_lead = needs_times = refresh_needs_times = True

    def __init__(
        self,
        settings: FilterSettings,
        weights: Weights | None = None,
        choose_again: int = USERS,
        trend_since: float = 0.0,
        iterations: int = 20,
        passes: int = 1,
    ) -> None:
        # weights: to begin with; choose_again: users whose new likes a refresh or fit fits them to again, 0: they stay
        if choose_again < 0:
            raise UsageError(f"choose_again is {choose_again}; give a number of users, or 0 to choose nothing again.")
        self.start = weights_of(None) if weights is None else weights
        self.known = Fit(self.start)
        self.choose_again, self.trend_since = choose_again, trend_since
        self.remembers = choose_again > 0  # weights begin with those before
        self.until, self.n_forgotten = -np.inf, 0
        self.operator = np.zeros((0, 0), dtype=np.float32)
        self._pairs, self._recent = PairCounts(1), [RecentCounts(life) for life, _ in TRENDS]
        super().__init__(settings, iterations, passes)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> TimeLearner:
        """Make a learner by names of SSF-T's yaml, ``iterations`` and ``passes``; UsageError for a wrong one."""
        rest = dict(settings)
        weights = weights_of(rest.pop("order_weights", None))
        again = number_of("choose_again", int, rest.pop("choose_again", USERS))
        since = number_of("trend_since", float, rest.pop("trend_since", 0.0))
        return cls._of(rest, weights=weights, choose_again=again, trend_since=since)

    # ---- T3 and T2

    def fit(self, edges: EdgeArrays, n_users: int, n_items: int) -> None:
        """Fit to all edges from a random start, and solve the transition; before, fit the weights to what is new."""
        self._choose(edges, n_users, n_items)
        super().fit(edges, n_users, n_items)
        self._learn(edges, n_users)

    def refresh(self, edges: EdgeArrays, n_users: int, n_items: int) -> Refreshed:
        """Fit the weights again, take ``passes`` steps of subspace iteration, and solve the transition."""
        self._choose(edges, n_users, n_items)
        refreshed = super().refresh(edges, n_users, n_items)
        self._learn(edges, n_users)
        return refreshed

    def _choose(self, edges: EdgeArrays, n_users: int, n_items: int) -> None:
        if self.fitted.vectors.shape[1] and self.choose_again:
            self.known = refitted_weights(
                self.fitted,
                self._transition,
                self.known,
                edges,
                1000.0 * self.trend_since,
                self.until,
                self.choose_again,
                (n_users, n_items),
                self.dislike_strength > 0,
            )
        self.until = float(edges.timestamp.max()) if len(edges) else -np.inf

    def _learn(self, edges: EdgeArrays, n_users: int) -> None:
        self.operator = TransitionSums.from_sequences(
            edges.sequences(n_users), leading(torch.from_numpy(self.items.base))
        ).solve()
        self._filter = None

    # ---- T0 and T1

    def update(self, edges: EdgeState, changes: Changes) -> None:
        """Take over the counters of the touched items, and fold in what has grown."""
        super().update(edges, changes)
        if len(changes.forgotten):
            self.forget_weights()
            self.n_forgotten += len(changes.forgotten)
        self._count(edges)

    def keep_without_forgotten(self, of: Any) -> bool:
        """Take over what another learner has left of users; forget the weights too if it forgot users meanwhile."""
        if of.n_forgotten != self.n_forgotten:
            self.forget_weights()
            self.n_forgotten = of.n_forgotten
        return super().keep_without_forgotten(of)

    def forget_weights(self) -> None:
        """Take back the weights to begin with: users who are to be forgotten had a part in those in force."""
        self.known = Fit(self.start)

    def attach(self, edges: EdgeState) -> None:
        """Take over all counters, and fold in what has grown since the refresh."""
        super().attach(edges)
        self._count(edges)

    def _count(self, edges: EdgeState) -> None:
        since = 1000.0 * self.trend_since or -np.inf
        self._recent = [edges.recent(life, likes=likes, since=since) for life, likes in TRENDS]
        self._pairs = edges.pairs()

    # ---- scores

    @property
    def weights(self) -> Weights:
        """Those in force, by :data:`~recbole_signed.ssf.order.WEIGHTS`."""
        return self.known.weights

    @property
    def _transition(self) -> Transition | None:
        return Transition(torch.from_numpy(self.operator)) if self.operator.size else None

    def _made_filter(self) -> OrderFilter:
        recent = torch.from_numpy(np.stack([trend.counts.astype(np.float32) for trend in self._recent]))
        return OrderFilter(super()._made_filter(), Order(self.weights, self._pairs, recent, self._transition))

    @property
    def taste(self) -> SpectralFilter:
        """The filter that gives the taste."""
        made: OrderFilter = self.filter
        return made.taste

    def top(self, edges: EdgeState, user: int, k: int, hidden: IntArray) -> None:
        """None: the best are found among all scores."""
        return None

    def _users(self, edges: EdgeState, users: IntArray) -> UserEdges:
        rows = user_rows(edges, users, times=True)
        return self._with_prior(replace(self._edges(rows), sequences=rows.sequences(edges.item_keys)), users)

    # ---- keeping

    def parameters(self) -> dict[str, Any]:
        """Return the parameters, by the names in the model's yaml."""
        own = {"choose_again": self.choose_again, "trend_since": self.trend_since}
        return {**super().parameters(), "order_weights": self.start.tolist(), **own}

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return everything but the counters and what is made of the edges."""
        tensors, meta = super().state()
        until = self.until if np.isfinite(self.until) else None
        tensors |= {"operator": self.operator, "order_weights": self.weights}
        if self.known.information is not None:
            tensors["order_information"] = self.known.information
        return tensors, {**meta, "until": until}

    def load(self, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` gave; :meth:`attach` brings what is made of the edges."""
        super().load(tensors, meta)
        self.operator = np.array(tensors["operator"])
        # an older state has none of these
        weights, information = tensors.get("order_weights", self.start), tensors.get("order_information")
        self.known = Fit(
            with_sharp(np.array(weights)), None if information is None else with_sharp(np.array(information))
        )
        self.until = -np.inf if meta.get("until") is None else float(meta["until"])


def refitted_weights(
    fitted: SpectralFilter,
    transition: Transition | None,
    before: Fit,
    edges: EdgeArrays,
    since: float,
    until: float,
    users: int,
    sizes: tuple[int, int],
    lowers: bool,
) -> Fit:
    """Return weights that are fitted to the likes after a moment, too."""
    # fitted, transition: as they were at the moment, until (ms); exposures before since (ms) are part of no trend;
    # lowers: dislikes lower what is near, so that some are held back; sizes: of users and items
    n_users, n_items = sizes
    user, item, like, time = edges.verdicts
    old = time <= until
    chosen = drawn(np.unique(user[~old & like]), users)
    # a history that spans less time than what follows it tells nothing of trends: its times may be made up
    timed = old & (time >= since)
    if not len(chosen) or not timed.any() or np.ptp(time[timed]) < np.ptp(time[~old]):
        return before
    validation = held_out(edges, edges.timestamp <= until, chosen, sizes)
    vectors = torch.zeros(n_items, fitted.vectors.shape[1])
    vectors[: len(fitted.vectors)] = fitted.vectors
    likes, dislikes = (
        torch.from_numpy(np.bincount(item[old & side], minlength=n_items)).float() for side in (like, ~like)
    )
    earlier = fitted.following(vectors, ItemCounters.from_counts(likes, dislikes))
    sequences = Sequences.from_edges(user[old], item[old], like[old], time[old], n_users, edges.item_keys)
    theirs = validation.users
    if lowers:
        own = old & np.isin(user, chosen)
        verdicts = Verdicts.from_edges(user[own], item[own], like[own], time[own], n_users, edges.item_keys).rows(
            chosen
        )
        theirs = without(theirs, verdicts, verdicts.held_back(leads=True))
    recent = recent_of(item[old], time[old], like[old], n_items, since)
    made = OrderFilter(
        earlier, Order(weights_of(None), PairCounts.from_sequences(sequences, n_items), recent, transition)
    )

    def edges_of(rows: slice) -> UserEdges:
        some = theirs.rows(rows)
        return UserEdges.from_graph(
            some, fitted.settings.dislike_weight, of_edges(sequences.of_users(chosen[rows]), some)
        )

    new = Likes.from_validation(made, edges_of, validation)
    if before.information is not None:
        before = replace(before, information=before.information * (KEPT / (KEPT + len(chosen))))
    return fitted_weights(new, before, WORTH, among_best=True)


def held_out(
    edges: EdgeArrays,
    train: npt.NDArray[np.bool_],
    users: IntArray,
    sizes: tuple[int, int],
    metric: str = "NDCG@20",
    gamma: float = 0.0,
) -> Validation:
    """Return ``users`` and their verdicts outside of the events ``train``; ``sizes``: numbers of users and items."""
    n_users, n_items = sizes
    row = np.full(n_users, -1)
    row[users] = np.arange(len(users))
    row = row[edges.user]

    def edges_of_kind(kind: int, rows: npt.NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
        chosen = np.flatnonzero(rows & (row >= 0) & (edges.kind == kind))
        return row[chosen], edges.item[chosen].astype(np.int64)

    likes, dislikes = (
        np.sort(user * n_items + item) for user, item in (edges_of_kind(LIKE, ~train), edges_of_kind(DISLIKE, ~train))
    )
    hidden = np.flatnonzero(train & (row >= 0))
    hidden = hidden[np.argsort(row[hidden], kind="stable")]
    return Validation(
        users=SignedGraph.from_edges(edges_of_kind(LIKE, train), edges_of_kind(DISLIKE, train), len(users), n_items),
        like_keys=likes,
        like_count=np.bincount(likes // n_items, minlength=len(users)),
        hidden=(torch.from_numpy(row[hidden]), torch.from_numpy(edges.item[hidden].astype(np.int64))),
        metric=metric,
        numbers=users,
        gamma=gamma,
        dislike_keys=dislikes,
    )
