"""Finding R17 of the reliability review (a hot backup does not open), and the erasure of users from backups (R2)."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest
from small_recommender import begin, event
from typer.testing import CliRunner

from recbole_signed.cli.app import app
from recbole_signed.errors import UsageError
from recbole_signed.online import OnlineRecommender
from recbole_signed.online.store import OnlineState, back_up, restore


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["state", *map(str, words)])
    return done.exit_code, done.output


def test_a_backup_made_while_all_is_written_opens_and_holds_what_was_acknowledged(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    recommender = begin(folder)
    stop, numbers = threading.Event(), [0]

    def write() -> None:
        while not stop.is_set():
            numbers[0] += 1
            recommender.update([event(numbers[0], f"u{numbers[0] % 50}", f"i{numbers[0] % 35}", "like")])

    def maintain() -> None:
        while not stop.is_set():
            recommender.snapshot()
            recommender.compact()

    threads = [threading.Thread(target=each) for each in (write, maintain)]
    for thread in threads:
        thread.start()
    try:
        for n in range(6):
            target = tmp_path / f"backup{n % 2}"  # into the place of an earlier one too
            acknowledged = recommender.state.last_seq
            info = back_up(folder, target) if n % 2 else recommender.back_up(target)  # as another process, or itself
            assert info.last_seq >= acknowledged
            shutil.rmtree(tmp_path / "again", ignore_errors=True)
            restore(target, tmp_path / "again")
            again = OnlineRecommender.open(tmp_path / "again")
            assert again.state is not None
            assert again.state.last_seq == info.last_seq
            assert again.recommend("u1", 5)
            again.close()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    recommender.update([event(10**6, "u1", "i1", "dislike")])
    expected = recommender.state.hash(), recommender.recommend("u7", 20)
    recommender.back_up(tmp_path / "last")
    recommender.close()
    restore(tmp_path / "last", tmp_path / "restored")
    again = OnlineRecommender.open(tmp_path / "restored")
    assert again.state is not None
    assert again.state.hash() == expected[0]
    assert [item for item, _ in again.recommend("u7", 20)] == [item for item, _ in expected[1]]
    again.close()


def test_r2_a_forgotten_user_goes_from_backups_too(tmp_path: Path) -> None:
    folder, secret = tmp_path / "state", "a-user-who-will-leave"
    recommender = begin(folder)
    recommender.update([event(n, secret, f"i{n}", "like") for n in range(1, 9)])
    for name in ("one", "two", "gone"):
        recommender.back_up(tmp_path / name)
    shutil.rmtree(tmp_path / "gone")
    for name in ("one", "two"):
        assert secret.encode() in b"".join(each.read_bytes() for each in (tmp_path / name).rglob("*") if each.is_file())
    left = recommender.forget(secret)
    assert (left.rows, left.reasons) == (0, ())
    recommender.close()
    for name in ("one", "two"):
        content = b"".join(each.read_bytes() for each in (tmp_path / name).rglob("*") if each.is_file())
        assert secret.encode() not in content
        assert run("verify", tmp_path / name)[0] == 0
        restore(tmp_path / name, tmp_path / f"{name} again")
        with OnlineState.open(tmp_path / f"{name} again") as state:
            state.recover()
            list(state.replay())
            assert secret not in state.users
            assert len(state.edges) > 400


def test_a_backup_that_can_not_be_reached_keeps_the_erasure_pending(tmp_path: Path) -> None:
    recommender = begin(tmp_path / "state")
    recommender.update([event(1, "leaves", "i1", "like")])
    recommender.back_up(tmp_path / "backup")
    holder = OnlineState.open(tmp_path / "backup")
    left = recommender.forget("leaves")
    assert left.rows == 1
    assert "is being written by process" in left.reasons[0]
    holder.close()
    assert recommender.erase().rows == 0
    recommender.close()


def test_the_commands(tmp_path: Path) -> None:
    recommender = begin(tmp_path / "state")
    recommender.update([event(1, "u1", "i1", "like")])
    status, text = run("backup", tmp_path / "state", tmp_path / "backup", "--json")
    assert (status, json.loads(text)["last_seq"]) == (0, 1)
    recommender.close()
    status, text = run("restore", tmp_path / "backup", tmp_path / "again")
    assert (status, "up to seq 1" in text) == (0, True)
    for words, message in (
        (("backup", tmp_path / "nothing", tmp_path / "b"), "holds no online state"),
        (("backup", tmp_path / "state", tmp_path / "state" / "b"), "is in the state itself"),
        (("backup", tmp_path / "state", tmp_path / "again"), "is not a backup"),
        (("restore", tmp_path / "again", tmp_path / "b"), "is not a backup"),
        (("restore", tmp_path / "backup", tmp_path / "again"), "is not empty"),
    ):
        with pytest.raises(UsageError, match=message):
            CliRunner().invoke(app, ["state", *map(str, words)], catch_exceptions=False, standalone_mode=False)


def test_a_damaged_backup_is_not_restored(tmp_path: Path) -> None:
    recommender = begin(tmp_path / "state")
    recommender.update([event(1, "u1", "i1", "like")])
    recommender.back_up(tmp_path / "backup")
    recommender.close()
    log = sqlite3.connect(tmp_path / "backup" / "log.sqlite")
    log.execute("UPDATE events SET item = 5")
    log.commit()
    log.close()
    with pytest.raises(UsageError, match="is damaged"):
        restore(tmp_path / "backup", tmp_path / "again")
    assert not (tmp_path / "again").exists()
