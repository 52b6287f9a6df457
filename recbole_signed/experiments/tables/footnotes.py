"""Small print of a section of a table: how the data was split, what time training had, who is in which group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recbole_signed.experiments.runs import RunRow
from recbole_signed.stats import ITEMS, USERS, split_group

STOPPED = "budget"
"""What ``stopped_by`` says of a training that its budget ended."""


def describe_split(split: Any) -> str:
    """Return RecBole's ``eval_args`` in words."""
    if not isinstance(split, dict):
        return str(split or "")
    ((rule, share),) = split["split"].items()
    order = {"RO": "random order", "TO": "time order"}.get(split["order"], str(split["order"]))
    group = "per user" if split.get("group_by") == "user" else "over all users"
    return f"{rule} {share} {group}, {order}"


def budgets(lines: Mapping[str, Sequence[RunRow]]) -> str:
    """Say how long the models of a section that are trained in epochs were allowed to train; nothing without such.

    The budget that most of them had comes first, the others with the names of the lines.
    """
    by_budget: dict[float, list[str]] = {}
    for label, rows in lines.items():
        if any((row.epochs or 0) > 1 or row.stopped_by == STOPPED for row in rows):
            by_budget.setdefault(float(rows[0].settings.get("training_budget") or 0.0), []).append(label)
    if not by_budget:
        return ""
    usual, *others = sorted(by_budget, key=lambda budget: -len(by_budget[budget]))
    named = [f"{', '.join(by_budget[budget])} {_budget(budget)}" for budget in others]
    return f"training budget {_budget(usual)}" + (f" ({'; '.join(named)})" if named else "")


def _budget(seconds: float) -> str:
    return f"{seconds:g} s" if seconds else "none (early stopping or the last epoch ends it)"


def group_shares(rows: Sequence[RunRow]) -> str:
    """Say how the evaluated users, and the likes held out of them, spread over groups, where that was evaluated."""
    shares: dict[str, list[str]] = {USERS: [], ITEMS: []}
    for name, value in next((row.test for row in rows), {}).items():
        result, group = split_group(name)
        if result == "groupshare" and value is not None:
            side, _, label = group.partition(" ")
            shares[side].append(f"{label}: {value:.1%}")
    texts = {USERS: "evaluated users by training edges", ITEMS: "their held-out likes by training edges of the item"}
    return "; ".join(f"{text} {', '.join(shares[side])}" for side, text in texts.items() if shares[side])
