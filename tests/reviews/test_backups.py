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


def test_r14_another_state_in_the_place_of_a_backup_keeps_its_users(tmp_path: Path) -> None:
    """Users are forgotten there by ids, which in another state, or in a backup of a copy of it, are of other users."""
    recommender = begin(tmp_path / "state")
    for name in ("moved", "other", "own"):
        recommender.back_up(tmp_path / name)
    recommender.update([event(1, "leaves", "i1", "like")])
    recommender.back_up(tmp_path / "own")
    for name in ("moved", "other"):  # the copy goes on by itself, and gives the next id to someone else
        restore(tmp_path / name, tmp_path / f"{name} copy")
        copy = OnlineRecommender.open(tmp_path / f"{name} copy")
        copy.update([event(1, "stays", "i1", "like")])
        if name == "other":
            copy.back_up(tmp_path / "other")  # a backup, but of the copy
        copy.close()
    shutil.rmtree(tmp_path / "moved")
    (tmp_path / "moved copy").rename(tmp_path / "moved")  # a state, and no backup
    assert recommender.forget("leaves").rows == 0
    recommender.close()
    for name, user, known in (("moved", "stays", True), ("other", "stays", True), ("own", "leaves", False)):
        with OnlineState.open(tmp_path / name) as state:
            state.recover()
            list(state.replay())
            assert (user in state.users) is known, name


@pytest.mark.parametrize("line", [b'{"path": 5}', b"[1]", b"nonsense", b"[" * 100_000, b'{"path": "/tmp", "sum": 1}'])
def test_a_register_of_backups_that_is_damaged_keeps_the_erasure_pending(tmp_path: Path, line: bytes) -> None:
    recommender = begin(tmp_path / "state")
    recommender.update([event(1, "leaves", "i1", "like")])
    recommender.back_up(tmp_path / "backup")
    register = tmp_path / "state" / "BACKUPS"
    whole = register.read_bytes()
    register.write_bytes(whole + line + b"\n")
    left = recommender.forget("leaves")
    assert left.rows == 1
    assert "BACKUPS is damaged" in left.reasons[0]
    register.write_bytes(whole + b'{"path": "/half a li')  # as a crash leaves it
    assert recommender.erase().rows == 0
    recommender.back_up(tmp_path / "another")
    assert [each.name for each in recommender.state.backups()] == ["backup", "another"]
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
