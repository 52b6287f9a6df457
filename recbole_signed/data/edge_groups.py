"""Groups of users and of items by their number of training edges, and names such as ``recall@20[users 1-5]``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from recbole_signed.errors import UsageError

USERS, ITEMS = "users", "items"
KEYS = {USERS: "user_groups", ITEMS: "item_groups"}  # the configuration keys that hold the bounds
DEFAULT_BOUNDS = {USERS: (0, 5, 20, 50), ITEMS: (5, 20, 50)}  # most edges in each group but the last

_NAME = re.compile(r"(?P<result>[^\[\]]+)\[(?P<group>(?:users|items) \d+(?:-\d+|\+)?|gamma \d[\d.e+-]*)\]")


def bounds_of(side: str, value: Any) -> tuple[int, ...]:
    """Return the bounds that a configuration gives for a side; the default for None."""
    if value is None:
        return DEFAULT_BOUNDS[side]
    whole = isinstance(value, (list, tuple)) and all(type(each) is int and each >= 0 for each in value)
    if not whole or not value or list(value) != sorted(set(value)):
        raise UsageError(
            f"{KEYS[side]} is {value!r}; it must be ascending whole numbers, the largest number of training edges in "
            "each group but the last, such as [0, 5, 20, 50]."
        )
    return tuple(value)


def labels_of(side: str, bounds: Sequence[int]) -> list[str]:
    """Return the names of the groups: ``users 0``, ``users 1-5``, ..., ``users 51+``."""
    labels, first = [], 0
    for last in bounds:
        labels.append(f"{side} {first}-{last}" if last > first else f"{side} {last}")
        first = last + 1
    return [*labels, f"{side} {first}+"]


def in_group(result: str, label: str) -> str:
    """Return the name of a result within a group."""
    return f"{result}[{label}]"


def split_group(name: str) -> tuple[str, str]:
    """Return the name of a result and that of its group, which is empty where there is none."""
    found = _NAME.fullmatch(name)
    return (found["result"], found["group"]) if found else (name, "")
