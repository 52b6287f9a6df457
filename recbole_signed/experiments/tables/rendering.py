"""A table as text for the terminal, as Markdown and as LaTeX."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from recbole_signed.errors import UsageError, nearest
from recbole_signed.experiments.runs import MEGABYTE, Column, RunRow, metric_column
from recbole_signed.experiments.tables.table import SIGNIFICANT, Cell, Line, Table

if TYPE_CHECKING:
    from rich.text import Text

FORMATS = ("text", "markdown", "latex")


def check_format(how: str) -> None:
    """Refuse a format that is none of :data:`FORMATS`.

    Raises:
        UsageError: with the nearest one that is.
    """
    if how not in FORMATS:
        raise UsageError(f"--format is '{how}'; it must be one of {', '.join(FORMATS)}{nearest(how, FORMATS)}")


def render(table: Table, how: str, width: int | None = None, color: bool = False) -> str:
    """Return a table in one of :data:`FORMATS`.

    Args:
        table: what to print.
        how: the format.
        width: columns of the terminal, for text; as wide as it needs to be if None.
        color: with the terminal's codes for bold and underlined, for text; else stars and underscores mark them.
    """
    if how == "markdown":
        return to_markdown(table)
    if how == "latex":
        return to_latex(table)
    return to_text(table, width, color)


def _header(column: Column, arrow: str) -> str:
    return f"{column.header} {arrow}" if column.smaller else column.header


# ---- text ----


def run_text(row: RunRow) -> str:
    """Return one run for a reader: its metrics on validation and test, and what they cost."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable

    grid = RichTable(title=f"{row.model} on {row.dataset}, seed {row.seed}", box=box.SIMPLE_HEAD, title_style="")
    grid.add_column("Metric")
    grid.add_column("Valid", justify="right")
    grid.add_column("Test", justify="right")
    for metric in row.test or row.valid:
        column = metric_column(metric)
        values = (Cell(part.get(metric), None, column.decimals).text() for part in (row.valid, row.test))
        grid.add_row(_header(column, "↓"), *values)
    out = io.StringIO()
    Console(file=out, width=200, highlight=False).print(grid)
    epochs = "" if not row.epochs else " (1 epoch)" if row.epochs == 1 else f" ({row.epochs} epochs)"
    memory = "unknown" if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / MEGABYTE:.0f} MB"
    served = ""
    if row.serve_seconds is not None:
        sizes = [f"{name} {(size or 0) / MEGABYTE:.2f} MB" for name, size in _serving_sizes(row)]
        served = f"ranking 1,000 users {row.serve_seconds * 1e3:.1f} ms, {', '.join(sizes)}\n"
    cost = f"training {row.fit_seconds:.1f} s{epochs}, test {row.eval_seconds:.2f} s, peak memory {memory}"
    if not (row.test or row.valid):
        return f"{row.model} on {row.dataset}, seed {row.seed}: fitted to everything, nothing was held out\n{cost}\n"
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n") + f"\n{cost}\n{served}"


def _serving_sizes(row: RunRow) -> list[tuple[str, int | None]]:
    return [("memory for it", row.serve_memory_bytes), ("model", row.model_bytes)]


