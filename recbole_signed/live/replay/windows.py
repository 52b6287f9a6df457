"""What is to be predicted in each window of a stream, how well it was, and the files of that and of times.

The cases are the users with likes in the window, with the likes and dislikes that they give in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from recbole_signed.arrays import contains, distinct
from recbole_signed.errors import UsageError
from recbole_signed.evaluation.metrics import dislike_share_at, ndcg_at, of_both_signs, recall_at
from recbole_signed.files import parse_json, replacing
from recbole_signed.live import LIKE, EventBatch
from recbole_signed.live.events import DISLIKE, SKIP, VIEW
from recbole_signed.live.store.state import OnlineState
from recbole_signed.memory import memory_bytes

CELLS = 8_000_000
"""Scores that are computed at a time."""


def measure(
    cases: Cases, scores: Callable[[np.ndarray], torch.Tensor], n_items: int, cutoffs: Sequence[int]
) -> dict[str, np.ndarray]:
    """Return metric -> values by case, float64 ``[n_cases]``.

    ``recall@k``: hits over all likes of the window; ``ndcg@k``: binary, the ideal over ``min(likes, k)``;
    ``dislikerecall@k``: share of the window's dislikes of known items that enter the list, NaN without any;
    ``dislikeshare@k``: share of dislikes among what is in the list and was liked or disliked, NaN without any, and
    where nothing was disliked in the window, as in :class:`~recbole_signed.evaluation.metrics.DislikeShare`.

    Args:
        cases: whom to rank for, and what counts.
        scores: of all items, ``[len(rows), n_items]``, for cases by position.
        n_items: items known at the checkpoint, padding included.
        cutoffs: the values of k.
    """
    depth = min(max(cutoffs), n_items - 1)
    size = max(1, CELLS // n_items)
    liked, disliked = (
        distinct(case * n_items + item)
        for case, item in ((cases.like_case, cases.like_item), (cases.dislike_case, cases.dislike_item))
    )
    n_dislikes = np.bincount(cases.dislike_case, minlength=len(cases))
    order = np.argsort(cases.hidden[0], kind="stable")
    hidden_case, hidden_item = (each[order] for each in cases.hidden)
    hit, bad = [], []
    for first in range(0, len(cases), size):
        rows = np.arange(first, min(first + size, len(cases)))
        values = scores(rows)[:, :n_items]
        values[:, 0] = -torch.inf
        inside = slice(*np.searchsorted(hidden_case, [first, first + size]))
        values[hidden_case[inside] - first, hidden_item[inside]] = -torch.inf
        top = values.topk(depth, dim=1)
        keys = rows[:, None] * n_items + np.where(top.values.isfinite().numpy(), top.indices.numpy(), 0)
        hit.append(contains(liked, keys))
        bad.append(contains(disliked, keys))
    hits, bads = (np.concatenate(each) if each else np.zeros((0, depth), dtype=bool) for each in (hit, bad))
    # where there are fewer items than places
    hits, bads = (np.pad(each, ((0, 0), (0, max(cutoffs) - depth))) for each in (hits, bads))
    found = {"recall": recall_at(hits, cases.n_likes), "ndcg": ndcg_at(hits, cases.n_likes)}
    of_dislikes = {"dislikerecall": recall_at(bads, n_dislikes), "dislikeshare": dislike_share_at(hits, bads)}
    found |= {name: of_both_signs(each, cases.n_likes, n_dislikes) for name, each in of_dislikes.items()}
    return {f"{name}@{k}": each[:, k - 1] for k in cutoffs for name, each in found.items()}


def write_window(
    file: Path, cases: pl.DataFrame, times: Mapping[str, Any], window: EventBatch, made: Mapping[str, Any]
) -> None:
    """Write the cases of a window, and before them what :func:`read_times` gives.

    Args:
        file: of the cases; the other has its name, and ends in ``.json``.
        cases: a row per case and arm.
        times: of the arms.
        window: its events.
        made: checksum of the data, versions, machine and threads.
    """
    about = {"n_events": len(window), "start": int(window.timestamp[0]), "peak_memory_bytes": memory_bytes()[1]}
    file.with_suffix(".json").write_text(json.dumps({**times, **about, "made": made}), encoding="utf-8")
    with replacing(file) as partial:
        cases.write_parquet(partial)


def is_finished(file: Path) -> bool:
    """Return whether both files of a window are there."""
    return file.exists() and file.with_suffix(".json").exists()


def read_cases(folder: Path) -> pl.DataFrame:
    """Return the cases of all windows of a finished experiment, with a column ``window``."""
    files = sorted(folder.glob("window-*.parquet"), key=_number_of)
    if not files:
        raise UsageError(f"{folder} holds no windows of a stream; run the experiment first.")
    return pl.concat([pl.read_parquet(file).with_columns(window=number) for number, file in enumerate(files)])


def read_times(folder: Path) -> list[dict[str, Any]]:
    """Return what is known of each window beside its cases, in their order."""
    return [parse_json(file.read_bytes()) for file in sorted(folder.glob("window-*.json"), key=_number_of)]


def _number_of(file: Path) -> int:
    """Return the number of a window's file: by their text, that of 1000 comes before that of 101."""
    return int(file.stem.removeprefix("window-"))


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
