"""Runs in fresh processes, forked from one that has imported what each needs; whatever happens, none is left."""

from __future__ import annotations

import multiprocessing
import os
import signal
import site
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType
from typing import Any

from recbole_signed.errors import MissingExtraError, UsageError, one_sentence, outside_cause, raised_by_sigterm
from recbole_signed.plugin import registry
from recbole_signed.plugin.assignments import as_word
from recbole_signed.runs.provenance import cores, machine, versions
from recbole_signed.runs.rows import FAILED, RunRow
from recbole_signed.runs.spec import RunSpec

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
_STARTS = 10  # times that a process is tried to be started
_GRACE_SECONDS = 5.0
_INTERRUPTED = 130
_UNKNOWN = 255  # what multiprocessing gives for the exit status of a process where the one that forks was killed
# elsewhere a fork beside system libraries is not safe, or there is none
_CONTEXT: Any = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")


class Job:
    """A process that works for this one, with a pipe to it."""

    task: Any = None  # what it is at; None while it has nothing to do

    def __init__(self, work: Callable[..., object], arguments: tuple[Any, ...], log: Path, threads: int) -> None:
        """Start ``work`` with the end of a pipe and ``arguments``; the file ``log`` takes what it prints."""
        self.log = log
        self.connection, there = _CONTEXT.Pipe()
        variables = environment(threads)
        begun = (work, there, arguments, str(log.absolute()), variables, str(Path.cwd()))
        self.process = _CONTEXT.Process(target=_begin, args=begun)
        multiprocessing.set_forkserver_preload([f"{__package__}.preloaded"])
        with _parent_hidden(variables):
            self._start()
        there.close()

    def _start(self) -> None:
        for _ in range(_STARTS - 1):
            with suppress(EOFError, ConnectionError):  # the process that forks was killed, and is not known to be gone
                self.process.start()
                return
            time.sleep(0.1)
        self.process.start()

    def answer(self) -> Any:
        """Return the next object that it sends; None where it ended."""
        with suppress(EOFError, OSError):
            return self.connection.recv()
        self.process.join()
        return None

    def send(self, message: Any) -> None:
        """Send an object; a process that is gone is noticed by its silence."""
        with suppress(OSError):
            self.connection.send(message)

    def reason(self) -> str:
        """Return the signal that ended it, or the last line of its log: of a traceback, that is the error."""
        self.process.join()
        status = self.process.exitcode
        if status < 0:
            name = signal.Signals(-status).name
            hint = " (out of memory?)" if name == "SIGKILL" else ""
            return f"the process was ended by {name}{hint}"
        text = self.log.read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else f"the process ended with status {status} and said nothing"

    def kill(self, how: signal.Signals) -> None:
        """Send a signal to the process and all that it started."""
        for kill in (os.killpg, os.kill):  # it may not have become the head of a group yet
            with suppress(ProcessLookupError):
                kill(self.process.pid, how)
                return


class Jobs:
    """At most so many jobs at a time, which share the cores; a context manager that leaves none behind."""

    def __init__(self, n: int, logs: Path) -> None:
        """Start nothing yet; ``logs`` is the folder for what the jobs print."""
        self._n, self._logs = n, logs
        self._all: dict[Any, Job] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *_: object) -> None:
        end(self._all.values())

    def __iter__(self) -> Iterator[Job]:
        return iter(self._all.values())

    def start(self, work: Callable[..., object], arguments: tuple[Any, ...], log: str) -> Job | None:
        """Start a job, see :class:`Job`; None where there are as many as may be."""
        if len(self._all) >= self._n:
            return None
        job = Job(work, arguments, self._logs / log, max(1, cores() // self._n))
        self._all[job.connection] = job
        return job

    def next(self, timeout: float | None = None) -> tuple[Job, Any] | None:
        """Return what a job sends, or None in place of it where the job ended; None where none does in time."""
        for connection in wait(list(self._all), timeout):
            job = self._all[connection]
            message = job.answer()
            if message is None:
                del self._all[connection]
            return job, message
        return None


def end(jobs: Iterable[Job]) -> None:
    """End jobs with all that they started: by SIGTERM, and those that do not obey in time by SIGKILL."""
    jobs = list(jobs)
    for how in (signal.SIGTERM, signal.SIGKILL):
        alive = [job for job in jobs if job.process.exitcode in (None, _UNKNOWN)]
        for job in alive:
            job.kill(how)
        until = time.monotonic() + _GRACE_SECONDS
        for job in alive:
            job.process.join(max(0.0, until - time.monotonic()))


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a process that computes with so many threads and finds this package."""
    variables = dict(os.environ)
    # torch takes MKL's number for its own pool, so one variable's limit must hold for all of them
    limits = [variables[name] for name in THREAD_VARIABLES if variables.get(name, "").isdigit()]
    limit = min([threads, *(int(number) for number in limits if int(number))])
    variables.update(dict.fromkeys(THREAD_VARIABLES, str(limit)))
    # a checkout that is not installed is found from any current folder
    package_root = str(registry.PACKAGE.parent)
    if package_root not in {
        str(Path(folder).resolve()) for folder in [*site.getsitepackages(), site.getusersitepackages()]
    }:
        paths = [package_root, *filter(None, [variables.get("PYTHONPATH")])]
        variables["PYTHONPATH"] = os.pathsep.join(paths)
    return variables


@contextmanager
def _parent_hidden(variables: Mapping[str, str]) -> Iterator[None]:
    """Let a process start as its own: not by the script of this one, which need not be guarded against a second run."""
    main, before = sys.modules["__main__"], dict(os.environ)
    sys.modules["__main__"] = ModuleType("__main__")
    os.environ.update(variables)
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        os.environ.clear()
        os.environ.update(before)


def _begin(
    work: Callable[..., object],
    connection: Connection,
    arguments: tuple[Any, ...],
    log: str,
    variables: Mapping[str, str],
    folder: str,
) -> None:
    os.setpgid(0, 0)  # Ctrl-C reaches the parent alone, which then ends this group
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(written, 1)
    os.dup2(written, 2)
    os.close(written)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = sys.argv[:1]  # RecBole reads the command line
    registry.register_inherited_models()
    _limit_threads(int(variables[THREAD_VARIABLES[0]]))
    with raised_by_sigterm(KeyboardInterrupt):
        try:
            work(connection, *arguments)
        except KeyboardInterrupt:
            sys.exit(_INTERRUPTED)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.killpg(0, signal.SIGKILL)  # a training under way can't be told otherwise


def _limit_threads(threads: int) -> None:
    """Let libraries that are loaded already, and read the variables then, compute with so many threads."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=threads)
    if (torch := sys.modules.get("torch")) is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def run_all(
    requests: Iterable[RunSpec],
    jobs: int,
    logs: Path,
    started: Callable[[RunSpec], None],
    finished: Callable[[RunSpec, RunRow], None],
) -> None:
    """Run every request in its own process, ``jobs`` at a time, which share the cores; call back with each row."""
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
        words = ["run", *(as_word(*setting) for setting in request.settings.items())]
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
