"""Announcements of items and users: their file survives crashes, a backup has it, and a forgotten user is not in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_signed.errors import UsageError
from recbole_signed.files import DamagedError
from recbole_signed.live import Event, EventBatch
from recbole_signed.live.store import Vocabulary, backup
from recbole_signed.live.store.announcements import ANNOUNCEMENTS, Announcements
from recbole_signed.live.store.state import OnlineState

NOW = 1_700_000_000_000


def vocabulary(*tokens: str) -> Vocabulary:
    return Vocabulary([(token, b"\0" * 16) for token in tokens])


NOBODY = vocabulary()


@given(st.lists(st.tuples(st.sampled_from(("item", "user")), st.sampled_from("abc"), st.integers(0, 9))), st.data())
def test_the_newest_announcement_counts_whatever_a_crash_cuts_off(
    tmp_path_factory: object, rows: list[tuple[str, str, int]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("announced") / ANNOUNCEMENTS  # type: ignore[attr-defined]
    for side, token, year in rows:
        Announcements(path).add({side: {token: json.dumps({"year": year})}})
    with path.open("ab") as file:  # half a line
        file.write(b'{"item": "a", "features": {"year": 99'[: data.draw(st.integers(0, 37))])
    again = Announcements(path)
    tokens = vocabulary("a", "b", "c")
    newest = {(side, "abc".index(token) + 1): {"year": year} for side, token, year in rows}
    expected = {
        side: {number: told for (of, number), told in newest.items() if of == side} for side in ("item", "user")
    }
    assert again.by_id(tokens, tokens) == expected
    again.add({"item": {"a": json.dumps({"year": 7})}})
    assert Announcements(path).by_id(NOBODY, vocabulary("a"))["item"] == {1: {"year": 7}}


@pytest.mark.parametrize(
    "line",
    [
        '{"item": 5, "features": {}}',
        '{"user": "a", "features": [1]}',
        '{"user": "a", "item": "b", "features": {}}',
        '{"features": {}}',
        "[]",
        "nonsense",
    ],
)
def test_a_file_with_another_line_is_damaged(tmp_path: Path, line: str) -> None:
    path = tmp_path / ANNOUNCEMENTS
    Announcements(path).add({"item": {"a": "{}"}})
    path.write_bytes(line.encode() + b"\n" + path.read_bytes())
    with pytest.raises(DamagedError, match=r"features\.jsonl is damaged"):
        Announcements(path)


def test_lines_without_a_checksum_are_read(tmp_path: Path) -> None:
    (tmp_path / ANNOUNCEMENTS).write_text('{"item": "a", "features": {"year": 7}}\n')
    assert Announcements(tmp_path / ANNOUNCEMENTS).by_id(NOBODY, vocabulary("a"))["item"] == {1: {"year": 7}}


def test_an_erased_user_is_in_no_line_and_a_reader_sees_that(tmp_path: Path) -> None:
    path = tmp_path / ANNOUNCEMENTS
    own = Announcements(path)
    own.add({"user": {"ann": "{}", "bob": '{"age": 3}'}, "item": {"ann": '{"year": 5}'}})
    reader = Announcements(path)
    with path.open("ab") as file:
        file.write(b'{"user": "carl", "fea')  # a crash came while it was announced
    own.erase(["carl"])
    assert b"carl" not in path.read_bytes()
    own.erase(["bob"])
    assert b"bob" not in path.read_bytes()
    own.add({"user": {"dora": "{}"}})
    reader.follow()
    for each in (own, reader, Announcements(path)):
        found = each.by_id(vocabulary("ann", "bob", "dora"), vocabulary("ann"))
        assert found == {"item": {1: {"year": 5}}, "user": {1: {}, 3: {}}}
    before = path.stat()
    own.erase(["nobody"])  # nothing to write
    assert path.stat().st_ino == before.st_ino


def opened(folder: Path) -> OnlineState:
    state = OnlineState.open(folder)
    state.recover()
    for _ in state.replay():
        pass
    return state


def told(user: str, stamp: int, event: str = "", **features: object) -> Event:
    return Event(event, user, "", "user", NOW + stamp, features=features)


def gone(user: str, stamp: int) -> Event:
    return Event("", user, "", "forget_user", NOW + stamp)


def test_features_of_a_forgotten_user_are_in_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    state = opened(folder)
    state.ingest(EventBatch.of([told("ann", 1, town="Oslo"), told("bob", 2, town="Rome")]))
    assert state.announced()["user"] == {1: {"town": "Oslo"}, 2: {"town": "Rome"}}
    assert (state.edges.n_users, state.edges.n_items) == (3, 1)
    state.ingest(EventBatch.of([gone("ann", 9)]))
    late = state.ingest(EventBatch.of([told("ann", 3, "e1", town="Oslo")]))
    assert late.n_refused == 1
    # within a batch the order counts
    state.ingest(EventBatch.of([told("carl", 1, town="Oslo"), gone("carl", 2)]))
    state.ingest(EventBatch.of([gone("bob", 20), told("bob", 21, town="Kyiv")]))
    assert b"Oslo" not in (folder / ANNOUNCEMENTS).read_bytes()
    assert b"Rome" not in (folder / ANNOUNCEMENTS).read_bytes()
    number = state.users.id_of("bob")
    assert number > 2
    assert state.announced()["user"] == {number: {"town": "Kyiv"}}
    state.close()
    state = opened(folder)
    assert state.announced() == {"item": {}, "user": {number: {"town": "Kyiv"}}}
    state.close()


@pytest.mark.parametrize("side", ["item", "user"])
def test_an_event_that_is_delivered_again_does_not_bring_older_features_back(tmp_path: Path, side: str) -> None:
    def event(name: str, year: int) -> Event:
        who = ("", "new") if side == "item" else ("new", "")
        return Event(name, *who, side, NOW, features={"year": year})

    state = opened(tmp_path / "state")
    for batch in ([event("1", 1)], [event("2", 2)], [event("1", 1)], [event("2", 2), event("1", 1)]):
        state.ingest(EventBatch.of(batch))
    assert state.announced()[side] == {1: {"year": 2}}
    state.close()
    state = opened(tmp_path / "state")
    assert state.announced()[side] == {1: {"year": 2}}
    state.close()


def test_a_backup_has_no_features_of_users_whom_its_log_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup could not forget a user who is announced while it is made."""
    state = opened(tmp_path / "state")
    state.ingest(EventBatch.of([told("ann", 1, town="Oslo")]))
    copy = backup.shutil.copyfile

    def announcing(source: Path, target: Path) -> None:
        state.ingest(EventBatch.of([told("bob", 2, town="Rome")]))
        copy(source, target)

    monkeypatch.setattr(backup.shutil, "copyfile", announcing)
    state.back_up(tmp_path / "backup")
    content = (tmp_path / "backup" / ANNOUNCEMENTS).read_bytes()
    assert b"Oslo" in content
    assert b"Rome" not in content
    state.close()


