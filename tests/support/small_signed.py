"""A small signed data set, for the tests of the models that are fitted in closed form."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from prepared import prepared
from recbole.utils import get_model

COLUMNS = ["user_id:token", "item_id:token", "sign:float"]
Dense = tuple[np.ndarray, np.ndarray]
Small = Callable[..., Any]
"""The fixture ``small`` of the tests of models."""


def build(name: str, write_inter: Callable[..., Path], rows: list, **config: Any) -> Any:
    """Return the model, not fitted, on ``rows`` (user, item, sign, time), where some nodes lack a sign.

    Users below 4 have no dislike, 4 and 5 no like; items below 3 no dislike, 3 and 4 no like.
    """
    kept = [
        (user, item, sign)
        for user, item, sign, _ in rows
        if sign
        and (sign > 0 or (user >= 4 and item >= 3))
        and (sign < 0 or (user not in (4, 5) and item not in (3, 4)))
    ]
    write_inter("small", COLUMNS, kept)
    split = {"split": {"RS": [1, 0, 0]}, "order": "RO", "mode": "full"}
    settings, _, parts = prepared("small", name, **{"show_progress": False, "eval_args": split, **config})
    return get_model(name)(settings, parts[0]._dataset)


def dense(model: Any) -> Dense:
    """Return likes and dislikes as dense float64 ``[n_users, n_items]``."""
    return model.graph.likes.toarray().astype(np.float64), model.graph.dislikes.toarray().astype(np.float64)


def scores(model: Any) -> np.ndarray:
    """Return the scores of all users, ``[n_users, n_items]``."""
    return model.score(torch.arange(model.n_users)).numpy()


def normalised(P: np.ndarray, user: float = 0.5, item: float = 0.5, smoothing: float = 0.0) -> np.ndarray:
    """Return the rows and columns of P divided by powers of their sums."""
    with np.errstate(divide="ignore"):
        scales = [(P.sum(axis) + smoothing) ** -power for axis, power in ((1, user), (0, item))]
    left, right = (np.where(np.isfinite(each), each, 0.0) for each in scales)
    return left[:, None] * P * right
