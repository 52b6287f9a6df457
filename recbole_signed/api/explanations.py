"""Why a user gets an item, with raw ids and in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recbole_signed.errors import counted
from recbole_signed.graph.personal_verdict import Fall
from recbole_signed.ids_and_times import day
from recbole_signed.ssf.explanation import Explanation, FeaturePart
from recbole_signed.ssf.item_counters import UNKNOWN

NAMED = 3  # edges that the sentence names
NOTED = 0.01  # share of the score from which on the sentence tells what popularity adds
_VERDICTS = {1: "like", -1: "dislike", 0: "neutral edge"}
_SAID = {1: "liked", -1: "disliked", 0: "has already met"}


@dataclass(frozen=True)
class EdgeColumns:
    """The edges of a user, the largest contribution first: frames of them take ten times as long to make and to ask."""

    items: pl.Series  # raw ids
    signs: npt.NDArray[np.int8]  # 1 like, -1 dislike, 0 neutral
    contributions: npt.NDArray[np.float64]
    recency: npt.NDArray[np.float64] | None  # of SSF-T, what the order adds


@dataclass(frozen=True, repr=False)
class ItemExplanation:
    """Why a user gets an item: ``score`` is all contributions + user_features + popularity - lowered + moved."""

    user: str  # raw id
    item: str
    score: float  # what the item is ranked by, as in `Recommender.recommend`
    columns: EdgeColumns  # those of `edges`
    parts: list[tuple[str, FeaturePart]]  # those of `features`, each with what it is of
    popularity: float  # what it adds
    like_rate: float  # the item's share of likes among its likes and dislikes, smoothed, 0 to 1
    factor: float  # what like rate and degree multiply the score by; it is in the contributions already
    trend: float  # what it adds; it is in `popularity` already
    known: bool  # whether the model knows edges of the user
    sentence: str  # all that in words
    user_features: float  # what the features of the user add
    lowered: float = 0.0  # how much lower it is ranked since it is near to what the user disliked
    cause: str | None = None  # raw id of that dislike
    common_likes: int = 0  # number of users who like both
    moved: float = 0.0  # how much higher it is ranked since the user asked for more of what it has; below 0 for less
    asked: tuple[dict[str, Any], ...] = ()  # what: `kind`, `feature`, `value`, `item`, `timestamp`, `until` in ms

    @cached_property
    def edges(self) -> pl.DataFrame:
        """`item`, `sign` (1 like, -1 dislike, 0 neutral), `contribution`, of SSF-T `recency`."""
        own = self.columns
        recency = {} if own.recency is None else {"recency": own.recency}
        return pl.DataFrame({"item": own.items, "sign": own.signs, "contribution": own.contributions, **recency})

    @cached_property
    def features(self) -> pl.DataFrame:
        """`of` (user or item), `column`, `value`, `contribution`, which stands here once more."""
        rows = [(of, part.column, part.value, part.contribution) for of, part in self.parts]
        schema = {"of": pl.String, "column": pl.String, "value": pl.String, "contribution": pl.Float64}
        return pl.DataFrame(rows, schema, orient="row")

    def __str__(self) -> str:
        return self.sentence

    def __repr__(self) -> str:
        """Return the sentence, not two frames in a line: what a notebook shows."""
        return f"<ItemExplanation: {self.sentence}>"


def explained(
    explanation: Explanation,
    settings: Any,
    user: str,
    item: str,
    names: pl.Series,
    called: Callable[[str], str] = str,
    dates: Callable[[str], str | None] = lambda item: None,
    seen: bool = False,  # the user has met the item, so that no list has it
) -> ItemExplanation:
    """Put what :meth:`SSF.explain` returns into raw ids and words; ``called`` and ``dates`` are by raw id of items."""
    unit = explanation.factor
    contributions = explanation.contributions * unit
    order = np.argsort(-np.abs(contributions), kind="stable")
    recency = None if explanation.recency is None else explanation.recency[order] * unit
    columns = EdgeColumns(
        names.gather(explanation.items[order]), explanation.signs[order], contributions[order], recency
    )
    parts = [
        (of, replace(part, contribution=part.contribution * unit))
        for of, theirs in (("user", explanation.user_features), ("item", explanation.item_features))
        for part in theirs
    ]
    fall = explanation.fall if explanation.fall is not None and explanation.fall.by > 0 else None
    wordless = ItemExplanation(
        user=user,
        item=item,
        score=float(explanation.ranked),
        columns=columns,
        parts=sorted(parts, key=lambda part: -abs(part[1].contribution)),
        popularity=float(explanation.prior * unit),
        like_rate=explanation.verdict,
        factor=unit,
        trend=explanation.trend * unit,
        known=bool(len(order)),
        sentence="",
        user_features=float(explanation.from_features * unit),
        lowered=0.0 if fall is None else fall.by,
        cause=None if fall is None else names[fall.cause],
        common_likes=0 if fall is None else fall.common_likes,
        moved=explanation.moved,
        asked=explanation.reasons,
    )
    return replace(wordless, sentence=" ".join(_sentences(wordless, called, settings, dates, fall, seen)))


def _sentences(
    explanation: ItemExplanation,
    called: Callable[[str], str],
    settings: Any,
    dates: Callable[[str], str | None],
    fall: Fall | None,
    seen: bool,
) -> list[str]:
    """Say first what the user said of the item itself; a dislike is never a reason for an item."""
    user, item, score = explanation.user, called(explanation.item), explanation.score
    edges = explanation.columns
    n_edges, contributions = len(edges.items), edges.contributions
    if score <= UNKNOWN:
        return [f"Nobody has liked or disliked item {item} in the training data, so it comes after all other items."]
    own = edges.signs[(edges.items == explanation.item).to_numpy()]
    if len(own):
        verb = _SAID[int(own.min())]
        return [
            f"User {user} {verb} item {item}{_on(dates(explanation.item))}, so it is not recommended again; its "
            f"score is {score:.3g}."
        ]
    if not n_edges and not explanation.user_features:
        rate = " and like rate" if settings.dislike_aversion else ""
        return [
            f"The model knows no edges of user {user}, so item {item} has the score {score:.3g} by its "
            f"popularity{rate} alone."
        ]
    met = [f"User {user} has already met item {item}, so it is not recommended again."] if seen else []
    said = [*met, f"Item {item} has the score {score:.3g} for user {user}."]
    if fall is not None:
        assert explanation.cause is not None
        said.append(
            f"It is shown less ({-fall.by:+.3g}): user {user} disliked item {called(explanation.cause)}"
            f"{_on(dates(explanation.cause))}; near by {counted(fall.common_likes, 'common like')} (dislike_strength "
            f"{fall.strength:g})."
        )
    if explanation.asked:
        asked = "; ".join(_asked(wish, called) for wish in explanation.asked)
        word = "more" if explanation.moved > 0 else "less"
        said.append(f"It is shown {word} ({explanation.moved:+.3g}): user {user} {asked}.")
    if abs(explanation.popularity) >= NOTED * abs(score):
        said.append(f"Its popularity adds {explanation.popularity:+.3g}.")
    disliked = edges.signs < 0
    reasons = np.flatnonzero((contributions > 0) & ~disliked), np.flatnonzero(contributions < 0)
    for word, rows in zip(("raise", "lower"), reasons, strict=True):
        if len(rows):
            total = float(contributions[rows].sum())
            verb = f"{word}s" if len(rows) == 1 else word
            share = f"{len(rows)} of {counted(n_edges, 'edge')} {verb} it ({total:+.3g})"
            said.append(f"{share}, most of all {_named(edges, rows, called)}.")
    if besides := float(contributions[disliked & (contributions > 0)].sum()):
        said.append(f"What user {user} also came across adds {besides:+.3g}.")
    effect = "counts" if settings.dislike_aversion else "has no weight"
    aversion = f"(dislike_aversion {settings.dislike_aversion:g})"
    said.append(f"The like rate of item {item}, {explanation.like_rate:.0%}, {effect} {aversion}.")
    if explanation.trend:
        said.append(f"The trend of item {item} adds {explanation.trend:+.3g}.")
    for of, name in (("user", user), ("item", item)):
        parts = [part for side, part in explanation.parts if side == of and part.column]
        if parts:
            most = ", ".join(f"{part.column} {part.value} ({part.contribution:+.3g})" for part in parts[:NAMED])
            said.append(f"Features of {of} {name} add most: {most}.")
    return said


def _named(edges: EdgeColumns, rows: np.ndarray, called: Callable[[str], str]) -> str:
    """Return the first of some edges in words."""
    named = [
        f"the {_VERDICTS[int(edges.signs[row])]} of item {called(edges.items[row])} ({edges.contributions[row]:+.3g})"
        for row in rows[:NAMED].tolist()
    ]
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"


def _asked(asked: Mapping[str, Any], called: Callable[[str], str]) -> str:
    """Return what a user asked for, in words."""
    what, until = f"{asked['feature']} {asked['value']}", asked["until"]
    if asked["kind"] == "dislike":
        said = f"disliked the {what} of item {called(asked['item'])}"
    else:
        said = f"asked for {asked['kind']} of {what}"
    end = "" if until is None else f", until {str(np.datetime64(until, 'ms'))[:16].replace('T', ' ')} UTC"
    return f"{said}{_on(day(asked['timestamp']))}{end}"


def _on(date: str | None) -> str:
    return "" if date is None else f" on {date}"
