"""Rankings for what a request asks: filters, parameters of a variant, sessions without an id, explanations.

What differs between requests is laid over a learner's edges here, without a copy of anything large.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from recbole_signed.api.explanations import ItemExplanation
from recbole_signed.errors import NotFoundError, UsageError
from recbole_signed.graph.top_scores import best_of_each
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, NAMES, SKIP, VIEW
from recbole_signed.live.learners.asked import Asked, OwnEdges, under
from recbole_signed.live.learners.base import IntArray, Learner
from recbole_signed.live.serve.experiments import Assignment
from recbole_signed.live.serve.schemas import WishInfo
from recbole_signed.live.store.edge_views import Rows
from recbole_signed.live.store.edges import EdgeState
from recbole_signed.ssf.explanation import Explanation
from recbole_signed.ssf.item_counters import UNKNOWN

SAMPLE = 256  # items, evenly spaced, among which the percentile of an item's score is told
AUDIENCE = 500  # users among whom those that rank an item highest are looked for
BITS = 36  # of the 53 of a float: the others hold what was rounded in a sum of up to some ten thousand numbers
SESSION = 2**31 - 2  # id of a session; no user has it, so a model knows nothing of it but the edges
CANDIDATES = 20  # items that the first place is drawn from
POOL = 200  # best items by the model's score that a bonus for young ones can raise


@dataclass(frozen=True)
class Ranked:
    """A list of items, for one user or for nobody in particular."""

    items: list[tuple[str, float]]
    seq: int
    version: str
    known: bool | None  # whether something is known of the user; None of a list that is for nobody in particular
    assignments: Sequence[Assignment] = ()
    teams: list[str | None] | None = None  # who picked each item of an interleaved list; None of a place for a new one
    request_id: str = ""
    draws: Sequence[tuple[str, str, float, float]] = ()  # see `traffic.Shown`

    @property
    def variant(self) -> str:
        """``experiment=variant`` of each experiment, comma-separated."""
        return ",".join(f"{assignment.experiment}={assignment.variant}" for assignment in self.assignments)

    def as_json(
        self, name: Callable[[str], str | None], why: Mapping[str, dict[str, Any]] = MappingProxyType({})
    ) -> dict[str, Any]:
        """Return it as :class:`~.schemas.Answer` has it, without None; ``name`` and ``why`` tell of an item."""
        items: list[dict[str, Any]] = []
        teams: Sequence[str | None] = self.teams or [None] * len(self.items)
        for (item, score), team in zip(self.items, teams, strict=True):
            row: dict[str, Any] = {"item": item}
            if (called := name(item)) is not None:
                row["name"] = called
            if (known := known_score(score)) is not None:
                row["score"] = known
            if team is not None:
                row["variant"] = team
            if item in why:
                row["why"] = why[item]
            items.append(row)
        answer = {"items": items, "model": self.version, "seq": self.seq, "variant": self.variant}
        known_user = {} if self.known is None else {"known_user": self.known}
        return {**answer, "request_id": self.request_id, **known_user}


def item_number(state: Any, item: str) -> int:
    """Return the number of an item; NotFoundError where no event has named it."""
    number = int(state.items.ids([item])[0])
    if not 0 < number < state.edges.n_items:
        raise NotFoundError(f"there is no item '{item}'; an item is known from its first event on.")
    return number


def known_score(score: float) -> float | None:
    """Return a score; None where nothing is known of the item."""
    return None if score <= UNKNOWN else score


def why(explanation: Explanation, shown: ItemExplanation) -> dict[str, Any]:
    """Return what is told of an item, and how it is shown, as :class:`~.schemas.Why` has it but for model and seq."""
    columns = shown.columns
    parts = columns.contributions / (explanation.factor or 1.0)
    rows = zip(columns.items.to_list(), columns.signs.tolist(), parts.tolist(), strict=True)
    return {
        "user": shown.user,
        "item": shown.item,
        "score": known_score(shown.score),
        "contributions": [{"item": item, "sign": sign, "contribution": part} for item, sign, part in rows],
        "prior": known_score(explanation.prior),
        "asked": list(shown.asked),
        **{name: getattr(explanation, name) for name in ("from_features", "verdict", "factor")},
        **{name: getattr(shown, name) for name in ("lowered", "cause", "common_likes", "moved", "sentence")},
    }


def session_edges(edges: EdgeState, items: IntArray, kinds: np.ndarray) -> EdgeState:
    """Return edges in which :data:`SESSION` has edges ``items`` of ``kinds``, ``[n]``, the newest verdict last."""
    ids, newest = np.unique(items[::-1], return_index=True)  # a later verdict replaces an earlier one
    places = len(items) - 1 - newest
    row = Rows.one(ids.astype(np.int32), kinds[places], time.time_ns() // 1_000_000 - len(items) + places)
    return OwnEdges.with_row(edges, SESSION, row, SESSION + 1)


def edges_without(edges: EdgeState, user: int, item: int) -> EdgeState:
    """Return edges in which a user, the only one that is asked for, lacks its edge to an item."""
    row = edges.of_user(user)
    assert row.timestamp is not None
    stays = row.ids != item
    return OwnEdges.with_row(edges, user, Rows.one(row.ids[stays], row.kind[stays], row.timestamp[stays]))


def before_dislike(edges: EdgeState, user: int, asked: Asked | None) -> tuple[int, EdgeState, Asked | None] | None:
    """Return the item of a user's newest dislike, and edges and what is asked for without it; None for no dislike."""
    row = under(asked, edges).of_user(user) if 0 < user < edges.n_users else None
    if row is None or not (row.kind == DISLIKE).any():
        return None
    assert row.timestamp is not None
    item = int(row.ids[np.where(row.kind == DISLIKE, row.timestamp, -1).argmax()])
    if asked is not None:
        others = [wish for wish in asked.wishes if wish.item != item or wish.feature or not wish.dislikes]
        if len(others) < len(asked.wishes):
            return item, edges, replace(asked, wishes=others)
    return item, edges_without(edges, user, item), asked  # it has no end


