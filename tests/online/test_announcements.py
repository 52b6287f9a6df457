"""Announcements of items: their file survives crashes, and a backup has it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_signed.files import DamagedError
from recbole_signed.online import Event, EventBatch
from recbole_signed.online.store import ANNOUNCEMENTS, Announcements, OnlineState, Vocabulary

NOW = 1_700_000_000_000


def vocabulary(*tokens: str) -> Vocabulary:
    return Vocabulary([(token, b"\0" * 16) for token in tokens])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=30), st.data())
def test_the_newest_announcement_counts_whatever_a_crash_cuts_off(
    tmp_path_factory: object, rows: list[tuple[str, int]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("announced") / ANNOUNCEMENTS  # type: ignore[attr-defined]
    for item, year in rows:
        Announcements(path).add({item: json.dumps({"year": year})})
    with path.open("ab") as file:  # half a line
        file.write(b'{"item": "a", "features": {"year": 99'[: data.draw(st.integers(0, 37))])
    again = Announcements(path)
    assert again.by_id(vocabulary("a", "b", "c")) == {
        "abc".index(item) + 1: {"year": year} for item, year in dict(rows).items()
    }
    again.add({"a": json.dumps({"year": 7})})
    assert Announcements(path).by_id(vocabulary("a"))[1] == {"year": 7}


@pytest.mark.parametrize("line", ['{"item": 5, "features": {}}', '{"item": "a", "features": [1]}', "[]", "nonsense"])
def test_a_file_with_another_line_is_damaged(tmp_path: Path, line: str) -> None:
    path = tmp_path / ANNOUNCEMENTS
    Announcements(path).add({"a": "{}"})
    path.write_bytes(line.encode() + b"\n" + path.read_bytes())
    with pytest.raises(DamagedError, match=r"features\.jsonl is damaged"):
        Announcements(path)


def test_lines_without_a_checksum_are_read(tmp_path: Path) -> None:
    (tmp_path / ANNOUNCEMENTS).write_text('{"item": "a", "features": {"year": 7}}\n')
    assert Announcements(tmp_path / ANNOUNCEMENTS).by_id(vocabulary("a")) == {1: {"year": 7}}


def test_an_announcement_gives_an_item_an_id_and_nobody_an_edge(tmp_path: Path) -> None:
    state = OnlineState.open(tmp_path / "state")
    state.recover()
    for _ in state.replay():
        pass
    events = [
        Event("1", "ann", "old", "like", NOW),
        Event("2", "", "new", "item", NOW + 1, features={"genre": ["drama", "crime"]}),
        Event("3", "bob", "", "forget_user", NOW + 2),
    ]
    update = state.ingest(EventBatch.of(events))
    assert update.n_new == 3
    assert (len(state.users), len(state.items)) == (2, 3)
    assert state.edges.n_items == 3
    assert np.asarray(state.edges.item_likes).tolist() == [0, 1, 0]
    hashed = state.edges.full_hash()
    state.close()

    again = OnlineState.open(tmp_path / "state")
    again.recover()
    for _ in again.replay():
        pass
    assert again.edges.full_hash() == hashed
    assert again.announcements.by_id(again.items) == {2: {"genre": ["drama", "crime"]}}
    again.back_up(tmp_path / "backup")
    assert (tmp_path / "backup" / ANNOUNCEMENTS).read_bytes() == (tmp_path / "state" / ANNOUNCEMENTS).read_bytes()
    again.close()
