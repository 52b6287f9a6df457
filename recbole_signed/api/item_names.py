"""What people call the items of a data set, for those who look at lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_signed.api.fitting import data_place
from recbole_signed.api.interactions import Interactions
from recbole_signed.api.recommender import Recommender
from recbole_signed.atomic.feature_file import feature_path, read_side
from recbole_signed.atomic.signs import columns_of
from recbole_signed.errors import UsageError
from recbole_signed.plugin import make_config

_USUAL = ("title", "name", "item_title", "item_name")
"""Columns that hold names where none is said, compared in lower case."""


def read_item_names(data: Recommender | Interactions | str | Path, column: str | None = None) -> dict[str, str]:
    """Return the names of items by their raw ids; items whose name is blank are left out.

    Args:
        data: a fitted model, interactions from a table or file, or the name or folder of a data set.
        column: of its ``.item`` file; ``title`` or ``name`` if None, and no names where it has neither.

    Raises:
        UsageError: there is no such data set, file or column, or an item has two names.
    """
    if isinstance(data, Recommender):
        config = data.config
    else:
        name, place = data_place(data, None)
        config = make_config("Pop", name, (), place)
    path = feature_path(config, "item")
    if column is None:
        column = _usual_column(config, path)
        if column is None:
            return {}
    if not path.is_file():
        raise UsageError(f"the names of items were asked for, but {path} does not exist; write it, or leave them out.")
    table = read_side(config, "item", [f"{column}:text"])
    names = table.columns[column]
    return dict(zip(table.ids.filter(names.is_not_null()), names.drop_nulls(), strict=True))


def _usual_column(config: Any, path: Path) -> str | None:
    if not path.is_file():
        return None
    columns = columns_of(path, config["field_separator"] or "\t", config["encoding"] or "utf-8")
    by_name = {column.lower(): column for column in columns}
    return next((by_name[name] for name in _USUAL if name in by_name), None)
