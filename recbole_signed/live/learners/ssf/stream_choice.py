"""Chooses a model's settings on the base of a stream alone: fitted to its first nine tenths, measured on the last.

Where hardly any user has events before and in the last tenth in time, it is the last tenth of each user's own events.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from recbole_signed.counts import DAY, RecentCounts
from recbole_signed.data.settings import split_group
from recbole_signed.data.split import ranks
from recbole_signed.errors import UsageError
from recbole_signed.evaluation.sign_aware_metrics import gamma_of
from recbole_signed.graph import SignedGraph
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE
from recbole_signed.live.learners.base import graph_of
from recbole_signed.live.learners.ssf.time_learner import USERS, held_out, refitted_weights
from recbole_signed.live.store.edges import EdgeArrays
from recbole_signed.model.verdicts import PersonalVerdicts
from recbole_signed.plugin import registry
from recbole_signed.plugin.facts import facts_of, lineage
from recbole_signed.ssf.feature_search import tune_features
from recbole_signed.ssf.features import FeatureSettings
from recbole_signed.ssf.learned_items import LearnedSettings, tune_learned
from recbole_signed.ssf.order import weights_of
from recbole_signed.ssf.order_weights import Fit
from recbole_signed.ssf.search import SearchResult, judging, spend, tune
from recbole_signed.ssf.settings import FilterSettings
from recbole_signed.ssf.shortlist import Candidate
from recbole_signed.ssf.transition import Transition, TransitionSums, leading
from recbole_signed.ssf.validation import FIRST_ROUND, METRICS, Validation, drawn

METRIC = "NDCG@20"
ITERATIONS = 20
"""Of a decomposition."""
ACCURACY_PRICE = 0.01
"""Default of the key of that name."""
CHOOSES_BY = ("valid_metric", "signed_gamma", "accuracy_price")
"""Settings of the choice, none of the model: what it is made by in place of :data:`METRIC`, and its gamma."""
HALF_LIVES = (1 / 24, 0.25, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Of DecayPop, in days."""
REACH = 4.0
"""Half-lives of more than so many times the time that likes span can't be told apart, and are not tried."""
DECAY_POP = 1.0
"""Half-life of DecayPop, in days, where the base spans too little time to choose it on."""
VALID_SHARE = 0.1
MAX_USERS = 3000
MOMENTS = (0.6, 0.7, 0.8, 0.9, 1.0)
"""Of the base's events: SSF-T's weights are fitted to the likes between each and the next, as the stream goes on."""


def chosen_settings(model: str, edges: EdgeArrays, n_users: int, n_items: int, given: dict[str, Any]) -> dict[str, Any]:
    """Return ``given`` and, for the rest, what ranks the last tenth of ``edges`` best; UsageError where none can."""
    own = facts_of(model).stream_chooser
    ours = (_CHOOSERS[name] for name in lineage(model) if name in _CHOOSERS)
    chooser = next(ours, None) if own is None else registry.load_object(own)
    if chooser is None:
        raise UsageError(f"{model} can't choose its settings by itself; set auto: False, and give them.")
    settings: dict[str, Any] = chooser(edges, n_users, n_items, given)
    return {key: value for key, value in settings.items() if key not in CHOOSES_BY}


def chosen_for_filter(edges: EdgeArrays, n_users: int, n_items: int, given: dict[str, Any]) -> dict[str, Any]:
    """Choose for SSF, see :func:`chosen_settings`."""
    tuned = _tuned(edges, n_users, n_items, given)
    return {**asdict(_spent(edges, tuned, given)), **given}


def chosen_for_learned(edges: EdgeArrays, n_users: int, n_items: int, given: dict[str, Any]) -> dict[str, Any]:
    """Choose for SSF-L, see :func:`chosen_settings`."""
    tuned = _tuned(edges, n_users, n_items, given)
    _, graph, validation, best = tuned
    both = tune_learned(graph, validation, best, LearnedSettings.split(given)[0], ITERATIONS, given)
    strength = _spent(edges, tuned, given).dislike_strength
    return {**asdict(both.tuned.settings), **asdict(both.settings), "dislike_strength": strength, **given}


