"""Calls that fail as on a full disk."""

import contextlib
import errno
import resource
from collections.abc import Callable, Iterator
from typing import Any


def no_room(*_: Any, **__: Any) -> None:
    """Fail whatever is given."""
    raise OSError(errno.ENOSPC, "No space left on device", "somewhere")


def no_room_at(step: str) -> Callable[[str], None]:
    """Return what takes the place of ``files.reached`` and fails where one step is reached."""
    return lambda reached: no_room() if reached == step else None


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let the system refuse to write files of more bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
