"""Events from a stream that several services follow, each with a state of its own.

Every service reads all events of the stream in one order, so states on several machines become the same and answer
alike. The stream takes the place of ``POST /v1/events``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from recbole_signed.errors import UsageError
from recbole_signed.live.events import DeadLetter
from recbole_signed.live.serve.writer import BusyError, Writer
from recbole_signed.live.sources import EventSource
from recbole_signed.live.sources.source import Polled

_logger = logging.getLogger(__name__)
BATCH = 500
"""Events that are taken at once."""
PAUSE = 1.0
"""Seconds until what failed is tried again, and between two looks at how far the stream is ahead."""


class Feed:
    """A thread that hands the events of a source to the writer, and tells the source what is durable.

    Args:
        source: that is read; closed at the end.
        writer: that takes the events.
    """

    def __init__(self, source: EventSource, writer: Writer) -> None:
        self._source, self._writer = source, writer
        self.failure: str | None = None
        """Why the last try failed; None where it did not."""
        self.behind: int | None = None
        """Events of the stream that were not read yet a moment ago; None where that is not known."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Finish the batch under way, then end."""
        self._stop.set()
        self._thread.join()
        self._source.close()

    def _run(self) -> None:
        sought, look_at = False, 0.0
        while not self._stop.is_set():
            try:
                if not sought:
                    self._source.seek(self._writer.position(self._source.name))
                    sought = True
                polled = self._source.poll(BATCH)
                for each in polled.rejected:
                    _logger.warning("an entry of %s is no event: %s", self._source.name, each.reason)
                if self._rejected(polled.rejected) and self._taken(polled):
                    self._source.commit(polled.position)
                    self.failure = None
                if time.monotonic() > look_at:
                    self.behind, look_at = self._behind(), time.monotonic() + PAUSE
            except Exception as error:  # the thread must live on, and /readyz tell why nothing comes
                self._failed(error)

    def _behind(self) -> int | None:
        try:
            return self._source.behind()
        except Exception as error:  # a figure alone: whether the stream can be read, the next poll says
            _logger.debug("how far %s is ahead is not known: %s", self._source.name, error)
            return None

    def _rejected(self, rows: Sequence[DeadLetter]) -> bool:
        """Hand over what is no event until it is kept; False where the end came first."""
        while rows and not self._stop.is_set():
            try:
                self._writer.reject(self._source.name, rows)
                return True
            except Exception as error:  # such as a full disk; the source would not give these again
                self._failed(error)
        return not rows

    def _taken(self, polled: Polled) -> bool:
        """Hand events over until they are durable, and how far the source is read; False where the end came first."""
        events = list(polled.batch.events())
        read_to = None if polled.position is None else (self._source.name, polled.position)
        moved = bool(events or polled.rejected)  # rows that are no events would else be read again at each start
        while moved and not self._stop.is_set():
            try:
                for each in self._writer.submit(events, read_to).result().results:
                    if each.status == "refused":  # by this state: others that follow the stream may have taken it
                        _logger.warning("an event of %s is refused: %s", self._source.name, each.reason)
                return True
            except BusyError:
                self._stop.wait(PAUSE)
            except Exception as error:  # such as a full disk; the source would not give these events again
                self._failed(error)
        return not moved

    def _failed(self, error: Exception) -> None:
        if self.failure is None:
            _logger.error("%s", error, exc_info=None if isinstance(error, UsageError) else error)
        self.failure = str(error) or type(error).__name__
        self._stop.wait(PAUSE)
