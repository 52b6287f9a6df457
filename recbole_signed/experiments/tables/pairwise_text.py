"""Comparisons of models as text for the terminal, as Markdown and as LaTeX."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_signed.experiments.runs import metric_column
from recbole_signed.experiments.tables.rendering import latex_escaped, markdown_escaped

_TESTS = {"t": "t", "wilcoxon": "Wilcoxon", "permutation": "permutation"}
_SMALLEST_P = 0.0001
Grid = tuple[str, list[str], list[list[str]]]
"""Heading, header and lines."""


def render_tests(found: Mapping[str, Any], how: str, width: int | None = None) -> str:
    """Return what :func:`~.significance.significance` found in one of the formats of a table."""
    grids, notes = _grids(found), [*_explanation(found), *found["notes"]]
    title = f"{found['title']}: significance"
    if how == "markdown":
        return _to_markdown(title, grids, notes)
    if how == "latex":
        return _to_latex(title, grids, notes)
    return _to_text(title, grids, notes, width)


def _grids(found: Mapping[str, Any]) -> list[Grid]:
    level = 100 * (1 - found["alpha"])
    header = ["Other model", "Users", "Model", "Other", "Difference", f"{level:g} % interval", "Relative"]
    header += ["Users better", "worse", *(f"p {name}" for name in _TESTS.values()), "Model is"]
    parts: dict[tuple[str, str, str], list[list[str]]] = {}
    for each in found["comparisons"]:
        column = metric_column(each["metric"])
        arrow = " ↓" if column.smaller else ""
        place = (each["section"], f"{column.header}{arrow}", each["model"])
        parts.setdefault(place, []).append(_line(each, column.decimals))
    return [
        (f"{section}, {metric}: {model} against", header, lines) for (section, metric, model), lines in parts.items()
    ]


def _line(each: Mapping[str, Any], decimals: int) -> list[str]:
    if not each["n_users"]:
        return [each["other"], "0", *(["n/a"] * (7 + len(_TESTS))), verdict(each)]
    relative = "n/a" if each["relative"] is None else f"{100 * each['relative']:+.1f} %"
    interval = "n/a" if each["low"] is None else f"[{each['low']:+.{decimals}f}, {each['high']:+.{decimals}f}]"
    p = [_p_text(each["tests"][test]["p_better_holm"]) for test in _TESTS]
    return [
        each["other"],
        f"{each['n_users']:,}",
        f"{each['mean']:.{decimals}f}",
        f"{each['other_mean']:.{decimals}f}",
        f"{each['difference']:+.{decimals}f}",
        interval,
        relative,
        f"{each['users_better']:,}",
        f"{each['users_worse']:,}",
        *p,
        verdict(each),
    ]


def _p_text(p: float | None) -> str:
    if p is None:
        return "n/a"
    return f"<{_SMALLEST_P:.4f}" if p < _SMALLEST_P else f"{p:.4f}"


def verdict(each: Mapping[str, Any]) -> str:
    """Return ``better``, ``worse``, ``not told apart``, or which of the tests say better or worse if not all do."""
    said = [
        what if len(each[what]) == len(_TESTS) else f"{what} ({', '.join(_TESTS[test] for test in each[what])})"
        for what in ("better", "worse")
        if each[what]
    ]
    return "; ".join(said) or "not told apart"


def _explanation(found: Mapping[str, Any]) -> list[str]:
    m, alpha, resamples = found["n_comparisons"], found["alpha"], f"{found['resamples']:,}"
    return [
        "p: chance of such differences if the model were no better (one-sided, paired over users), Holm-corrected over "
        f"the {m} comparisons, test by test; permutation: {resamples} random sign patterns, seed {found['seed']}. "
        f"Better: all tests at {alpha:g}, or those named; worse: the two-sided tests, in the other direction.",
        f"Interval: of the difference of the means, by itself (not corrected), from {resamples} bootstrap samples of "
        "users; both means are over the users who count for both models.",
    ]


def _to_text(title: str, grids: Sequence[Grid], notes: Sequence[str], width: int | None) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = io.StringIO()
    console = Console(file=out, width=width or 10_000, highlight=False)
    console.print(Text(title))
    for heading, header, lines in grids:
        grid = Table(title=Text(heading), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, title_style="")
        for number, name in enumerate(header):
            grid.add_column(Text(name), justify="left" if number in (0, len(header) - 1) else "right")
        for line in lines:
            grid.add_row(*map(Text, line))
        console.print(grid)
    for note in notes:
        console.print(Text(note))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _to_markdown(title: str, grids: Sequence[Grid], notes: Sequence[str]) -> str:
    blocks = [f"# {markdown_escaped(title)}"]
    for heading, header, lines in grids:
        rule = ["---", *("---:" for _ in header[2:]), "---"]
        body = [[markdown_escaped(cell) for cell in line] for line in lines]
        blocks.append(f"## {markdown_escaped(heading)}")
        blocks.append("\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *body)))
    return "\n\n".join([*blocks, *map(markdown_escaped, notes)]) + "\n"


def _to_latex(title: str, grids: Sequence[Grid], notes: Sequence[str]) -> str:
    header = grids[0][1]
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_escaped(title)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(header) - 2)}l}}",
        r"\toprule",
        " & ".join(map(latex_escaped, header)) + r" \\",
    ]
    for heading, _, body in grids:
        lines += [r"\midrule", rf"\multicolumn{{{len(header)}}}{{l}}{{{latex_escaped(heading)}}} \\"]
        lines += [" & ".join(map(latex_escaped, line)) + r" \\" for line in body]
    lines += [
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\footnotesize {latex_escaped(note)}" for note in notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"
