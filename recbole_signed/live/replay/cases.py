"""What is to be predicted in a window: the likes, and the dislikes, that each user gives in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from recbole_signed.arrays import contains, distinct
from recbole_signed.live import LIKE, EventBatch
from recbole_signed.live.events import DISLIKE, SKIP, VIEW
from recbole_signed.live.store.state import OnlineState

BASE, NEW, UNKNOWN = 0, 1, 2
GROUPS = ("base", "new", "unknown")
"""Users with an edge before the cut; users who came after it; users whom nothing is known of at the checkpoint."""


@dataclass(frozen=True)
class Cases:
    """One case per user with a like in the window, ``[n_cases]``; pairs ``[n_pairs]`` refer to cases by position.

    Left out are items that the user touched before the window, since they can't be recommended. Likes of items that
    nobody has touched before stay in the denominators.
    """

    user: np.ndarray
    """int64: id in the vocabulary as it is before the window, 0 for unknown users."""
    token: list[str]
    group: np.ndarray
    """int8, see ``GROUPS``."""
    n_likes: np.ndarray
    """int64: all likes of the window, of unknown items too."""
    n_known_likes: np.ndarray
    """int64: likes of the user before the window."""
    n_unknown: np.ndarray
    """int64: likes of items that are not in the vocabulary yet."""
    like_case: np.ndarray
    like_item: np.ndarray
    dislike_case: np.ndarray
    dislike_item: np.ndarray
    hidden: tuple[np.ndarray, np.ndarray]
    """Case and item of all that the users touched before."""

    def __len__(self) -> int:
        return len(self.user)

    @classmethod
    def of(cls, state: OnlineState, window: EventBatch, n_base_users: int) -> Cases:
        """Read the cases off a window that ``state`` has not seen; of a repeated pair the last verdict counts."""
        frame = pl.DataFrame({"user": window.user_id, "item": window.item_id, "kind": window.type})
        frame = frame.filter(~pl.col("kind").is_in([SKIP, VIEW]))  # no verdict, so they withdraw none
        frame = frame.unique(["user", "item"], keep="last", maintain_order=True)
        frame = frame.filter(pl.col("kind").is_in([LIKE, DISLIKE]))
        frame = frame.with_columns(
            pl.Series("user_id", state.users.ids(frame["user"].to_list()), dtype=pl.Int64),
            pl.Series("item_id", state.items.ids(frame["item"].to_list()), dtype=pl.Int64),
        )
        seen_case, seen_item = touched(state, np.unique(frame["user_id"].to_numpy()))
        seen = distinct(seen_case * len(state.items) + seen_item)
        keys = frame["user_id"].to_numpy() * len(state.items) + frame["item_id"].to_numpy()
        frame = frame.filter(pl.Series(~contains(seen, keys) | (frame["item_id"].to_numpy() == 0)))

        users = frame.filter(pl.col("kind") == LIKE)["user"].unique(maintain_order=True)
        frame = frame.join(pl.DataFrame({"user": users}).with_row_index("case"), on="user", maintain_order="left")
        likes, dislikes = (frame.filter(pl.col("kind") == kind) for kind in (LIKE, DISLIKE))
        user = state.users.ids(users.to_list())
        known, known_bad = (each.filter(pl.col("item_id") > 0) for each in (likes, dislikes))
        count = np.bincount(likes["case"].to_numpy(), minlength=len(users))
        reachable = np.bincount(known["case"].to_numpy(), minlength=len(users))
        return cls(
            user=user,
            token=users.to_list(),
            group=np.select([user == 0, user < n_base_users], [UNKNOWN, BASE], NEW).astype(np.int8),
            n_likes=count,
            n_known_likes=np.where(user > 0, state.edges.user_likes[user], 0),
            n_unknown=count - reachable,
            like_case=known["case"].to_numpy().astype(np.int64),
            like_item=known["item_id"].to_numpy(),
            dislike_case=known_bad["case"].to_numpy().astype(np.int64),
            dislike_item=known_bad["item_id"].to_numpy(),
            hidden=touched(state, user, by_position=True),
        )


def touched(state: OnlineState, users: np.ndarray, by_position: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return (user, item) of all visible edges of some users; with ``by_position`` the place in ``users`` instead."""
    rows = state.edges.of_users(users)
    names = np.arange(len(users)) if by_position else users
    return np.repeat(names, np.diff(rows.indptr)).astype(np.int64), rows.ids.astype(np.int64)
