"""What a call has written, and the names of it, were waited for when it returns: a loss of power takes none of it back.

What a disk is known to hold is followed through `os.fsync`: of a file its content then, of a folder its names then.
SQLite waits for its own files, and ``SEQ`` may lag behind; see ``test_online_faults.py`` for those.
"""

import hashlib
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bare_state import JsonLines, ready, take_from
from small_recommender import begin, event
from waiting import held_calls

from recbole_signed import files
from recbole_signed.live import Event, EventBatch, OnlineRecommender
from recbole_signed.live.computing import ComputeBySize, compute_here
from recbole_signed.live.store import backup
from recbole_signed.live.store.edges import FrozenEdges

_OF_SQLITE = ("log.sqlite", "log.sqlite-wal", "log.sqlite-shm")
_MAY_BE_LOST = {*_OF_SQLITE[1:], "SEQ", "LOCK"}


class Disk:
    """What survives a loss of power, by inode."""

    def __init__(self) -> None:
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._fsync = os.fsync

    def fsync(self, descriptor: int) -> None:
        self._fsync(descriptor)
        path, inode = Path(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor).st_ino
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            self._names[inode] = {each.name: each.stat().st_ino for each in path.iterdir()}
        else:
            self._contents[inode] = hashlib.sha256(path.read_bytes()).digest()

    def lost(self, folder: Path) -> Iterator[str]:
        """Name what would be gone, or come back, in a folder and all below it."""
        durable = self._names.get(folder.stat().st_ino, {})
        there = {each.name: each for each in folder.iterdir() if each.name not in _MAY_BE_LOST}
        yield from (f"{folder.name}/{name} comes back" for name in durable.keys() - there.keys() - _MAY_BE_LOST)
        for name, path in there.items():
            about = path.stat()
            if durable.get(name) != about.st_ino:
                yield f"the name {folder.name}/{name}"
            if path.is_dir():
                yield from self.lost(path)
            elif name in _OF_SQLITE or not about.st_size:
                continue
            elif self._contents.get(about.st_ino) != hashlib.sha256(path.read_bytes()).digest():
                yield f"the content of {folder.name}/{name}"


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk()
    monkeypatch.setattr(os, "fsync", made.fsync)
    return made


def test_nothing_that_a_call_returned_for_is_lost_with_the_power(tmp_path: Path, disk: Disk) -> None:
    folder, copy = tmp_path / "new" / "state", tmp_path / "copy"
    begin(folder).close()
    problems: list[str] = []

    def check(step: str, *folders: Path) -> None:
        problems.extend(f"{step}: {each}" for one in folders or (folder,) for each in disk.lost(one))

    check("begin")
    made = OnlineRecommender.open(folder)
    state = made.state
    made.update([event(1, "u1", "i1", "like"), Event("e2", "ann", "", "user", 0, features={"town": "Oslo"})])
    check("update")
    (tmp_path / "bad.jsonl").write_text(json.dumps({"user_id": "u1", "item_id": "i1", "type": "adore"}) + "\n")
    take_from(state, JsonLines(tmp_path / "bad.jsonl"))
    check("dead letters")
    made.refresh()
    made.snapshot()
    check("snapshot")
    pinned = made.snapshot()
    state.versions.pin(pinned)
    check("pin")
    state.back_up(copy)
    check("back up", folder, copy)
    made.update([event(3, "ann", "i2", "like")])
    made.snapshot()
    state.compact()
    check("compact")
    made.forget("ann")
    made.snapshot()
    assert not made.erase().rows
    check("erase", folder, copy)
    state.versions.rollback(made.snapshot())
    state.versions.pin(pinned, False)
    state.versions.collect(1)
    check("collect")
    made.close()
    backup.restore(copy, tmp_path / "again" / "state")
    check("restore", tmp_path / "again")
    assert problems == []


def test_the_log_of_a_state_that_was_just_made_is_not_lost_with_the_power(tmp_path: Path, disk: Disk) -> None:
    with ready(tmp_path / "new" / "state") as state:
        state.ingest(EventBatch.from_events([event(1, "u1", "i1", "like")]))
        assert list(disk.lost(tmp_path)) == []


# ---- what one update waits for: the disk, once ----


def test_an_update_waits_for_the_disk_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite waits once for each commit in WAL mode with FULL; a second commit, or a file beside it, costs as much."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setattr(os, "fdatasync", synced.append)
    made = begin(tmp_path / "state")
    connection = made.state.log.connection
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
    for i in range(40):  # past the moment at which room is made for many commits
        made.update([event(i, f"new{i}", "i1", "like")])
    commits: list[str] = []
    connection.set_trace_callback(lambda statement: commits.append(statement) if statement == "COMMIT" else None)
    synced.clear()
    for i in range(100, 110):
        made.update([event(i, "u1", f"i{i}", "dislike")])
        made.recommend("u1")
    assert (len(commits), synced) == (10, [])
    made.close()


