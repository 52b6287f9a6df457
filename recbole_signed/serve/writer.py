"""One writer: events wait in a bounded queue, and become durable and visible in groups.

A thread of its own takes as many events as wait, at most a commit's worth, makes them durable, and lets the learner
follow. The callers' futures are done when answers reflect their events.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from recbole_signed.errors import UsageError
from recbole_signed.online import EventBatch, Limits, OnlineRecommender, parse_rows
from recbole_signed.serve.telemetry import Telemetry

_logger = logging.getLogger(__name__)
_STOP = object()
Step = Callable[[EventBatch, set[str]], None]
"""What is done before or after a batch is taken; the ids of the events that were taken before are given with it."""


class BusyError(Exception):
    """The queue is full; ``retry_after`` seconds later there may be room."""

    retry_after = 1.0


@dataclass(frozen=True)
class EventOutcome:
    """What became of one event: ``accepted``, ``duplicate`` or ``refused`` with a reason."""

    status: str
    event_id: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Written:
    """What became of the events of one request, and the seq that answers reflect from then on."""

    outcomes: list[EventOutcome]
    seq: int


@dataclass
class _Job:
    rows: Sequence[Any]
    arrived: float
    done: Future[Written] = field(default_factory=Future)


class Writer:
    """The thread that writes.

    Args:
        trainer: started; nobody else writes to it.
        telemetry: that is counted in.
        before: called with each batch before it is taken.
        after: called after it was.
        queue_size: most events that wait.
        commit: most events that become durable together.
    """

    def __init__(
        self, trainer: OnlineRecommender, telemetry: Telemetry, before: Step, after: Step, queue_size: int, commit: int
    ) -> None:
        self._trainer, self._telemetry = trainer, telemetry
        self._before, self._after = before, after
        self.queue_size, self._commit_size = queue_size, commit
        self.failure: str | None = None
        """Why the last events could not be taken; None once some were."""
        self.waiting = 0
        """Number of events that wait."""
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

    def submit(self, rows: Sequence[Any]) -> Future[Written]:
        """Hand events over; the future is done when they are durable and answers reflect them.

        Raises:
            BusyError: too many events wait already; none of these was taken.
        """
        with self._room:
            if self.waiting and self.waiting + len(rows) > self.queue_size:
                raise BusyError
            self.waiting += len(rows)
        job = _Job(rows, time.perf_counter())
        self._queue.put(job)
        return job.done

    def _run(self) -> None:
        job: Any = None
        while job is not _STOP:
            jobs: list[_Job] = []
            size = 0
            job = self._queue.get()
            while job is not _STOP:
                jobs.append(job)
                size += len(job.rows)
                if size >= self._commit_size or self._queue.empty():
                    break
                job = self._queue.get()
            if jobs:
                self._commit(jobs)
                with self._room:
                    self.waiting -= size

    def _commit(self, jobs: Sequence[_Job]) -> None:
        try:
            outcomes, seq = self._take([row for job in jobs for row in job.rows])
        except Exception as error:  # the callers get it, the writer goes on
            self.failure = str(error)
            if not isinstance(error, UsageError):
                _logger.exception("events could not be taken")
            for job in jobs:
                job.done.set_exception(error)
            return
        self.failure = None
        finished, first = time.perf_counter(), 0
        for job in jobs:
            self._telemetry.visible.observe(finished - job.arrived)
            job.done.set_result(Written(outcomes[first : first + len(job.rows)], seq))
            first += len(job.rows)

    def _take(self, rows: Sequence[Any]) -> tuple[list[EventOutcome], int]:
        batch, dead = parse_rows(rows, map(str, range(len(rows))), Limits())
        refused = {int(each.position): EventOutcome("refused", _event_id(each.raw), each.reason) for each in dead}
        with self._trainer.reading() as (state, _):
            known = {event for event in batch.event_id if state.log.known(event)}
        if len(batch):
            self._before(batch, known)
            self._trainer.update(batch)
            self._after(batch, known)
        outcomes, events = [], iter(batch.event_id)
        for place in range(len(rows)):
            if place in refused:
                outcome = refused[place]
            else:
                event = next(events)
                outcome = EventOutcome("duplicate" if event in known else "accepted", event)
                known.add(event)  # a second one of the same request
            self._telemetry.events.labels(outcome.status).inc()
            outcomes.append(outcome)
        return outcomes, int(state.applied_seq)


def _event_id(row: Any) -> str | None:
    value = row.get("event_id") if isinstance(row, Mapping) else None
    return value if isinstance(value, str) else None
