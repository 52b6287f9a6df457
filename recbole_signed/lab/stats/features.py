"""How much the features of a data set cover: which ids have a row, and which cells hold something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from recbole_signed.atomic.feature_file import FeatureTable, read_feature_file
from recbole_signed.atomic.rows import RawRows
from recbole_signed.atomic.signs import Settings

FILLED = "unknown"
"""What converters write for a missing category."""
_SIDES = (("user", "USER_ID_FIELD"), ("item", "ITEM_ID_FIELD"))


def describe_features(folder: Path, rows: RawRows) -> dict[str, Any]:
    """Describe the ``.user`` and ``.item`` files of a data set.

    Args:
        folder: of the data set.
        rows: its interactions, with tokens.

    Returns:
        By ``user`` and ``item``, for the files that are there: ``covered``, the share of the users or items in the
        interactions that have a row; ``unknown_ids``, rows of others; and ``columns``, by name their ``kind``, their
        number of ``distinct`` values and the share of covered ids that ``missing`` values have: blank cells, and
        those that a converter has filled.

    Raises:
        UsageError: a file can't be read, or has rows that contradict each other.
    """
    settings, found = Settings.read(folder / f"{folder.name}.yaml"), {}
    for place, (side, key) in enumerate(_SIDES):
        path = folder / f"{folder.name}.{side}"
        if path.is_file() and rows.tokens is not None:
            separator, encoding = settings["field_separator"] or "\t", settings["encoding"] or "utf-8"
            table = read_feature_file(path, settings[key] or f"{side}_id", "all", separator, encoding)
            found[side] = _describe(table, rows.tokens[place])
    return found


def _describe(table: FeatureTable, ids: pl.Series) -> dict[str, Any]:
    places = table.rows_of(ids)
    known = places[places >= 0]
    columns = {}
    for name, kind in table.kinds.items():
        values = table.columns[name].gather(known)
        missing = values.is_null() | (values == FILLED)
        columns[name] = {
            "kind": kind,
            "distinct": values.filter(~missing).n_unique(),
            "missing": float(missing.mean() or 0.0) if len(values) else 1.0,  # type: ignore[arg-type]
        }
    return {
        "covered": len(known) / max(len(ids), 1),
        "unknown_ids": len(table.ids) - len(known),
        "columns": columns,
    }
