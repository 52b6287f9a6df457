"""Which runs a process has taken on, so that two calls on one table do not make them twice."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from types import TracebackType

from recbole_signed.runs.provenance import digest


class Claims:
    """The runs that this process makes in a folder of rows: locks on the bytes of one file, one byte for each run.

    The kernel gives them back when the process ends, however it ends. The file is in the folder for temporary files,
    as it is nothing to keep. Other machines that share the folder of rows do not see it.
    """

    def __init__(self, folder: Path) -> None:
        name = f"recbole-signed-{os.getuid()}-{digest(str(folder.resolve()))[:16]}.claims"
        self._file = (Path(tempfile.gettempdir()) / name).open("ab")
        self.taken: set[str] = set()

    def __enter__(self) -> Claims:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def take(self, name: str, *, wait: bool = False) -> bool:
        """Take a run on, by its id in hexadecimal digits; False where another process has it.

        Args:
            name: the id.
            wait: until the other process gives it back or ends.
        """
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, int(name, 16))
        except (BlockingIOError, PermissionError):
            return False
        self.taken.add(name)
        return True

    def give_back(self, name: str) -> None:
        """Let other processes take a run on."""
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, int(name, 16))
