"""What one update waits for: the disk, once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from small_recommender import begin, event

from recbole_signed import files
from recbole_signed.live import OnlineRecommender


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


def test_answers_go_on_while_a_version_is_read_to_be_activated(
    recommender: OnlineRecommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, began, goes_on, read = (
        recommender.snapshot(),
        threading.Event(),
        threading.Event(),
        recommender.state.versions.existing,
    )

    def slow(name: str) -> Any:
        began.set()
        assert goes_on.wait(60)
        return read(name)

    monkeypatch.setattr(recommender.state.versions, "existing", slow)
    with ThreadPoolExecutor(2) as pool:
        activated = pool.submit(recommender.activate, name)
        assert began.wait(60)
        try:
            assert pool.submit(recommender.recommend, "u1").result(60)
        finally:
            goes_on.set()
        activated.result(60)


@pytest.mark.parametrize("what", ["withdraw", "put_back", "pending"])
def test_answers_go_on_while_something_waits_for_a_batch_on_its_way_to_the_disk(
    what: str, recommender: OnlineRecommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, goes_on = threading.Event(), threading.Event()

    def slow(step: str) -> None:
        if step == "log:before commit":
            began.set()
            assert goes_on.wait(60)

    monkeypatch.setattr(files, "reached", slow)
    calls: dict[str, Callable[[], Any]] = {
        "withdraw": lambda: recommender.withdraw("i3"),
        "put_back": lambda: recommender.put_back("i3"),
        "pending": lambda: recommender.pending_erasure,
    }
    with ThreadPoolExecutor(3) as pool:
        update = pool.submit(recommender.update, [event(1, "u2", "i4", "like")])
        assert began.wait(60)
        try:
            waiting = pool.submit(calls[what])
            with pytest.raises(TimeoutError):
                waiting.result(0.3)
            assert pool.submit(recommender.recommend, "u1").result(60)
        finally:
            goes_on.set()
        update.result(60)
        waiting.result(60)


def test_a_compaction_leaves_half_of_the_time_to_updates(
    recommender: OnlineRecommender, monkeypatch: pytest.MonkeyPatch
) -> None:
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
