"""What is held of a user, with the ids that events have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, NAMES, SKIP, VIEW
from recbole_signed.live.learners.asked import Asked


def newest_edges(
    state: Any, user: str, kinds: Sequence[int] = (LIKE, DISLIKE, SKIP, VIEW), k: int | None = None
) -> tuple[list[tuple[str, str, int]], int]:
    """Return the newest edges of a user, and how many it has.

    Args:
        state: that is being read.
        user: its id.
        kinds: of the edges.
        k: how many; all of them if None.

    Returns:
        Item, type (like, dislike, skip or view) and time of each, newest first; and the number of all of these kinds.
    """
    number = state.users.id_of(user)
    if not 0 < number < state.edges.n_users:
        return [], 0
    row = state.edges.of_user(number)
    own = np.flatnonzero(np.isin(row.kind, kinds))
    best = own[np.argsort(-row.timestamp[own], kind="stable")[:k]]
    items, names = state.items.tokens(row.ids[best].tolist()), [NAMES[kind] for kind in row.kind[best].tolist()]
    return list(zip(items, names, row.timestamp[best].tolist(), strict=True)), len(own)


def announced_features(state: Any, user: str) -> dict[str, Any] | None:
    """Return the features that were announced of a user; None without an announcement."""
    found: dict[int, dict[str, Any]] = state.announcements.by_id(state.users, state.items, {"user": [user]})["user"]
    return found.get(int(state.users.id_of(user)))


def asked_by(state: Any, asked: Asked | None) -> list[dict[str, Any]]:
    """Return what is in force of a user, with the ids that events have, as :class:`~.schemas.WishInfo` has it."""
    found: dict[Any, list[str]] = {}
    for wish, value, _ in [] if asked is None else asked.moves:
        found.setdefault(wish, []).append(value)
    for wish in [] if asked is None else asked.wishes:
        found.setdefault(wish, [])
    listed = sorted(found.items(), key=lambda each: -each[0].timestamp)
    return [{**wish.told(state.items), "values": values} for wish, values in listed]
