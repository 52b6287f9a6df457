"""RecBole's trainers write training curves into ``log_tensorboard/`` of the current folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

_hidden: ContextVar[bool] = ContextVar("no training curves", default=False)


class NoCurves:
    """Takes what a ``SummaryWriter`` would write."""

    def add_scalar(self, *args: Any, **kwargs: Any) -> None:
        """Write nothing."""

    def add_hparams(self, *args: Any, **kwargs: Any) -> None:
        """Write nothing."""

    def close(self) -> None:
        """Close nothing."""


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
