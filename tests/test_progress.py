"""What is said while a step goes on: nothing of a short one, lines without a terminal, one moving line with one."""

import io
import sys
import time

import pytest

from recbole_signed import progress
from recbole_signed.progress import told


class Terminal(io.StringIO):
    """What rich takes for a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "AFTER", 0.0)
    monkeypatch.setattr(progress, "PAUSES", (0.02, 0.02))


def test_a_short_step_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with told("fit") as say:
        say("reading")
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("quick")
def test_long_steps_are_told_on_lines_until_they_fail(capsys: pytest.CaptureFixture[str]) -> None:
    with told("fit") as say:
        say("reading")
        time.sleep(0.1)
        with told("search") as within:
            within("setting 3")
            time.sleep(0.1)
        time.sleep(0.1)
    lines = capsys.readouterr().err.splitlines()
    assert {"fit: reading, 0 s", "fit: search, setting 3, 0 s"} <= set(lines)
    assert lines[-1] == "fit: done in 0 s"
    assert lines.index("fit: search, setting 3, 0 s") < len(lines) - 1 - lines[::-1].index("fit: reading, 0 s")

    def fails() -> None:
        with told("fit"):
            time.sleep(0.05)
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        fails()
    assert "done" not in capsys.readouterr().err
    with told("next", shown=False):
        time.sleep(0.05)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("quick")
def test_a_terminal_has_one_line_that_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with told("fit") as say:
        say("reading [set-b]")
        time.sleep(0.5)
    shown = terminal.getvalue()
    assert "fit: reading [set-b], 0 s" in shown
    assert "done" not in shown
