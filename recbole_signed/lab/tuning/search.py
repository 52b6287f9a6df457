"""Choosing a model's hyper-parameters on validation: the default configuration first, then what Optuna proposes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_signed import __version__
from recbole_signed.errors import UsageError, argument, ending, raised_by_sigterm
from recbole_signed.evaluation.sign_aware_metrics import gamma_of
from recbole_signed.files import DirectoryLock, path_of, replace_text
from recbole_signed.lab.tuning.result import Tuning, best_of, best_trial, chosen_values, tuned_yaml
from recbole_signed.lab.tuning.study import Halving, Plan
from recbole_signed.lab.tuning.task import Facts, Task, answer, facts_of
from recbole_signed.plugin.assignments import RUNS, space_file
from recbole_signed.plugin.facts import class_name, foreign_code
from recbole_signed.progress import count_bar
from recbole_signed.runs import TableSpec
from recbole_signed.runs.processes import Job, Jobs
from recbole_signed.runs.provenance import digest
from recbole_signed.runs.spec import PlannedRow
from recbole_signed.runs.tuned import tuned_path

if TYPE_CHECKING:
    from recbole_signed.lab.tuning.study import Asked, Study, Tried

_POLL_SECONDS = 0.5


def tune(
    model: str,
    dataset: str,
    config_files: Sequence[str | Path] = (),
    overrides: Mapping[str, Any] | None = None,
    seed: int | None = None,
    plan: Plan | None = None,
    start: Mapping[str, Any] | None = None,
) -> Tuning:
    """Try values of a model's keys by the run's ``valid_metric`` on the validation part, and write the best ones.

    The first trial is the default configuration, so what is written is never worse on validation. The test part is
    never evaluated. A call with the same question (configuration, data, space, version of this package) goes on where
    an earlier one stopped; ``trials``, ``jobs`` and ``timeout`` are not part of it.

    Args:
        model: class name of any model that RecBole finds.
        dataset: name of a data set.
        config_files: RecBole yaml files; a key that is given is fixed, and leaves the space.
        overrides: keys above the files, likewise.
        seed: RecBole's ``seed`` of each trial, and that of the sampler.
        plan: how many trials, and so on.
        start: values of the second trial, points of the space; what it does not name is as in the defaults.

    Returns:
        ``values`` (what was chosen, which is in ``file``), the ``trials``, the ``best`` of them, and ``edges``: the
        keys whose values lie on the edge of the space. ``print`` shows it as the command does.

    Raises:
        UsageError: something asked for does not exist or does not fit, or no trial came to an end.
        MissingExtraError: Optuna is not installed.
        KeyboardInterrupt: after the processes were ended; the next call goes on.
    """
    started = time.perf_counter()
    plan = plan or Plan()
    plan.check()
    from recbole_signed.lab.tuning.study import Space, Study

    if plan.keys.keys() & (overrides or {}):
        raise UsageError(
            f"{argument('budget')} is the training_budget of each trial, which is set as well; give one of the two."
        )
    given = {**(overrides or {}), **plan.keys}
    model = class_name(model)
    task = Task(model, dataset, tuple(str(file) for file in config_files), given, seed)
    file_of_space = plan.space or space_file(model)
    facts = facts_of(task)
    if plan.space is None and not file_of_space.is_file() and not facts.sign_aware:
        raise UsageError(
            f"there is no {file_of_space} that says what to tune of {model}; write one, or give "
            f"{argument('space', 'FILE')}."
        )
    space = Space.from_file(file_of_space, sign_aware=facts.sign_aware and plan.space is None)
    space.check(model, facts.defaults, facts.judging, facts.ranges)
    for key, value in (start or {}).items():
        if key not in space.parameters:
            raise UsageError(
                f"the search can't start with '{key}', which {file_of_space} does not vary; give it as a setting."
            )
        if facts.fixed.get(key, value) != value:
            raise UsageError(f"the search can't start with {key}={value}: {key} is set to {facts.fixed[key]}.")
    facts = replace(facts, model_keys=facts.model_keys | {*space.parameters})
    space = space.without(facts.fixed)
    start = {key: value for key, value in (start or {}).items() if key in space.parameters}

    name = plan.name or dataset
    folder = Path(RUNS) / "tune" / name / model  # of the trials, so that a later call goes on
    folder.mkdir(parents=True, exist_ok=True)
    halving = Halving(
        float(facts.fixed.get("training_budget") or 0), int(facts.fixed.get("max_steps") or 0), plan.prune_after
    )
    question = [facts.config_hash, facts.data_sha256, space.as_dict(), __version__, vars(halving), start]
    code = foreign_code(model)
    question += [] if code is None else [code]  # as in a table's requests: trials of other code are no answer
    database = folder / "study.db"
    with closing(DirectoryLock(folder)):
        study = Study(database, digest(question)[:16], space, facts.defaults, facts.bigger, facts.seed, start)
        before = len(study.tried())
        with (
            raised_by_sigterm(KeyboardInterrupt),
            _progress(plan.trials, facts) as show,
            Jobs(plan.jobs, folder) as workers,
        ):
            search = _Search(study, workers, task, facts, halving, show)
            search.run(plan.trials, plan.timeout)
        tried = study.tried()
    best = best_trial(tried, facts, folder)
    values = chosen_values(best, space, facts)
    file = tuned_path(model, name, plan.output)
    tuning = Tuning(
        task,
        start,
        facts,
        tried,
        best,
        values,
        space.edges(values),
        file,
        database,
        len(tried) - before,
        search.exhausted,
        time.perf_counter() - started,
    )
    replace_text(file, tuned_yaml(tuning, plan))
    return tuning


def tune_table(
    path: Path | str, plan: Plan, labels: Sequence[str] = (), sections: Sequence[str] = (), seed: int | None = None
) -> Iterator[Tuning]:
    """Tune the models of a table on its data sets, one after the other; what was tuned already is not tuned again.

    Of rows whose parameters are kept in one file the first is tuned; a warning names those that have other keys.

    The keys that the table gives are those of the trials: what it says of a model is fixed, but for ``start``, with
    whose values the search begins after the defaults, and for the seeds and the training budget where the plan has one.

    Args:
        path: the table's yaml file.
        plan: how many trials, and so on; its ``name`` is the table's affair.
        labels: the models; all for none.
        sections: the data sets, by their names in the table; all for none.
        seed: RecBole's ``seed`` of each trial, and that of the sampler.

    Yields:
        the tuning of each model with a space for which the table says ``tuned: true``, or a name.

    Raises:
        UsageError: nothing of that is in the table, or as :func:`tune`.
    """
    path = path_of(path, "path")
    spec = TableSpec.read(path).only(labels)
    for section in sections:
        if section not in spec.datasets:
            raise UsageError(
                f"{path} has no data set '{section}'; it has {', '.join(spec.datasets)}{ending(section, spec.datasets)}"
            )
    cells: dict[tuple[str, str], PlannedRow] = {}
    for section in sections or spec.datasets:
        for cell in spec.planned_rows(section):
            takes_over = isinstance(cell.tuned, Mapping)  # what was chosen on other data
            gamma = gamma_of(str(cell.settings.get("valid_metric")), cell.settings.get("signed_gamma"))
            has_space = (
                space_file(cell.model).is_file() or gamma > 0
            )  # then of the dislike aversion, see `Space.from_file`
            if cell.tuned and not takes_over and has_space:
                first = cells.setdefault((_name(cell) or cell.dataset, cell.model), cell)
                if _fixed(first, plan) != _fixed(cell, plan):
                    getLogger().warning(
                        "'%s' on %s is not tuned: it takes what is chosen for '%s' on %s, as both are %s and have one "
                        "file; 'tuned: NAME' gives it one of its own.",
                        *(cell.label, cell.section, first.label, first.section, cell.model),
                    )
    if not cells:
        raise UsageError(f"{path} wants none of these models tuned: write 'tuned: true' under 'common' or the models.")
    for cell in cells.values():
        there = replace(plan, name=_name(cell))
        yield tune(cell.model, cell.dataset, overrides=_fixed(cell, plan), seed=seed, plan=there, start=cell.start)


def _fixed(cell: PlannedRow, plan: Plan) -> dict[str, Any]:
    """Return the keys of the trials of a model."""
    left_out = {"seeds", *plan.keys}
    return {key: value for key, value in cell.settings.items() if key not in left_out}


def _name(cell: PlannedRow) -> str | None:
    return cell.tuned if isinstance(cell.tuned, str) else None


@dataclass
class _Search:
    """Hands trials to workers and takes in what they say."""

    study: Study
    workers: Jobs
    task: Task
    facts: Facts
    halving: Halving
    show: Callable[[list[Tried]], None]
    exhausted: bool = False  # whether all points of the space were tried
    _n_started: int = 0
    _ready: set[Job] = field(default_factory=set)

    def run(self, trials: int, timeout: float | None) -> None:
        """Run until there are so many trials, or no new one may begin."""
        end = time.monotonic() + timeout if timeout else float("inf")
        tried = self.study.tried()
        self.show(tried)
        left = trials - len(tried)
        while True:
            while left > 0 and time.monotonic() < end and (worker := self._free()) is not None:
                asked = self.study.ask()
                if asked is None:
                    self.exhausted, left = True, 0
                    break
                worker.task = asked
                worker.send({"values": asked.values})
                left -= 1
            if not any(job.task for job in self.workers):
                return
            said = self.workers.next(_POLL_SECONDS)
            if said is not None:
                self._hear(*said)

    def _free(self) -> Job | None:
        """Return a process without a trial, started if need be; None where all have one."""
        idle = next((job for job in self.workers if job.task is None), None)
        if idle is None:
            idle = self.workers.start(answer, (self.task,), f"worker-{self._n_started + 1}.log")
            self._n_started += idle is not None
        return idle

    def _hear(self, worker: Job, document: dict[str, Any] | None) -> None:
        trial: Asked | None = worker.task
        if document is None:
            if worker not in self._ready:
                raise UsageError(f"a worker process ended before its first trial: {worker.reason()}")
            document = {"failed": worker.reason()}
        if "ready" in document:
            self._ready.add(worker)
        elif trial is not None and "score" in document:
            epoch, score = document["score"]
            trial.curve.append([epoch, score])
            best = (max if self.facts.bigger else min)(value for _, value in trial.curve)
            rung = self.halving.rung(document["steps"], document["cpu_seconds"])
            worker.send({"go": self.study.report(trial, best, rung)})
        elif trial is not None:
            self._end(trial, document)
            worker.task = None
            self.show(self.study.tried())

    def _end(self, trial: Asked, document: dict[str, Any]) -> None:
        if "pruned" in document:
            self.study.prune(trial, {"epochs": math.ceil(trial.curve[-1][0]), "curve": trial.curve})
            return
        if "failed" in document:
            self.study.fail(trial, document["failed"])
            return
        row = document["row"]
        if row.data_sha256 not in (None, self.facts.data_sha256):
            raise UsageError("the files of the data set have changed since the tuning was begun; run it again.")
        value = row.valid.get(self.facts.metric.lower())
        if value is None or not math.isfinite(value):
            self.study.fail(trial, f"{self.facts.metric} is not defined on the validation part")
            return
        kept = ("epochs", "steps", "stopped_by", "fit_seconds", "fit_cpu_seconds", "peak_memory_bytes")
        about = {key: getattr(row, key) for key in kept if getattr(row, key) is not None}
        self.study.complete(trial, value, about | ({"curve": trial.curve} if trial.curve else {}))


@contextmanager
def _progress(trials: int, facts: Facts) -> Iterator[Callable[[list[Tried]], None]]:
    with count_bar() as progress:
        bar = progress.add_task("", total=trials)

        def show(tried: list[Tried]) -> None:
            best = best_of(tried, facts.bigger)
            text = "" if best is None else f"best {facts.metric} {best.value:.4f} (trial {best.number})"
            progress.update(bar, completed=len(tried), description=text)

        yield show
