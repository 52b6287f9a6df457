"""Features of items in a replayed stream: the catalogue is announced at the cut, and models are told what they ask for.

Nothing is said of when an item will have its first event: it is a candidate from the cut on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recbole_signed.atomic.feature_file import FeatureTable, read_features
from recbole_signed.atomic.feature_space import Features
from recbole_signed.atomic.signs import Settings
from recbole_signed.errors import UsageError
from recbole_signed.live import EventBatch
from recbole_signed.live.events import ITEM
from recbole_signed.live.replay.stream_spec import ModelSpec
from recbole_signed.live.store.state import OnlineState

BATCH = 5_000
"""Items that are announced together."""


def told(models: tuple[ModelSpec, ...], folder: Path, state: OnlineState) -> dict[str, Features]:
    """Announce the items of the data set's ``.item`` file where a model has the key ``features``.

    Args:
        models: of the experiment.
        folder: of the data set.
        state: with the base.

    Returns:
        By label of a model what it is told of items, by their ids. The values that are looked at are those of items
        with an edge at the cut.

    Raises:
        UsageError: a file or column is missing, or a row is not fit.
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
