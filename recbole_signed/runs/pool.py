"""Runs as processes of their own, a few at a time; whatever happens, none is left behind."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from recbole_signed.errors import MissingExtraError, UsageError, one_sentence, outside_cause
from recbole_signed.plugin.assignments import as_word
from recbole_signed.runs.processes import Job, Jobs
from recbole_signed.runs.provenance import machine, versions
from recbole_signed.runs.rows import FAILED, RunRow
from recbole_signed.runs.spec import RunSpec


def run_all(
    requests: Iterable[RunSpec],
    jobs: int,
    logs: Path,
    started: Callable[[RunSpec], None],
    finished: Callable[[RunSpec, RunRow], None],
) -> None:
    """Run every request in its own process, at most ``jobs`` at a time, in order.

    Args:
        requests: what to run.
        jobs: processes at a time; the cores are shared out among them.
        logs: folder for what the processes print.
        started: called with a request when its process starts.
        finished: called with a request and its row, which may be a failed one.

    Raises:
        KeyboardInterrupt: after the processes were ended, which leave no row then.
    """
    waiting = list(requests)[::-1]
    with Jobs(jobs, logs) as running:
        while waiting or any(running):
            while waiting and (job := running.start(_send_row, (made, waiting[-1]), _log_name(waiting[-1]))):
                job.task = waiting.pop()
                started(job.task)
            job, answer = running.next() or (None, None)
            if job is not None and job.task is not None:  # else it ends, after it has sent its row
                request, job.task = job.task, None
                finished(request, _row(request, job, answer))


def made(request: RunSpec) -> RunRow:
    """Make a run in this process."""
    from recbole_signed.runs.runner import run

    return run(
        request.model,
        request.dataset,
        overrides=request.settings,
        seed=request.seed,
        save=False,
        per_user=request.per_user,
        serve=request.serving,
    )


def _log_name(request: RunSpec) -> str:
    return f"{request.label}-{request.section}-{request.seed}-{request.request_hash[:8]}.log".replace(os.sep, "_")


def _send_row(connection: Connection, make: Callable[[RunSpec], RunRow], request: RunSpec) -> None:
    """Send the row of a run, or the sentence that says why there is none."""
    try:
        connection.send(make(request))
    except Exception as error:
        words = ["run", *(as_word(*each) for each in request.settings.items())]
        wrong = isinstance(error, (UsageError, MissingExtraError))
        sentence = str(error) if wrong else outside_cause(error, words)
        if sentence is None:
            raise
        connection.send(one_sentence(sentence))
        sys.exit(2)


def _row(request: RunSpec, job: Job, answer: Any) -> RunRow:
    """Return what the process says of its run, or a failed row with the reason."""
    why = answer if isinstance(answer, str) else None if isinstance(answer, RunRow) else job.reason()
    common: dict[str, Any] = {"request_hash": request.request_hash, "tuned": request.tuned}
    common |= {"section": request.section, "label": request.label}
    if isinstance(answer, RunRow) and answer.data_sha256 not in (None, request.data_sha256):
        why = "the files of the data set have changed since the table was begun; run it again"
    elif isinstance(answer, RunRow):
        if request.per_user is not None and answer.per_user:
            common["per_user"] = f"{request.per_user.parent.name}/{request.per_user.name}"
        return RunRow.from_dict({**answer.as_dict(), **common, "data_sha256": request.data_sha256})
    return RunRow(
        model=request.model,
        dataset=request.dataset,
        seed=request.seed,
        status=FAILED,
        reason=why,
        data_sha256=request.data_sha256,
        settings=request.settings,
        versions=versions(),
        machine=machine(),
        timestamp=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **common,
    )
