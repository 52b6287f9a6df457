"""Backups of a state that is being written, what is restored of them, and how users are erased from them."""

import contextlib
import json
import os
import shutil
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from bare_state import ready
from refusals import check_refused
from small_recommender import NOW, Opens, begin, content, event
from state_hashes import state_hash
from typer.testing import CliRunner
from warm_python import WarmPython

from recbole_signed.cli.app import app
from recbole_signed.errors import UsageError
from recbole_signed.live import OnlineRecommender
from recbole_signed.live.store import back_up, backup, compaction
from recbole_signed.live.store.backup import restore
from recbole_signed.live.store.state import OnlineState


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["state", *map(str, words)])
    if isinstance(done.exception, UsageError):
        raise done.exception
    return done.exit_code, done.output


def known(folder: Path) -> set[str]:
    """Return the names of the backups that a state knows of."""
    return {each.path.name for each in backup.noted(folder)}


def test_a_backup_made_while_all_is_written_opens_and_holds_what_was_acknowledged(
    recommender: OnlineRecommender, tmp_path: Path
) -> None:
    folder = recommender.directory
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
            assert again.state.last_seq == info.last_seq
            assert again.recommend("u1", 5)
            again.close()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    recommender.update([event(10**6, "u1", "i1", "dislike")])
    expected = state_hash(recommender.state), recommender.recommend("u7", 20)
    recommender.back_up(tmp_path / "last")
    restore(tmp_path / "last", tmp_path / "restored")
    again = OnlineRecommender.open(tmp_path / "restored")
    assert state_hash(again.state) == expected[0]
    assert [item for item, _ in again.recommend("u7", 20)] == [item for item, _ in expected[1]]
    again.close()


def test_users_who_are_forgotten_one_after_the_other_go_from_backups_too(
    recommender: OnlineRecommender, tmp_path: Path
) -> None:
    leaving = ("leaves-first", "leaves-then")
    recommender.update([event(n, leaving[n % 2], f"i{n}", "like") for n in range(1, 9)])
    for name in ("one", "two", "gone"):
        recommender.back_up(tmp_path / name)
    shutil.rmtree(tmp_path / "gone")
    for user in leaving:
        assert all(user.encode() in content(tmp_path / name) for name in ("one", "two"))
        left = recommender.forget(user)
        assert (left.rows, left.reasons) == (0, ())
        assert not any(user.encode() in content(tmp_path / name) for name in ("one", "two"))
    for name in ("one", "two"):
        assert run("verify", tmp_path / name)[0] == 0
        restore(tmp_path / name, tmp_path / f"{name} again")
        with ready(tmp_path / f"{name} again") as state:
            assert not any(user in state.users for user in leaving)
            assert len(state.edges) > 400


def test_another_state_in_the_place_of_a_backup_keeps_its_users(recommender: OnlineRecommender, tmp_path: Path) -> None:
    """Users are forgotten there by ids, which in another state, or in a backup of a copy of it, are of other users."""
    for name in ("moved", "other", "own"):
        recommender.back_up(tmp_path / name)
    recommender.update([event(1, "leaves", "i1", "like")])
    recommender.back_up(tmp_path / "own")
    for name in ("moved", "other"):  # the copy goes on by itself, and gives the next id to someone else
        restore(tmp_path / name, tmp_path / f"{name} copy")
        copy = OnlineRecommender.open(tmp_path / f"{name} copy")
        copy.update([event(1, "stays", "i1", "like")])
        if name == "other":
            shutil.rmtree(tmp_path / "other")
            copy.back_up(tmp_path / "other")  # a backup, but of the copy
        copy.close()
    shutil.rmtree(tmp_path / "moved")
    (tmp_path / "moved copy").rename(tmp_path / "moved")  # a state, and no backup
    assert recommender.forget("leaves").rows == 0
    recommender.close()
    for name, user, known in (("moved", "stays", True), ("other", "stays", True), ("own", "leaves", False)):
        with ready(tmp_path / name) as state:
            assert (user in state.users) is known, name


