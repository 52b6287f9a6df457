"""What a process does that is told to end: SIGTERM ends Python at once by default, and nothing is cleaned up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def raised_by_sigterm(error: type[BaseException], *arguments: Any) -> Iterator[None]:
    """Let SIGTERM raise an error, so that what is open is closed as after Ctrl-C; in the main thread alone.

    Args:
        error: what is raised.
        arguments: of the error.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: Any) -> None:
        raise error(*arguments)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
