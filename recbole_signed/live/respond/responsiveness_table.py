"""What audits of :mod:`~.responsiveness` say in numbers, as a table, as rows and as a figure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from recbole_signed.files import picture
from recbole_signed.plugin.facts import FAMILY_COLOURS, display_name, family
from recbole_signed.table import Header, Section, Table, text_lines

N_CLUSTER = 50  # nearest items of a dislike, and the places of the ranking that are searched for them
DISLIKES = (1, 3, 10)  # dislikes of one kind after which the list is looked at
NEUTRAL = (10, 50, 200)  # neutral events after a dislike after which the list is looked at

Shown = tuple[int, int]  # how many similar items are shown without and with the dislikes


@dataclass(frozen=True)
class Probes:
    """What came of one user's probes."""

    gone: bool  # the disliked item is no longer shown
    dislikes: list[Shown]  # after each number of `DISLIKES`; fewer where the list has no more of the kind
    falling: float  # share of the similar items that lose places among all others; one that keeps its place counts half
    more_fall: float  # 1 where more of them fall than rise, 0 where more rise, else .5
    cluster: Shown  # items of the cluster among the first `N_CLUSTER`
    far_lost: float  # share of the list that was lost though it is outside the cluster
    liked: Shown  # of the list before, what is not similar, and nearer to a like of the user than to the dislike
    overlap_dislike: float  # rank-biased overlap of the lists before and after a dislike, the similar items left out
    likes: list[Shown]  # after each number of `NEUTRAL` likes of items far from the dislike
    liked_again: Shown | None  # after a like of the nearest similar item; None where there is none
    views: list[Shown]
    overlap_like: float | None  # that of a like of another kind; None where the catalogue has no such item
    restored: bool  # after each step was taken back, the list was what it had been
    exact: bool  # all scores were, bit by bit; a learner that corrects an inverse leaves rounding (SignedEASE)
    milliseconds: float  # from a dislike to the list that reflects it


LEAST = 0.05  # share of similar items that one dislike prevents at least, where it is told what is left of that
FEWEST = 10  # similar items that are shown without the dislike at least, in all lists, where it is told what is left


def summary(probes: Sequence[Probes]) -> dict[str, float | None]:
    """Return the means over users, and shares of all that was shown; those of ``left_`` are of ``prevented``."""

    def mean(name: str) -> float | None:
        values = [getattr(probe, name) for probe in probes if getattr(probe, name) is not None]
        return float(np.mean(values)) if values else None

    names = ("gone", "falling", "more_fall", "far_lost", "overlap_dislike", "overlap_like", "restored", "exact",
             "milliseconds")  # fmt: skip
    means = {"users": float(len(probes)), **{name: mean(name) for name in names}}
    means["near_before"], means["near_after"] = (
        float(np.mean([probe.dislikes[0][place] for probe in probes])) if probes else None for place in (0, 1)
    )
    for place, number in enumerate(DISLIKES):
        name = "prevented" if number == 1 else f"prevented_{number}"
        means[name] = _lost(probe.dislikes[place] for probe in probes if len(probe.dislikes) > place)
    means["cluster_lost"] = _lost(probe.cluster for probe in probes)
    means["liked_lost"] = _lost(probe.liked for probe in probes)
    for kind in ("likes", "views"):
        for place, number in enumerate(NEUTRAL):
            after = [(probe, getattr(probe, kind)[place]) for probe in probes if len(getattr(probe, kind)) > place]
            means[f"left_{kind}_{number}"] = _left(after)
    means["left_liked_again"] = _left([(probe, probe.liked_again) for probe in probes if probe.liked_again is not None])
    return means


def _lost(counts: Iterable[Shown]) -> float | None:
    """Return the share of what was shown before that is not any more, None for nothing before."""
    pairs = np.array([*counts]).reshape(-1, 2).sum(axis=0)
    return float(1 - pairs[1] / pairs[0]) if pairs[0] else None


def _left(after: Sequence[tuple[Probes, Shown]]) -> float | None:
    """Return what is left of the effect of one dislike, None where it had next to none or little is shown anyway."""
    at_once, now = _lost(probe.dislikes[0] for probe, _ in after), _lost(shown for _, shown in after)
    few = sum(shown[0] for _, shown in after) < FEWEST
    return None if few or at_once is None or now is None or at_once < LEAST else now / at_once


COLUMNS: tuple[tuple[str, Header, str], ...] = (
    ("prevented", Header("prevented by 1"), "{:.0%}"),
    ("prevented_3", Header("by 3"), "{:.0%}"),
    ("prevented_10", Header("by 10"), "{:.0%}"),
    ("cluster_lost", Header("out of top 50"), "{:.0%}"),
    ("falling", Header("similar fall"), "{:.0%}"),
    ("left_views_200", Header("left after 200 views"), "{:.0%}"),
    ("left_likes_50", Header("after 50 likes"), "{:.0%}"),
    ("left_likes_200", Header("after 200"), "{:.0%}"),
    ("left_liked_again", Header("after a like of the kind", smaller=True), "{:.0%}"),
    ("far_lost", Header("others lost", smaller=True), "{:.1%}"),
    ("liked_lost", Header("liked kinds lost", smaller=True), "{:.0%}"),
    ("exact", Header("undone to the bit"), "{:.0%}"),
    ("milliseconds", Header("ms", smaller=True), "{:.1f}"),
)
"""What the table shows of a summary, and how."""
NOTE = (
    "A shown item is disliked. prevented: share of the ten items most like it that leaves the list, after 1, 3 and 10 "
    "dislikes of the kind; out of top 50: share of its 50 nearest that leaves the first 50 places; similar fall: share "
    "of the ten that lose places in the whole ranking, 50 % without a reaction. left: share of the effect of one "
    "dislike after that many views, or likes, of items far from it, and after a like of the kind, which should end it. "
    "others lost: share of the list that goes though it is not of the 50 nearest; liked kinds lost: of what is nearer "
    "to a like of the user than to the dislike. undone to the bit: taking all back restores every score. ms: event to "
    "ranking. The metrics are those of the live ranking on the test part. A dash: nothing to measure."
)


