"""The tables of the README: blocks between marks, which a command rewrites from the files of results.

::

    <!-- table: yaml/bench/sigformer -->            all sections, each with a heading and its small print
    <!-- table: yaml/bench/ml-100k notes -->        also what stands below the last section
    <!-- table: yaml/online/kuairand: all -->       the table of the section whose heading starts with 'all', alone
    ...
    <!-- end -->

The source is the Markdown that ``compare`` or ``online`` wrote beside the yaml file.
"""

from __future__ import annotations

import re
from pathlib import Path

from recbole_signed.errors import UsageError
from recbole_signed.experiments.tables import replace_file
from signed_report.markdown import section, sections, table_of

START = re.compile(r"^<!-- table: (?P<what>.+?) -->$", re.MULTILINE)
END = "<!-- end -->"
NOTES = " notes"


def rewrite(readme: Path, root: Path, write: bool = True) -> list[str]:
    """Put the tables of the result files between their marks.

    Args:
        readme: the file.
        root: a clone of the repository, for the result files.
        write: change the file; else only say what would change.

    Returns:
        what the marks of the blocks that changed name.

    Raises:
        UsageError: no such file, a mark without its end, or a mark that names no table.
    """
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"can't read {readme}: {error.strerror}.") from error
    parts, changed, at = [], [], 0
    for start in START.finditer(text):
        if start.start() < at:
            raise UsageError(f"{readme}: the table '{start['what']}' starts before the one above it has its '{END}'.")
        end = text.find(f"\n{END}", start.end())
        if end < 0:
            raise UsageError(f"{readme}: the table '{start['what']}' has no '{END}' below it.")
        body = f"\n{block(start['what'], root)}"
        if text[start.end() : end] != body:
            changed.append(start["what"])
        parts += [text[at : start.end()], body]
        at = end
    if write and changed:
        replace_file(readme, "".join([*parts, text[at:]]))
    return changed


def block(what: str, root: Path) -> str:
    """Return what belongs between the marks of ``what``.

    Raises:
        UsageError: there is no such file of results, or no such section in it.
    """
    name, _, wanted = what.partition(":")
    notes = name.endswith(NOTES) and not wanted
    file = root / f"{name.removesuffix(NOTES) if notes else name}.md"
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the mark 'table: {what}' names {file}, which can't be read: {error.strerror}.") from error
    if wanted:
        body = section(text, wanted.strip())
        if body is None or not table_of(body):
            heads = ", ".join(heading.partition(":")[0] for heading in sections(text))
            raise UsageError(f"the mark 'table: {what}' names no section with a table; {file} has {heads}.")
        return table_of(body)
    found = sections(text)
    if not any(map(table_of, found.values())):
        raise UsageError(f"the mark 'table: {what}' names {file}, which holds no table.")
    several = len(found) > 1
    blocks = []
    for number, (heading, body) in enumerate(found.items()):
        last = number == len(found) - 1
        kept = body if last and notes else _without_notes(body)
        blocks += [f"### {heading}", kept] if several else [kept]
    return "\n\n".join(blocks)


def _without_notes(body: str) -> str:
    """Return a table with the paragraph below it that belongs to it alone: its data, split and protocol."""
    paragraphs = body.split("\n\n")
    place = next((number for number, each in enumerate(paragraphs) if each.startswith("|")), -1)
    if place < 0:
        return paragraphs[0]
    small_print = paragraphs[place + 1 : place + 2]
    return "\n\n".join([*paragraphs[: place + 1], *(each for each in small_print if each.startswith("Data sha256"))])