@pytest.mark.parametrize("step", ["backup:copied", "backup:moved", "backup:renamed"])
def test_what_a_crash_left_of_a_backup_forgets_users(
    recommender: OnlineRecommender, tmp_path: Path, warm_python: WarmPython, step: str
) -> None:
    recommender.update([event(1, "leaves-for-ever", "i1", "like")])
    backups = tmp_path / "backups"
    recommender.back_up(backups / "one")
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nfrom pathlib import Path\nfrom recbole_signed import files\n"
        "from recbole_signed.live.store import back_up\n"
        f"files.reached = lambda step: os._exit(9) if step == {step!r} else None\n"
        f"back_up(Path({str(tmp_path / 'state')!r}), Path({str(backups / 'one')!r}))\n"
    )
    assert warm_python.run(script, cwd=tmp_path).status == 9
    assert len(list(backups.iterdir())) > 1 or step == "backup:moved"
    assert b"leaves-for-ever" in content(backups)
    assert recommender.forget("leaves-for-ever").rows == 0
    assert [each.name for each in backups.iterdir()] == ["one"]
    assert b"leaves-for-ever" not in content(backups)
    restore(backups / "one", tmp_path / "again")  # whole


def test_backups_that_are_damaged_or_made_after_a_crash(recommender: OnlineRecommender, tmp_path: Path) -> None:
    for name in (".one.17.tmp", ".one.17.old", ".one.1.18.tmp"):  # the last one is of another backup, one.1
        (tmp_path / "backups" / name).mkdir(parents=True)
    recommender.back_up(tmp_path / "backups" / "one")
    assert sorted(each.name for each in (tmp_path / "backups").iterdir()) == [".one.1.18.tmp", "one"]
    (tmp_path / ".again.17.tmp").mkdir()
    restore(tmp_path / "backups" / "one", tmp_path / "again")
    assert not (tmp_path / ".again.17.tmp").exists()
    recommender.update([event(1, "leaves", "i1", "like")])
    recommender.back_up(tmp_path / "backup")
    holder, left = OnlineState.open(tmp_path / "backup"), recommender.forget("leaves")
    assert left.rows == 1
    assert "is being written by process" in left.reasons[0]
    holder.close()
    assert recommender.erase().rows == 0


