"""The newest seq that was acknowledged, kept beside the log.

SQLite takes a write-ahead file that is damaged for one that a crash cut short, and forgets what was in it. So after
each commit its seq is written here, without waiting for the disk: it can lag behind the log after a loss of power,
but never be ahead of it. Where it is ahead, events were lost.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from pathlib import Path

SEQ = "SEQ"


class HighWaterMark:
    """The file ``SEQ`` of a state directory.

    Args:
        path: of the file.
        read_only: it is never written.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._file: int | None = None
        if not read_only:
            with contextlib.suppress(OSError):  # a disk without room: there is a log to tell
                self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def read(self) -> int:
        """Return the seq; 0 where there is none, or it is damaged."""
        try:
            content = self.path.read_bytes()
        except OSError:
            return 0
        seq = content[:8]
        return int.from_bytes(seq, "little") if content[8:] == _checksum(seq) else 0

    def write(self, seq: int) -> None:
        """Note a seq that is durable in the log."""
        if self._file is not None:
            content = seq.to_bytes(8, "little")
            with contextlib.suppress(OSError):
                os.pwrite(self._file, content + _checksum(content), 0)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(4, "little")
