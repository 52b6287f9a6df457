"""What a command does, in the process of the tests."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recbole_signed.cli.app import app, main


def outcome(capture: pytest.CaptureFixture[str], *words: Any, commands: Any = app) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command; ``capture`` is ``capsys`` or ``capfd``."""
    with pytest.raises(SystemExit) as exit_:
        main([str(word) for word in words], commands)
    output = capture.readouterr()
    assert isinstance(exit_.value.code, int)
    return exit_.value.code, output.out, output.err


def printed(capture: pytest.CaptureFixture[str], *words: Any, commands: Any = app) -> str:
    """Standard output of a command that ends well."""
    __tracebackhide__ = True
    status, out, err = outcome(capture, *words, commands=commands)
    assert status == 0, err
    return out


def check_command_refused(message: str, capture: pytest.CaptureFixture[str], *words: Any, commands: Any = app) -> None:
    """Check that a command ends with status 2 and says a message."""
    __tracebackhide__ = True
    status, _, err = outcome(capture, *words, commands=commands)
    assert status == 2
    assert message in err


def end_by_sigterm(*words: Any, once: Callable[[], Any], **environment: str) -> None:
    """Run a command in a process of its own and end it by SIGTERM once something is true; it ends as after Ctrl-C."""
    given = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    command = [sys.executable, "-m", "recbole_signed", *map(str, words)]
    process = subprocess.Popen(command, env=given, stderr=subprocess.PIPE, text=True)
    for _ in range(6_000):
        if once():
            break
        time.sleep(0.01)
    process.terminate()
    assert process.communicate()[1].endswith("Interrupted.\n")
    assert process.returncode == 130
