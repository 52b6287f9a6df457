"""The log: once, in order, durable, and erased where asked."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from faults import files_of_at_most
from hypothesis import example, given, settings
from hypothesis import strategies as st
from refusals import check_refused
from state_hashes import tokens_hash

from recbole_signed.errors import UsageError
from recbole_signed.live import LIKE, Event, EventBatch
from recbole_signed.live.events import FORGET_USER
from recbole_signed.live.store import Vocabulary
from recbole_signed.live.store.database import WAL_BYTES, row_checksums, write_meta
from recbole_signed.live.store.event_log import EventLog
from recbole_signed.live.store.vocabulary import make_tag


def batch(*rows: tuple[str, str, str, str, int], value: float | None = None) -> EventBatch:
    return EventBatch.from_events([Event(*row, value) for row in rows])


def some(n: int, first: int = 0) -> EventBatch:
    return batch(*((f"e{i}", f"u{i % 7}", f"i{i % 5}", "like", i) for i in range(first, first + n)))


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "log.sqlite")


def reopen(log: EventLog) -> EventLog:
    log.close()
    return EventLog(log.path)


def test_rows_come_back_as_they_were_appended(log: EventLog) -> None:
    first, _ = log.append(batch(("a", "u", "x", "like", 5), ("b", "v", "x", "undislike", 3), value=2.5))
    second, _ = log.append(batch(("c", "u", "y", "view", 9)))
    assert (first.first_seq, first.last_seq, second.first_seq, second.last_seq) == (1, 2, 3, 3)
    log = reopen(log)
    assert log.last_seq == 3
    rows = log.read(0, 10)
    assert rows.seq.tolist() == [1, 2, 3]
    assert log.users.tokens(rows.user) == ["u", "v", "u"]
    assert log.items.tokens(rows.item) == ["x", "x", "y"]
    assert (rows.type.tolist(), rows.timestamp.tolist()) == ([1, 6, 4], [5, 3, 9])
    np.testing.assert_array_equal(rows.value, [2.5, 2.5, np.nan])
    assert log.read(1, 1).seq.tolist() == [2]
    assert [(c.first_seq, c.last_seq, c.n_users, c.n_items) for c in log.commits(0)] == [(1, 2, 3, 2), (3, 3, 3, 3)]


def test_duplicates_are_counted_and_ignored_within_and_between_batches(log: EventLog) -> None:
    logged, fresh = log.append(batch(("a", "u", "x", "like", 1), ("a", "u", "x", "dislike", 2)))
    assert fresh == [0]
    assert logged.type.tolist() == [LIKE]
    log = reopen(log)
    logged, fresh = log.append(batch(("a", "w", "z", "like", 1), ("b", "u", "x", "like", 1)))
    assert (fresh, logged.first_seq, len(logged)) == ([1], 2, 1)
    assert "w" not in log.users
    assert log.known("a")
    assert not log.known("c")
    again, _ = log.append(batch(("a", "u", "x", "like", 1)), "source", "12")
    assert (again.first_seq, again.last_seq, len(again)) == (3, 2, 0)
    assert log.position("source") == "12"


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5), st.booleans()), max_size=40), st.integers(4, 20))
@example([(0, 0, False), (1, 0, True)], 4)  # came and went within a batch
@example([*((e, e, False) for e in range(4)), (5, 0, True), (6, 0, False)], 4)  # went and came back within one
@settings(max_examples=12)
def test_what_is_forgotten_and_what_is_doubled_is_the_same_live_and_on_reading(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[int, int, bool]], size: int
) -> None:
    log = EventLog(tmp_path_factory.mktemp("log") / "log.sqlite")
    events = [
        Event(f"e{e}", f"user{u}", "" if gone else f"i{e}", "forget_user" if gone else "like", e)
        for e, u, gone in drawn
    ]
    live: dict[int, int] = {}
    now: dict[str, int] = {}
    taken: dict[str, str] = {}  # whose event it was: an id goes with its user, and that of a forgetting is not kept
    for start in range(0, len(events), size):
        part = events[start : start + size]
        logged, _ = log.append(EventBatch.from_events(part))
        gone_ids = logged.user[logged.type == FORGET_USER]
        live = {seq: user for seq, user in live.items() if user not in gone_ids}
        likes = logged.type == LIKE
        live.update(zip(logged.seq[likes].tolist(), logged.user[likes].tolist(), strict=True))
        before = set(taken)
        for event in part:
            if event.event_id not in before:
                before.add(event.event_id)
                if event.type == "forget_user":
                    now.pop(event.user_id, None)
                    taken = {key: user for key, user in taken.items() if user != event.user_id}
                else:
                    now[event.user_id] = now.get(event.user_id, 0) + 1
                    taken[event.event_id] = event.user_id
    hashes = set()
    for again in (False, True):
        opened = reopen(log) if again else log
        rows = opened.read(0, 1000)
        likes = rows.type == LIKE
        assert dict(zip(rows.seq[likes].tolist(), rows.user[likes].tolist(), strict=True)) == live
        assert {token: int((rows.user[likes] == opened.users.id_of(token)).sum()) for token in now} == now
        assert {token for token in opened.users.tokens(range(1, len(opened.users))) if token} == set(now)
        list(opened.commits(0))  # each commit has the rows it should
        hashes.add((opened.users.hash(), tokens_hash(opened.users), opened.items.hash()))
    assert len(hashes) == 1


def test_a_forgotten_user_is_in_no_byte_of_the_files_and_comes_back_as_another(tmp_path: Path, log: EventLog) -> None:
    rng = np.random.default_rng(0)
    names = [f"secret-{i}-" + "ж" * int(rng.integers(0, 3000)) for i in range(60)]
    for start in range(0, 600, 50):
        log.append(
            batch(*((f"e{i}", names[int(rng.integers(60))], f"i{i % 9}", "like", i) for i in range(start, start + 50)))
        )
    before, old = log.users.hash(30), log.users.id_of(names[3])
    for i in range(0, 60, 3):
        log.append(batch((f"forget-{i}", names[i], "", "forget_user", 1), (f"also-{i}", names[i + 1], "x", "like", 1)))
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for i, name in enumerate(names):
        assert (f"secret-{i}-".encode() in content) == bool(i % 3), i
        assert (name in log.users) == bool(i % 3)
    assert log.users.hash(30) == before
    log = reopen(log)
    assert log.users.hash(30) == before
    assert old in log.users.tombstones
    assert len(log.append(batch(("e3", names[3], "x", "like", 1)))[0]) == int(not log.known("e3"))
    log.append(batch(("new", names[3], "x", "like", 1)))
    assert log.users.id_of(names[3]) > old


def test_commits_overwrite_room_that_is_there(tmp_path: Path, log: EventLog) -> None:
    """A file that grows costs each commit a second write; the room is there again after an erasure."""
    wal, sizes = tmp_path / "log.sqlite-wal", []
    for i in range(100):
        log.append(some(20, 20 * i))
        sizes.append(wal.stat().st_size)
    assert sizes[0] < WAL_BYTES // 10
    assert set(sizes[20:]) == {WAL_BYTES}
    log.append(batch(("gone", "u1", "", "forget_user", 5000)))
    for i in range(20):
        log.append(some(20, 3000 + 20 * i))
    assert wal.stat().st_size == WAL_BYTES
    shutil.copytree(tmp_path, tmp_path / "crashed")  # as it lies there, with zeros behind the pages
    found = EventLog(tmp_path / "crashed" / "log.sqlite")
    assert found.last_seq == log.last_seq
    assert len(found.read(0, 10_000)) == len(log.read(0, 10_000))


def test_without_room_for_more_a_log_works_as_well(tmp_path: Path) -> None:
    with files_of_at_most(500_000):
        log = EventLog(tmp_path / "log.sqlite")
        for i in range(20):
            assert len(log.append(some(5, 5 * i))[0]) == 5
        assert (tmp_path / "log.sqlite-wal").stat().st_size < 500_000
    assert len(reopen(log).read(0, 1000)) == 100


@pytest.mark.parametrize("cut", [1, 2, 5, -2000])
def test_a_log_cut_short_is_refused(tmp_path: Path, log: EventLog, cut: int) -> None:
    log.append(some(3000))
    log.close()
    size = log.path.stat().st_size
    with log.path.open("r+b") as file:
        file.truncate(size - cut * 4096 if cut > 0 else size + cut)
    with pytest.raises(UsageError, match="is damaged"):
        EventLog(log.path).read(0, 10_000)


def test_a_log_of_another_kind_is_refused(tmp_path: Path, log: EventLog) -> None:
    (tmp_path / "other.sqlite").write_bytes(b"something else" * 1000)
    check_refused("is damaged", EventLog, tmp_path / "other.sqlite")
    log.connection.execute("CREATE TABLE later (id INTEGER)")
    check_refused("has tables that this version of recbole-signed does not know; open", EventLog, log.path)
    log.connection.execute("DROP TABLE later")
    write_meta(log.connection, {"format": 99})
    check_refused("has format 99", reopen, log)
    with contextlib.closing(sqlite3.connect(log.path, isolation_level=None)) as older:
        write_meta(older, {"format": 1})
        older.execute("DROP TABLE sums")
    check_refused("has format 1, and this version of recbole-signed reads format 2", EventLog, log.path)


def test_checksums_are_of_all_bits_but_those_of_a_nan() -> None:
    columns = [np.array([1, 1, 1, 2]), np.array([5, 6, 5, 5]), np.array([np.nan, 1.0, -0.0, 0.0])]
    assert len(set(row_checksums(columns).tolist())) == 4
    odd = np.array([np.nan]).view(np.int64) + 1
    np.testing.assert_array_equal(row_checksums([np.array([np.nan])]), row_checksums([odd.view(np.float64)]))


def test_a_commit_is_read_whole_across_blocks(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recbole_signed.live.store.event_log._REPLAY_ROWS", 7)
    for start in range(0, 100, 10):
        log.append(some(10, start))
    log.verify()
    assert [(c.first_seq, len(c)) for c in log.commits(20)] == [(start + 1, 10) for start in range(20, 100, 10)]


def grown(tokens: list[str]) -> Vocabulary:
    vocabulary = Vocabulary()
    vocabulary.add(vocabulary.propose(tokens)[1])
    return vocabulary


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1)))
def test_ids_count_up_in_order_of_appearance_once_what_is_proposed_is_added(tokens: list[str]) -> None:
    vocabulary, each_once = grown(["\x00"]), list(dict.fromkeys(["\x00", *tokens]))
    before, (ids, new, _) = vocabulary.hash(), vocabulary.propose([*tokens, ""])
    assert (new.first, new.tokens, ids[-1]) == (2, each_once[1:], 0)
    assert (len(vocabulary), vocabulary.hash()) == (2, before)
    vocabulary.add(new)
    assert vocabulary.tokens(range(len(vocabulary))) == [None, *each_once]
    np.testing.assert_array_equal(vocabulary.ids(each_once), np.arange(1, len(each_once) + 1))
    np.testing.assert_array_equal(vocabulary.ids(tokens), ids[:-1])
    assert (vocabulary.hash() == before) == (len(each_once) == 1)
    assert vocabulary.hash(2) == before
    assert not vocabulary.propose(tokens)[1].tokens


def test_hashes_know_order_tokens_and_directory() -> None:
    vocabulary = grown(["a", "b"])
    assert vocabulary.ids(["b", "c", "a"]).tolist() == [2, 0, 1]
    assert vocabulary.ids([]).dtype == np.int64
    assert "c" not in vocabulary
    assert grown(["a"]).hash() != grown(["a"]).hash()
    assert tokens_hash(grown(["a"])) == tokens_hash(grown(["a"]))
    rows = [(token, make_tag(token, b"salt")) for token in ("a", "b", "c")]
    assert Vocabulary(rows).hash() == Vocabulary(rows).hash() != Vocabulary([rows[1], rows[0], rows[2]]).hash()
    assert Vocabulary(rows).hash(3) == Vocabulary(rows[:2]).hash()


def test_a_forgotten_token_leaves_a_tombstone_and_the_hash() -> None:
    vocabulary = grown(["a", "b", "c"])
    before, content = vocabulary.hash(), tokens_hash(vocabulary)
    vocabulary.forget(2)
    assert vocabulary.hash() == before
    assert tokens_hash(vocabulary) != content
    assert vocabulary.tombstones.tolist() == [2]
    assert vocabulary.tokens([2]) == [None]
    assert "b" not in vocabulary
    # a reader that is behind takes in the new id of a token first
    vocabulary.extend([("b", make_tag("b", b"salt")), ("c", make_tag("c", b"salt"))])
    vocabulary.forget(3)
    assert vocabulary.tokens([2, 3, 4, 5]) == [None, None, "b", "c"]
    assert vocabulary.ids(["b", "c"]).tolist() == [4, 5]
    vocabulary.forget(4)
    assert "b" not in vocabulary
    assert vocabulary.n_known == 2
