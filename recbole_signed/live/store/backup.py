"""Backups: a copy of a state directory that opens as it is, made while the state may be written; and the way back.

It is made under a temporary name, opened, verified and renamed, and noted in ``BACKUPS``, so that a user who is
forgotten later goes from it too (``erasure.py``). Rejected rows and what a service has shown are not in it: an erasure
could not find users there. A new folder is open to its owner alone; a replaced one keeps its mode.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from recbole_signed.errors import UsageError
from recbole_signed.files import (
    PRIVATE,
    DamagedError,
    at,
    locked,
    make_folder,
    open_like,
    parse_json,
    refusing,
    replace_file,
    sync_folder,
)
from recbole_signed.live.events import FORGET_USER
from recbole_signed.live.store.announcements import LINES
from recbole_signed.live.store.database import LOG, existing_log
from recbole_signed.live.store.event_log import EventLog
from recbole_signed.live.store.line_files import read_lines, summed_line
from recbole_signed.live.store.versions import CURRENT, PINNED, Versions, read_manifest, read_tensors

BACKUP, BACKUPS = "BACKUP", "BACKUPS"
_OTHERS = "OTHER_BACKUPS"  # the register within a backup, which under its own name would be that of the backup itself
_VERSIONS, _CATALOGUE, _EXPERIMENTS = "versions", "catalogue.sqlite", "experiments.yaml"
_ATTEMPTS = 5


@dataclass(frozen=True)
class BackupInfo:
    """What a backup holds."""

    directory: str
    last_seq: int
    version: str | None
    made: str

    @classmethod
    def from_backup(cls, backup: Path) -> BackupInfo:
        """Read it from a backup; OSError, ValueError or TypeError where it says nothing."""
        return cls(**parse_json((backup / BACKUP).read_bytes()))


def back_up(directory: Path, target: Path) -> BackupInfo:
    """Copy a state, which another process may use, to a new folder outside it or over an earlier backup."""
    # a link to a folder of another disk stays a link
    directory, target = directory.absolute(), target.resolve() if target.is_symlink() else target.absolute()
    existing_log(directory)
    refuse_target(directory, target)
    for backup in noted(directory):
        if backup.path == target:
            backup.refuse_away(directory)  # the copy would lie below the place of its disk
    with refusing(f"Backing up {directory}"):
        make_folder(target.parent)
    with refusing(f"Backing up {directory}"), locked(directory):
        made = NotedBackup(target, target.parent.stat().st_dev, missed=False)
        note(directory, replace(made, missed=True))  # until the new copy stands in the place of an older one
        clear_leftovers(target)
        problem: UsageError | OSError | None = None
        for attempt in range(_ATTEMPTS):
            temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
            try:
                temporary.mkdir(PRIVATE)
                info = _copy(directory, temporary)
                open_like(temporary, target.stat() if target.exists() else None, PRIVATE)
                at("backup:copied")
                _put(temporary, target)
                if _last_forgotten(directory) <= info.last_seq:
                    note(directory, made)
                    return info
                shutil.rmtree(target)  # a user was forgotten meanwhile, who is still in this copy
            except (DamagedError, FileNotFoundError, shutil.Error) as error:  # a version or base was replaced meanwhile
                problem = error
                time.sleep(0.1 * attempt)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    raise UsageError(f"{directory} could not be backed up ({problem}); try again, or run state verify.")


def refuse_target(directory: Path, target: Path) -> None:
    """Refuse a folder that can't be the backup of a state."""
    directory, target = directory.absolute(), target.absolute()
    if directory in (target, *target.parents):
        raise UsageError(f"{target} is in the state itself; name a folder outside of it, best on another disk.")
    if (target / BACKUP).exists():
        # a state that was begun again, or another one, would take the place of the only copy
        if target.resolve() not in [backup.path.resolve() for backup in noted(directory)]:
            raise UsageError(f"{target} is a backup of another state; name another folder, or move that one away.")
        if other := other_maker(target, directory):  # from which this one was restored
            raise UsageError(f"{target} is the backup of {other}, which is still there; name another folder.")
    elif target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is there and is not a backup; name a folder that is not there yet.")


