"""The state directory: recovery, forgetting, compaction, and what is refused."""

import contextlib
import json
import multiprocessing
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bare_state import JsonLines, ready, take_from
from faults import files_of_at_most, no_room_at
from refusals import check_refused
from small_recommender import event
from state_hashes import edges_hash, state_hash

from recbole_signed import files
from recbole_signed.errors import UsageError
from recbole_signed.live import LIKE, Event, EventBatch
from recbole_signed.live.events import DISLIKE, VIEW
from recbole_signed.live.store.results import Update
from recbole_signed.live.store.settings import StateSettings
from recbole_signed.live.store.state import OnlineState

TENSORS = {"a": np.arange(3.0)}


def stream(n: int, first: int = 0) -> EventBatch:
    kinds = ("like", "dislike", "view", "unlike", "undislike", "skip")
    rng = np.random.default_rng(first)
    return EventBatch.from_events(
        Event(f"e{i}", f"user{rng.integers(20)}", f"item{rng.integers(15)}", kinds[rng.integers(6)], i)
        for i in range(first, first + n)
    )


def summary(update: Update) -> tuple[Any, ...]:
    changes = update.changes
    arrays = (changes.user, changes.item, changes.old, changes.new, changes.forgotten, *vars(update.logged).values())
    return tuple(np.asarray(each).tolist() for each in arrays)


def test_what_is_replayed_is_what_happened(tmp_path: Path) -> None:
    with ready(tmp_path) as state:
        live = [state.ingest(stream(30, 30 * i)) for i in range(3)]
        state.snapshot(TENSORS, {"n": 1}, model="m")
        saved = edges_hash(state.edges)
        live += [state.ingest(stream(30, 30 * i)) for i in range(3, 6)]
        expected = state_hash(state)
    with OnlineState.open(tmp_path) as state:
        snapshot = state.recover("m")
        assert (snapshot.applied_seq, snapshot.meta) == (90, {"n": 1})
        assert edges_hash(state.edges) == saved
        again = list(state.replay())
        np.testing.assert_equal([summary(each) for each in again], [summary(each) for each in live[3:]])
        assert state_hash(state) == expected
        state.recover(from_log=True)
        np.testing.assert_equal([summary(each) for each in state.replay()], [summary(each) for each in live])
        assert state_hash(state) == expected


def test_compaction_keeps_edges_duplicates_and_what_versions_need(tmp_path: Path) -> None:
    with ready(tmp_path) as state:
        state.ingest(stream(60))
        expected = edges_hash(state.edges)
        assert state.compact() == 60
        assert edges_hash(state.edges) == expected
        assert state.ingest(stream(60)).n_duplicate == 60
        state.ingest(stream(40, 60))
        state.snapshot(TENSORS, {}, model="m")
        state.ingest(stream(40, 100))
        state.snapshot(TENSORS, {}, model="m")
        state.ingest(stream(40, 140))
        assert state.compact() == 100  # up to the older version, not further
        assert state.log.connection.execute("SELECT count(*) FROM events").fetchone()[0] == 80
        expected = state_hash(state)
        assert [path.name for path in tmp_path.glob("base-*")] == ["base-000000000100"]
    for from_log in (False, True):
        with OnlineState.open(tmp_path) as state:
            state.recover(from_log=from_log)
            assert state.applied_seq == (100 if from_log else 140)
            assert len(list(state.replay())) == (2 if from_log else 1)
            assert state_hash(state) == expected
            assert state.compact() == 100
    shutil.rmtree(tmp_path / "versions")
    with ready(tmp_path) as state:
        assert state_hash(state) == expected
        assert state.compact() == 180
    with ready(tmp_path) as state:
        assert state_hash(state) == expected


def test_a_damaged_version_falls_back_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with ready(tmp_path) as state:
        for start in range(0, 90, 30):
            state.ingest(stream(30, start))
            state.snapshot(TENSORS, {}, model="m")
        expected = state_hash(state)
    for name, left in (("v000003", "v000002"), ("v000002", "v000001"), ("v000001", None)):
        path = tmp_path / "versions" / name / "edges.safetensors"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        caplog.clear()
        with OnlineState.open(tmp_path) as state:
            snapshot = state.recover("m")
            assert (snapshot and snapshot.name) == left
            assert f"{name}/edges.safetensors is damaged" in caplog.text
            list(state.replay())
            assert state_hash(state) == expected