def chosen_for_time(edges: EdgeArrays, n_users: int, n_items: int, given: dict[str, Any]) -> dict[str, Any]:
    """Choose for SSF-T as :func:`chosen_settings`; UsageError where nothing comes after any of :data:`MOMENTS`."""
    tuned = _tuned(edges, n_users, n_items, given, taste_alone=True)
    best, strength = tuned[-1], _spent(edges, tuned, given).dislike_strength
    since = 1000.0 * float(given.get("trend_since") or 0.0)
    weights, lowers = Fit(weights_of(None)), given.get("dislike_strength", strength) > 0
    for moment, end in pairwise(np.quantile(edges.timestamp, MOMENTS)):
        train = edges.timestamp < moment
        graph = graph_of(edges.where(train), n_users, n_items)
        fitted = replace(best, fitted=None, alone=False).fit(graph, ITERATIONS)
        sequences = edges.where(train).sequences(n_users)
        transition = Transition(
            torch.from_numpy(TransitionSums.from_sequences(sequences, leading(fitted.vectors)).solve())
        )
        seen = edges.where(edges.timestamp <= end)
        # strictly before the moment: times are whole milliseconds
        until, sizes = float(np.ceil(moment)) - 1, (n_users, n_items)
        weights = refitted_weights(fitted, transition, weights, seen, since, until, USERS, sizes, lowers)
    if weights.information is None:
        raise _nothing_to_choose_on("has no likes that come after enough earlier events in time")
    chosen = {**asdict(best.settings), "order_weights": weights.weights.tolist(), "dislike_strength": strength}
    return {**chosen, **given}


def chosen_for_popularity(edges: EdgeArrays, n_users: int, n_items: int, given: dict[str, Any]) -> dict[str, Any]:
    """Choose the half-life of DecayPop, on what comes next in time, see :func:`chosen_settings`."""
    train, _, validation = _what_comes_next(edges, n_users, n_items, given)
    _, item, like, time = edges.where(train).verdicts
    lives = [life for life in HALF_LIVES if life <= REACH * np.ptp(time) / DAY] or [DECAY_POP]

    def candidate(life: float) -> Candidate:
        counts = torch.from_numpy(RecentCounts.from_events(item[like], time[like], life, n_items).counts).float()
        return lambda pieces: counts.expand(len(range(*pieces.rows.indices(validation.n_users))), -1).clone()

    standings = validation.contest([candidate(life) for life in lives])
    best = max(zip(standings, lives, strict=True), key=lambda pair: pair[0].value)[1]
    return {"half_life": best, **given}


_CHOOSERS = {
    "DecayPop": chosen_for_popularity,
    "SSF": chosen_for_filter,
    "SSFL": chosen_for_learned,
    "SSFT": chosen_for_time,
}
"""What chooses for these models and for those that extend them; another one has its ``stream_chooser``."""


def chosen_features(
    edges: EdgeArrays, n_users: int, n_items: int, chosen: dict[str, Any], items: Any, given: dict[str, Any]
) -> dict[str, Any]:
    """Choose what the family makes of features of items, ``[n_items, n_features]``, on what comes next in time."""
    _, graph, validation = _what_comes_next(edges, n_users, n_items, given)
    start = FeatureSettings.split(given)[0]
    best = tune_features(graph, validation, FilterSettings.split(chosen)[0], items, None, start, ITERATIONS, given)
    return asdict(best.settings)


_Tuned = tuple[np.ndarray, SignedGraph, Validation, SearchResult]


def _spent(edges: EdgeArrays, tuned: _Tuned, given: dict[str, Any]) -> FilterSettings:
    """Return the settings of the filter with the verdicts that ``accuracy_price`` pays for."""
    train, graph, validation, best = tuned
    fitted, numbers = best.fit(graph, ITERATIONS), validation.numbers
    assert numbers is not None
    user, item, like, time = edges.where(train).verdicts
    likes, dislikes = ((user[side], item[side], time[side]) for side in (like, ~like))
    personal = PersonalVerdicts(graph, likes, dislikes)

    def at(settings: FilterSettings) -> Candidate:
        filter_ = replace(fitted, settings=settings)
        if not settings.dislike_strength:
            return lambda pieces: filter_.scores(validation.users.rows(pieces.rows))

        def scores_of(own: SignedGraph, _: np.ndarray, items: torch.Tensor | None) -> torch.Tensor:
            return filter_.scores(own) if items is None else filter_.pair_scores(own, items)

        return judging(personal, numbers, scores_of, filter_.without_taste(), settings)

    price = float(given.get("accuracy_price", ACCURACY_PRICE))
    with personal.remembering():
        return spend(at, validation, best.settings, price, personal.timed, given)


