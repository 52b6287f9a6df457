"""From result rows to a table: means over seeds, who is best, and the small print under it."""

from __future__ import annotations

import statistics
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from recbole_signed.data.settings import ITEMS, USERS, split_group
from recbole_signed.runs.metric_columns import BEST, COST_COLUMNS, MEGABYTE, Column, metric_column, smaller_is_better
from recbole_signed.runs.provenance import different, machine_text, versions_text
from recbole_signed.runs.rows import HIDING, RunRow
from recbole_signed.runs.tuned import budgets_text
from recbole_signed.table import Cell, Header, Line, Mark, Section, Table

Places = dict[str, dict[str, list[RunRow]]]  # part of a table (a data set) -> its line (a model) -> one row a seed
BUDGET, CUT_SHORT = "budget", "†"  # what `stopped_by` says of a training that its budget ended, and its mark in a table
PLATEAU = 1.05  # what a trained model reaches at most, as a share of popularity's value, if it only ranks by popularity
_LONGEST_REASON = 140
_MARKS: tuple[Mark, ...] = ("best", "second")


def build_table(
    title: str,
    metrics: Sequence[str],
    places: Mapping[str, Mapping[str, Sequence[RunRow]]],
    note: str | None = None,
    costs: Sequence[Column] = COST_COLUMNS,
) -> Table:
    """Build a table; a line of which any run failed has no numbers but the reason."""
    columns = (*map(metric_column, metrics), *costs)
    sections = tuple(_section(name, lines, columns, len(metrics)) for name, lines in places.items())
    rows = [row for lines in places.values() for line in lines.values() for row in line]
    return Table(title, columns, sections, _notes(rows, note))


def places_of(rows: Iterable[tuple[str, str, RunRow]]) -> Places:
    """Return rows, each with its section and its label, by these."""
    places: Places = {}
    for section, label, row in rows:
        places.setdefault(section, {}).setdefault(label, []).append(row)
    return places


def _section(name: str, lines: Mapping[str, Sequence[RunRow]], columns: Sequence[Column], n_metrics: int) -> Section:
    whole = {label: rows for label, rows in lines.items() if all(row.ok for row in rows)}
    rows_of_all = [row for rows in lines.values() for row in rows if row.ok]
    alike = len({row.ground for row in rows_of_all}) < 2
    # no others have a claim on quality
    trained = {label for label, rows in lines.items() if alike and not was_cut_short(rows)}
    cells = [_cells(column, whole, trained if n < n_metrics else whole) for n, column in enumerate(columns)]
    made = tuple(_line(label, rows, cells) for label, rows in lines.items())
    print_ = [
        _small_print(rows_of_all),
        "" if alike else "rows differ in what is held out, hidden or counted, so that none is marked as best",
        _unsigned(whole),
        without_best_epoch(lines),
        _tuning(lines),
        settings_ranked(lines),
        budgets(lines),
        _cut_short(lines),
        on_the_plateau(lines),
        _tested_users(rows_of_all),
        _by_like(lines),
        group_shares(rows_of_all),
    ]
    return Section(name, made, "; ".join(filter(None, print_)))


def _unsigned(lines: Mapping[str, Sequence[RunRow]]) -> str:
    labels = [label for label, rows in lines.items() if any(row.signed is False for row in rows)]
    named = f" ({', '.join(labels)})" if len(labels) < len(lines) else ""
    return f"no sign: every row of the data counts as a like{named}" if labels else ""


def _tested_users(rows: Sequence[RunRow]) -> str:
    """Say how many users the test metrics are means over, and the share of those without a training edge."""
    counts = [(row.test_users, row.test_new_users or 0) for row in rows if row.test_users]
    texts = different(f"{users:,} ({new / users:.1%} without a training edge)" for users, new in counts if users)
    return f"test users {texts}" if texts else ""


def _by_like(lines: Mapping[str, Sequence[RunRow]]) -> str:
    """Name the models whose metrics are no means over users."""
    labels = [
        label for label, rows in lines.items() if any((row.test_cases or 0) > (row.test_users or 0) for row in rows)
    ]
    why = "not means over users, but over held-out likes, each predicted from all that are earlier, of the test too"
    return f"{why}: {', '.join(labels)}" if labels else ""