def percentile(learner: Learner, edges: EdgeState, user: int, item: int, counts: np.ndarray | None = None) -> float:
    """Return the share of a sample of items below ``item``; ``counts``, ``[n_items]``, rank in the learner's place."""
    items = _beside_others(edges, item)
    scores = learner.pair_scores(edges, np.array([user]), items[None])[0] if counts is None else counts[items]
    others, own = scores[:-1], scores[-1]
    return float(((others < own).sum() + 0.5 * (others == own).sum()) / len(others))


def _beside_others(edges: EdgeState, item: int) -> IntArray:
    """Return a sample of items, and an item behind it."""
    n = edges.n_items
    return np.append(np.linspace(1, n - 1, min(SAMPLE, max(n - 1, 1))).astype(np.int64), item)


def audience(learner: Learner, edges: EdgeState, item: int, k: int) -> tuple[IntArray, np.ndarray]:
    """Return ``k`` users without an edge to an item that rank it highest, and the shares of items that are below it."""
    active = np.flatnonzero(edges.user_likes + edges.user_dislikes)
    active = active[~np.isin(active, edges.of_item(item).ids)]
    if not len(active):
        return active, np.zeros(0)
    some = active[np.linspace(0, len(active) - 1, min(len(active), AUDIENCE)).astype(np.int64)]  # of all times
    items = _beside_others(edges, item)
    scores = learner.pair_scores(edges, some, np.tile(items, (len(some), 1)))
    below = (scores[:, :-1] < scores[:, -1:]).mean(axis=1)
    best = np.argsort(-below, kind="stable")[:k]
    return some[best], below[best]


def refuse_unexplained(learner: Learner) -> None:
    """Raise UsageError where a learner can't explain."""
    if not hasattr(learner, "explain"):
        raise UsageError(f"{learner.name} can't explain its recommendations; SSF, SSFL and SSFT can.")


def without_rounding(counts: np.ndarray) -> np.ndarray:
    """Return sums, ``[n]``, to :data:`BITS` bits: without the order of the summands, which differs after a restart."""
    part, exponent = np.frexp(counts)
    rounded: np.ndarray = np.ldexp(np.rint(np.ldexp(part, BITS)), exponent - BITS)
    return rounded


