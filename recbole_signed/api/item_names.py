"""What people call the items of a data set, for those who look at lists."""

from __future__ import annotations

from pathlib import Path

from recbole_signed.api.fitting import data_place
from recbole_signed.api.interactions import Interactions
from recbole_signed.atomic import columns_of, feature_path, read_side
from recbole_signed.errors import UsageError
from recbole_signed.experiments.runs import make_config

_USUAL = ("title", "name", "item_title", "item_name")
"""Columns that hold names where none is said, compared in lower case."""


def usual_names(data: Interactions) -> str | None:
    """Return the column of the ``.item`` file of some interactions that has the usual name of one of names, if any."""
    path = data.folder / f"{data.name}.item"
    columns = columns_of(path, "\t", "utf-8") if path.is_file() else {}
    by_name = {column.lower(): column for column in columns}
    return next((by_name[name] for name in _USUAL if name in by_name), None)


def read_item_names(data: Interactions | str | Path, column: str) -> dict[str, str]:
    """Return the names of items by their raw ids; items whose name is blank are left out.

    Args:
        data: interactions from a table or file, or the name or folder of a data set.
        column: of its ``.item`` file.

    Raises:
        UsageError: there is no such data set, file or column, or an item has two names.
    """
    name, place = data_place(data, None)
    config = make_config("Pop", name, (), place)
    path = feature_path(config, "item")
    if not path.is_file():
        raise UsageError(f"the names of items were asked for, but {path} does not exist; write it, or leave them out.")
    table = read_side(config, "item", [f"{column}:text"])
    names = table.columns[column]
    return dict(zip(table.ids.filter(names.is_not_null()), names.drop_nulls(), strict=True))
