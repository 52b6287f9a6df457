"""The processes that try values: each reads the data once, then runs a trial for each of the values that it is given.

Messages are mappings. To a process: ``{"task": ...}``, then ``{"values": ...}`` for each trial, ``{"go": True}`` or
``{"go": False}`` (the trial is pruned) in answer to each score, and ``{"end": True}``. From it: ``{"ready": True}``,
``{"score": (epoch, value), "steps": ..., "cpu_seconds": ...}`` after each validation, and at a trial's end ``{"row":
...}``, ``{"pruned": True}`` or ``{"failed": "why"}``.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_signed.runs.processes import Job, end
from recbole_signed.runs.provenance import cores

if TYPE_CHECKING:
    from recbole_signed.lab.tuning.task import Task
    from recbole_signed.runs.reading import DataCache
    from recbole_signed.runs.runner import Validated

Send = Callable[[dict[str, Any]], None]


class Worker(Job):
    """One process, with what it is doing."""

    trial: Any = None
    """What it was given to do; None while it has nothing."""
    ready: bool = False


class Workers:
    """At most ``jobs`` processes, started as they are needed; one that died is replaced."""

    def __init__(self, jobs: int, task: Task, logs: Path) -> None:
        """Start nothing yet.

        Args:
            jobs: processes at a time; the cores are shared out among them.
            task: what each is told first.
            logs: folder for what they print.
        """
        self.jobs, self._task, self._logs = jobs, task, logs
        self._all: dict[Any, Worker] = {}
        self._n_started = 0
        logs.mkdir(parents=True, exist_ok=True)

    @property
    def busy(self) -> list[Worker]:
        """The processes that have something to do."""
        return [each for each in self._all.values() if each.trial is not None]

    def free(self) -> Worker | None:
        """Return a process without a trial, started if need be; None where all have one."""
        idle = next((each for each in self._all.values() if each.trial is None), None)
        if idle is None and len(self._all) < self.jobs:
            self._n_started += 1
            idle = Worker(answer, (), self._logs / f"worker-{self._n_started}.log", max(1, cores() // self.jobs))
            self._all[idle.connection] = idle
            idle.tell({"task": self._task})
        return idle

    def next(self, timeout: float) -> tuple[Worker, dict[str, Any] | None] | None:
        """Return what a process said, or None in place of it where the process ended; None where none says a word.

        Args:
            timeout: seconds to wait.
        """
        for connection in wait(list(self._all), timeout):
            worker = self._all[connection]
            message = worker.answer()
            if message is None:
                del self._all[connection]
            return worker, message
        return None

    def close(self) -> None:
        """End the processes with all that they started, politely first."""
        for each in self._all.values():
            each.tell({"end": True})
        end(self.busy)
        end(self._all.values(), told=True)
        self._all.clear()


class _PrunedError(Exception):
    """Ends a training that is not worth going on with."""


def answer(connection: Connection) -> None:
    """Serve the process that started this one."""
    serve(connection.recv, connection.send)


def serve(receive: Callable[[], dict[str, Any]], send: Send) -> None:
    """Answer messages until ``{"end": True}``."""
    from recbole_signed.graph.eigenvectors import kept_eigenvectors
    from recbole_signed.memory import keep_freed_memory
    from recbole_signed.runs.reading import DataCache

    keep_freed_memory()  # a trial measures no memory
    task, cache = receive()["task"], DataCache()
    send({"ready": True})
    # where processor time is a budget, each trial does all of its work
    with nullcontext() if (task.settings or {}).get("training_budget") else kept_eigenvectors():
        while "end" not in (line := receive()):
            send(_trial(task, line["values"], cache, receive, send))
            gc.collect()  # a model and its trainer refer to each other


def _trial(
    task: Task,
    values: Mapping[str, Any],
    cache: DataCache,
    receive: Callable[[], dict[str, Any]],
    send: Send,
) -> dict[str, Any]:
    def report(seen: Validated) -> None:
        send({"score": (seen.epoch, seen.score), "steps": seen.steps, "cpu_seconds": round(seen.cpu_seconds, 3)})
        if not receive()["go"]:
            raise _PrunedError

    try:
        row = task.run(values, cache, report)
    except _PrunedError:
        return {"pruned": True}
    except Exception as error:  # one that fails says nothing of the others
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    return {"row": row}