def test_an_erasure_waits_for_a_backup_that_is_being_made(
    recommender: OnlineRecommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its copy may hold the user; what is made beside it is not taken for what a crash left."""
    recommender.update([event(1, "leaves-for-ever", "i1", "like")])
    left = []

    def reached(step: str) -> None:
        if step == "backup:copied":
            monkeypatch.undo()
            left.append(recommender.forget("leaves-for-ever"))

    monkeypatch.setattr("recbole_signed.files.reached", reached)
    back_up(tmp_path / "state", tmp_path / "backup")  # as another process
    assert left[0].rows == 1
    assert "is being made" in left[0].reasons[0]
    restore(tmp_path / "backup", tmp_path / "again")
    with ready(tmp_path / "again") as again:
        assert "leaves-for-ever" not in again.users, "the backup knows who was forgotten while it was made"
    shutil.rmtree(tmp_path / "again")
    assert recommender.erase().rows == 0
    assert b"leaves-for-ever" not in content(tmp_path)


def other_disk(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let a folder and what is in it be on a disk of its own."""
    stat = Path.stat

    def told(path: Path, **how: Any) -> os.stat_result:
        found = stat(path, **how)
        if folder not in (path, *path.parents):
            return found
        return os.stat_result((*found[:2], found.st_dev + 1, *found[3:]))

    monkeypatch.setattr(Path, "stat", told)


@pytest.mark.parametrize("deep", ["", "of/a/machine"])
def test_an_erasure_waits_for_the_disk_of_a_backup(
    opens: Opens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deep: str
) -> None:
    recommender = opens()
    recommender.update([event(1, "leaves-for-ever", "i1", "like")])
    disk, here = tmp_path / "disk", tmp_path / "here"
    with monkeypatch.context() as mounted:
        other_disk(mounted, disk)
        recommender.back_up(disk / deep / "one")
    recommender.back_up(here)
    disk.rename(tmp_path / "unmounted")
    disk.mkdir()  # where it was mounted
    left = recommender.forget("leaves-for-ever")
    assert left.rows == 1
    assert f"the backup {disk / deep / 'one'} can't be reached" in left.reasons[0]
    assert b"leaves-for-ever" not in content(here)  # the others do not wait
    check_refused("can't be reached", recommender.back_up, disk / deep / "one")
    assert not list(disk.iterdir())
    disk.rmdir()
    (tmp_path / "unmounted").rename(disk)
    with monkeypatch.context() as mounted:
        other_disk(mounted, disk)
        assert opens().erase().rows == 0
    assert b"leaves-for-ever" not in content(disk)


def test_the_base_is_written_once_while_an_erasure_waits_and_updates_go_on(
    recommender: OnlineRecommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender.update([event(n, user, "i1", "like") for n, user in enumerate(["leaves", "leaves-then"], 1)])
    with monkeypatch.context() as mounted:
        other_disk(mounted, tmp_path / "disk")
        recommender.back_up(tmp_path / "disk" / "one")
    shutil.rmtree(tmp_path / "disk")
    write, held = compaction.write_folder, list[bool]()

    def look() -> None:
        got = recommender.state.lock.acquire(blocking=False)  # type: ignore[union-attr]
        held.append(not got)
        if got:
            recommender.state.lock.release()  # type: ignore[union-attr]

    def watched(*given: Any) -> None:
        seen = threading.Thread(target=look)
        seen.start()
        seen.join()
        write(*given)

    monkeypatch.setattr(compaction, "write_folder", watched)
    for user in ("leaves", "leaves-then"):
        assert recommender.forget(user).rows > 0
        assert recommender.erase().rows > 0
    assert held == [False, False]


def test_an_erasure_does_not_wait_for_a_backup_that_was_destroyed(
    recommender: OnlineRecommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender.update([event(1, "leaves", "i1", "like")])
    with monkeypatch.context() as mounted:
        other_disk(mounted, tmp_path / "disk")
        recommender.back_up(tmp_path / "disk" / "one")
    words = ("backup", tmp_path / "state", tmp_path / "disk" / "one", "--destroyed")
    check_refused("is still there", run, *words)
    shutil.rmtree(tmp_path / "disk")
    assert recommender.forget("leaves").rows == 1
    assert run(*words)[0] == 0
    assert recommender.erase().rows == 0
    check_refused("is not a backup that was made of", run, *words)


def test_a_backup_that_is_there_again_forgets(opens: Opens, tmp_path: Path) -> None:
    """On the same disk it can't be told from one that was deleted, for which nobody waits."""
    recommender = opens()
    recommender.update([event(1, "leaves-for-ever", "i1", "like")])
    recommender.back_up(tmp_path / "backup")
    for _ in range(2):
        (tmp_path / "backup").rename(tmp_path / "moved")
        assert recommender.forget("leaves-for-ever").rows == 0
        (tmp_path / "moved").rename(tmp_path / "backup")
        recommender = opens()
        recommender.erase()  # as it does by itself, in the background
        assert b"leaves-for-ever" not in content(tmp_path / "backup")


def test_a_user_who_came_back_goes_from_a_backup_that_remembers_the_first_forgetting(
    recommender: OnlineRecommender, tmp_path: Path
) -> None:
    """There an event of forgetting that is older counts as one that was delayed on its way."""
    secret, target = "came-back", tmp_path / "backup"
    recommender.update([event(1, secret, "i1", "like"), event(300, "other", "i2", "like")])
    recommender.forget(secret, timestamp=NOW + 100)
    recommender.update([event(200, secret, "i1", "like")])
    recommender.back_up(target)
    target.rename(tmp_path / "moved")
    recommender.forget(secret, timestamp=NOW + 250)
    recommender.refit().result()
    assert not recommender.erase()
    (tmp_path / "moved").rename(target)
    assert secret.encode() in content(target)
    recommender.forget("other", timestamp=NOW + 50)  # this event was delayed itself
    assert secret.encode() not in content(target)


def test_a_restored_state_forgets_in_all_backups_of_the_one_before(opens: Opens, tmp_path: Path) -> None:
    recommender = opens()
    recommender.update([event(1, "leaves-for-ever", "i1", "like")])
    for name in ("one", "two", "three"):
        recommender.back_up(tmp_path / name)
    recommender.close()
    restore(tmp_path / "two", tmp_path / "beside")  # the register of the state tells of later ones
    shutil.rmtree(tmp_path / "state")
    restore(tmp_path / "two", tmp_path / "state")
    with OnlineState.open(tmp_path / "beside") as beside:
        assert known(beside.directory) == {"one", "two", "three"}
    recommender = opens()
    assert known(recommender.directory) == {"one", "two"}
    assert recommender.forget("leaves-for-ever").rows == 0
    for name in ("one", "two"):
        assert b"leaves-for-ever" not in content(tmp_path / name)


def test_a_restored_copy_leaves_the_backup_of_the_state_that_goes_on(opens: Opens, tmp_path: Path) -> None:
    recommender = opens()
    recommender.update([event(1, "stays", "i1", "like")])
    recommender.back_up(tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "staging")
    staging = OnlineRecommender.open(tmp_path / "staging")
    check_refused(f"is the backup of {tmp_path / 'state'}, which is still there", staging.back_up, tmp_path / "backup")
    staging.forget("stays")
    staging.close()
    assert b"stays" in content(tmp_path / "backup")
    assert b"stays" not in content(tmp_path / "staging")
    recommender.back_up(tmp_path / "backup")
    recommender.close()
    shutil.rmtree(tmp_path / "state")
    staging = OnlineRecommender.open(tmp_path / "staging")
    staging.back_up(tmp_path / "backup")  # nobody else makes it now
    staging.close()
    assert b"stays" not in content(tmp_path / "backup")


@pytest.mark.parametrize("line", [b'{"path": 5}', b"[1]", b"nonsense", b"[" * 100_000, b'{"path": "/tmp", "sum": 1}'])
def test_a_register_of_backups_that_is_damaged_keeps_the_erasure_pending(
    recommender: OnlineRecommender, tmp_path: Path, line: bytes
) -> None:
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
    assert known(recommender.directory) == {"backup", "another"}


def test_a_register_to_which_earlier_versions_added_lines_is_read(tmp_path: Path) -> None:
    lines = [
        '"/an/old one"',
        '{"path": "/gone"}',
        '{"path": "/gone", "destroyed": true}',
        '{"path": "/a", "missed": true}',
    ]
    (tmp_path / "BACKUPS").write_text("".join(f"{line}\n" for line in lines))
    expected = {"/an/old one": (None, False), "/a": (None, True)}
    for _ in range(2):
        assert {str(each.path): (each.device, each.missed) for each in backup.noted(tmp_path)} == expected
        backup.note(tmp_path, backup.NotedBackup(tmp_path / "c", 7, missed=False))
        expected[str(tmp_path / "c")] = (7, False)


def test_new_folders_are_open_to_their_owner_alone_and_others_as_before(tmp_path: Path) -> None:
    def mode(name: str) -> str:
        return oct((tmp_path / name).stat().st_mode & 0o777)

    before = os.umask(0o022)
    try:
        begin(tmp_path / "state").close()
        back_up(tmp_path / "state", tmp_path / "copy")
        restore(tmp_path / "copy", tmp_path / "restored")
        assert [mode(name) for name in ("state", "copy", "restored")] == ["0o700"] * 3
        for name in ("ready", "shared", "place"):
            (tmp_path / name).mkdir()
            (tmp_path / name).chmod(0o750)
        begin(tmp_path / "ready").close()
        for _ in range(2):  # into an empty folder, and into the place of a copy
            back_up(tmp_path / "state", tmp_path / "shared")
            assert mode("shared") == "0o750"
        restore(tmp_path / "copy", tmp_path / "place")
        assert [mode(name) for name in ("ready", "place")] == ["0o750"] * 2
    finally:
        os.umask(before)


def test_the_commands(recommender: OnlineRecommender, tmp_path: Path) -> None:
    recommender.update([event(1, "u1", "i1", "like")])
    status, text = run("backup", tmp_path / "state", tmp_path / "backup", "--json")
    assert (status, json.loads(text)["last_seq"]) == (0, 1)
    recommender.close()
    status, text = run("restore", tmp_path / "backup", tmp_path / "again")
    assert (status, "up to seq 1" in text) == (0, True)
    assert run("backup", tmp_path / "again", tmp_path / "own")[0] == 0
    for words, message in (
        (("backup", tmp_path / "nothing", tmp_path / "b"), "holds no online state"),
        (("backup", tmp_path / "state", tmp_path / "state" / "b"), "is in the state itself"),
        (("backup", tmp_path / "state", tmp_path / "again"), "is not a backup"),
        (("backup", tmp_path / "state", tmp_path / "own"), "is a backup of another state"),
        (("restore", tmp_path / "again", tmp_path / "b"), "is not a backup"),
        (("restore", tmp_path / "backup", tmp_path / "again"), "is not empty"),
    ):
        check_refused(message, run, *words)
    for link, place in (("disk", tmp_path), ("link", tmp_path / "backup")):  # one folder under several names
        (tmp_path / link).symlink_to(place)
    before = (tmp_path / "backup" / "BACKUP").stat().st_mtime_ns
    for target in (tmp_path / "disk" / "backup", tmp_path / "link"):
        assert run("backup", tmp_path / "state", target)[0] == 0
        check_refused("is the backup of", run, "backup", tmp_path / "again", target)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "backup" / "BACKUP").stat().st_mtime_ns > before


def spoil(folder: Path) -> None:
    """Change a byte of the largest file of tensors of a version or a base."""
    path = max(folder.rglob("*.safetensors"), key=lambda each: each.stat().st_size)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)


@pytest.mark.parametrize("part", ["log", "versions", "base"])
def test_a_damaged_backup_is_not_restored(recommender: OnlineRecommender, tmp_path: Path, part: str) -> None:
    recommender.update([event(1, "u1", "i1", "like")])
    for _ in range(3):
        recommender.snapshot()
    recommender.compact()
    recommender.update([event(2, "u1", "i2", "like")])
    recommender.back_up(tmp_path / "backup")
    if part == "log":
        with contextlib.closing(sqlite3.connect(tmp_path / "backup" / "log.sqlite", isolation_level=None)) as log:
            assert log.execute("UPDATE events SET item = 5").rowcount == 1
    else:
        (folder,) = (tmp_path / "backup").glob(f"{part}*/")
        spoil(folder)
    check_refused("damaged", restore, tmp_path / "backup", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_damaged_version_does_not_take_the_place_of_a_backup(
    recommender: OnlineRecommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = recommender.back_up(tmp_path / "backup")
    assert first.version == "v000001"
    recommender.update([event(1, "u1", "i1", "like")])
    newest = recommender.snapshot()
    recommender.close()
    spoil(tmp_path / "state" / "versions" / newest)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    check_refused("could not be backed up", back_up, tmp_path / "state", tmp_path / "backup")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["backup", "state"]
    assert restore(tmp_path / "backup", tmp_path / "again") == first


def test_a_backup_is_on_the_disk_before_it_is_in_its_place(
    recommender: OnlineRecommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        recommender.snapshot()
    recommender.compact()
    synced: list[str] = []
    sync = backup.sync_folder
    monkeypatch.setattr(backup, "sync_folder", lambda path: (synced.append(path.name), sync(path)))
    steps: list[str] = []

    def reached(step: str) -> None:
        if step in ("backup:copied", "restore:copied"):
            (made,) = tmp_path.glob(".*.tmp")
            assert {each.name for each in (made, *made.rglob("*"))} <= {*synced}, step
            assert {"model.safetensors", "log.sqlite"} <= {*synced}
            synced.clear()
            steps.append(step)
        if step == "backup:renamed":
            assert synced == [tmp_path.name]
            steps.append(step)

    monkeypatch.setattr("recbole_signed.files.reached", reached)
    recommender.back_up(tmp_path / "backup")
    recommender.close()
    restore(tmp_path / "backup", tmp_path / "again")
    assert steps == ["backup:copied", "backup:renamed", "restore:copied"]
    assert synced == [tmp_path.name], "the folder that the restored state is in"


def test_a_backup_holds_the_catalogue_and_no_pin(recommender: OnlineRecommender, tmp_path: Path) -> None:
    newest = recommender.snapshot()
    recommender.versions.pin(newest)
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / "catalogue.sqlite")) as catalogue:
        catalogue.execute("CREATE TABLE titles AS SELECT 'i1' AS item, 'Heat' AS title")
        catalogue.commit()
    assert recommender.back_up(tmp_path / "backup").version == newest
    recommender.close()
    restore(tmp_path / "backup", tmp_path / "again")
    with contextlib.closing(sqlite3.connect(tmp_path / "again" / "catalogue.sqlite")) as catalogue:
        assert catalogue.execute("SELECT * FROM titles").fetchall() == [("i1", "Heat")]
    assert [*(tmp_path / "state").rglob("PINNED")]
    assert not [*(tmp_path / "again").rglob("PINNED")], "a pin would keep the version for ever"


def test_a_backup_names_nobody_whom_the_log_does_not_know(recommender: OnlineRecommender, tmp_path: Path) -> None:
    """A user of rejected rows alone has no number by which an erasure would find it in a backup."""
    recommender.update([event(1, "u1", "i1", "like")])
    (tmp_path / "state" / "dead_letters.jsonl").write_text('{"reason": "?", "raw": {"user_id": "known-to-nobody"}}\n')
    recommender.back_up(tmp_path / "backup")
    recommender.forget("known-to-nobody")
    for folder in ("state", "backup"):
        assert b"known-to-nobody" not in content(tmp_path / folder)
