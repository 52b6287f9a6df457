"""What each window of a stream leaves: recall, NDCG and dislike exposure of each case, and files of them and times."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from recbole_signed.arrays import contains, distinct
from recbole_signed.errors import UsageError
from recbole_signed.evaluation.metrics import dislike_share_at, ndcg_at, of_both_signs, recall_at
from recbole_signed.files import parse_json, replacing
from recbole_signed.live.events import EventBatch
from recbole_signed.live.replay.cases import Cases
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
