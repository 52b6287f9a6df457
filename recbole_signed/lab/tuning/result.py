"""What came out of a tuning: the best trial, the file that is written, the text that is printed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_signed import __version__
from recbole_signed.errors import UsageError, counted
from recbole_signed.lab.tuning.study import MIN_STEPS, Plan
from recbole_signed.lab.tuning.task import Facts, Task
from recbole_signed.plugin.assignments import as_word
from recbole_signed.runs.provenance import NOT_RESULTS
from recbole_signed.runs.tuned import Tuned, to_yaml
from recbole_signed.table import Header, Section, Table, text_lines, to_text

if TYPE_CHECKING:
    from recbole_signed.lab.tuning.space import Space
    from recbole_signed.lab.tuning.study import Tried

_SHOWN = 5  # trials that a reader is shown, the best ones


@dataclass(frozen=True)
class Tuning:
    """What came out."""

    task: Task
    start: Mapping[str, Any]  # values that were tried second
    facts: Facts
    trials: list[Tried]
    best: Tried
    values: dict[str, Any]  # what is in `file`
    edges: dict[str, str]  # key -> `lowest` or `highest` of the values that lie on the edge of the space
    file: Path
    database: Path
    n_new: int  # trials that this call ran
    exhausted: bool  # whether every point of the space was tried before the trials were used up
    seconds: float

    def __str__(self) -> str:
        """The result as the command ``tune`` prints it."""
        return to_text(tuning_table(self))

    @property
    def default(self) -> Tried | None:
        """The trial of the default configuration; None where it failed."""
        return next((trial for trial in self.trials if trial.is_default and trial.value is not None), None)

    def count(self, state: str) -> int:
        """Return how many trials ended in a state."""
        return sum(trial.state == state for trial in self.trials)

    def as_dict(self) -> dict[str, Any]:
        """Return the tuning as JSON can hold it."""
        return {
            "model": self.task.model,
            "dataset": self.task.dataset,
            "seed": self.facts.seed,
            "metric": self.facts.metric,
            "bigger_is_better": self.facts.bigger,
            "best": dict(vars(self.best)),
            "default_value": self.default.value if self.default is not None else None,
            "values": self.values,
            "edges": self.edges,
            "file": str(self.file),
            "start": dict(self.start),
            "database": str(self.database),
            "new_trials": self.n_new,
            "exhausted": self.exhausted,
            "seconds": round(self.seconds, 3),
            "trials": [dict(vars(trial)) for trial in self.trials],
        }


def best_of(tried: Sequence[Tried], bigger: bool) -> Tried | None:
    """Return the best trial that came to its end, the first of equal ones."""
    done = [trial for trial in tried if trial.value is not None]
    # trials come in their order, and max keeps the first
    return max(done, key=lambda trial: (trial.value or 0.0) * (1 if bigger else -1), default=None)


def best_trial(tried: Sequence[Tried], facts: Facts, folder: Path) -> Tried:
    """Return the best trial."""
    best = best_of(tried, facts.bigger)
    if best is None:
        reasons = [trial.about.get("reason") for trial in tried if trial.about.get("reason")]
        why = f"; the first one: {reasons[0]}" if reasons else ""
        raise UsageError(f"none of {counted(len(tried), 'trial')} came to its end (their logs are in {folder}){why}")
    return best


def chosen_values(best: Tried, space: Space, facts: Facts) -> dict[str, Any]:
    """Return what is written: the best values, under the model's own keys that were fixed."""
    fixed = {key: value for key, value in facts.fixed.items() if key in facts.model_keys}
    searched = {key: best.values.get(key, facts.defaults[key]) for key in space.parameters}
    return fixed | {key: value for key, value in searched.items() if value is not None}


def tuned_yaml(tuning: Tuning, plan: Plan) -> str:
    """Return the file that is written."""
    return to_yaml(Tuned(tuning.values, _how(tuning, plan)), _heading(tuning, plan))


