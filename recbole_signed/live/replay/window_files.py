"""What each window of a stream leaves: its cases, and beside them times and what it was made with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from recbole_signed.errors import UsageError
from recbole_signed.files import parse_json, replacing
from recbole_signed.live.events import EventBatch
from recbole_signed.memory import memory_bytes


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
    """Return the cases of all windows of a finished experiment, with a column ``window``.

    Raises:
        UsageError: there are none.
    """
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
