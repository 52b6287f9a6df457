"""What people call the items of a data set, for those who look at lists."""

from __future__ import annotations

from pathlib import Path

from recbole_signed.api.fitting import data_place
from recbole_signed.atomic import read_feature_file
from recbole_signed.errors import UsageError
from recbole_signed.experiments.runs import make_config


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
    path = Path(config["data_path"]) / f"{name}.item"
    if not path.is_file():
        raise UsageError(f"the names of items were asked for, but {path} does not exist; write it, or leave them out.")
    separator, encoding = config["field_separator"] or "\t", config["encoding"] or "utf-8"
    table = read_feature_file(path, config["ITEM_ID_FIELD"] or "item_id", [f"{column}:text"], separator, encoding)
    names = table.columns[column]
    return dict(zip(table.ids.filter(names.is_not_null()), names.drop_nulls(), strict=True))
