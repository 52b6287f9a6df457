"""The tables that this package prints: one description, rendered as text for the terminal, as Markdown and as LaTeX."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

from recbole_signed.errors import UsageError, ending

Mark = Literal["best", "second", ""]
FORMATS = ("text", "markdown", "latex")
SIGNIFICANT = "‡"


@dataclass(frozen=True)
class Header:
    """The head of a column."""

    header: str
    smaller: bool = False  # whether a smaller number is the better one, which an arrow says
    left: bool = field(default=False, kw_only=True)  # whether its cells are text, aligned to the left

    @property
    def shown(self) -> str:
        """The head as it is printed."""
        return f"{self.header} ↓" if self.smaller else self.header


@dataclass(frozen=True)
class Cell:
    """Mean and, over more than one seed, standard deviation (with n - 1); both None where a seed has no value."""

    mean: float | None
    sd: float | None
    decimals: int
    mark: Mark = ""
    significant: bool = False  # better than every other one of its column beyond chance; see `stored`

    def text(self) -> str:
        """Return the number as it is printed."""
        if self.mean is None:
            return "n/a"
        spread = "" if self.sd is None else f" ± {self.sd:.{self.decimals}f}"
        return f"{self.mean:.{self.decimals}f}{spread}"


@dataclass(frozen=True)
class Line:
    """One line: what it is about, then cells, or why there are none."""

    head: tuple[str, ...]  # such as the name of a model and the number of its seeds
    cells: tuple[Any, ...]  # each a `Cell` or text
    failure: str | None = None

    @property
    def label(self) -> str:
        """What the line is about."""
        return self.head[0]


@dataclass(frozen=True)
class Section:
    """Lines that belong together, such as those of one data set."""

    name: str
    lines: tuple[Line, ...]
    small_print: str = ""
    columns: Sequence[Header] | None = None  # instead of the table's
    head: Sequence[Header] | None = None


@dataclass(frozen=True)
class Table:
    """A table that knows nothing of how it will be printed."""

    title: str
    columns: Sequence[Header]
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()
    intro: tuple[str, ...] = ()  # sentences above the sections
    head: Sequence[Header] = (Header("Model", left=True), Header("Seeds"))  # the columns of `head`

    def headers(self, section: Section) -> list[Header]:
        """Return the heads of all columns of a section."""
        return [*(section.head or self.head), *(self.columns if section.columns is None else section.columns)]


def text_lines(rows: Sequence[Sequence[Any]]) -> tuple[Line, ...]:
    """Return lines of text; the first of each row is its head."""
    return tuple(Line((str(row[0]),), tuple(map(str, row[1:]))) for row in rows)


def check_format(how: str) -> None:
    """Refuse a format that is none of :data:`FORMATS`."""
    if how not in FORMATS:
        raise UsageError(f"--format is '{how}'; it must be one of {', '.join(FORMATS)}{ending(how, FORMATS)}")


def render(table: Table, how: str, width: int | None = None, color: bool = False) -> str:
    """Return a table in one of :data:`FORMATS`; ``width`` and ``color`` are of the terminal, for text."""
    if how == "markdown":
        return to_markdown(table)
    return to_latex(table) if how == "latex" else to_text(table, width, color)


def _text_of(cell: Any) -> str:
    return cell.text() if isinstance(cell, Cell) else str(cell)


def _mark_of(cell: Any) -> Mark:
    return cell.mark if isinstance(cell, Cell) else ""


def _sign(cell: Any) -> str:
    return SIGNIFICANT if isinstance(cell, Cell) and cell.significant else ""


def to_text(table: Table, width: int | None = None, color: bool = False) -> str:
    """Return the table for a terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    out = io.StringIO()
    system: Any = "standard" if color else None
    console = Console(file=out, width=width or 10_000, force_terminal=color, color_system=system, highlight=False)
    styles = {"best": "bold", "second": "underline", "": ""}
    signs = {"best": "*", "second": "_", "": ""}

    def cell_text(cell: Any) -> Text:
        text = _text_of(cell).replace(" ± ", "±") + _sign(cell)
        return Text(text, style=styles[_mark_of(cell)]) if color else Text(signs[_mark_of(cell)] + text)

    console.print(Text(table.title, style="bold"))
    for sentence in table.intro:
        console.print(Text(sentence))
    for section in table.sections:
        if section.name:  # as the grid's title it would be folded to its width
            console.print(Text(section.name))
        grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
        for number, header in enumerate(table.headers(section)):
            grid.add_column(Text(header.shown), justify="left" if header.left else "right", no_wrap=not number)
        for line in section.lines:
            cells = map(cell_text, line.cells) if line.failure is None else (Text("failed"),)
            grid.add_row(*map(Text, line.head), *cells)
        if section.lines:
            console.print(grid)
        for line in section.lines:
            if line.failure is not None:
                console.print(Text(f"{line.label}: {line.failure}"))
        if section.small_print:
            console.print(Text(section.small_print))
    for note in table.notes:
        console.print(Text(note if color else note.replace("Bold: best, underlined:", "*: best, _:")))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n") + "\n"


