"""Scripts in the place of runs and trials, in processes of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_signed.runs import RunRow
from recbole_signed.runs.spec import RunSpec

if TYPE_CHECKING:
    from recbole_signed.lab.tuning.task import Task

TRIALS = """
import os, sys, time
def score(value, steps, cpu_seconds=0.0):
    say(score=value, steps=steps, cpu_seconds=cpu_seconds)
    return connection.recv()["go"]
def row(value):
    say(row={"model": task["model"], "dataset": task["dataset"], "seed": 1, "valid": {"ndcg@10": value}, "epochs": 1})
def trial(values):
    row(0.5 if not values else 1 / (1 + abs(values["reg_weight"] - 100) / 100))
"""


def scripted_run(script: str, told: str, values: Mapping[str, Any], request: RunSpec) -> RunRow | None:
    """Note the title of a run in a file and return a row of ``values``, the ``row`` that a script may change."""
    with Path(told).open("a", encoding="utf-8") as file:
        file.write(f"{request.title}\n")
    row = RunRow(**{"model": request.model, "dataset": request.dataset, "seed": request.seed, **values})
    names: dict[str, Any] = {"request": request, "row": row, "RunRow": RunRow}
    exec(f"import os, sys, time\n{script}", names)
    return names["row"]


def scripted_trials(script: str, connection: Any, task: Task) -> None:
    """Answer as a worker does, with the functions of :data:`TRIALS`, which a script may replace."""

    def say(**message: Any) -> None:
        values = message.get("row")
        connection.send(message if values is None else {"row": RunRow.from_dict(values)})

    names = {"connection": connection, "say": say, "task": vars(task)}
    exec(TRIALS + script, names)
    with Path("tasks").open("a", encoding="utf-8") as file:
        file.write(f"{names['task']}\n")
    say(ready=True)
    while True:
        message = connection.recv()
        with Path("tried").open("a", encoding="utf-8") as file:
            file.write(f"{message}\n")
        names["trial"](message["values"])
