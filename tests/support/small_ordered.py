"""Small data in order of time, for the tests of models that are fitted to likes in their order."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from prepared import prepared
from recbole.utils import get_model

COLUMNS = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]


def fitted_in_order(name: str, write_inter: Callable[..., Path]) -> Callable[..., tuple[Any, Any]]:
    """Return what fits a model to rows (user, item, sign, time), all of which are for training, and the data set."""

    def make(rows: list[tuple[int, int, int, int]], **config: Any) -> tuple[Any, Any]:
        write_inter("small", COLUMNS, rows)
        split = {"split": {"RS": [1, 0, 0]}, "order": "TO"}
        settings, _, parts = prepared("small", name, **{"eval_args": split, **config})
        dataset = parts[0]._dataset
        model = get_model(name)(settings, dataset)
        model.fit()
        return model, dataset

    return make


def likes_of(rows: list[tuple[int, int, int, int]], dataset: Any) -> dict[int, list[tuple[int, int]]]:
    """Return (time, item) of the likes of each user, by RecBole's ids."""
    found: dict[int, list[tuple[int, int]]] = {}
    for user, item, sign, time in rows:
        if sign > 0:
            ids = int(dataset.token2id("user_id", str(user))), int(dataset.token2id("item_id", str(item)))
            found.setdefault(ids[0], []).append((time, ids[1]))
    return found