def most_liked(
    counts: np.ndarray, k: int, keys: IntArray, hidden: IntArray, include_only: IntArray | None = None
) -> tuple[IntArray, np.ndarray]:
    """Return the ``k`` items with the highest ``counts``, ``[n_items]``, and these; ties by the items' ``keys``."""
    shown = np.full(len(counts), include_only is None)
    shown[[] if include_only is None else include_only] = True
    counts = np.where(shown, counts.astype(np.float64), -np.inf)
    counts[0] = -np.inf
    counts[hidden] = -np.inf
    (values,), (items,) = best_of_each(torch.from_numpy(counts)[None], k, torch.from_numpy(keys))
    known = torch.isfinite(values)
    return items[known].numpy(), values[known].numpy()


def newest_edges(
    state: Any, user: str, kinds: Sequence[int] = (LIKE, DISLIKE, SKIP, VIEW), k: int | None = None
) -> tuple[list[tuple[str, str, int]], int]:
    """Return item, type and time of a user's newest ``k`` edges of ``kinds``, newest first, and how many it has."""
    number = state.users.id_of(user)
    if not 0 < number < state.edges.n_users:
        return [], 0
    row = state.edges.of_user(number)
    own = np.flatnonzero(np.isin(row.kind, kinds))
    best = own[np.argsort(-row.timestamp[own], kind="stable")[:k]]
    items, names = state.items.tokens(row.ids[best].tolist()), [NAMES[kind] for kind in row.kind[best].tolist()]
    return list(zip(items, names, row.timestamp[best].tolist(), strict=True)), len(own)


def announced_features(state: Any, kind: str, id: str) -> dict[str, Any] | None:
    """Return the features that were announced of a ``user`` or an ``item``; None without an announcement."""
    features: dict[int, dict[str, Any]] = state.announcements.by_id(state.users, state.items, {kind: [id]})[kind]
    return features.get(int((state.users if kind == "user" else state.items).id_of(id)))


def asked_by(state: Any, learner: Learner, user: str) -> list[WishInfo]:
    """Return what a user asks for beside verdicts and has not taken back, the newest first."""
    asked = Asked.from_state(state, learner, int(state.users.id_of(user)))
    by_wish: dict[Any, list[str]] = {}
    for wish, value, _ in [] if asked is None else asked.moves:
        by_wish.setdefault(wish, []).append(value)
    for wish in [] if asked is None else asked.wishes:
        by_wish.setdefault(wish, [])
    listed = sorted(by_wish.items(), key=lambda entry: -entry[0].timestamp)
    return [WishInfo(**wish.as_json(state.items), values=values) for wish, values in listed]


# ---- drawing places, so that policies which never ran can be judged from what was logged


def probabilities(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probability that each of ``scores``, best first, comes first; 0 as temperature takes the best."""
    chances = np.zeros(len(scores))
    unit = temperature * _spread(scores)  # the temperature is in standard deviations of the scores
    if len(scores) and not temperature:
        chances[0] = 1.0
    elif len(scores):
        with np.errstate(over="ignore"):  # of a tiny unit: the best comes first
            chances = np.exp((scores - np.max(scores)).astype(np.float64) / (unit or 1.0))
        chances /= chances.sum()
    return chances


def _spread(scores: np.ndarray) -> float:
    """Return the standard deviation of scores, less those of items that nobody has an edge to, which are far below."""
    known = scores[scores > UNKNOWN].astype(np.float64)
    return float(np.std(known)) if len(known) else 0.0


def raised(scores: np.ndarray, verdicts: np.ndarray, weight: float) -> tuple[IntArray, np.ndarray]:
    """Return the order of ``scores``, best first, with a bonus for what is not known, and the raised ones, ``[n]``."""
    unit = weight * _spread(scores[:CANDIDATES])  # of the bonus of an item without a verdict
    # standard deviation of the beta distribution of evenly divided verdicts, over that of the uniform prior
    uncertain = np.sqrt(3 / (3 + verdicts.astype(np.float64)))
    lifted = scores.astype(np.float64) + unit * uncertain
    order = np.argsort(-lifted, kind="stable")
    return order, lifted[order]


def drawn_few(scores: np.ndarray, n: int, rng: np.random.Generator) -> IntArray:
    """Return n places of ``scores``, fewer if there are no more, drawn by :func:`probabilities` at temperature 1."""
    with np.errstate(divide="ignore"):
        likely = np.log(probabilities(scores, 1.0))
    return np.argsort(-(likely + rng.gumbel(size=len(scores))), kind="stable")[:n]
