"""What a conversion wrote, as text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def table_of(path: Path) -> list[list[str]]:
    """Return the fields of each line of an atomic file, the header among them."""
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def rows_of(path: Path) -> list[list[str]]:
    """Return the fields of each row of an atomic file."""
    return table_of(path)[1:]


def tuples_of(path: Path) -> list[tuple[str, ...]]:
    """Return :func:`rows_of` as tuples, for sets and counts."""
    return [tuple(row) for row in rows_of(path)]


def manifest_of(folder: Path) -> dict[str, Any]:
    """Return the description that stands beside a data set."""
    return json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
