"""Commands that run in forks of one process, so that a table of small runs pays for the imports once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from recbole_signed.experiments.runs.processes import Process, end, start

PROGRAM = (sys.executable, "-m", "recbole_signed")
"""Start of the command lines that are run in a fork; others have a process of their own."""
_SERVER = (sys.executable, "-m", "recbole_signed.cli.fork_server")
CAN_FORK = sys.platform == "linux"  # elsewhere a fork beside system libraries is not safe, or there is none


class ForkedProcess:
    """A command that runs in a fork; of ``Popen``, what a pool needs.

    Attributes:
        returncode: exit status, negative for a signal; None while it runs.
    """

    def __init__(self, pid: int) -> None:
        """Know its number."""
        self.pid = pid
        self.returncode: int | None = None
        self._ended = threading.Event()

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status when it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not within so many seconds.
        """
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def ended(self, status: int) -> None:
        """Take the exit status."""
        self.returncode = status
        self._ended.set()


class ForkServer:
    """The process that forks, started with the first command."""

    def __init__(self, log: Path, threads: int) -> None:
        """Start nothing yet.

        Args:
            log: the file that takes what it writes to standard error.
            threads: how many each command may compute with.
        """
        self._log, self._threads = log, threads
        self._process: subprocess.Popen[str] | None = None
        self._running: dict[int, ForkedProcess] = {}
        self._new: ForkedProcess | None = None
        self._answered = threading.Condition()

    @property
    def pid(self) -> int | None:
        """Number of the process that forks; None while there is none."""
        return None if self._process is None else self._process.pid

    def start(self, command: Sequence[str], log: Path, out: Path) -> Process:
        """Start a command.

        Args:
            command: its command line.
            log: the file that takes its standard error.
            out: the file that takes its standard output.

        Raises:
            RuntimeError: the process that forks is gone.
        """
        if not CAN_FORK or tuple(command[: len(PROGRAM)]) != PROGRAM:
            with out.open("wb") as stdout:
                return start(command, log, self._threads, stdin=subprocess.DEVNULL, stdout=stdout)
        if self._process is None or self._process.poll() is not None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "encoding": "utf-8"}
            self._process = start(_SERVER, self._log, self._threads, **pipes)
            threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        assert self._process.stdin is not None
        request = {"words": list(command[len(PROGRAM) :]), "log": str(log.absolute()), "out": str(out.absolute())}
        with self._answered:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
            self._answered.wait_for(lambda: self._new is not None or self._process is None)
            new, self._new = self._new, None
        if new is None:
            raise RuntimeError(f"the process that starts the runs ended; {self._log} says why.")
        return new

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said = json.loads(line)
            with self._answered:
                if "status" in said:
                    self._running.pop(said["pid"]).ended(said["status"])
                else:
                    self._new = self._running[said["pid"]] = ForkedProcess(said["pid"])
                    self._answered.notify_all()
        with self._answered:  # nobody will say how the others end
            for each in self._running.values():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(each.pid, signal.SIGKILL)
                each.ended(-signal.SIGKILL)
            self._running.clear()
            self._process = None
            self._answered.notify_all()

    def close(self) -> None:
        """End it with all that still runs."""
        end(list(self._running.values()))
        process = self._process
        if process is not None:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            end([process], told=True)
