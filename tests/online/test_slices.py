"""What one update waits for: the disk once, with a shorter slice of the scheduler, where the system has them."""

from __future__ import annotations

import ctypes
import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from small_recommender import begin, event

from recbole_signed.errors import UsageError
from recbole_signed.online import Event, EventBatch
from recbole_signed.online.store import EventLog, slices
from recbole_signed.online.store.slices import own_slice, shorter_slices

needs_slices = pytest.mark.skipif(not own_slice(), reason="this system has no slice for each thread")


def like(i: int) -> Event:
    return Event(f"e{i}", f"u{i}", f"i{i}", "like", i)


def during_commits(connection: sqlite3.Connection, look: Callable[[], int]) -> list[int]:
    """Return what is found at the beginning of each commit, as it fills."""
    found: list[int] = []
    connection.set_trace_callback(lambda statement: found.append(look()) if statement == "COMMIT" else None)
    return found


def test_an_update_waits_for_the_disk_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite waits once for each commit in WAL mode with FULL; a second commit, or a file beside it, costs as much."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setattr(os, "fdatasync", synced.append)
    made = begin(tmp_path / "state")
    assert made.state is not None
    connection = made.state.log.connection
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
    for i in range(40):  # past the moment at which room is made for many commits
        made.update([event(i, f"new{i}", "i1", "like")])
    commits = during_commits(connection, lambda: 1)
    synced.clear()
    for i in range(100, 110):
        made.update([event(i, "u1", f"i{i}", "dislike")])
        made.recommend("u1")
    assert (len(commits), synced) == (10, [])
    made.close()


@needs_slices
def test_a_commit_waits_with_a_shorter_slice_and_puts_it_back(tmp_path: Path) -> None:
    log, before = EventLog(tmp_path / "log.sqlite"), own_slice()
    found = during_commits(log.connection, own_slice)
    log.append(EventBatch.of([like(1)]))
    assert len(found) == 1
    assert 0 < found[0] < before
    assert own_slice() == before


@needs_slices
def test_the_slice_is_put_back_after_a_failure() -> None:
    def fail() -> None:
        with shorter_slices():
            assert own_slice() < before
            raise UsageError("no.")

    before = own_slice()
    with pytest.raises(UsageError, match="no"):
        fail()
    assert own_slice() == before


@pytest.mark.skipif(sys.platform != "linux", reason="policies of Linux")
def test_priority_and_policy_stay_as_they_are(tmp_path: Path) -> None:
    found: list[tuple[int, int]] = []

    def commit() -> None:
        log = EventLog(tmp_path / "log.sqlite")
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
        for policy in (os.SCHED_BATCH, os.SCHED_OTHER):
            os.sched_setscheduler(0, policy, os.sched_param(0))
            log.append(EventBatch.of([like(policy)]))
            found.append((os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
        log.close()

    nice = min(os.getpriority(os.PRIO_PROCESS, 0) + 1, 19)
    thread = threading.Thread(target=commit)
    thread.start()
    thread.join()
    assert found == [(os.SCHED_BATCH, nice), (os.SCHED_OTHER, nice)]


@pytest.mark.parametrize("allowed", ["nothing", "looking"])
def test_a_system_that_refuses_commits_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: str) -> None:
    call = slices._call

    def refuse(number: int, attributes: ctypes.Structure, *rest: int) -> bool:
        return allowed == "looking" and number == slices._GET and call(number, attributes, *rest)

    monkeypatch.setattr(slices, "_call", refuse)
    log = EventLog(tmp_path / "log.sqlite")
    assert log.append(EventBatch.of([like(1)])).n_new == 1
    log.close()
