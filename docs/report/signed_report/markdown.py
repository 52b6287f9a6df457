"""The tables in the Markdown that ``compare`` and ``online`` write."""

from __future__ import annotations

import re
from collections.abc import Sequence

_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


def sections(text: str) -> dict[str, str]:
    """Return heading -> body of the second-level sections of a document."""
    parts = _HEADING.split(text)
    return dict(zip(parts[1::2], (part.strip("\n") for part in parts[2::2]), strict=True))


def section(text: str, start: str) -> str | None:
    """Return the body of the only section with a heading of ``start``, alone or before a colon; else None."""
    found = [body for heading, body in sections(text).items() if heading.partition(":")[0].lower() == start.lower()]
    return found[0] if len(found) == 1 else None


def table_of(body: str) -> str:
    """Return the lines of the first table of a text; nothing where there is none."""
    lines: list[str] = []
    for line in body.splitlines():
        if line.startswith("|"):
            lines.append(line)
        elif lines:
            break
    return "\n".join(lines)


def read_table_lines(text: str, start: str) -> list[dict[str, str]]:
    """Return the lines of the table in a section, each as header -> cell."""
    lines = [_cells(line) for line in table_of(section(text, start) or "").splitlines()]
    return [dict(zip(lines[0], line, strict=False)) for line in lines[2:]]


def _cells(line: str) -> Sequence[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