def _tuning(lines: Mapping[str, Sequence[RunRow]]) -> str:
    """State the tuning budget; name models that were tuned on another split than the rows', or by another metric."""
    text = budgets_text({label: rows[0].tuned for label, rows in lines.items()})
    split, metric = [], []
    for label, rows in lines.items():
        tuned = [(row, row.tuned) for row in rows if row.ok and row.tuned is not None]
        if any(how.get("split") != row.split for row, how in tuned):
            split.append(label)
        known = [(row.valid_metric, how["metric"]) for row, how in tuned if row.valid_metric and how.get("metric")]
        if other := {by for own, by in known if own.lower() != by.lower()}:
            metric.append(f"{label} ({', '.join(sorted(other))})")
    text = f"{text}, on another split: {', '.join(split)}" if split else text
    return f"{text}, by another metric: {', '.join(metric)}" if metric else text


def _cut_short(lines: Mapping[str, Sequence[RunRow]]) -> str:
    """Name the models that a budget stopped before they were done, with their last epochs."""
    stopped = [
        f"{label} {', '.join(str(row.epochs) for row in rows)}" for label, rows in lines.items() if was_cut_short(rows)
    ]
    why = "stopped by its training budget before early stopping: a lower bound, in no ranking and no test"
    return f"{CUT_SHORT} {why}, after epoch: {'; '.join(stopped)}" if stopped else ""


def was_cut_short(rows: Sequence[RunRow]) -> bool:
    """Whether a budget stopped any of a model's trainings."""
    return any(row.stopped_by == BUDGET for row in rows)


def _line(label: str, rows: Sequence[RunRow], columns: Sequence[Mapping[str, Cell]]) -> Line:
    failed = [row for row in rows if not row.ok]
    if failed:
        of = f" (seed {', '.join(str(row.seed) for row in failed)})" if len(failed) < len(rows) else ""
        reason = " ".join((failed[0].reason or "no reason given").split())
        reason = reason if len(reason) <= _LONGEST_REASON else reason[: _LONGEST_REASON - 1] + "…"
        return Line((label, str(len(rows))), (), f"failed{of}: {reason}")
    shown = f"{label} {CUT_SHORT}" if was_cut_short(rows) else label
    return Line((shown, str(len(rows))), tuple(cells[label] for cells in columns))


def _cells(column: Column, lines: Mapping[str, Sequence[RunRow]], ranked: Container[str]) -> dict[str, Cell]:
    """Return the cells of a column by line: the best two of the ``ranked`` ones marked, or all divided by a mean."""
    cells = {label: _cell([column.value(row) for row in rows], column.decimals) for label, rows in lines.items()}
    means = {label: cell.mean for label, cell in cells.items() if cell.mean is not None}
    if column.relative_to is not None:
        divisor = min(means.values(), default=None) if column.relative_to == BEST else means.get(column.relative_to)
        shares = {label: mean / divisor for label, mean in means.items()} if divisor else {}
        return {label: Cell(shares.get(label), None, column.decimals) for label in cells}
    # as printed: numbers that look equal are marked alike
    shown = {label: round(mean, column.decimals) for label, mean in means.items() if label in ranked}
    ranking = sorted(set(shown.values()), reverse=not column.smaller)
    marks: dict[float | None, Mark] = dict(zip(ranking, _MARKS, strict=False))
    return {label: replace(cell, mark=marks.get(shown.get(label), "")) for label, cell in cells.items()}


def _cell(values: Sequence[float | None], decimals: int) -> Cell:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return Cell(None, None, decimals)
    return Cell(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, decimals)


def _ground(rows: Sequence[RunRow]) -> list[tuple[str, str]]:
    """Return what was held out, of whom, and what was hidden; nothing for what nobody set."""
    keys = (("evaluated users", "eval_users"), *((name, name) for name in HIDING))
    return [
        ("split", different(describe_split(row.split) for row in rows)),
        ("protocol", different(row.protocol for row in rows)),
        *((name, different(str(row.settings[key]) for row in rows if key in row.settings)) for name, key in keys),
    ]


def _small_print(rows: Sequence[RunRow]) -> str:
    """Say what the numbers of a section rest on; more than one of a kind is listed, not hidden."""
    if not rows:
        return ""
    parts = [
        ("data sha256", different(row.data_sha256[:12] for row in rows if row.data_sha256)),
        *_ground(rows),
        (
            "best epoch by validation",
            different(metric_column(metric).header for row in rows if (metric := row.valid_metric)),
        ),
    ]
    return "; ".join(f"{name} {value}" for name, value in parts if value)


