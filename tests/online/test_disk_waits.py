"""What one update waits for: the disk, once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from small_recommender import begin, event


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
    commits: list[str] = []
    connection.set_trace_callback(lambda statement: commits.append(statement) if statement == "COMMIT" else None)
    synced.clear()
    for i in range(100, 110):
        made.update([event(i, "u1", f"i{i}", "dislike")])
        made.recommend("u1")
    assert (len(commits), synced) == (10, [])
    made.close()