def other_maker(backup: Path, directory: Path) -> Path | None:
    """Return the state that a backup was made of, if it is there and is not ``directory``, such as a copy of it."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        made_of = Path(BackupInfo.from_backup(backup).directory)
        if made_of.resolve() != directory.resolve() and (made_of / LOG).exists():
            return made_of
    return None


def leftovers(folder: Path) -> list[Path]:
    """Return what a crash left beside a folder that was being made: copies, and what was moved out of the way."""
    if not folder.parent.is_dir():
        return []
    name = re.compile(rf"\.{re.escape(folder.name)}\.\d+\.(tmp|old)")
    return [path for path in folder.parent.iterdir() if name.fullmatch(path.name)]


def clear_leftovers(target: Path) -> None:
    """Remove what a crash left of the making of a backup, of a locked state; the one before goes back to its place."""
    for path in leftovers(target):
        if path.suffix == ".old" and not target.exists():
            path.rename(target)
        else:
            shutil.rmtree(path)


# ---- the register


@dataclass(frozen=True)
class NotedBackup:
    """What a state knows of a backup."""

    path: Path
    device: int | None  # of the folder above when the backup was made; None: not noted by earlier versions
    missed: bool  # whether it may hold users who were forgotten while it was not there

    @property
    def is_there(self) -> bool:
        """Whether the folder holds a backup."""
        return (self.path / BACKUP).is_file()

    @property
    def is_away(self) -> bool:
        """Whether the backup is not there with its whole disk, and not because someone deleted or moved it."""
        if self.is_there:
            return False
        above = next(folder for folder in self.path.parents if folder.exists())
        return above != self.path.parent if self.device is None else above.stat().st_dev != self.device

    def refuse_away(self, directory: Path) -> None:
        """Refuse to go on without the disk of a backup of a state."""
        if self.is_away:
            raise UsageError(
                f"the backup {self.path} can't be reached: the disk that it was made on is not there. Mount it; or, if "
                f"it was destroyed, say so by 'recbole-signed state backup {directory} {self.path} --destroyed'."
            )


def note(directory: Path, *backups: NotedBackup) -> None:
    """Write backups to the register in a directory, while that is locked."""
    _write(directory, {backup.path: backup for backup in (*noted(directory), *backups)})


def _write(directory: Path, backups: Mapping[Path, NotedBackup]) -> None:
    rows = [{**vars(backup), "path": str(backup.path)} for backup in backups.values()]
    replace_file(directory / BACKUPS, b"".join(map(summed_line, rows)))


def note_destroyed(directory: Path, target: Path) -> None:
    """Take a backup from the register of a state: erasures do not wait for it any more."""
    directory, target = directory.absolute(), target.absolute()
    with refusing(f"Writing {directory / BACKUPS}"), locked(directory):
        backups = {backup.path: backup for backup in noted(directory)}
        if target not in backups:
            known = ", ".join(map(str, backups)) or "none"
            raise UsageError(f"{target} is not a backup that was made of {directory}; those are: {known}.")
        if backups.pop(target).is_there:
            raise UsageError(f"{target} is still there and holds users; delete it first.")
        _write(directory, backups)


def noted(directory: Path, name: str = BACKUPS) -> list[NotedBackup]:
    """Return what the register in a directory says of each backup, in the order in which they were first made."""
    backups: dict[str, NotedBackup] = {}
    for row in read_lines(directory / name):
        about = row if isinstance(row, dict) else {"path": row}  # earlier versions wrote the path alone
        path, device = about.get("path"), about.get("device")
        if not isinstance(path, str) or not isinstance(device, int | None):
            raise DamagedError(f"{directory / name} is damaged: it names what is no folder; put a copy in its place.")
        if about.get("destroyed"):  # of earlier versions, which added lines and took none away
            backups.pop(path, None)
        else:
            backups[path] = NotedBackup(Path(path), device, bool(about.get("missed")))
    return list(backups.values())


def _copy(directory: Path, folder: Path) -> BackupInfo:
    names = Versions(directory / _VERSIONS).candidates()
    if names:
        (folder / _VERSIONS).mkdir()
        shutil.copytree(
            directory / _VERSIONS / names[0], folder / _VERSIONS / names[0], ignore=shutil.ignore_patterns(PINNED)
        )
        (folder / _VERSIONS / CURRENT).write_text(f"{names[0]}\n", encoding="ascii")
    # after the version: a log may hold more than a version reflects, but not less
    for name in (LOG, _CATALOGUE):
        if (directory / name).exists():
            _copy_database(directory / name, folder / name)
    if (directory / _EXPERIMENTS).exists():
        shutil.copyfile(directory / _EXPERIMENTS, folder / _EXPERIMENTS)
    with contextlib.closing(EventLog(folder / LOG, read_only=True, check=True)) as log:
        base, last_seq = log.base, log.last_seq
        if (directory / LINES).exists():  # the state was not opened since an earlier version
            shutil.copyfile(directory / LINES, folder / LINES)
        shutil.copyfile(directory / BACKUPS, folder / _OTHERS)
    if base is not None:
        shutil.copytree(directory / base, folder / base)
    _verify(folder, base)
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    info = BackupInfo(str(directory), last_seq, names[0] if names else None, made)
    (folder / BACKUP).write_text(json.dumps(vars(info)) + "\n", encoding="utf-8")
    _sync(folder)
    return info


def _copy_database(source: Path, target: Path) -> None:
    address = f"{source.as_uri()}?mode=ro"
    with (
        contextlib.closing(sqlite3.connect(address, uri=True)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)  # all pages as they were when it began; writers go on in the write-ahead file
        new.execute("PRAGMA journal_mode=WAL")


def _verify(folder: Path, base: str | None) -> None:
    """Hold all that was copied against its checksums."""
    versions = Versions(folder / _VERSIONS)
    for name in versions.names():
        versions.load(name)
    if base is not None:
        read_tensors(folder / base, read_manifest(folder / base), "edges")


def _put(temporary: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    if target.exists():
        target.rename(old)
        at("backup:moved")
    temporary.rename(target)
    sync_folder(target.parent)
    at("backup:renamed")
    shutil.rmtree(old, ignore_errors=True)


def _sync(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        sync_folder(path)  # of a file: its content


def _last_forgotten(directory: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"{(directory / LOG).as_uri()}?mode=ro", uri=True)) as log:
        query = "SELECT max(seq) FROM events WHERE type = ? UNION ALL SELECT max(seq) FROM erasures"
        return max(row[0] or 0 for row in log.execute(query, (FORGET_USER,)))


def restore(backup: Path, directory: Path) -> BackupInfo:
    """Make a state directory of a backup."""
    backup, directory = backup.absolute(), directory.absolute()
    try:
        info = BackupInfo.from_backup(backup)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{backup} is not a backup; 'state backup' makes one.") from error
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory} is not empty; move what is there away, or name another directory.")
    with contextlib.closing(EventLog(backup / LOG, read_only=True)) as log:
        log.verify()
        _verify(backup, log.base)
    register = _register_of(backup, Path(info.directory), directory)
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    with refusing(f"Restoring {directory}"), contextlib.ExitStack() as stack:
        make_folder(directory.parent)
        for path in leftovers(directory):
            if path.suffix == ".tmp":
                shutil.rmtree(path)
        stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        temporary.mkdir(PRIVATE)
        shutil.copytree(
            backup, temporary, ignore=shutil.ignore_patterns(BACKUP, "LOCK", BACKUPS, _OTHERS), dirs_exist_ok=True
        )
        note(temporary, *register)
        open_like(temporary, directory.stat() if directory.exists() else None, PRIVATE)
        _sync(temporary)
        at("restore:copied")
        if directory.exists():
            directory.rmdir()
        temporary.rename(directory)
        sync_folder(directory.parent)
    return info


def _register_of(backup: Path, origin: Path, directory: Path) -> list[NotedBackup]:
    """Return the register for a state that is restored: the backup, and the others of the state that it was made of."""
    known = {other.path: other for other in noted(backup, _OTHERS)}
    with contextlib.suppress(UsageError, OSError):  # where it is there still, it knows later ones
        known |= {other.path: other for other in noted(origin)}
    known[backup] = NotedBackup(backup, backup.parent.stat().st_dev, missed=False)
    return [other for other in known.values() if other.path != directory]
