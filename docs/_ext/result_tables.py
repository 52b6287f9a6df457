"""Tables of results that only pages show: leads of models, Pareto fronts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recbole_signed.lab.analysis.tradeoff_curve import ACROSS, FRONT, UP
from recbole_signed.lab.analysis.tradeoff_tables import DIGITS
from recbole_signed.lab.significance.pairwise_lines import p_text
from recbole_signed.plugin.facts import display_name
from recbole_signed.runs.metric_columns import metric_column
from recbole_signed.table import Header, Section, Table, text_lines


def leads_table(title: str, outcomes: Sequence[Mapping[str, Any]]) -> Table:
    """Return the means of all models of a table, and how far ahead of each some of them are.

    Args:
        title: of the result.
        outcomes: what :func:`recbole_signed.lab.significance.significance` found, each with one reference model.
    """
    first = outcomes[0]
    metrics = list(dict.fromkeys(row["metric"] for row in first["comparisons"]))
    leads: dict[tuple[str, str, str, str], str] = {}
    means: dict[str, dict[str, dict[str, float]]] = {}
    for row in (comparison for outcome in outcomes for comparison in outcome["comparisons"] if comparison["n_users"]):
        of_section = means.setdefault(row["section"], {})
        for label, mean in ((row["model"], row["mean"]), (row["other"], row["other_mean"])):
            of_section.setdefault(label, {}).setdefault(row["metric"], mean)
        if row["relative"] is not None:
            lead = f"{100 * row['relative']:+.1f} % ({p_text(row['tests']['t']['p_two_sided_holm'])})"
            leads[row["section"], row["model"], row["other"], row["metric"]] = lead
    ahead = [
        (model, metric) for model in dict.fromkeys(o["comparisons"][0]["model"] for o in outcomes) for metric in metrics
    ]
    columns = [metric_column(metric) for metric in metrics]
    decimals = {metric: column.decimals for metric, column in zip(metrics, columns, strict=True)}
    headers = {metric: column.header for metric, column in zip(metrics, columns, strict=True)}

    def line(section: str, label: str, values: Mapping[str, float]) -> list[str]:
        numbers = [f"{values[metric]:.{decimals[metric]}f}" if metric in values else "n/a" for metric in metrics]
        return [label, *numbers, *(leads.get((section, model, label, metric), "") for model, metric in ahead)]

    sections = tuple(
        Section(
            section, text_lines([line(section, label, values) for label, values in _by_first(of_section, metrics[0])])
        )
        for section, of_section in means.items()
    )
    note = (
        f"In brackets: p of the paired t test over users, two-sided, Holm-corrected over the {first['n_comparisons']} "
        "comparisons of the model with all others."
    )
    shown = [*(Header(headers[metric]) for metric in metrics), *(Header(f"{m} ahead, {headers[k]}") for m, k in ahead)]
    return Table(title, shown, sections, (note,), head=(Header("Model", left=True),))


def _by_first(means: Mapping[str, Mapping[str, float]], metric: str) -> list[tuple[str, Mapping[str, float]]]:
    toward = 1 if metric_column(metric).smaller else -1
    return sorted(means.items(), key=lambda entry: toward * entry[1].get(metric, 0.0))


def front_table(curves: Sequence[Mapping[str, Any]]) -> Table:
    """Return the Pareto front of Recall against the dislikes that are shown: its points, the fewest dislikes first."""
    k = curves[0]["k"]
    names = (f"{ACROSS}@{k}", f"{UP[0]}@{k}")
    points = [(curve["model"], point) for curve in curves for point in curve["points"] if UP[0] in point[FRONT]]
    points.sort(key=lambda entry: (entry[1][names[0]], entry[1][names[1]]))
    lines = [
        (display_name(model), f"{point['dislike_aversion']:g}", *(f"{point[name]:.{DIGITS}f}" for name in names))
        for model, point in points
    ]
    return Table(
        f"Pareto front on {curves[0]['dataset']}, {len(curves)} models",
        (Header("g"), Header(names[0], smaller=True), Header(names[1])),
        (Section("", text_lines(lines)),),
        head=(Header("Model", left=True),),
    )