def test_a_damaged_base_is_refused(tmp_path: Path) -> None:
    with ready(tmp_path) as state:
        state.ingest(stream(30))
        state.compact()
    path = next(tmp_path.glob("base-*")) / "edges.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with OnlineState.open(tmp_path) as state, pytest.raises(UsageError, match=r"is damaged.*restore the folder"):
        state.recover()


def test_a_version_of_something_else_is_refused(tmp_path: Path) -> None:
    for name in ("one", "other"):
        with ready(tmp_path / name) as state:
            state.ingest(stream(30))
            state.snapshot(TENSORS, {}, model="SSF")
    with OnlineState.open(tmp_path / "one") as state:
        check_refused("of the model 'SSF', and 'LightGCN' was expected", state.recover, "LightGCN")
        assert state.recover("SSF") is not None
    shutil.rmtree(tmp_path / "one" / "versions")
    shutil.copytree(tmp_path / "other" / "versions", tmp_path / "one" / "versions")
    with (
        OnlineState.open(tmp_path / "one") as state,
        pytest.raises(UsageError, match="made with another vocabulary of users"),
    ):
        state.recover("SSF")


def test_a_log_that_ends_before_its_version_is_refused(tmp_path: Path) -> None:
    with ready(tmp_path) as state:
        state.ingest(stream(30))
    shutil.copy(tmp_path / "log.sqlite", tmp_path / "old")
    with ready(tmp_path) as state:
        state.ingest(stream(30, 30))
        state.snapshot(TENSORS, {}, model="m")
    for leftover in tmp_path.glob("log.sqlite*"):
        leftover.unlink()
    (tmp_path / "old").rename(tmp_path / "log.sqlite")
    with OnlineState.open(tmp_path) as state, pytest.raises(UsageError, match="the log ends at 30"):
        state.recover()


