"""Who may use an open state directory: the process that opened it, while the files are those that it opened."""

from __future__ import annotations

import os
from pathlib import Path

from recbole_signed.errors import UsageError
from recbole_signed.files import LOCK


class Owner:
    """Remembers process and files at the time of opening.

    Args:
        directory: of the state.
        log: its event log.
    """

    def __init__(self, directory: Path, log: Path) -> None:
        self._directory = directory
        self._pid = os.getpid()
        self._files = {path: _identity(path) for path in (directory, directory / LOCK, log)}

    @property
    def is_here(self) -> bool:
        """Whether this is the process that opened the directory."""
        return os.getpid() == self._pid

    def check_process(self) -> None:
        """Refuse a process that was forked from the one that opened the directory.

        Raises:
            UsageError: this is another process.
        """
        if not self.is_here:
            raise UsageError(
                f"{self._directory} was opened by process {self._pid}, and this is process {os.getpid()}, forked from "
                "it; open a state in the one process that uses it, after the fork."
            )

    def check_files(self) -> None:
        """Refuse to go on where the files of the state are no longer at their place: what is written would be lost.

        Raises:
            UsageError: the directory, its lock or its log was deleted, moved or replaced.
        """
        for path, known in self._files.items():
            if _identity(path) != known:
                raise UsageError(
                    f"{path} was deleted, moved or replaced while the state was open, so nothing more is acknowledged; "
                    "put the directory back, or open the state at its new place."
                )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
