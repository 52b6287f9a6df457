"""What people call the items of a data set, for those who look at lists."""

from __future__ import annotations

from pathlib import Path

from recbole_signed.api.fitting import data_place
from recbole_signed.atomic import feature_path, read_side
from recbole_signed.errors import UsageError
from recbole_signed.plugin import make_config


def read_item_names(data: str | Path, column: str) -> dict[str, str]:
    """Return the names of items by their raw ids; items whose name is blank are left out.

    Args:
        data: name or folder of a data set.
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