def respond_table(audits: Sequence[Mapping[str, Any]]) -> Table:
    """Return the audits of one data set, a line each."""
    first = audits[0]
    k = first["k"]
    metrics = (
        (f"ndcg@{k}", Header(f"NDCG@{k}")),
        (f"recall@{k}", Header(f"Recall@{k}")),
        (f"dislikerecall@{k}", Header(f"DislikeRecall@{k}", smaller=True)),
        ("signauc", Header("SignAUC")),
    )
    lines = [
        (
            label,
            *(_cell(audit["test"].get(name), "{:.4f}") for name, _ in metrics),
            *(_cell(audit["summary"].get(name), form) for name, _, form in COLUMNS),
        )
        for label, audit in zip(_labels(audits), audits, strict=True)
    ]
    return Table(
        f"Dislikes on {first['dataset']}, {first['summary']['users']:.0f} users, lists of {k}",
        (*(header for _, header in metrics), *(header for _, header, _ in COLUMNS)),
        (Section("", text_lines(lines)),),
        (NOTE,),
        head=(Header("Model", left=True),),
    )


WISHES_NOTE = (
    "Each user asks for less of the value that most of its list has, then for more of the one that fewest have, and "
    "takes each back: items of the list with the value, before and after. undone to the bit: the list and its scores "
    "are then what they were."
)


def wishes_table(audits: Sequence[Mapping[str, Any]]) -> Table | None:
    """Return what asking for less and more of a feature did, a line each; None where no audit has it."""
    asked = [audit for audit in audits if audit.get("wishes")]
    if not asked:
        return None
    first = asked[0]
    lines = []
    for label, audit in zip(_labels(asked), asked, strict=True):
        less, more = (audit["wishes"].get(kind, (None, None)) for kind in ("less", "more"))
        undone = _cell(audit["wishes"]["undone"], "{:.0%}")
        lines.append((label, *(_cell(value, "{:.1f}") for value in (*less, *more)), undone))
    wishes = first["wishes"]
    names = "before less", "after less", "before more", "after more", "undone to the bit"
    return Table(
        f"Less and more of {wishes['feature']} on {first['dataset']}, {wishes['users']} users, lists of {first['k']}",
        tuple(Header(name) for name in names),
        (Section("", text_lines(lines)),),
        (WISHES_NOTE,),
        head=(Header("Model", left=True),),
    )


def respond_rows(audits: Sequence[Mapping[str, Any]]) -> str:
    """Return the audits as JSON lines, without their probes."""
    rows = [{key: value for key, value in audit.items() if key != "probes"} for audit in audits]
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def draw_responses(audits: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw what one dislike prevents against NDCG on the test part, a line for a model at several strengths, as PNG."""
    first = audits[0]
    up = f"NDCG@{first['k']}"
    points: dict[str, list[tuple[float, float, float]]] = {}
    for audit in audits:
        x, y = audit["summary"]["prevented"], audit["test"].get(up.lower())
        if x is not None and y is not None:
            points.setdefault(audit["model"], []).append((audit["settings"].get("dislike_strength", 1.0), 100 * x, y))
    with picture(path, 7, 4.6) as page:
        cell = page.subplots()
        for (model, found), marker in zip(points.items(), cycle("osD^vPX"), strict=False):
            strengths, xs, ys = zip(*sorted(found), strict=True)
            label = display_name(model)
            if len(found) > 1:
                label += f", strength {strengths[0]:g} to {strengths[-1]:g}"
                for strength, x, y in zip(strengths, xs, ys, strict=True):
                    cell.annotate(
                        f"{strength:g}", (x, y), textcoords="offset points", xytext=(0, -14), ha="center", fontsize=9
                    )
            cell.plot(xs, ys, marker=marker, color=FAMILY_COLOURS[family(model)], label=label, zorder=2)
        if points:
            cell.legend()
        cell.axvline(0, color="black", lw=0.8, alpha=0.4)
        cell.margins(0.1)
        cell.set_ylim(bottom=0)
        cell.set(
            title=f"{first['dataset']}: does one dislike take similar items out of the list?",
            xlabel="similar items prevented by one dislike, % (0: nothing but the item goes)",
            ylabel=up,
        )
        cell.grid(alpha=0.3)


def _labels(audits: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of models, with the strength where one is there several times."""
    counts = Counter(audit["model"] for audit in audits)
    return [
        display_name(audit["model"])
        + (f", strength {audit['settings']['dislike_strength']:g}" if counts[audit["model"]] > 1 else "")
        for audit in audits
    ]


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