def _notes(rows: Sequence[RunRow], note: str | None) -> tuple[str, ...]:
    seeds = {row.seed for row in rows}
    notes = [note] if note else []
    if len(seeds) > 1:
        listed = ", ".join(map(str, sorted(seeds)))
        notes.append(f"Mean ± standard deviation over the seeds {listed}.")
    notes.append("Bold: best, underlined: second best of a column; ↓: smaller is better.")
    versions = different(versions_text(row.versions) for row in rows)
    machines = different(
        machine_text(row.machine, row.threads) + (f", {row.device}" if row.device not in (None, "cpu") else "")
        for row in rows
        if row.machine and row.ok
    )
    notes += [f"Versions: {versions}."] if versions else []
    notes += [f"Machine: {machines}."] if machines else []
    return tuple(notes)


def run_table(row: RunRow) -> Table:
    """Return the table of one run: its metrics on validation and test, and what they cost."""
    lines = []
    for metric in row.test or row.valid:
        column = metric_column(metric)
        cells = tuple(Cell(part.get(metric), None, column.decimals) for part in (row.valid, row.test))
        lines.append(Line((column.shown,), cells))
    epochs = "" if not row.epochs else " (1 epoch)" if row.epochs == 1 else f" ({row.epochs} epochs)"
    memory = "unknown" if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / MEGABYTE:.0f} MB"
    notes = [f"training {row.fit_seconds:.1f} s{epochs}, test {row.eval_seconds:.2f} s, peak memory {memory}"]
    if row.serve_seconds is not None:
        sizes = {"memory for it": row.serve_memory_bytes, "model": row.model_bytes}
        listed = ", ".join(f"{name} {(size or 0) / MEGABYTE:.2f} MB" for name, size in sizes.items())
        notes.append(f"ranking 1,000 users {row.serve_seconds * 1e3:.1f} ms, {listed}")
    title = f"{row.model} on {row.dataset}, seed {row.seed}"
    if not lines:
        return Table(f"{title}: fitted to everything, nothing was held out", (), (), tuple(notes[:1]))
    notes.insert(0, "; ".join(f"{name} {text}" for name, text in _ground([row]) if text))
    head = (Header("Metric", left=True),)
    return Table(title, (Header("Valid"), Header("Test")), (Section("", tuple(lines)),), tuple(notes), head=head)


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
    return "".join(f", mode {kind}" + (f" in {part}" if part else "") for part, kind in modes.items() if kind != "full")


def budgets(lines: Mapping[str, Sequence[RunRow]]) -> str:
    """Say how long the models of a section that are trained in epochs were allowed to train; nothing without such."""
    by_budget: dict[str, list[str]] = {}
    for label, rows in lines.items():
        if any((row.epochs or 0) > 1 or row.stopped_by == BUDGET for row in rows):
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
    """Say how many settings the search for each model's parameters ranked on validation; nothing where no row knows."""
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
        f"{'-'.join(map(str, dict.fromkeys([*tried[:1], *tried[-1:]]))) or 'not counted'} {', '.join(by_number[tried])}"
        for tried in sorted(by_number, reverse=True)
    ]
    return f"settings ranked on validation: {'; '.join(named)}"


def on_the_plateau(lines: Mapping[str, Sequence[RunRow]]) -> str:
    """Name the trained models that rank validation users hardly better than Pop: they have not begun to learn."""
    popular = next((rows[0] for rows in lines.values() if rows[0].model == "Pop" and rows[0].ok), None)
    metric = None if popular is None else popular.valid_metric
    level = None if popular is None or metric is None else popular.valid.get(metric)
    if level is None or metric is None or smaller_is_better(metric):
        return ""
    highest = level + (PLATEAU - 1) * abs(level)  # a sign-aware metric may be negative
    values = {label: [row.valid.get(metric) for row in rows] for label, rows in lines.items()}
    labels = [
        label
        for label, rows in lines.items()
        if any(row.steps for row in rows) and all(value is not None and value <= highest for value in values[label])
    ]
    return f"no more than {PLATEAU - 1:.0%} above popularity on validation: {', '.join(labels)}" if labels else ""


def without_best_epoch(lines: Mapping[str, Sequence[RunRow]]) -> str:
    """Name the models that are trained in epochs of which validation could not choose one."""
    labels = [
        label
        for label, rows in lines.items()
        if any(row.ok and (row.epochs or 0) > 1 and row.valid.get(row.valid_metric or "") is None for row in rows)
    ]
    return f"of the last epoch, as that metric is not defined on validation: {', '.join(labels)}" if labels else ""


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
