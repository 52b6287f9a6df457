"""Rows of atomic files as events, and what is no stream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from recbole_signed.errors import UsageError
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, VIEW
from recbole_signed.live.replay.windows import events_of
from recbole_signed.live.sources import open_source

COLUMNS = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]


@pytest.mark.parametrize("address", ["events.jsonl", "-", "http://host/events", "redis"])
def test_what_is_no_stream(address: str) -> None:
    with pytest.raises(UsageError, match=r"is no stream of events; .* rows of a file to OnlineRecommender.ingest"):
        open_source(address)


def test_a_data_set_is_replayed_in_the_order_of_time(write_inter: Callable[..., Path]) -> None:
    rows = [("b", "x", -1, 30), ("a", "y", 1, 10.5), ("a", "x", 0, 30), ("c", "007", 1, 20)]
    batch = events_of(write_inter("set", COLUMNS, rows))
    assert [(e.user_id, e.item_id, e.type, e.timestamp) for e in batch.events()] == [
        ("a", "y", "like", 10_500),
        ("c", "007", "like", 20_000),
        ("b", "x", "dislike", 30_000),
        ("a", "x", "view", 30_000),
    ]
    assert len(set(batch.event_id)) == 4


def test_a_data_set_without_a_sign_needs_a_rule(write_inter: Callable[..., Path]) -> None:
    columns = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    folder = write_inter("set", columns, [("a", "x", 5, 1), ("a", "y", 1, 2), ("a", "z", 3, 3)])
    with pytest.raises(UsageError, match=r"has no column 'sign'.*put a rule into .*set\.yaml"):
        events_of(folder)
    batch = events_of(folder, {"like": "rating >= 4", "dislike": "rating <= 2"})
    assert batch.type.tolist() == [LIKE, DISLIKE, VIEW]


def test_a_data_set_in_parts_or_with_faults(write_inter: Callable[..., Path], tmp_path: Path) -> None:
    write_inter("set", COLUMNS, [("a", "x", 1, 2)], part="test")
    folder = write_inter("set", COLUMNS, [("b", "x", 1, 1)], part="train")
    assert events_of(folder).user_id == ["b", "a"]
    with pytest.raises(UsageError, match="row 2 of the column 'timestamp:float' holds 'late', not a number"):
        events_of(write_inter("bad", COLUMNS, [("a", "x", 1, 2), ("a", "y", 1, "late")]))
    with pytest.raises(UsageError, match=r"has no column of times.*set TIME_FIELD"):
        events_of(write_inter("short", COLUMNS[:3], [("a", "x", 1)]))
    with pytest.raises(UsageError, match=r"there is no data set folder .*nothing"):
        events_of(tmp_path / "nothing")
    with pytest.raises(UsageError, match=r"there is no file .*nothing.inter"):
        events_of(tmp_path / "nothing.inter")
    with pytest.raises(UsageError, match=r"holds times before 1970"):  # which would be acknowledged and lost
        events_of(write_inter("old", COLUMNS, [("a", "x", 1, -30), ("a", "y", 1, 20)]))


def test_the_toy_set(toy_root: Path) -> None:
    batch = events_of(toy_root / "toy-signed")
    assert len(batch) > 900
    assert (np.diff(batch.timestamp) >= 0).all()
    assert batch.timestamp[0] > 1_000_000_000_000  # milliseconds