def _tuned(
    edges: EdgeArrays, n_users: int, n_items: int, given: dict[str, Any], *, taste_alone: bool = False
) -> _Tuned:
    """Choose the settings of the filter, but for those given; also return what they were chosen on."""
    train, known = _first_part(edges, n_users)
    users = drawn(known, MAX_USERS)
    if not len(users):
        raise _nothing_to_choose_on("has no user")
    graph = graph_of(edges.where(train), n_users, n_items)
    validation = _validation(edges, train, graph, users, given)
    start, _ = FilterSettings.split(given)
    best = tune(graph, validation, start, ITERATIONS, given, taste_alone=taste_alone)
    return train, graph, validation, best


def _what_comes_next(
    edges: EdgeArrays, n_users: int, n_items: int, given: dict[str, Any]
) -> tuple[np.ndarray, SignedGraph, Validation]:
    """Return which events are not in the last tenth, their graph, and the likes that come next; UsageError if none."""
    # a trend is of a moment: it is measured by what comes next, of all who come
    train = _in_time(edges)
    held = np.unique(edges.user[~train & (edges.kind == LIKE)])
    if not train.any() or not len(held):
        raise _nothing_to_choose_on("has no events before its last tenth in time, or no like in it,")
    graph = graph_of(edges.where(train), n_users, n_items)
    return train, graph, _validation(edges, train, graph, drawn(held, MAX_USERS), given)


def _nothing_to_choose_on(why: str) -> UsageError:
    return UsageError(f"the base of the stream {why} to choose settings on; set auto: False, and give them.")


def _validation(
    edges: EdgeArrays, train: np.ndarray, graph: SignedGraph, users: np.ndarray, given: dict[str, Any]
) -> Validation:
    """Return :func:`held_out` by the metric of the settings."""
    metric = str(given.get("valid_metric") or METRIC)
    plain = split_group(metric)[0]
    if not METRICS.fullmatch(plain):
        raise UsageError(f"valid_metric is '{metric}'; a stream's settings are chosen by NDCG, Recall or a signed one.")
    sizes, gamma = (graph.n_users, graph.n_items), gamma_of(metric, given.get("signed_gamma"))
    return held_out(edges, train, users, sizes, plain, gamma)


def _in_time(edges: EdgeArrays) -> np.ndarray:
    """Return which events are not among the last tenth in time, bool ``[n_edges]``."""
    return edges.timestamp < np.quantile(edges.timestamp, 1 - VALID_SHARE)


def _first_part(edges: EdgeArrays, n_users: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which events are fitted to, bool ``[n_edges]``, and the users that the others are measured on."""
    in_time = _in_time(edges)
    users = _measured(edges, in_time, n_users)
    if len(users) >= FIRST_ROUND:
        return in_time, users
    order = np.argsort(edges.timestamp, kind="stable")
    group, place, count = ranks(edges.user[order])
    of_each = np.zeros(len(order), dtype=bool)
    of_each[order] = place < np.maximum(1, np.floor(count * (1 - VALID_SHARE)))[group]
    more = _measured(edges, of_each, n_users)
    return (of_each, more) if len(more) > len(users) else (in_time, users)


def _measured(edges: EdgeArrays, train: np.ndarray, n_users: int) -> np.ndarray:
    """Return the users with a verdict among ``train`` and a like outside of it, ascending."""
    known = np.bincount(edges.user[train & np.isin(edges.kind, (LIKE, DISLIKE))], minlength=n_users)
    held = np.bincount(edges.user[~train & (edges.kind == LIKE)], minlength=n_users)
    return np.flatnonzero((known > 0) & (held > 0))