def _how(tuning: Tuning, plan: Plan) -> dict[str, Any]:
    """Return what the file's comment says of its origin."""
    task, facts = tuning.task, tuning.facts
    elsewhere = {*facts.model_keys, *NOT_RESULTS, "training_budget", "max_steps"}
    settings = {key: value for key, value in facts.fixed.items() if key not in elsewhere}
    default = tuning.default
    trials = plan.trials if tuning.exhausted else len(tuning.trials)
    return {
        "model": task.model,
        "dataset": task.dataset,
        "trials": trials,
        "tried": len(tuning.trials),
        "pruned": tuning.count("pruned"),
        "failed": tuning.count("fail"),
        "best_trial": tuning.best.number,
        "training_budget": facts.fixed.get("training_budget"),
        "budget_unit": "CPU s",
        "max_steps": facts.fixed.get("max_steps"),
        "edges": tuning.edges,
        "seed": facts.seed,
        "metric": facts.metric,
        "value": tuning.best.value,
        "default_value": None if default is None else default.value,
        "split": facts.split,
        "protocol": facts.protocol,
        "data_version": facts.data_version,
        "data_sha256": facts.data_sha256,
        "recbole_signed": __version__,
        "settings": settings,
        "command": _command(task, replace(plan, trials=trials), tuning.start),
    }


def _heading(tuning: Tuning, plan: Plan) -> str:
    how = "the default configuration" if tuning.best.is_default else f"trial {tuning.best.number}"
    words = ["recbole-signed", "run", "-m", tuning.task.model, "-d", tuning.task.dataset]
    words += [] if tuning.task.seed is None else ["--seed", str(tuning.task.seed)]
    command = shlex.join([*words, *_conditions(tuning.task, plan, str(tuning.file))])
    return f"The best of {counted(len(tuning.trials), 'trial')} on validation: {how}. Use it by\n  {command}"


def _conditions(task: Task, plan: Plan, *files: str) -> list[str]:
    """Return the words of what all trials had in common, without which the values are not those that were chosen."""
    left_out = {*NOT_RESULTS, *plan.keys}
    given = {key: value for key, value in (task.settings or {}).items() if key not in left_out}
    named = (word for file in (*task.config_files, *files) for word in ("-c", file))
    return [*named, *(as_word(key, value) for key, value in given.items())]


def _command(task: Task, plan: Plan, start: Mapping[str, Any]) -> str:
    """Return the command that does the same again, wherever data and results are."""
    words = ["recbole-signed", "tune", "-m", task.model, "-d", task.dataset, "--trials", str(plan.trials)]
    prune_after = None if plan.prune_after == MIN_STEPS else plan.prune_after
    options = {
        "--budget": plan.budget,
        "--prune-after": prune_after,
        "--space": plan.space,
        "--name": plan.name,
        "--seed": task.seed,
    }
    for option, value in options.items():
        words += [] if value is None else [option, f"{value:g}" if isinstance(value, float) else str(value)]
    for key, value in start.items():
        words += ["--start", as_word(key, value)]
    return shlex.join([*words, *_conditions(task, plan)])


def tuning_table(tuning: Tuning) -> Table:
    """Return the tuning for a reader: the best trials and the default configuration, then what was written."""
    facts, default = tuning.facts, tuning.default
    done = [trial for trial in tuning.trials if trial.value is not None]
    done.sort(key=lambda trial: (trial.value or 0.0) * (-1 if facts.bigger else 1))
    shown = done[:_SHOWN] + ([default] if default is not None and default not in done[:_SHOWN] else [])
    rows = [
        (
            trial.number,
            f"{trial.value:.4f}",
            f"{trial.about.get('fit_seconds', trial.seconds) or 0.0:.1f}",
            "default configuration"
            if trial.is_default
            else " ".join(map(as_word, trial.values, trial.values.values())),
        )
        for trial in shown
    ]
    counted = [f"{tuning.count('complete')} complete", f"{tuning.count('pruned')} pruned"]
    counted += [f"{tuning.count('fail')} failed"] if tuning.count("fail") else []
    notes = []
    if tuning.edges:
        at = ", ".join(f"{as_word(key, tuning.values[key])} ({edge})" for key, edge in tuning.edges.items())
        notes.append(f"on the edge of the space, beyond which better values may lie: {at}")
    notes += ["every point of the space was tried"] if tuning.exhausted else []
    notes.append(f"{len(tuning.trials)} trials ({', '.join(counted)}), {tuning.n_new} now, {tuning.seconds:.0f} s")
    return Table(
        f"{tuning.task.model} on {tuning.task.dataset}, seed {facts.seed}: {facts.metric} on validation",
        (Header(facts.metric), Header("Train (s)"), Header("Values", left=True)),
        (Section("", text_lines(rows)),),
        (*notes, f"written: {tuning.file}"),
        head=(Header("Trial"),),
    )
