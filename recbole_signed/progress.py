"""What a long step is at, on standard error: a line that moves on a terminal, and a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

AFTER = 3.0  # seconds after which a step is said to go on; of a shorter one nothing is said
PAUSES = 10.0, 60.0  # seconds between lines without a terminal, the first and the most: each is twice the one before
_MOVES = 0.1
Say = Callable[[str], None]  # says what a step is at now


class _Step:
    """A step that goes on, and what it is at."""

    def __init__(self, name: str) -> None:
        self.name, self.at, self.began = name, "", time.monotonic()
        self._ended = threading.Event()
        self._lines = 0
        self._thread = threading.Thread(target=self._tell, name="progress", daemon=True)
        self._thread.start()

    def end(self, *, done: bool) -> None:
        self._ended.set()
        self._thread.join()
        if done and self._lines:
            self._line(f"{self.name}: done in {self._seconds} s")

    @property
    def _seconds(self) -> int:
        return round(time.monotonic() - self.began)

    def _text(self) -> str:
        return f"{self.name}: {f'{self.at}, ' if self.at else ''}{self._seconds} s"

    def _tell(self) -> None:
        if self._ended.wait(AFTER):
            return
        if sys.stderr.isatty():
            self._move()
            return
        pause, longest = PAUSES
        while True:
            self._lines += 1
            self._line(self._text())
            if self._ended.wait(pause):
                return
            pause = min(2 * pause, longest)

    def _move(self) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn

        columns = SpinnerColumn(), TextColumn("{task.description}", markup=False)
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(self._text())
            while not self._ended.wait(_MOVES):
                bar.update(task, description=self._text())

    @staticmethod
    def _line(text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


_current: ContextVar[_Step | None] = ContextVar("step", default=None)


@contextlib.contextmanager
def report_progress(name: str, *, shown: bool = True) -> Iterator[Say]:
    """Say that a step, such as ``fit of SSF``, goes on, once it takes long; yield what takes what it is at."""
    outer = _current.get()
    if not shown:
        yield lambda _: None
    elif outer is not None:
        before = outer.at

        def within(at: str) -> None:
            outer.at = f"{name}, {at}"

        outer.at = name
        try:
            yield within
        finally:
            outer.at = before
    else:
        step = _Step(name)
        token, done = _current.set(step), False
        try:
            yield lambda at: setattr(step, "at", at)
            done = True
        finally:
            _current.reset(token)
            step.end(done=done)


def count_bar(*, only_on_terminal: bool = False) -> Any:
    """Return rich's progress of things that are counted, on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=only_on_terminal and not console.is_terminal)
