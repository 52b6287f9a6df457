"""A process that tries values: reads the data once, then runs a trial for each line that it is given.

One JSON document per line. In: ``{"task": ...}``, then ``{"values": ...}`` for each trial, and ``{"go": true}`` or
``{"go": false}`` (the trial is pruned) in answer to each score. Out: ``{"ready": true}``, ``{"score": [epoch, value],
"steps": ..., "cpu_seconds": ...}`` after each validation, and at a trial's end ``{"row": ...}``, ``{"pruned": true}``
or ``{"failed": "why"}``. The process ends at the end of its input, also in the middle of a trial: whoever asked is
gone then.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbole_signed.experiments.runs import DataCache, Validated
    from recbole_signed.experiments.tuning.task import Task

Send = Callable[[dict[str, Any]], None]


class _PrunedError(Exception):
    """Ends a training that is not worth going on with."""


def main() -> None:
    """Serve the process that started this one."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else is printed goes to the log
    sys.stdout = sys.stderr
    lines: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_read, args=(sys.stdin, lines), daemon=True).start()

    def send(document: dict[str, Any]) -> None:
        answers.write(json.dumps(document) + "\n")
        answers.flush()

    serve(lines.get, send)


def _read(source: IO[str], lines: queue.Queue[dict[str, Any]]) -> None:
    for line in source:
        lines.put(json.loads(line))
    os._exit(1)  # a training under way can't be told otherwise


def serve(receive: Callable[[], dict[str, Any]], send: Send) -> None:
    """Answer lines until ``{"end": true}``."""
    import recbole_signed  # noqa: F401  (installs the plugin)
    from recbole_signed.experiments.runs import DataCache
    from recbole_signed.experiments.tuning.task import Task
    from recbole_signed.graph import kept_eigenvectors
    from recbole_signed.memory import keep_freed_memory

    keep_freed_memory()  # a trial measures no memory
    task, cache = Task.from_dict(receive()["task"]), DataCache()
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
        send({"score": [seen.epoch, seen.score], "steps": seen.steps, "cpu_seconds": round(seen.cpu_seconds, 3)})
        if not receive()["go"]:
            raise _PrunedError

    try:
        row = task.run(values, cache, report)
    except _PrunedError:
        return {"pruned": True}
    except Exception as error:  # one that fails says nothing of the others
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    return {"row": row.as_dict()}


if __name__ == "__main__":
    main()
