"""Runs as processes of their own, a few at a time; whatever happens, none is left behind."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from recbole_signed.experiments.runs import (
    FAILED,
    PROGRAM,
    ForkServer,
    Process,
    RunRow,
    cores,
    end,
    machine,
    reason_of_end,
    versions,
)
from recbole_signed.experiments.tables.spec import RunSpec
from recbole_signed.plugin import as_word

_POLL_SECONDS = 0.05


@dataclass
class _Child:
    request: RunSpec
    process: Process
    log: Path
    out: Path


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
        logs: folder for what the processes write to standard error.
        started: called with a request when its process starts.
        finished: called with a request and its row, which may be a failed one.

    Raises:
        KeyboardInterrupt: after the processes were ended, which leave no row then.
    """
    logs.mkdir(parents=True, exist_ok=True)
    server = ForkServer(logs / f"fork-server.{os.getpid()}.log", max(1, cores() // jobs))
    waiting = list(requests)[::-1]
    running: list[_Child] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                request = waiting.pop()
                running.append(_start(request, logs, server))
                started(request)
            for child in [each for each in running if each.process.poll() is not None]:
                running.remove(child)
                row = _row(child)
                child.out.unlink()
                finished(child.request, row)
            time.sleep(_POLL_SECONDS)
    finally:
        end(child.process for child in running)
        server.close()
        for child in running:
            child.out.unlink(missing_ok=True)


def command(request: RunSpec) -> list[str]:
    """Return the command line of a request; it may be typed as well."""
    words = [as_word(key, value) for key, value in request.settings.items()]
    options = ["-m", request.model, "-d", request.dataset, "--seed", str(request.seed)]
    options += ["--no-save", "--verbose", "--json"]
    options += [] if request.per_user is None else ["--per-user", str(request.per_user)]
    options += ["--measure-serving"] if request.serving else []
    return [*PROGRAM, "run", *options, "--", *words]


def _start(request: RunSpec, logs: Path, server: ForkServer) -> _Child:
    stem = f"{request.label}-{request.section}-{request.seed}-{request.request_hash[:8]}".replace(os.sep, "_")
    log, out = logs / f"{stem}.log", logs / f"{stem}.{os.getpid()}.json"
    return _Child(request, server.start(command(request), log, out), log, out)


def _row(child: _Child) -> RunRow:
    """Return what the process says of its run, or a failed row with the reason."""
    request, status = child.request, child.process.wait()
    document = _document(child.out)
    common: dict[str, Any] = {"request_hash": request.request_hash, "tuned": request.tuned}
    common |= {"section": request.section, "label": request.label}
    changed = document.get("data_sha256") not in (None, request.data_sha256)
    if status == 0 and "error" not in document and document and not changed:
        if request.per_user is not None and document.get("per_user"):
            common["per_user"] = f"{request.per_user.parent.name}/{request.per_user.name}"
        return RunRow.from_dict({**document, **common, "data_sha256": request.data_sha256})
    return RunRow(
        model=request.model,
        dataset=request.dataset,
        seed=request.seed,
        status=FAILED,
        reason="the files of the data set have changed since the table was begun; run it again"
        if changed
        else document.get("error") or reason_of_end(status, child.log),
        data_sha256=request.data_sha256,
        settings=request.settings,
        versions=versions(),
        machine=machine(),
        timestamp=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **common,
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
