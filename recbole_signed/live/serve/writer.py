"""One writer: a thread takes what waits in a bounded queue, makes it durable, and lets the learner follow, in groups.

A caller's future is done when answers reflect its events. Services that follow one stream in place of
``POST /v1/events`` read all events in one order, so their states become the same and answer alike.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np

from recbole_signed.errors import UsageError
from recbole_signed.ids_and_times import id_text
from recbole_signed.live import EventBatch, OnlineRecommender
from recbole_signed.live.events import FORGET_USER, NAMES, DeadLetter, time_of
from recbole_signed.live.serve.telemetry import Telemetry
from recbole_signed.live.serve.traffic import now_ms
from recbole_signed.live.sources import EventSource
from recbole_signed.live.sources.source import Polled
from recbole_signed.live.store.results import LATE_REASON, EventResult

_logger = logging.getLogger(__name__)
_STOP = object()
PROBE = 5.0  # seconds after a failure in which no event came until it is seen whether the log can be written again
Before = Callable[[EventBatch], None]  # what is done before a batch is taken in; some of its events may be duplicates
# done after a batch, also a failed one; which events were accepted, bool [n]
After = Callable[[EventBatch, np.ndarray], None]


class BusyError(Exception):
    """The queue is full; in a moment there may be room."""


@dataclass(frozen=True)
class Written:
    """What became of the events of one request, and the seq that answers reflect from then on."""

    results: list[EventResult]
    seq: int


@dataclass
class _Job:
    rows: Sequence[Any]
    arrived: float
    read_to: tuple[str, str] | None
    done: Future[Written] = field(default_factory=Future)


class Writer:
    """The thread that writes; nobody else writes to ``recommender``, and each batch is passed to before and after."""

    def __init__(
        self,
        recommender: OnlineRecommender,
        telemetry: Telemetry,
        before: Before,
        after: After,
        queue_size: int,  # most events that wait
        commit: int,  # most events that become durable together
    ) -> None:
        self._recommender, self._telemetry = recommender, telemetry
        self._before, self._after = before, after
        self.arrivals = Arrivals()
        self.queue_size, self._commit_size = queue_size, commit
        self.failure: str | None = None  # why the last events could not be taken; None once some were, or could be
        self.waiting = 0  # number of events that wait
        self._queue: queue.Queue[Any] = queue.Queue()
        self._room = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Take what waits, then end."""
        self._queue.put(_STOP)
        self._thread.join()

    def position(self, source: str) -> str | None:
        """Return up to where a stream is read, as the log has it."""
        return self._recommender.position(source)

    def submit(self, rows: Sequence[Any], read_to: tuple[str, str] | None = None) -> Future[Written]:
        """Hand events over; the future is done when answers reflect them. ``read_to``: name and place of the stream."""
        with self._room:
            if self.waiting and self.waiting + len(rows) > self.queue_size:
                raise BusyError
            self.waiting += len(rows)
        job = _Job(rows, time.perf_counter(), read_to)
        self._queue.put(job)
        return job.done

    def reject(self, source: str, rows: Sequence[DeadLetter]) -> None:
        """Keep rows of a stream that are no events beside the log, and count them, as those of a request are."""
        self.keep(source, rows)
        self._telemetry.events.labels("refused").inc(len(rows))

    def keep(self, source: str, rows: Sequence[DeadLetter]) -> None:
        """Keep rows of a stream beside the log, with the reasons why they are not in it."""
        state = self._recommender.current()
        with state.entered():
            state.dead_letters.write(source, rows)

    def _run(self) -> None:
        job: Any = None
        while job is not _STOP:
            jobs: list[_Job] = []
            size = 0
            job = self._next()
            while job is not _STOP:
                if job.done.set_running_or_notify_cancel():  # else its request has ended, and nobody waits
                    jobs.append(job)
                size += len(job.rows)
                if size >= self._commit_size or self._queue.empty():
                    break
                job = self._queue.get()
            outcome = self._commit(jobs) if jobs else None
            with self._room:  # before the callers go on, whose next events need the room
                self.waiting -= size
            for request in jobs:
                if isinstance(outcome, Exception):
                    request.done.set_exception(outcome)
                elif outcome is not None:
                    results, seq = outcome
                    request.done.set_result(Written(list(islice(results, len(request.rows))), seq))

    def _next(self) -> Any:
        """Return the next job; meanwhile probe what failed, as a service that is not ready may be sent nothing."""
        while self.failure is not None:
            try:
                return self._queue.get(timeout=PROBE)
            except queue.Empty:
                self._probe()
        return self._queue.get()

    def _probe(self) -> None:
        try:
            self._recommender.current().probe()
        except Exception as error:  # the writer goes on
            self.failure = str(error) or type(error).__name__
        else:
            self.failure = None

    def _commit(self, jobs: Sequence[_Job]) -> tuple[Iterator[EventResult], int] | Exception:
        """Take the events of some jobs, and return what their callers are told."""
        try:
            read_to = next((job.read_to for job in reversed(jobs) if job.read_to is not None), None)
            taken = self._take([row for job in jobs for row in job.rows], *(read_to or (None, None)))
        except Exception as error:  # the callers get it, the writer goes on
            if not isinstance(error, UsageError):
                _logger.exception("events could not be taken")
            elif self.failure is None:  # once, until events can be taken again
                _logger.error("Events can't be taken: %s", error)
            self.failure = str(error) or type(error).__name__
            return error
        self.failure = None
        finished = time.perf_counter()
        for job in jobs:
            self._telemetry.visible.observe(finished - job.arrived)
        return taken

    def _take(self, rows: Sequence[Any], source: str | None, position: str | None) -> tuple[Iterator[EventResult], int]:
        batch = EventBatch.empty()

        def before(parsed: EventBatch) -> None:
            nonlocal batch
            batch = parsed
            if len(batch):
                self._before(batch)

        times = self.arrivals.times(rows, self._recommender)
        try:
            results = self._recommender.ingest(rows, times=times, before=before, source=source, position=position)
        except Exception:
            if len(batch):
                self._after(batch, np.zeros(len(batch), dtype=bool))
            raise
        if len(batch):  # rows that are not events have no id here
            accepted = [result.status == "accepted" for result in results if result.event_id is not None]
            self._after(batch, np.array(accepted, dtype=bool))
        for status in ("accepted", "duplicate", "refused"):
            count = sum(result.status == status for result in results)
            self._telemetry.events.labels(status).inc(count)
        named = (  # a refused row by the id that it came with, where it has one that can be told
            result if result.event_id is not None else replace(result, event_id=_id_in(row, "event_id") or None)
            for result, row in zip(results, rows, strict=True)
        )
        assert self._recommender.state is not None
        return named, int(self._recommender.state.applied_seq)


