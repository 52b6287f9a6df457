"""RecBole's log, which is Python's root logger."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def each_warning_once() -> Iterator[None]:
    """Let a warning of this thread pass once, in here: a model that is fitted twice says what it lacks once.

    It works as a decorator too.
    """
    said: set[str] = set()
    thread = threading.get_ident()

    def is_new(record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING or record.thread != thread:
            return True
        message = record.getMessage()
        known = message in said
        said.add(message)
        return not known

    logger = logging.getLogger()
    logger.addFilter(is_new)
    try:
        yield
    finally:
        logger.removeFilter(is_new)
