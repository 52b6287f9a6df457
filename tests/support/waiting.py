"""Waiting for what other threads do, and letting them wait."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest


def until(what: Callable[[], Any], seconds: float = 20) -> None:
    """Wait for something, and fail where it has not come in time."""
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert what()


def held_calls(patch: pytest.MonkeyPatch, owner: Any, name: str) -> tuple[threading.Event, threading.Event]:
    """Let all calls of a function wait; return what tells that one has begun, and what lets all of them go on."""
    own, began, go_on = getattr(owner, name), threading.Event(), threading.Event()

    def held(*args: Any, **named: Any) -> Any:
        began.set()
        assert go_on.wait(60)
        return own(*args, **named)

    patch.setattr(owner, name, held)
    return began, go_on