def test_bulk_load_is_as_good_as_events(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    user, item = rng.integers(1, 21, 300), rng.integers(1, 16, 300)
    kind, time = rng.choice([LIKE, DISLIKE, VIEW], 300), rng.permutation(300)
    users, items = [f"u{i}" for i in range(1, 21)], [f"i{i}" for i in range(1, 16)]
    with OnlineState.open(tmp_path / "bulk") as state:
        state.bulk_load(users, items, user, item, kind.astype(np.int8), time)
        bulk = edges_hash(state.edges)
        state.ingest(stream(10))
        expected = state_hash(state)
        check_refused("holds events already.*open this one with", state.bulk_load, users, items, user, item, kind, time)
    with ready(tmp_path / "bulk") as state:
        assert state_hash(state) == expected
        assert state.users.tokens([1, 20]) == ["u1", "u20"]
    names = {LIKE: "like", DISLIKE: "dislike", VIEW: "view"}
    with ready(tmp_path / "events") as state:
        state.log.users.add(state.log.users.propose(users)[1])  # the same ids
        state.log.items.add(state.log.items.propose(items)[1])
        rows = zip(user.tolist(), item.tolist(), kind.tolist(), time.tolist(), strict=True)
        state.ingest(EventBatch.from_events(Event(f"{t}", f"u{u}", f"i{i}", names[k], t) for u, i, k, t in rows))
        assert edges_hash(state.edges) == bulk


def test_edges_that_lie_in_the_future_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Events later than the clock are refused; edges may count from a moment of their own, so these are told alone."""
    day = 86_400_000
    ahead = (int(time.time() * 1000) // day + 40) * day
    user, item, kind = np.array([1, 2, 1]), np.array([1, 1, 2]), np.full(3, LIKE, dtype=np.int8)
    for name, times in (("past", [1, 2, ahead - 50 * day]), ("ahead", [ahead - day, ahead, 5 * day])):
        with OnlineState.open(tmp_path / name) as state:
            state.bulk_load(["a", "b"], ["x", "y"], user, item, kind, np.array(times), unit_known=True)
    (told,) = caplog.messages
    assert told.startswith("2 edges lie in the future, the latest, of user 'b' and item 'x', on ")
    assert f"{np.datetime64(ahead, 'ms').astype('datetime64[s]')}Z: until then" in told


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"user": np.array([3])}, "user ids lie from 3 to 3; 1 to 2 was expected"),
        ({"item": np.array([0])}, "item ids lie from 0"),
        ({"kind": np.array([5])}, "a like, a dislike, a skip or a view"),
        ({"timestamp": np.array([-1])}, "time stamps lie from -1"),
        ({"timestamp": np.array([1, 2])}, "differ in length"),
        ({"user_tokens": ["a", "a"]}, "only 1 differ"),
        ({"user_tokens": ["a", ""]}, "A user token is empty"),
        ({"item_tokens": ["\ud800"]}, "lone surrogate"),
        ({"user_tokens": ["jose\u0301", "jos\u00e9"]}, "2 user tokens were given and only 1 differ"),
        ({"timestamp": np.array([1_700_000_000])}, "looks like seconds; edges have milliseconds"),
        ({"timestamp": np.array([1_700_000_000_000_000])}, "looks like microseconds; edges have milliseconds"),
    ],
)
def test_edges_that_do_not_fit_are_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"user_tokens": ["a", "b"], "item_tokens": ["x"]}
    good |= dict.fromkeys(("user", "item", "kind", "timestamp"), np.array([1]))
    with OnlineState.open(tmp_path) as state:
        with pytest.raises(UsageError, match=message):
            state.bulk_load(*{**good, **changed}.values())
        assert len(state.users) == 1
        state.recover()
        assert state.ingest(stream(3)).n_new == 3


def _try_to_open(folder: Path, queue: Any) -> None:
    try:
        OnlineState.open(folder)
    except UsageError as error:
        queue.put(str(error))
    else:
        queue.put("opened")


def test_writers_and_failed_openings(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with ready(tmp_path) as state:
        queue = context.Queue()
        other = context.Process(target=_try_to_open, args=(tmp_path, queue))
        other.start()
        assert "is being written by process" in queue.get(timeout=60)
        other.join()
        check_refused("one state directory has one writer", OnlineState.open, tmp_path)
        assert state.ingest(stream(3)).n_new == 3
    ready(tmp_path).close()
    (tmp_path / "log.sqlite").write_bytes(b"nonsense" * 1000)
    for _ in range(2):
        check_refused("is damaged", OnlineState.open, tmp_path)


def test_what_is_not_ready_is_refused(tmp_path: Path) -> None:
    check_refused("holds no online state", OnlineState.open, tmp_path / "none", create=False)
    (tmp_path / "file").write_text("in the way")
    check_refused(r"Opening the state directory .* failed", OnlineState.open, tmp_path / "file")
    with OnlineState.open(tmp_path / "state") as state:
        for call in (
            lambda: state.ingest(stream(1)),
            lambda: list(state.replay()),
            lambda: state.snapshot(TENSORS, {}, model="m"),
            lambda: state.compact(),
        ):
            with pytest.raises(UsageError):
                call()
        state.recover()
        state.ingest(stream(5))
    with OnlineState.open(tmp_path / "state") as state:
        state.recover()
        check_refused("run replay", state.ingest, stream(1))


@contextlib.contextmanager
def refusing_to_write(state: OnlineState, how: str) -> Iterator[None]:
    execute = state.log.connection.execute
    if how == "file size limit":
        with files_of_at_most(100_000):
            yield
    elif how == "full disk":
        execute(f"PRAGMA max_page_count={execute('PRAGMA page_count').fetchone()[0] + 2}")
        yield
        execute("PRAGMA max_page_count=1000000")
    else:  # what SQLite says where the permissions of a running system's folder are taken away
        execute("PRAGMA query_only=ON")
        yield
        execute("PRAGMA query_only=OFF")


@pytest.mark.parametrize("how", ["full disk", "file size limit", "no permission"])
def test_what_the_log_refuses_is_not_taken_and_nothing_is_lost(tmp_path: Path, how: str) -> None:
    """Events, features of known and new items, a forgetting, and how far a source was read."""
    told = {"town": "Oslo"}
    batch = [Event("", "user3", "", "forget_user", 60)]
    batch += [Event("", "", item, "item", 50, features={"year": 1}) for item in ("item1", "new")]
    batch += [Event(f"f{n}", f"another-{n}" * 50, "j", "like", n) for n in range(2000)]

    def all_of(state: OnlineState) -> tuple[Any, ...]:
        return state_hash(state), state.last_seq, state.announced(), state.log.position("s")

    with ready(tmp_path / "state") as state:
        state.ingest(stream(30))
        state.ingest(EventBatch.from_events([Event("", "user3", "", "user", 40, features=told)]))
        state.ingest(EventBatch.from_events([Event("", "", "item1", "item", 40, features={"year": 0})]))
        before = all_of(state)
        for _ in range(2):
            with refusing_to_write(state, how):
                check_refused("nothing of it was acknowledged", state.ingest, EventBatch.from_events(batch), "s", "9")
            assert all_of(state) == before
        assert state.ingest(EventBatch.from_events(batch), "s", "9").n_new == len(batch)
        after = all_of(state)
        assert (after[3], "user3" in state.users) == ("9", False)
    with ready(tmp_path / "state") as state:
        assert all_of(state) == after


def test_a_full_disk_in_a_dead_letter_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [{"user_id": "u", "item_id": "i", "type": kind, "timestamp": 1} for kind in ("like", "adore")]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with ready(tmp_path / "state") as state:
        with monkeypatch.context() as patch:
            patch.setattr(files, "reached", no_room_at("dead:written"))
            with pytest.raises(OSError, match="No space"):
                take_from(state, JsonLines(tmp_path / "in.jsonl"))
        (tmp_path / "state" / "dead_letters.jsonl").unlink()
        (tmp_path / "state" / "dead_letters.jsonl").mkdir()
        check_refused("Writing dead letters failed", take_from, state, JsonLines(tmp_path / "in.jsonl"))
        assert state.last_seq == 0
        (tmp_path / "state" / "dead_letters.jsonl").rmdir()
        assert (take_from(state, JsonLines(tmp_path / "in.jsonl")).n_new, len(list(state.dead_letters))) == (1, 1)


@pytest.mark.parametrize("step", ["base:tensors", "base:written"])
def test_a_full_disk_while_compacting_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    with ready(tmp_path) as state:
        state.ingest(stream(50))
        expected = state_hash(state)
        with monkeypatch.context() as patch:
            patch.setattr(files, "reached", no_room_at(step))
            check_refused("Writing the base of the event log failed: No space", state.compact)
        assert not list(tmp_path.glob("base-*"))
        state.recover(from_log=True)
        assert len(list(state.replay())) == 1
        assert state_hash(state) == expected
        assert state.compact() == 50


def test_the_memory_of_duplicates_does_not_grow_without_end(tmp_path: Path) -> None:
    with ready(tmp_path, settings=StateSettings(keep_seen=20)) as state:
        for first in range(0, 60, 10):
            state.ingest(EventBatch.from_events(event(n, f"u{n}", "i", "like") for n in range(first, first + 10)))
        large = [f"{n}{'w' * 9_000}" for n in range(200)]
        state.withdraw(large)
        state.withdraw(large, back=True)  # leaves free pages, which are given back in several steps
        before = edges_hash(state.edges)
        looked: list[str] = []
        state.log.connection.set_trace_callback(lambda text: looked.append(text) if "FROM seen" in text else None)
        state.compact()
        assert len(looked) <= 4  # whatever the number of steps: each of them reads the whole table
        state.log.connection.set_trace_callback(None)
        assert state.log.connection.execute("SELECT count(*) FROM seen").fetchone()[0] == 20
        assert not state.log.known("e39")
        assert state.log.known("e40")
        state.ingest(
            EventBatch.from_events(event(n, f"u{n}", "i", "like") for n in range(40))
        )  # old ones change nothing
        assert edges_hash(state.edges) == before
    with ready(tmp_path) as state:  # and the checksums fit what is left
        pass


def test_ids_of_a_data_set_are_those_of_events_and_its_times_milliseconds_where_that_is_known(tmp_path: Path) -> None:
    """However ids are typed, and though times have the size of seconds."""
    seconds, one = 1_700_000_000, np.array([1])
    with OnlineState.open(tmp_path) as state:
        state.bulk_load(["jose\u0301"], ["cafe\u0301"], one, one, DISLIKE * one, np.array([seconds]), unit_known=True)
        assert (state.users.id_of("jos\u00e9"), state.items.id_of("caf\u00e9")) == (1, 1)
        edges = state.edges.export()
        assert (edges.kind.tolist(), edges.timestamp.tolist()) == ([DISLIKE], [seconds])
