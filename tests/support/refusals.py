"""Checks that a call is refused as users see it: with an error of one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from recbole_signed.errors import UsageError


def check_refused(message: str, call: Callable[..., object], *args: Any, **named: Any) -> None:
    """Check that a call raises a ``UsageError`` whose text has a match of the pattern ``message``."""
    __tracebackhide__ = True
    with pytest.raises(UsageError, match=message):
        call(*args, **named)