@pytest.mark.parametrize("what", ["a version is read", "edges are copied to refresh", "edges are copied to refit"])
def test_answers_and_updates_go_on_while(
    what: str, recommender: OnlineRecommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = recommender.snapshot()
    calls: dict[str, tuple[Any, str, Callable[[], Any]]] = {
        "a version is read": (recommender.state.versions, "existing", lambda: recommender.activate(name)),
        "edges are copied to refresh": (FrozenEdges, "arrays", recommender.refresh),
        "edges are copied to refit": (FrozenEdges, "arrays", lambda: recommender.refit().result(60)),
    }
    owner, method, call = calls[what]
    began, goes_on = held_calls(monkeypatch, owner, method)
    with ThreadPoolExecutor(3) as pool:
        held = pool.submit(call)
        assert began.wait(60)
        try:
            pool.submit(recommender.update, [event(1, "u1", "i1", "dislike")]).result(60)
            assert pool.submit(recommender.recommend, "u1").result(60)
        finally:
            goes_on.set()
        held.result(60)


@pytest.mark.parametrize("step", ["log:before commit", "state:appended"])
@pytest.mark.parametrize("what", ["withdraw", "put_back", "pending", "snapshot"])
def test_answers_go_on_while_something_waits_for_a_batch_on_its_way_to_the_disk(
    what: str, step: str, recommender: OnlineRecommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, goes_on = threading.Event(), threading.Event()

    def slow(reached: str) -> None:
        if reached == step and not began.is_set():
            began.set()
            assert goes_on.wait(60)

    monkeypatch.setattr(files, "reached", slow)
    calls: dict[str, Callable[[], Any]] = {
        "withdraw": lambda: recommender.withdraw("i3"),
        "put_back": lambda: recommender.put_back("i3"),
        "pending": lambda: recommender.pending_erasure,
        "snapshot": recommender.snapshot,
    }
    before = recommender.recommend("u1", 5)
    with ThreadPoolExecutor(3) as pool:
        update = pool.submit(recommender.update, [event(1, "u1", before[0][0], "dislike")])
        assert began.wait(60)
        try:
            waiting = pool.submit(calls[what])
            with pytest.raises(TimeoutError):
                waiting.result(0.3)
            assert pool.submit(recommender.recommend, "u1", 5).result(60) == before
        finally:
            goes_on.set()
        update.result(60)
        waiting.result(60)
    assert before[0][0] not in dict(recommender.recommend("u1", 50))
    if what == "snapshot":
        assert recommender.versions.describe()[-1].applied_seq == 1


def test_compactions_leave_half_the_time(recommender: OnlineRecommender, monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[float] = []
    ended: list[float] = []

    def step() -> bool:
        began.append(time.perf_counter())
        time.sleep(0.02)
        ended.append(time.perf_counter())
        return len(ended) < 10

    recommender.update([event(0, "u1", "i1", "like")])
    for _ in range(3):  # the log is compacted up to the oldest version, and three are kept
        recommender.snapshot()
    monkeypatch.setattr(recommender.state.log, "purge_step", step)
    recommender.compact()
    pauses = [start - end for start, end in zip(began[1:], ended, strict=False)]
    assert len(pauses) == 9
    assert min(pauses) >= 0.019


def test_a_process_of_its_own_computes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recbole_signed.live.computing.LARGE", 0)
    results = []
    for name, compute in (("here", compute_here), ("apart", ComputeBySize())):
        recommender = begin(tmp_path / name)
        recommender.compute = compute
        recommender.update([event(n, f"u{n}", f"i{n}", "like") for n in range(10)])
        started = time.perf_counter()
        recommender.refresh()
        recommender.update([event(100 + n, f"u{n}", f"i{n + 5}", "dislike") for n in range(10)])
        recommender.refit().result()
        results.append([recommender.recommend(f"u{n}", 10) for n in range(20)])
        assert time.perf_counter() - started < 120
        assert recommender.version.endswith("@20")
        recommender.close()
    for here, apart in zip(*results, strict=True):
        assert [item for item, _ in here] == [item for item, _ in apart]
        np.testing.assert_allclose([score for _, score in here], [score for _, score in apart], rtol=1e-5)


def test_what_fails_in_the_process_is_raised_here(
    recommender: OnlineRecommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recbole_signed.live.computing.LARGE", 0)
    with recommender.reading() as (state, learner):
        edges = state.edges.export()
        with pytest.raises(AttributeError, match="no_such_method"):
            ComputeBySize()(learner, "no_such_method", edges, state.edges.n_users, state.edges.n_items)
