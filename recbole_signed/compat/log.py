"""RecBole's log, which is Python's root logger, and its training curves; and the command line, which it reads."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any


@contextlib.contextmanager
def each_warning_once() -> Iterator[None]:
    """Let a warning of this thread pass once, in here: a model that is fitted twice says what it lacks once."""
    said: set[str] = set()

    def is_new(message: str) -> bool:
        known = message in said
        said.add(message)
        return not known

    with _passing(is_new):
        yield


@contextlib.contextmanager
def no_warnings() -> Iterator[None]:
    """Let no warning of this thread pass, in here: what the data lacks was said when the model was fitted to it."""
    with _passing(lambda _: False), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _passing(passes: Callable[[str], bool]) -> Iterator[None]:
    """Let those warnings of this thread pass whose message does."""
    thread = threading.get_ident()

    def is_let(record: logging.LogRecord) -> bool:
        own = record.levelno == logging.WARNING and record.thread == thread
        return not own or passes(record.getMessage())

    logger = logging.getLogger()
    logger.addFilter(is_let)
    try:
        yield
    finally:
        logger.removeFilter(is_let)


# ---- training curves, which RecBole's trainers write into ``log_tensorboard/`` of the current folder ----

_hidden: ContextVar[bool] = ContextVar("no training curves", default=False)


class NoCurves:
    """Takes what a ``SummaryWriter`` would write."""

    def add_scalar(self, *args: Any, **kwargs: Any) -> None:
        """Write nothing."""

    add_hparams = close = add_scalar


@contextlib.contextmanager
def no_training_curves() -> Iterator[None]:
    """Let the trainers that are made in here write no curves."""
    token = _hidden.set(True)
    try:
        yield
    finally:
        _hidden.reset(token)


def tensorboard(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    """Stand before RecBole's ``get_tensorboard``."""
    return NoCurves() if _hidden.get() else wrapped(*args, **kwargs)


# ---- the command line of the process, which every ``Config`` of RecBole reads ----


@contextlib.contextmanager
def own_arguments_hidden() -> Iterator[None]:
    """Keep RecBole's Config from taking every ``--key=value`` of the process' command line for its own."""
    argv = sys.argv
    sys.argv = argv[:1]
    try:
        yield
    finally:
        sys.argv = argv
