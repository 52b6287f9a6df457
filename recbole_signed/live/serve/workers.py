"""The read replicas that a service starts itself: one that ends, or hangs, is started again."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

_logger = logging.getLogger(__name__)
LOOK = 0.5
"""Seconds between looks at the processes."""
SILENT = 20.0
"""Seconds without a sign of life, after the first one, until a replica is killed."""
END = 30.0
"""Seconds in which a replica has to end once it is told to."""
PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds until a replica that ended is started again; twice as long after each that lived for less than the second."""


class ReplicaProcesses:
    """Processes that run one command, watched by a thread.

    Args:
        command: words that start a replica.
        n: how many.
        restarted: called for each that is started again.
        stopping: whether this process is about to end; then none is started again, as signals often reach all of them.
        own: further words for each, by its number from 1.
        sign: of life of each, by its number: something that changes while it answers, and None before.
    """

    def __init__(
        self,
        command: Sequence[str],
        n: int,
        restarted: Callable[[], None],
        stopping: Callable[[], bool],
        own: Callable[[int], Sequence[str]] = lambda _: (),
        sign: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._replicas = [_Replica([*command, *own(number)], partial(sign, number)) for number in range(1, n + 1)]
        self._restarted, self._stopping = restarted, stopping
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="replicas", daemon=True)

    def start(self) -> None:
        """Start them.

        Raises:
            OSError: the system starts no process.
        """
        for each in self._replicas:
            each.start()
        self._thread.start()

    def stop(self) -> None:
        """End them, and wait until they have."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()  # nothing is started from here on
        running = [each.process for each in self._replicas if each.process is not None]
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(END)
            except subprocess.TimeoutExpired:  # it only reads, so that nothing is lost
                process.kill()
                process.wait()

    def _watch(self) -> None:
        while not (self._stop.wait(LOOK) or self._stopping()):
            for each in self._replicas:
                if each.process is None:
                    if time.monotonic() >= each.due:
                        try:
                            each.start()
                        except OSError as error:
                            each.postpone(f"can't be started: {error.strerror or error}")
                        else:
                            self._restarted()
                elif each.process.poll() is not None:
                    each.postpone(f"ended with status {each.process.returncode}")
                else:
                    each.kill_silent()


class _Replica:
    def __init__(self, command: Sequence[str], sign: Callable[[], object]) -> None:
        self._command, self._pause, self._started = list(command), PAUSE, 0.0
        self._sign, self._newest, self._silent = sign, sign(), 0
        self.process: subprocess.Popen[bytes] | None = None
        self.due = 0.0
        """When it is started again, by the monotonic clock, where there is no process."""

    def start(self) -> None:
        self.process, self._started = subprocess.Popen(self._command), time.monotonic()
        self._newest, self._silent = self._sign(), -1

    def kill_silent(self) -> None:
        """Kill the process if it has shown no sign of life for too long; the next look finds that it has ended.

        Looks are counted, not seconds: where the whole service was stopped for a while, the replica is not to blame.
        """
        assert self.process is not None
        newest = self._sign()
        if newest != self._newest:
            self._newest, self._silent = newest, 0
        elif self._silent >= 0:  # else it has shown none yet: a large state takes long to open
            self._silent += 1
        if self._silent * LOOK >= SILENT:
            _logger.error("a read replica does not answer any more; it is killed")
            self.process.kill()
            self._silent = -1

    def postpone(self, why: str) -> None:
        now = time.monotonic()
        if now - self._started >= LONGEST_PAUSE:
            self._pause = PAUSE
        _logger.error("a read replica %s; it is started again in %.0f s", why, self._pause)
        self.process, self.due = None, now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
