"""Why a user gets an item, with raw ids and in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from recbole_signed.errors import counted
from recbole_signed.ssf import UNKNOWN

NAMED = 3
"""Edges that the sentence names."""
NOTED = 0.01
"""Share of the score from which on the sentence tells what popularity adds."""
_VERDICTS = {1: "like", -1: "dislike", 0: "neutral edge"}


@dataclass(frozen=True, repr=False)
class ItemExplanation:
    """Why a user gets an item: ``score = edges["contribution"].sum() + user_features + popularity``, exactly.

    Attributes:
        user, item: raw ids.
        score: as in :meth:`Recommender.recommend`.
        edges: polars frame with a row per edge of the user, the largest contribution first: ``item`` (String), ``sign``
            (Int8: 1 like, -1 dislike, 0 neutral) and ``contribution`` (Float64, in the unit of the score). Of SSF-T
            also ``recency``: the part of the contribution that comes from the order of the edges.
        popularity: what the item's popularity adds.
        like_rate: the item's share of likes among its likes and dislikes, smoothed, 0 to 1.
        factor: what its like rate and degree multiply the score by; it is in the contributions already.
        trend: what the item's trend multiplies the contributions by; it is in them already. 1 but for SSF-T.
        known: whether the model knows edges of the user.
        user_features: what the features of the user add; 0 where the model uses none.
        features: polars frame with a row per feature of the user and of the item, the largest contribution first:
            ``of`` (String: user or item), ``column``, ``value`` (String, both empty for what all have in common) and
            ``contribution`` (Float64, in the unit of the score). What an item's features add is in the contributions
            of the edges, and in ``user_features``; it stands here once more.
        sentence: all that in words.
    """

    user: str
    item: str
    score: float
    edges: pl.DataFrame
    popularity: float
    like_rate: float
    factor: float
    trend: float
    known: bool
    sentence: str
    user_features: float
    features: pl.DataFrame

    def __str__(self) -> str:
        return self.sentence

    def __repr__(self) -> str:
        """Return the sentence, not two frames in a line: what a notebook shows."""
        return f"<ItemExplanation: {self.sentence}>"


def explained(
    told: Any, settings: Any, user: str, item: str, names: pl.Series, called: Callable[[str], str] = str
) -> ItemExplanation:
    """Put what :meth:`SSF.explain` returns into raw ids and words.

    Args:
        told: contributions by RecBole's ids.
        settings: of the filter.
        user: raw id.
        item: raw id.
        names: raw ids of the items by RecBole's ids.
        called: what the sentence calls an item, by its raw id.
    """
    unit = told.trend * told.factor
    contributions = told.contributions * unit
    order = np.argsort(-np.abs(contributions), kind="stable")
    items, signs, contributions = names.gather(told.items[order]), told.signs[order], contributions[order]
    edges = pl.DataFrame(
        {"item": items, "sign": signs, "contribution": contributions},
        schema={"item": pl.String, "sign": pl.Int8, "contribution": pl.Float64},
    )
    if told.recency is not None:
        edges = edges.with_columns(pl.Series("recency", told.recency[order] * unit, dtype=pl.Float64))
    popularity = float(told.prior * told.factor)
    score = float(told.score)
    columns, this = _Edges(items, signs, contributions, called), called(item)
    said = _sentences(columns, settings, user, this, score, told.verdict, bool(told.from_features))
    if (edges.height or told.from_features) and score > UNKNOWN and abs(popularity) >= NOTED * abs(score):
        said.insert(1, f"Its popularity adds {popularity:+.3g}.")
    if told.trend != 1.0:
        said.append(f"The trend of item {this} multiplies the contributions by {told.trend:.3g}.")
    features = pl.DataFrame(
        [
            (of, part.column, part.value, part.contribution * unit)
            for of, parts in (("user", told.user_features), ("item", told.item_features))
            for part in parts
        ],
        schema={"of": pl.String, "column": pl.String, "value": pl.String, "contribution": pl.Float64},
        orient="row",
    ).sort(pl.col("contribution").abs(), descending=True, maintain_order=True)
    said += [
        f"Features of {of} {name} add most: {_named_features(own)}."
        for of, name, parts in (("user", user, told.user_features), ("item", this, told.item_features))
        if parts and (own := features.filter((pl.col("of") == of) & (pl.col("column") != ""))).height
    ]
    return ItemExplanation(
        user=user,
        item=item,
        score=score,
        edges=edges,
        popularity=popularity,
        like_rate=told.verdict,
        factor=told.factor,
        trend=told.trend,
        known=bool(edges.height),
        sentence=" ".join(said),
        user_features=float(told.from_features * unit),
        features=features,
    )


def _named_features(features: pl.DataFrame) -> str:
    rows = features.head(NAMED).iter_rows(named=True)
    return ", ".join(f"{row['column']} {row['value']} ({row['contribution']:+.3g})" for row in rows)


@dataclass(frozen=True)
class _Edges:
    """Columns of :attr:`ItemExplanation.edges`, as arrays: masks of a frame take ten times as long for a few edges."""

    items: pl.Series
    signs: np.ndarray
    contributions: np.ndarray
    called: Callable[[str], str]

    def named(self, rows: np.ndarray) -> str:
        """Return the first of some edges in words."""
        named = [
            f"the {_VERDICTS[int(self.signs[row])]} of item {self.called(self.items[row])} "
            f"({self.contributions[row]:+.3g})"
            for row in rows[:NAMED].tolist()
        ]
        return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"


def _sentences(
    edges: _Edges,
    settings: Any,
    user: str,
    item: str,
    score: float,
    like_rate: float,
    from_features: bool,
) -> list[str]:
    n_edges, contributions = len(edges.items), edges.contributions
    if score <= UNKNOWN:
        return [f"Nobody has liked or disliked item {item} in the training data, so it comes after all other items."]
    if not n_edges and not from_features:
        return [
            f"The model knows no edges of user {user}, so item {item} has the score {score:.3g} by its popularity and "
            "like rate alone."
        ]
    said = [f"Item {item} has the score {score:.3g} for user {user}."]
    for word, rows in (("raise", np.flatnonzero(contributions > 0)), ("lower", np.flatnonzero(contributions < 0))):
        if len(rows):
            total = float(contributions[rows].sum())
            verb = f"{word}s" if len(rows) == 1 else word
            share = f"{len(rows)} of {counted(n_edges, 'edge')} {verb} it ({total:+.3g})"
            said.append(f"{share}, most of all {edges.named(rows)}.")
    weight, aversion = f"{settings.dislike_weight:g}", f"{settings.dislike_aversion:g}"
    disliked = edges.signs < 0
    if (disliked & (contributions > 0)).any():
        said.append(
            f"A dislike can raise a score, since it shows what kind of items the user meets (dislike_weight {weight}); "
            "what holds disliked items back is the like rate."
        )
    elif settings.dislike_weight < 0 and disliked.any():
        said.append(f"Dislikes lower the scores of similar items (dislike_weight {weight}).")
    effect = f"multiplies the score, to the power {aversion}" if settings.dislike_aversion else "has no weight"
    said.append(f"The like rate of item {item}, {like_rate:.0%}, {effect} (dislike_aversion {aversion}).")
    return said