# milliseconds the clock may be set back without changing the order; less than an event may lie ahead
SET_BACK = 240_000


class Arrivals:
    """Gives times in the order of events, also if the clock is set back: a taking back must not look too old."""

    def __init__(self) -> None:
        self._last = 0

    def now(self) -> int:
        """Return the clock, milliseconds since 1970."""
        now = now_ms()
        self._last = now if now >= self._last or self._last - now > SET_BACK else self._last + 1
        return self._last

    def times(self, rows: Sequence[Any], recommender: OnlineRecommender) -> dict[int, int]:
        """Return the times of rows that have none, by place: later than all of their user and item, whatever clock."""
        untimed = [place for place, row in enumerate(rows) if isinstance(row, dict) and row.get("timestamp") is None]
        if not untimed:  # nothing is looked up
            return {}
        pairs = {place: _pair(rows[place]) for place in untimed}
        users, items = ([pair[side] for pair in pairs.values()] for side in (0, 1))
        least = dict(zip(untimed, recommender.times_to_follow(users, items), strict=True))
        times, here = dict[int, int](), dict[tuple[str, str], int]()
        waiting = set(users)
        for place, row in enumerate(rows):
            if not isinstance(row, dict):
                continue
            pair = pairs.get(place) or _pair(row)
            if pair[0] not in waiting:  # nothing depends on its time
                continue
            if place in least:
                times[place] = max(self.now(), least[place], here.get(pair, 0), here.get((pair[0], ""), 0))
            stamp = times[place] if place in least else time_of(row)
            if stamp is not None:
                pair = (pair[0], "") if row.get("type") == "forget_user" else pair
                here[pair] = max(here.get(pair, 0), stamp + 1)
        return times


