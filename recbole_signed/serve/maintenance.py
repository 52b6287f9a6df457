"""Maintenance by a schedule: refresh, refit, snapshot, compaction, backup, one at a time, in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from recbole_signed.memory import give_memory_back
from recbole_signed.online import OnlineRecommender
from recbole_signed.online.store import BACKUP
from recbole_signed.serve.engine import Engine
from recbole_signed.serve.settings import Schedule

_logger = logging.getLogger(__name__)
PAUSE = 600.0
"""Seconds until a task that failed is tried again, where its next time is not sooner."""


@dataclass(frozen=True)
class Round:
    """The last round of a task."""

    finished: float
    """Seconds since 1970."""
    seconds: float
    error: str | None = None


class Maintenance:
    """Runs what is due; a task that fails is tried again after a pause, and tells so in the metrics.

    Args:
        engine: whose trainer is maintained.
        schedule: seconds between rounds.
    """

    def __init__(self, engine: Engine, schedule: Schedule) -> None:
        self._engine = engine
        self._tasks = {name: run for name, run in self._all().items() if getattr(schedule, name) > 0}
        self._every = {name: float(getattr(schedule, name)) for name in self._tasks}
        now = time.monotonic()
        self._due = {name: now + every for name, every in self._every.items()}
        if "backup" in self._due:
            self._due["backup"] = now + self._until_backup()
        self._last: dict[str, Round] = {}
        self._done_at = dict.fromkeys(self._tasks, engine.seq)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="maintenance", daemon=True)

    def _all(self) -> dict[str, Callable[[], object]]:
        trainer = self._engine.trainer
        assert isinstance(trainer, OnlineRecommender), "a replica is not maintained"
        target = self._engine.settings.backup
        backup = {} if target is None else {"backup": lambda: trainer.back_up(target)}
        return {
            "refresh": lambda: (trainer.refresh(), trainer.snapshot()),  # replicas follow saved versions
            "refit": lambda: (trainer.refit().result(), trainer.snapshot()),
            "snapshot": trainer.snapshot,
            "compact": trainer.compact,
            **backup,
        }

    def _until_backup(self) -> float:
        """Return the seconds until a backup is due, by the age of the copy that is there; 0 without one."""
        target, every = self._engine.settings.backup, self._every["backup"]
        assert target is not None
        try:
            made = (target / BACKUP).stat().st_mtime
        except OSError:
            return 0.0
        return min(max(made + every - time.time(), 0.0), every)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what runs, then end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def rounds(self) -> dict[str, dict[str, Any]]:
        """Return the last round of each task that had one."""
        return {name: asdict(each) for name, each in self._last.copy().items()}

    def run(self, name: str) -> Round:
        """Run a task now."""
        telemetry, started = self._engine.telemetry, time.perf_counter()
        error: str | None = None
        try:
            self._tasks[name]()
        except Exception as fault:  # a failed round must not end the service
            error = str(fault) or type(fault).__name__
            _logger.exception("%s failed", name)
        give_memory_back()
        seconds = time.perf_counter() - started
        found = self._last[name] = Round(time.time(), seconds, error)
        telemetry.maintenance.labels(name, "failed" if error else "done").inc()
        telemetry.maintenance_seconds.labels(name).set(seconds)
        telemetry.maintenance_failed.labels(name).set(1 if error else 0)
        return found

    def _run(self) -> None:
        while not self._stop.wait(min([1.0, *(max(due - time.monotonic(), 0.01) for due in self._due.values())])):
            for name, due in self._due.items():
                if time.monotonic() >= due and not self._stop.is_set():
                    seq, pause = self._engine.seq, self._every[name]
                    # nothing is left to do where nothing has happened, but items are withdrawn without an event
                    if seq != self._done_at[name] or name == "backup":
                        if self.run(name).error is None:
                            self._done_at[name] = seq
                        else:
                            pause = min(pause, PAUSE)
                    self._due[name] = time.monotonic() + pause
