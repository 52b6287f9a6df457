"""The processes that try values, and what they say; whatever happens, none is left behind."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_signed.experiments.runs import cores, end, reason_of_end, start

COMMAND = (sys.executable, "-m", "recbole_signed.experiments.tuning.worker")


@dataclass
class Worker:
    """One process, with what it is doing."""

    process: subprocess.Popen[str]
    log: Path
    job: Any = None
    """What it was given to do; None while it has nothing."""
    ready: bool = False

    def tell(self, document: dict[str, Any]) -> None:
        """Send a line; a process that is gone is noticed by its silence."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(document) + "\n")
            self.process.stdin.flush()


class Workers:
    """At most ``jobs`` processes, started as they are needed; one that died is replaced."""

    def __init__(self, jobs: int, task: dict[str, Any], logs: Path, command: tuple[str, ...] = COMMAND) -> None:
        """Start nothing yet.

        Args:
            jobs: processes at a time; the cores are shared out among them.
            task: what each is told first.
            logs: folder for what they write to standard error.
            command: the command line of a process.
        """
        self.jobs, self._task, self._logs, self._command = jobs, task, logs, command
        self._said: queue.Queue[tuple[Worker, dict[str, Any] | None]] = queue.Queue()
        self._all: list[Worker] = []
        self._n_started = 0
        logs.mkdir(parents=True, exist_ok=True)

    @property
    def busy(self) -> list[Worker]:
        """The processes that have something to do."""
        return [each for each in self._all if each.job is not None]

    def free(self) -> Worker | None:
        """Return a process without a job, started if need be; None where all have one."""
        idle = next((each for each in self._all if each.job is None), None)
        return idle or (self._start() if len(self._all) < self.jobs else None)

    def _start(self) -> Worker:
        self._n_started += 1
        log = self._logs / f"worker-{self._n_started}.log"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "encoding": "utf-8"}
        process = start(self._command, log, max(1, cores() // self.jobs), **pipes)
        worker = Worker(process, log)
        self._all.append(worker)
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        worker.tell({"task": self._task})
        return worker

    def _listen(self, worker: Worker) -> None:
        assert worker.process.stdout is not None
        with contextlib.suppress(ValueError):  # half a line: the process was ended while it wrote
            for line in worker.process.stdout:
                self._said.put((worker, json.loads(line)))
        self._said.put((worker, None))

    def next(self, timeout: float) -> tuple[Worker, dict[str, Any] | None] | None:
        """Return what a process said, or None in place of it where the process ended; None where none says a word.

        Args:
            timeout: seconds to wait.
        """
        try:
            worker, document = self._said.get(timeout=timeout)
        except queue.Empty:
            return None
        if document is None:
            worker.process.wait()
            self._all.remove(worker)
        return worker, document

    def reason(self, worker: Worker) -> str:
        """Say why a process ended."""
        return reason_of_end(worker.process.wait(), worker.log)

    def close(self) -> None:
        """End the processes with all that they started, politely first."""
        for each in self._all:
            each.tell({"end": True})
        end(each.process for each in self.busy)
        end((each.process for each in self._all), told=True)
        self._all.clear()
