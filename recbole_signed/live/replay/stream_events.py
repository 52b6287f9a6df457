"""A data set in the order of time, cut into what is there at the start and windows that come one after the other.

The catalogue of items is announced at the cut: nothing is said of when an item will have its first event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timezone
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recbole_signed.atomic import read_rows
from recbole_signed.atomic.feature_file import FeatureTable, read_features
from recbole_signed.atomic.feature_space import Features
from recbole_signed.atomic.signs import Settings
from recbole_signed.convert.token_codes import TokenCodes
from recbole_signed.errors import UsageError
from recbole_signed.ids_and_times import iso_time, milliseconds
from recbole_signed.live import LIKE, EventBatch
from recbole_signed.live.events import DISLIKE, ITEM, VIEW, content_id
from recbole_signed.live.replay.stream_spec import ModelSpec, window_length
from recbole_signed.live.store.state import OnlineState

MIN_WINDOWS = 10


@dataclass(frozen=True)
class Replay:
    """All events of a data set by time, and the first event of each window; ``bounds[-1]`` is the end."""

    events: EventBatch
    bounds: np.ndarray
    """int64 ``[n_windows + 1]``: window w holds the events ``bounds[w]:bounds[w + 1]``."""

    @classmethod
    def read(
        cls,
        folder: Path,
        cut: float | str,
        windows: int | str,
        sign_rule: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> Replay:
        """Read atomic files and cut them.

        Args:
            folder: of the data set.
            cut: what lies before it is the base: a share of all events, or a date (UTC).
            windows: how many, of equally many events, or the length of each such as ``1d`` or ``6h``.
            sign_rule: where the file has no column ``sign``.
            limit: take this many windows at most.
        """
        if limit is not None and limit < MIN_WINDOWS:
            raise UsageError(f"max_windows is {limit}; at least {MIN_WINDOWS} windows are needed.")
        events = events_of(folder, sign_rule)
        first = _first_row(events.timestamp, cut, folder)
        bounds = _bounds(events.timestamp, first, windows)
        if limit is not None:
            bounds = bounds[: limit + 1]
        if len(bounds) - 1 < MIN_WINDOWS:
            raise UsageError(
                f"{folder.name}: the cut '{cut}' and windows '{windows}' leave {len(bounds) - 1} windows, but at least "
                f"{MIN_WINDOWS} are needed; cut earlier, or take shorter windows."
            )
        return cls(events, bounds)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def window(self, number: int) -> EventBatch:
        """Return the events of a window."""
        return self.events[self.bounds[number] : self.bounds[number + 1]]

    def start(self, state: OnlineState) -> None:
        """Load the base into an empty state, pairs that repeat as they were seen last."""
        base = self.events[0 : int(self.bounds[0])]
        users, items = TokenCodes(), TokenCodes()
        user, item = (
            ids.codes(pl.Series(of)) + np.int64(1) for ids, of in ((users, base.user_id), (items, base.item_id))
        )
        tokens = users.series().to_list(), items.series().to_list()
        state.bulk_load(*tokens, user, item, base.type, base.timestamp, unit_known=True)


def events_of(path: Path, sign_rule: Mapping[str, str] | None = None) -> EventBatch:
    """Return the rows of a data set as events by time, those of equal times in the order of the file.

    Likes and dislikes are those of the sign, 0 is a view. Time stamps become milliseconds; their size tells the unit
    that they have in the file. Columns, separator and sign are those of the yaml beside the files.

    Args:
        path: a ``.inter`` file, or the folder of a data set.
        sign_rule: the like and dislike conditions in place of the data set's own sign.
    """
    rows = read_rows(path, sign_rule)
    if rows.times is None or rows.tokens is None:
        raise UsageError(
            f"{path} has no column of times, which a replay needs; set TIME_FIELD to a column of the type float."
        )
    times = milliseconds(rows.times, f"the time of {path}")
    if len(times) and times.min() < 0:
        raise UsageError(f"{path} holds times before 1970, which no event has; move all times to later ones.")
    order = np.argsort(times, kind="stable")
    users, items = (
        tokens.gather(codes[order]).to_list()
        for tokens, codes in zip(rows.tokens, (rows.users, rows.items), strict=True)
    )
    types, times = np.array([VIEW, LIKE, DISLIKE], dtype=np.int8)[rows.signs[order]], times[order]  # -1: from the end
    value = np.full(len(users), np.nan)
    columns = zip(users, items, types.tolist(), times.tolist(), value.tolist(), strict=True)
    return EventBatch([content_id(*each) for each in columns], users, items, types, times, value)


def _first_row(times: np.ndarray, cut: float | str, folder: Path) -> int:
    if isinstance(cut, str):
        try:
            moment = iso_time(cut)
        except ValueError as error:
            raise UsageError(
                f"the cut '{cut}' is neither a share of the events nor a date such as 2022-04-25."
            ) from error
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        first = int(np.searchsorted(times, int(moment.timestamp() * 1000)))
    else:
        if not 0 < cut < 1:
            raise UsageError(f"the cut {cut} must be a share of the events between 0 and 1, or a date.")
        first = int(np.searchsorted(times, times[int(len(times) * cut)])) if len(times) else 0
    if not 0 < first < len(times):
        raise UsageError(f"{folder.name}: the cut '{cut}' leaves nothing before it or nothing after it.")
    return first


def _bounds(times: np.ndarray, first: int, windows: int | str) -> np.ndarray:
    if isinstance(windows, int):
        wanted = np.linspace(first, len(times), windows + 1).astype(np.int64)
        # events of one moment stay together
        inner = np.searchsorted(times, times[wanted[1:-1]])
        return np.unique(np.concatenate([[first], inner, [len(times)]]))
    edges = np.arange(times[first], times[-1] + 1, window_length(windows))
    return np.unique(np.concatenate([np.searchsorted(times, edges), [len(times)]])).astype(np.int64)


BATCH = 5_000
"""Items that are announced together."""


def told(models: tuple[ModelSpec, ...], folder: Path, state: OnlineState) -> dict[str, Features]:
    """Announce the items of the data set's ``.item`` file where a model has the key ``features``.

    Returns:
        By label of a model what it is told of items, by their ids. The values that are looked at are those of items
        with an edge at the cut.
    """
    tables = {each.label: _read(each.features, folder) for each in models if each.features}
    if not tables:
        return {}
    known = state.edges.item_likes + state.edges.item_dislikes > 0
    for table in tables.values():
        _announce(table, state)
    ids = np.array(["", *state.items.tokens(range(1, len(state.items)))], dtype=object)
    found = {}
    for label, table in tables.items():
        space = Features.of(table, ids[: len(known)][known]).space
        found[label] = Features(space.matrix(table, ids), space)
    return found


def _read(features: Mapping[str, Any], folder: Path) -> FeatureTable:
    if set(features) != {"item"}:
        raise UsageError(f"the features of a replayed model are {{item: [...]}}, but are {features!r}.")
    settings = Settings.read(folder / f"{folder.name}.yaml")
    settings |= {"features": features, "data_path": str(folder), "dataset": folder.name}
    table = read_features(Settings(settings), "item")
    if table is None:
        raise UsageError(f"the features of a replayed model are {{item: [...]}}, but are {features!r}.")
    return table


def _announce(table: FeatureTable, state: OnlineState) -> None:
    new = [each for each in table.ids.to_list() if each not in state.items]
    time = int(state.edges.export().timestamp.max())
    for first in range(0, len(new), BATCH):
        items = new[first : first + BATCH]
        n = len(items)
        columns = np.full(n, ITEM, dtype=np.int8), np.full(n, time), np.full(n, np.nan)
        state.ingest(EventBatch([f"announce {each}" for each in items], [""] * n, items, *columns, ["{}"] * n))