def to_markdown(table: Table) -> str:
    """Return the table as GitHub prints Markdown: best in bold, second underlined."""
    blocks = [f"# {markdown_escaped(table.title)}", *map(markdown_escaped, table.intro)]
    wraps = {"best": "**%s**", "second": "<u>%s</u>", "": "%s"}
    for section in table.sections:
        headers = table.headers(section)
        rows = [[header.shown for header in headers], ["---" if header.left else "---:" for header in headers]]
        for line in section.lines:
            cells = [wraps[_mark_of(cell)] % markdown_escaped(_text_of(cell)) + _sign(cell) for cell in line.cells]
            if line.failure is not None:
                cells = [markdown_escaped(line.failure), *[""] * (len(headers) - len(line.head) - 1)]
            rows.append([*map(markdown_escaped, line.head), *cells])
        blocks += [f"## {markdown_escaped(section.name)}"] if section.name else []
        blocks.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
        if section.small_print:
            small_print = markdown_escaped(section.small_print)
            blocks.append(f"{small_print[0].upper()}{small_print[1:].removesuffix('.')}.")
    return "\n\n".join([*blocks, *map(markdown_escaped, table.notes)]) + "\n"


def markdown_escaped(text: str) -> str:
    """Return text with everything that Markdown would take for itself escaped."""
    for character in "\\|*_<>`":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


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
    r"""Return the table for LaTeX with the package booktabs: best ``\textbf``, second ``\underline``."""
    lines = [r"% needs \usepackage{booktabs}", r"\begin{table}", r"\centering"]
    lines.append(rf"\caption{{{latex_escaped(table.title)}}}")
    for headers, sections in groupby(table.sections, table.headers):
        lines.append(rf"\begin{{tabular}}{{{''.join('l' if header.left else 'r' for header in headers)}}}")
        lines += [r"\toprule", " & ".join(latex_escaped(header.shown) for header in headers) + r" \\"]
        for section in sections:
            lines.append(r"\midrule")
            if section.name:
                lines.append(rf"\multicolumn{{{len(headers)}}}{{l}}{{{latex_escaped(section.name)}}} \\")
            lines += [" & ".join(_latex_cells(line, len(headers))) + r" \\" for line in section.lines]
        lines += [r"\bottomrule", r"\end{tabular}"]
    small_print = (section.small_print for section in table.sections if section.small_print)
    notes = [*table.intro, *small_print, *table.notes]
    lines += [*(rf"\par\footnotesize {latex_escaped(note)}" for note in notes), r"\end{table}"]
    return "\n".join(lines) + "\n"


def _latex_cells(line: Line, n_columns: int) -> Iterator[str]:
    yield from map(latex_escaped, line.head)
    if line.failure is not None:
        yield rf"\multicolumn{{{n_columns - len(line.head)}}}{{l}}{{{latex_escaped(line.failure)}}}"
        return
    wraps = {"best": r"\textbf{%s}", "second": r"\underline{%s}", "": "%s"}
    for cell in line.cells:
        yield wraps[_mark_of(cell)] % latex_escaped(_text_of(cell)) + _sign(cell)