@pytest.mark.parametrize("known", [True, False])
def test_what_the_log_refuses_is_not_announced(tmp_path: Path, known: bool) -> None:
    def events(year: int) -> EventBatch:
        items = ("a", "b") if known else ("c", "d")
        return EventBatch.of([Event("", "", item, "item", NOW + year, features={"year": year}) for item in items])

    state = opened(tmp_path / "state")
    state.ingest(EventBatch.of([Event("", "", item, "item", NOW, features={"year": 0}) for item in "ab"]))
    state.ingest(EventBatch.of([Event("", "u", item, "like", NOW) for item in "cd"]))
    before, content = state.announced(), (tmp_path / "state" / ANNOUNCEMENTS).read_bytes()
    reader = Announcements(tmp_path / "state" / ANNOUNCEMENTS)
    state.log.connection.execute("PRAGMA query_only=ON")  # as on a full disk
    for year in (1, 2):
        with pytest.raises(UsageError, match="nothing of it was acknowledged"):
            state.ingest(events(year))
        assert state.announced() == before
        assert (tmp_path / "state" / ANNOUNCEMENTS).read_bytes() == content
    state.log.connection.execute("PRAGMA query_only=OFF")
    state.ingest(events(3))
    reader.follow()
    assert reader.by_id(state.users, state.items) == state.announced() != before
    state.close()
    state = opened(tmp_path / "state")
    assert {told["year"] for told in state.announced()["item"].values()} == ({3} if known else {0, 3})
    state.close()


@pytest.mark.parametrize("cause", ["disk", "duplicate"])
def test_a_forgetting_that_the_log_refuses_erases_no_features(tmp_path: Path, cause: str) -> None:
    state = opened(tmp_path / "state")
    state.ingest(EventBatch.of([told("ann", 1, "e1", town="Oslo"), told("bob", 2, town="Rome")]))
    before = state.announced()
    batch = EventBatch.of([Event("e1" if cause == "duplicate" else "", "ann", "", "forget_user", NOW + 9)])
    if cause == "disk":
        state.log.connection.execute("PRAGMA query_only=ON")  # as on a full disk
        with pytest.raises(UsageError, match="nothing of it was acknowledged"):
            state.ingest(batch)
    else:
        assert state.ingest(batch).n_new == 0
    assert state.announced() == before
    state.close()
    state = opened(tmp_path / "state")
    assert state.announced() == before
    state.close()


def test_a_disk_that_is_full_after_some_lines_keeps_none_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ANNOUNCEMENTS
    own = Announcements(path)
    own.add({"item": {"a": '{"year": 1}'}})
    content = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("recbole_signed.files.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(UsageError, match="No space left"):
            own.add({"item": {"a": '{"year": 2}', "b": "{}"}})
    assert path.read_bytes() == content
    assert own.by_id(NOBODY, vocabulary("a", "b"))["item"] == {1: {"year": 1}}


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
    assert again.announced()["item"] == {2: {"genre": ["drama", "crime"]}}
    again.back_up(tmp_path / "backup")
    assert (tmp_path / "backup" / ANNOUNCEMENTS).read_bytes() == (tmp_path / "state" / ANNOUNCEMENTS).read_bytes()
    again.close()


def test_a_file_that_is_written_again_has_the_last_line_of_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recbole_signed.live.store.announcements._SLACK", 3)
    path = tmp_path / ANNOUNCEMENTS
    own = Announcements(path)
    own.add({"user": {"ann": '{"age": 3}'}, "item": {"old": '{"year": 1}'}})
    reader = Announcements(path)
    for year in range(20):
        own.add({"item": {"new": json.dumps({"year": year})}})
    assert len(path.read_bytes().splitlines()) < 12
    reader.follow()
    for each in (own, reader, Announcements(path)):
        found = each.by_id(vocabulary("ann"), vocabulary("old", "new"))
        assert found == {"item": {1: {"year": 1}, 2: {"year": 19}}, "user": {1: {"age": 3}}}
