"""Who may use an open state directory: the process that opened it, while the files are those that it opened."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from recbole_signed.errors import UsageError
from recbole_signed.files import LOCK, DirectoryLock, at

LOG = "log.sqlite"
Opened = TypeVar("Opened", bound="OpenedDirectory")


class OpenedDirectory:
    """A state directory that this process holds: one call at a time, until `close`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lock = threading.RLock()
        self.maintenance = threading.RLock()  # held, before `lock`, by what writes versions, base or backups
        self.closed = False
        self._pid = os.getpid()
        self._files: dict[Path, tuple[int, int] | None] = {}
        self._held = DirectoryLock(directory)

    def _begin(self, log: Path) -> None:
        """Remember the files, once they are there."""
        self._files = {path: identity(path) for path in (self.directory, self.directory / LOCK, log)}

    def __enter__(self: Opened) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the directory; all that was acknowledged is on the disk already. Waits for a call under way."""
        if os.getpid() != self._pid:  # the files belong to the process that this one was forked from
            return
        with self.maintenance, self.lock:
            if not self.closed:
                self.closed = True
                at("state:closing")
                self._close()
                at("state:closed")
                self._held.release()

    def _close(self) -> None:
        """Close what is open."""

    @contextlib.contextmanager
    def entered(self, *, writes: bool = True) -> Iterator[None]:
        """Hold the state for one call."""
        self.check_process()  # before the lock, which a fork may have copied while it was held
        with self.lock:
            if self.closed:
                raise UsageError(f"The state {self.directory} was closed; open it again.")
            if writes:
                self.check_files()
            yield

    def check_process(self) -> None:
        """Refuse a process that was forked from the one that opened the directory."""
        if os.getpid() != self._pid:
            raise UsageError(
                f"{self.directory} was opened by process {self._pid}, and this is process {os.getpid()}, forked from "
                "it; open a state in the one process that uses it, after the fork."
            )

    def check_files(self) -> None:
        """Refuse to go on where the files of the state are no longer at their place: what is written would be lost."""
        for path, known in self._files.items():
            if identity(path) != known:
                raise UsageError(
                    f"{path} was deleted, moved or replaced while the state was open, so nothing more is acknowledged; "
                    "put the directory back, or open the state at its new place."
                )


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file or folder from another one at its place; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def existing_log(directory: Path) -> Path:
    """Return the log of a state directory."""
    log = directory / LOG
    if not log.exists():
        raise UsageError(
            f"{directory} holds no online state ({LOG} is not there); 'recbole-signed serve --init MODEL --dataset "
            "NAME --state DIR' or an OnlineTrainer begins one."
        )
    return log


def refuse_missing_log(log: Path, versions: Path) -> None:
    """Refuse to begin from nothing where versions say that there was a log."""
    if log.exists() and log.stat().st_size:
        return
    left = [log.with_name(f"{log.name}-wal"), *log.parent.glob("base-*"), *versions.glob("v*")]
    found = next((each for each in left if each.exists() and not (each.is_file() and not each.stat().st_size)), None)
    if found is not None:
        raise UsageError(
            f"{log} is missing or empty, but {found.name} was made from one, so events would be lost without a word; "
            "restore the log from a backup, or name an empty directory."
        )