def _pair(row: dict[str, Any]) -> tuple[str, str]:
    return _id_in(row, "user_id"), _id_in(row, "item_id")


def _id_in(row: Any, field: str) -> str:
    """Return an id of a row as the state has it; nothing where there is none: such a row is refused."""
    try:
        return id_text(row.get(field))
    except (AttributeError, ValueError):
        return ""


BATCH = 500  # events that are taken at once
PAUSE = 1.0  # seconds until what failed is tried again, and between two looks at how far the stream is ahead
# seconds in which no second warning of a kind comes: a producer may send nothing but rows that are refused
QUIET = 60.0


class Feed:
    """A thread that hands the events of a source to the writer, and tells the source what is durable."""

    def __init__(self, source: EventSource, writer: Writer) -> None:
        self._source, self._writer = source, writer
        self.failure: str | None = None  # why the last try failed; None where it did not
        self.behind: int | None = None  # events of the stream that were not read yet a moment ago, where that is known
        self._warned: dict[str, float] = {}
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
                for letter in polled.rejected:
                    self._warn("an entry of %s is no event: %s", letter.reason)
                if self._taken(polled):
                    self._source.commit(polled.position)
                    self.failure = None
                if time.monotonic() > look_at:
                    self.behind, look_at = self._behind(), time.monotonic() + PAUSE
            except Exception as error:  # the thread must live on, and /readyz tell why nothing comes
                self._failed(error)

    def _warn(self, kind: str, reason: str) -> None:
        """Say now and then why rows are not taken; the metrics count all of them."""
        now = time.monotonic()
        if now >= self._warned.get(kind, 0.0):
            self._warned[kind] = now + QUIET
            _logger.warning(kind, self._source.name, reason)

    def _behind(self) -> int | None:
        try:
            return self._source.behind()
        except Exception as error:  # a figure alone: whether the stream can be read, the next poll says
            _logger.debug("how far %s is ahead is not known: %s", self._source.name, error)
            return None

    def _taken(self, polled: Polled) -> bool:
        """Hand rows over until they are durable, and how far the source is read; False where the end came first."""
        rejected, events = polled.rejected, list(polled.batch.events())
        read_to = None if polled.position is None else (self._source.name, polled.position)

        def take() -> None:
            refused = []
            for event, result in zip(events, self._writer.submit(events, read_to).result().results, strict=True):
                if result.status == "refused":  # by this state: others that follow the stream may have taken it
                    self._warn("an event of %s is refused: %s", str(result.reason))
                    if result.reason != LATE_REASON and event.user_id not in forgotten:  # nothing of these is kept
                        row = {name: value for name, value in vars(event).items() if value not in (None, "")}
                        refused.append(DeadLetter(str(result.reason), event.event_id, row))
            if refused:
                self._writer.keep(self._source.name, refused)

        forgotten = {event.user_id for event in events if event.type == NAMES[FORGET_USER]}

        kept = not rejected or self._insist(lambda: self._writer.reject(self._source.name, rejected))
        moved = bool(events or rejected)  # rows that are no events would else be read again at each start
        return kept and (not moved or self._insist(take))

    def _insist(self, attempt: Callable[[], None]) -> bool:
        """Try until it goes well, as the source would not give these rows again; False where the end came first."""
        while not self._stop.is_set():
            try:
                attempt()
                return True
            except BusyError:
                self._stop.wait(PAUSE)
            except Exception as error:  # such as a full disk
                self._failed(error)
        return False

    def _failed(self, error: Exception) -> None:
        if self.failure is None:
            _logger.error("%s", error, exc_info=None if isinstance(error, UsageError) else error)
        self.failure = str(error) or type(error).__name__
        self._stop.wait(PAUSE)
