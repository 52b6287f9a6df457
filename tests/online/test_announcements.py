"""Features of items and users that were announced are those of the log, whatever crashes or is forgotten."""

import contextlib
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from bare_state import ready
from hypothesis import given
from hypothesis import strategies as st
from small_recommender import content
from state_hashes import edges_hash

from recbole_signed.files import DamagedError
from recbole_signed.live import Event, EventBatch
from recbole_signed.live.store import backup
from recbole_signed.live.store.announcements import LINES
from recbole_signed.live.store.database import LOG
from recbole_signed.live.store.state import OnlineState

NOW = 1_700_000_000_000


rows = st.tuples(st.sampled_from(("item", "user")), st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 3))
"""What is announced, of which year, and how many of the events before are delivered again with it."""


@given(st.lists(rows))
def test_the_newest_announcement_counts_whatever_is_delivered_again(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("announced")
    state, events = ready(folder), list[Event]()
    for number, (side, token, year, back) in enumerate(rows):
        who = (token, "") if side == "user" else ("", token)
        again = events[max(number - back, 0) :]
        events.append(Event(str(number), *who, side, NOW, features={"year": year}))
        state.ingest(EventBatch.from_events([events[-1], *again]))
    newest = {(side, token): {"year": year} for side, token, year, _ in rows}
    for _ in range(2):
        found = {("item", state.items.tokens([n])[0]): each for n, each in state.announced()["item"].items()}
        found |= {("user", state.users.tokens([n])[0]): each for n, each in state.announced()["user"].items()}
        assert found == newest
        state.close()
        state = ready(folder)
    state.close()


def of_earlier_versions(folder: Path, *lines: str) -> None:
    """Let a state be one of an earlier version, which kept features in a file beside the log."""
    with contextlib.closing(sqlite3.connect(folder / LOG, isolation_level=None)) as log:
        log.execute("DROP TABLE features")
    (folder / LINES).write_text("".join(f"{line}\n" for line in lines))


def test_the_features_of_an_earlier_version_go_into_the_log(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with ready(folder) as state:
        state.ingest(EventBatch.from_events([Event("1", "ann", "a", "like", NOW)]))
    item = '{"item": "a", "features": {"year": %d}}'
    of_earlier_versions(folder, item % 6, item % 7, *(f'{{"user": "{u}", "features": {{}}}}' for u in ("ann", "bob")))
    with (folder / LINES).open("a") as file:
        file.write('{"user": "ann", "fea')  # as a crash leaves it
    backup.back_up(folder, tmp_path / "backup")
    for path in (folder, tmp_path / "backup"):
        for _ in range(2):
            with ready(path) as state:
                assert state.announced() == {"item": {1: {"year": 7}}, "user": {1: {}}}
                assert not (path / LINES).exists()
        assert b"bob" not in content(path)  # who could not be forgotten


@pytest.mark.parametrize(
    "line",
    [
        '{"item": 5, "features": {}}',
        '{"user": "a", "features": [1]}',
        '{"user": "a", "item": "b", "features": {}}',
        '{"features": {}}',
        "[]",
        "nonsense",
        '{"item": "a", "features": {}, "sum": 1}',
    ],
)
def test_a_file_of_an_earlier_version_with_another_line_is_damaged(tmp_path: Path, line: str) -> None:
    ready(tmp_path).close()
    of_earlier_versions(tmp_path, line)
    with pytest.raises(DamagedError, match=r"features\.jsonl is damaged"):
        OnlineState.open(tmp_path)
    assert (tmp_path / LINES).exists()


def told(user: str, stamp: int, event: str = "", **features: object) -> Event:
    return Event(event, user, "", "user", NOW + stamp, features=features)


def gone(user: str, stamp: int) -> Event:
    return Event("", user, "", "forget_user", NOW + stamp)


def test_features_of_a_forgotten_user_are_in_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    state = ready(folder)
    state.ingest(EventBatch.from_events([told("ann", 1, town="Oslo"), told("bob", 2, town="Rome")]))
    assert state.announced()["user"] == {1: {"town": "Oslo"}, 2: {"town": "Rome"}}
    assert (state.edges.n_users, state.edges.n_items) == (3, 1)
    state.ingest(EventBatch.from_events([gone("ann", 9)]))
    assert state.ingest(EventBatch.from_events([told("ann", 3, "e1", town="Oslo")])).n_refused == 1
    # within a batch the order counts
    state.ingest(EventBatch.from_events([told("carl", 1, town="Oslo"), gone("carl", 2)]))
    state.ingest(EventBatch.from_events([gone("bob", 20), told("bob", 21, town="Kyiv")]))
    assert b"Oslo" not in content(folder)
    assert b"Rome" not in content(folder)
    number = state.users.id_of("bob")
    assert number > 2
    assert state.announced()["user"] == {number: {"town": "Kyiv"}}
    state.close()
    with ready(folder) as state:
        assert state.announced() == {"item": {}, "user": {number: {"town": "Kyiv"}}}


def test_a_forgetting_that_is_a_duplicate_erases_no_features(tmp_path: Path) -> None:
    with ready(tmp_path / "state") as state:
        state.ingest(EventBatch.from_events([told("ann", 1, "e1", town="Oslo"), told("bob", 2, town="Rome")]))
        before = state.announced()
        assert state.ingest(EventBatch.from_events([Event("e1", "ann", "", "forget_user", NOW + 9)])).n_new == 0
        assert state.announced() == before


def test_an_announcement_gives_an_item_an_id_and_nobody_an_edge(tmp_path: Path) -> None:
    state = ready(tmp_path / "state")
    events = [
        Event("1", "ann", "old", "like", NOW),
        Event("2", "", "new", "item", NOW + 1, features={"genre": ["drama", "crime"]}),
        Event("3", "bob", "", "forget_user", NOW + 2),
    ]
    assert state.ingest(EventBatch.from_events(events)).n_new == 3
    assert (len(state.users), len(state.items)) == (2, 3)
    assert state.edges.n_items == 3
    assert np.asarray(state.edges.item_likes).tolist() == [0, 1, 0]
    hashed = edges_hash(state.edges)
    state.close()
    again = ready(tmp_path / "state")
    assert edges_hash(again.edges) == hashed
    assert again.announced()["item"] == {2: {"genre": ["drama", "crime"]}}
    again.back_up(tmp_path / "backup")
    again.close()
    with ready(tmp_path / "backup") as copy:
        assert copy.announced()["item"] == {2: {"genre": ["drama", "crime"]}}
