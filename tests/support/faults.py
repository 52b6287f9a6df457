"""Calls that fail as on a full disk."""

import errno
from collections.abc import Callable
from typing import Any


def no_room(*_: Any, **__: Any) -> None:
    """Fail whatever is given."""
    raise OSError(errno.ENOSPC, "No space left on device", "somewhere")


def no_room_at(step: str) -> Callable[[str], None]:
    """Return what takes the place of ``files.reached`` and fails where one step is reached."""
    return lambda reached: no_room() if reached == step else None