def to_text(table: Table, width: int | None = None, color: bool = False) -> str:
    """Return the table for a terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    out = io.StringIO()
    console = Console(
        file=out,
        width=width or 10_000,
        force_terminal=color,
        color_system="standard" if color else None,
        highlight=False,
    )
    console.print(Text(table.title, style="bold"))
    for section in table.sections:
        grid = RichTable(title=section.name, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, title_style="")
        grid.add_column("Model", no_wrap=True)
        grid.add_column("Seeds", justify="right")
        for column in table.columns:
            grid.add_column(Text(_header(column, "↓")), justify="right")
        failures = []
        for line in section.lines:
            if line.failure is not None:
                failures.append(Text(f"{line.label}: {line.failure}"))
                grid.add_row(Text(line.label), str(line.n_seeds), Text("failed"))
            else:
                grid.add_row(
                    Text(line.label), str(line.n_seeds), *(_text_cell(cell, color, Text) for cell in line.cells)
                )
        console.print(grid)
        for failure in failures:
            console.print(failure)
        if section.small_print:
            console.print(Text(section.small_print))
    for note in table.notes:
        console.print(Text(note if color else note.replace("Bold: best, underlined:", "*: best, _:")))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _text_cell(cell: Cell, color: bool, text_class: type[Text]) -> Text:
    text = cell.text("±") + _sign(cell)
    if color:
        return text_class(text, style={"best": "bold", "second": "underline", "": ""}[cell.mark])
    return text_class({"best": "*", "second": "_", "": ""}[cell.mark] + text)


# ---- Markdown ----


def to_markdown(table: Table) -> str:
    """Return the table as GitHub prints Markdown: best in bold, second underlined."""
    blocks = [f"# {markdown_escaped(table.title)}"]
    for section in table.sections:
        headers = ["Model", "Seeds", *(_header(column, "↓") for column in table.columns)]
        rule = ["---", *("---:" for _ in headers[1:])]
        body = [_md_line(line, len(table.columns)) for line in section.lines]
        blocks.append(f"## {markdown_escaped(section.name)}")
        blocks.append("\n".join(f"| {' | '.join(row)} |" for row in (headers, rule, *body)))
        if section.small_print:
            blocks.append(markdown_escaped(section.small_print[0].upper() + section.small_print[1:]) + ".")
    blocks += [markdown_escaped(note) for note in table.notes]
    return "\n\n".join(blocks) + "\n"


def _md_line(line: Line, n_columns: int) -> list[str]:
    start = [markdown_escaped(line.label), str(line.n_seeds)]
    if line.failure is not None:
        return [*start, markdown_escaped(line.failure), *("" for _ in range(n_columns - 1))]
    wraps = {"best": ("**", "**"), "second": ("<u>", "</u>"), "": ("", "")}
    return [*start, *(f"{wraps[cell.mark][0]}{cell.text()}{wraps[cell.mark][1]}{_sign(cell)}" for cell in line.cells)]


def _sign(cell: Cell) -> str:
    return SIGNIFICANT if cell.significant else ""


def markdown_escaped(text: str) -> str:
    """Return text with everything that Markdown would take for itself escaped."""
    for character in "\\|*_<>`":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


# ---- LaTeX ----

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "↓": r"$\downarrow$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "…": r"\dots{}",
}


def latex_escaped(text: str) -> str:
    """Return text with everything that LaTeX would take for itself escaped."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def to_latex(table: Table) -> str:
    """Return the table for LaTeX with the package booktabs: best ``\\textbf``, second ``\\underline``."""
    n_columns = len(table.columns)
    headers = ["Model", "Seeds", *(_header(column, "↓") for column in table.columns)]
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_escaped(table.title)}}}",
        rf"\begin{{tabular}}{{l{'r' * (n_columns + 1)}}}",
        r"\toprule",
        " & ".join(map(latex_escaped, headers)) + r" \\",
    ]
    for section in table.sections:
        lines.append(r"\midrule")
        lines.append(rf"\multicolumn{{{n_columns + 2}}}{{l}}{{{latex_escaped(section.name)}}} \\")
        lines += [_latex_line(line, n_columns) for line in section.lines]
    notes = [*(section.small_print for section in table.sections if section.small_print), *table.notes]
    lines += [
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\footnotesize {latex_escaped(note)}" for note in notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_line(line: Line, n_columns: int) -> str:
    start = f"{latex_escaped(line.label)} & {line.n_seeds}"
    if line.failure is not None:
        return rf"{start} & \multicolumn{{{n_columns}}}{{l}}{{{latex_escaped(line.failure)}}} \\"
    wraps = {"best": r"\textbf{%s}", "second": r"\underline{%s}", "": "%s"}
    cells = (wraps[cell.mark] % cell.text(r" $\pm$ ") + _sign(cell) for cell in line.cells)
    return f"{start} & " + " & ".join(cells) + r" \\"
