"""Maintenance by a schedule: refresh, refit, snapshot, compaction, backup, one at a time, in a thread of its own."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from recbole_signed.errors import UsageError
from recbole_signed.files import stamp
from recbole_signed.live import OnlineRecommender
from recbole_signed.live.computing import ComputeBySize, ComputingEndedError
from recbole_signed.live.serve.engine import Engine
from recbole_signed.live.serve.schemas import Refit
from recbole_signed.live.serve.settings import Schedule
from recbole_signed.live.store.backup import BACKUP
from recbole_signed.memory import give_memory_back

_logger = logging.getLogger(__name__)
PAUSE = 600.0  # seconds until a task that failed is tried again, where its next time is not sooner


class AlreadyRunsError(UsageError):
    """What is asked for runs already, and does not know what happened since it began."""


@dataclass(frozen=True)
class Round:
    """The last round of a task."""

    finished: float  # seconds since 1970
    seconds: float
    error: str | None = None


class Maintenance:
    """Runs what is due; a task that fails is tried again after a pause, and tells so in the metrics."""

    def __init__(self, engine: Engine, schedule: Schedule) -> None:
        assert isinstance(engine.recommender, OnlineRecommender), "a replica is not maintained"
        self._engine, recommender, target = engine, engine.recommender, engine.settings.backup
        self._compute = recommender.compute = ComputeBySize()
        self._tasks: dict[str, Callable[[], object]] = {
            "refresh": lambda: (recommender.refresh(), recommender.snapshot()),  # replicas follow saved versions
            "refit": lambda: (recommender.refit().result(), recommender.snapshot()),
            "snapshot": recommender.snapshot,
            "compact": recommender.compact,
        }
        now, clock = time.monotonic(), time.time()
        ago = {"refit": clock - (recommender.scratch_time or clock)}  # seconds since what was done before this start
        if target is not None:
            self._tasks["backup"] = lambda: recommender.back_up(target)
            made = stamp(target / BACKUP)
            ago["backup"] = clock if made is None else clock - made[2] / 1e9  # without a copy it is due at once
        self._every = {name: float(getattr(schedule, name)) for name in self._tasks if getattr(schedule, name) > 0}
        self._due = {
            name: now + every - min(max(ago.get(name, 0.0), 0.0), every) for name, every in self._every.items()
        }
        self._last: dict[str, Round] = {}
        self._done_at = {**dict.fromkeys(self._tasks, engine.seq), "refit": recommender.scratch_seq}
        self.refitting, self._lock = Refit(), threading.Lock()  # whether a refit runs, or was asked for
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="maintenance", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End: what computes in a process of its own is left, what else runs is finished."""
        self._stop.set()
        self._wake.set()
        while self._thread.is_alive():
            self._compute.end()
            self._thread.join(0.1)

    def rounds(self) -> dict[str, dict[str, Any]]:
        """Return the last round of each task that had one, as clients are told of it."""
        rounds = {name: asdict(last) for name, last in self._last.copy().items()}
        for row in rounds.values():
            row["error"] = None if row["error"] is None else self._engine.without_folders(row["error"])
        return rounds

    def ask_for_refit(self) -> Refit:
        """Let a refit begin once no task runs, or keep one that waits; UsageError if one runs or the service ends."""
        with self._lock:
            if not self._thread.is_alive() or self._stop.is_set():
                raise UsageError("the service is ending, and begins no refit; ask again once it has started.")
            if self.refitting.state == "running":
                raise AlreadyRunsError(
                    "a refit runs, which does not know what has happened since it began; ask again once /v1/status "
                    "says that 'refit' is idle."
                )
            if self.refitting.state == "idle":
                self.refitting = Refit(state="waiting", since=time.time())
            asked = self.refitting
        self._wake.set()
        return asked

    def run(self, name: str) -> Round:
        """Run a task now."""
        telemetry, started = self._engine.telemetry, time.perf_counter()
        if name == "refit":
            with self._lock:
                self.refitting = Refit(state="running", since=time.time())
        error: str | None = None
        try:
            self._tasks[name]()
        except Exception as fault:  # a failed round must not end the service
            error = str(fault) or type(fault).__name__
            if isinstance(fault, ComputingEndedError) and self._stop.is_set():
                _logger.info("The %s was left, because the service ends.", name)
            else:
                known = isinstance(fault, UsageError)
                _logger.error("The %s failed: %s", name, error, exc_info=None if known else fault)
        give_memory_back()
        seconds = time.perf_counter() - started
        outcome = self._last[name] = Round(time.time(), seconds, error)
        telemetry.maintenance.labels(name, "failed" if error else "done").inc()
        telemetry.maintenance_seconds.labels(name).set(seconds)
        telemetry.maintenance_failed.labels(name).set(1 if error else 0)
        if name == "refit":
            with self._lock:  # once its outcome is told
                self.refitting = Refit()
        return outcome

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(min([1.0, *(max(due - time.monotonic(), 0.01) for due in self._due.values())]))
            self._wake.clear()
            for name in self._tasks:
                asked = name == "refit" and self.refitting.state == "waiting"
                due = asked or time.monotonic() >= self._due.get(name, math.inf)
                if due and not self._stop.is_set():
                    self._round(name, asked=asked)

    def _round(self, name: str, *, asked: bool) -> None:
        seq, pause = self._engine.seq, self._every.get(name, math.inf)
        if asked or self._has_work(name):
            if self.run(name).error is None:
                self._done_at[name] = seq
            else:
                pause = min(pause, PAUSE)
        if name in self._every:
            self._due[name] = time.monotonic() + pause

    def _has_work(self, name: str) -> bool:
        """Return whether events came since a task was last done (a refit: since the last fit); always for a backup."""
        return bool(self._engine.seq != self._done_at[name]) or name == "backup"
