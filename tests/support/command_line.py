"""What a command does, in the process of the tests."""

from __future__ import annotations

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
