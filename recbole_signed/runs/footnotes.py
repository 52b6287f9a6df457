"""Small print of a section of a table: how the data was split, what time training had, who is in which group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recbole_signed.data.edge_groups import ITEMS, USERS, split_group
from recbole_signed.runs.metric_columns import smaller_is_better
from recbole_signed.runs.rows import RunRow

PLATEAU = 1.05
"""What a trained model reaches at most, as a share of popularity's value, if it only ranks by popularity."""
STOPPED = "budget"
"""What ``stopped_by`` says of a training that its budget ended."""


def describe_split(split: Any) -> str:
    """Return the split of a row in words."""
    if not isinstance(split, dict):
        return str(split or "")
    return _parts(split) + _mode(split.get("mode"))


def _parts(split: Mapping[str, Any]) -> str:
    if not isinstance(split["split"], Mapping):
        return str(split["split"])
    ((rule, share),) = split["split"].items()
    order = {"RO": "random order", "TO": "time order"}.get(split["order"], str(split["order"]))
    per_user = rule in ("LS", "TS") or split.get("group_by") == "user"  # RecBole cuts these rules in each user's rows
    group = "per user" if per_user else "over all users"
    return f"{rule} {share} {group}, {order}"


def _mode(mode: Any) -> str:
    """Name the mode of the parts that do not rank all items, such as ``uni100``, which ranks sampled candidates."""
    modes = mode if isinstance(mode, Mapping) else {"": mode or "full"}
    if len(set(modes.values())) == 1:
        modes = {"": next(iter(modes.values()))}
    return "".join(f", mode {each}" + (f" in {part}" if part else "") for part, each in modes.items() if each != "full")


def budgets(lines: Mapping[str, Sequence[RunRow]]) -> str:
    """Say how long the models of a section that are trained in epochs were allowed to train; nothing without such.

    The budget that most of them had comes first, the others with the names of the lines.
    """
    by_budget: dict[str, list[str]] = {}
    for label, rows in lines.items():
        if any((row.epochs or 0) > 1 or row.stopped_by == STOPPED for row in rows):
            by_budget.setdefault(_budget(rows[0]), []).append(label)
    if not by_budget:
        return ""
    usual, *others = sorted(by_budget, key=lambda budget: -len(by_budget[budget]))
    named = [f"{', '.join(by_budget[budget])} {budget}" for budget in others]
    return f"training budget {usual}" + (f" ({'; '.join(named)})" if named else "")


def _budget(row: RunRow) -> str:
    seconds, steps = (float(row.settings.get(key) or 0.0) for key in ("training_budget", "max_steps"))
    # rows without a number of steps are from when the budget was wall time
    limits = [f"{seconds:g} {'s' if row.steps is None else 'CPU s'}"] if seconds else []
    limits += [f"{steps:g} steps"] if steps else []
    return " and ".join(limits) or "none (early stopping or the last epoch ends it)"


def settings_ranked(lines: Mapping[str, Sequence[RunRow]]) -> str:
    """Say how many settings the search for each model's parameters ranked on validation; nothing where no row knows.

    The models with the most come first; those with none were not searched for. Last are those whose search did not
    count them.
    """
    if not any(row.n_ranked for rows in lines.values() for row in rows):
        return ""
    by_number: dict[tuple[int, ...], list[str]] = {}
    for label, rows in lines.items():
        rows = [row for row in rows if row.ok]
        counted = all(row.n_ranked or not row.tuned for row in rows)
        numbers = sorted({row.n_ranked or 0 for row in rows}) if counted else []
        if rows:
            by_number.setdefault(tuple(numbers), []).append(label)
    named = [
        f"{'-'.join(map(str, dict.fromkeys([*each[:1], *each[-1:]]))) or 'not counted'} {', '.join(by_number[each])}"
        for each in sorted(by_number, reverse=True)
    ]
    return f"settings ranked on validation: {'; '.join(named)}"


def on_the_plateau(lines: Mapping[str, Sequence[RunRow]]) -> str:
    """Name the trained models that rank validation users hardly better than popularity; nothing without the model Pop.

    Some models rank by popularity for thousands of steps before they learn anything else. One that has not left this
    plateau says nothing of its method.
    """
    popular = next((rows[0] for rows in lines.values() if rows[0].model == "Pop" and rows[0].ok), None)
    metric = None if popular is None else popular.valid_metric
    level = None if popular is None or metric is None else popular.valid.get(metric)
    if level is None or metric is None or smaller_is_better(metric):
        return ""
    highest = level + (PLATEAU - 1) * abs(level)  # a sign-aware metric may be negative
    values = {label: [row.valid.get(metric) for row in rows] for label, rows in lines.items()}
    found = [
        label
        for label, rows in lines.items()
        if any(row.steps for row in rows) and all(each is not None and each <= highest for each in values[label])
    ]
    return f"no more than {PLATEAU - 1:.0%} above popularity on validation: {', '.join(found)}" if found else ""


def without_best_epoch(lines: Mapping[str, Sequence[RunRow]]) -> str:
    """Name the models that are trained in epochs of which validation could not choose one."""
    found = [
        label
        for label, rows in lines.items()
        if any(row.ok and (row.epochs or 0) > 1 and row.valid.get(row.valid_metric or "") is None for row in rows)
    ]
    return f"of the last epoch, as that metric is not defined on validation: {', '.join(found)}" if found else ""


def group_shares(rows: Sequence[RunRow]) -> str:
    """Say how the evaluated users, and the likes held out of them, spread over groups, where that was evaluated."""
    shares: dict[str, list[str]] = {USERS: [], ITEMS: []}
    evaluated = (row.test for row in rows if any(name.startswith("groupshare[") for name in row.test))
    for name, value in next(evaluated, {}).items():
        result, group = split_group(name)
        if result == "groupshare" and value is not None:
            side, _, label = group.partition(" ")
            shares[side].append(f"{label}: {value:.1%}")
    texts = {USERS: "evaluated users by training edges", ITEMS: "their held-out likes by training edges of the item"}
    return "; ".join(f"{text} {', '.join(shares[side])}" for side, text in texts.items() if shares[side])
