"""A process that has imported what every run needs, and forks itself for each command line that it is given.

It reads a JSON object per line from standard input, ``{"words", "log", "out"}``, and answers with a line when the
command starts, ``{"pid"}``, and one when it has ended, ``{"pid", "status"}`` (negative: the signal). It ends with its
input, and so do the commands that run then: whoever asked is gone. Nothing is computed here: torch and polars start
their threads with the first computation, and the threads that allocators and OpenBLAS start when they are imported are
known to survive a fork.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import sys
import traceback
from importlib import import_module
from typing import Any

_NEEDED = (
    "recbole.quick_start",
    "recbole_signed.cli.app",
    "recbole_signed.experiments.runs.runner",
    "recbole_signed.ssf.ssf",
)


def serve(requests: int, answers: int) -> None:
    """Answer until the input ends and no command runs any more, as what still runs is killed then.

    Args:
        requests: file descriptor that the lines are read from.
        answers: file descriptor that the answers are written to.
    """
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)  # the end of a child ends the wait below
    running: set[int] = set()
    unread, is_open = b"", True
    while is_open or running:
        ready, _, _ = select.select([woken, *([requests] if is_open else [])], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _tell_ended(running, answers)
        if requests in ready:
            data = os.read(requests, 65536)
            is_open = bool(data)
            for pid in () if is_open else running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            *lines, unread = (unread + data).split(b"\n")
            for line in lines:
                pid = _forked(json.loads(line))
                running.add(pid)
                _tell(answers, {"pid": pid})


def _tell_ended(running: set[int], answers: int) -> None:
    for pid in list(running):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            running.discard(pid)
            _tell(answers, {"pid": pid, "status": os.waitstatus_to_exitcode(status)})


def _tell(answers: int, document: dict[str, Any]) -> None:
    os.write(answers, (json.dumps(document) + "\n").encode())


def _forked(request: dict[str, Any]) -> int:
    pid = os.fork()
    with contextlib.suppress(OSError):  # in both, since either may be the first: it exists before its number is told
        os.setpgid(pid, pid)  # a group, that ends with all that the command started
    if pid:
        return pid
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor, path, flags in (
            (0, os.devnull, os.O_RDONLY),
            (1, request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            (2, request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        ):
            opened = os.open(path, flags, 0o666)
            os.dup2(opened, descriptor)
            os.close(opened)
        status = _status_of(request["words"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # what the server would do at its end is not the command's


def _status_of(words: list[str]) -> int:
    from recbole_signed.cli.app import main

    sys.argv = ["recbole-signed", *words]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    for each in _NEEDED:
        import_module(each)
    gc.freeze()  # a collection in a child would otherwise copy the pages of all that was imported
    # what a command prints must not be taken for an answer
    answers_at = os.dup(1)
    os.dup2(2, 1)
    serve(0, answers_at)
