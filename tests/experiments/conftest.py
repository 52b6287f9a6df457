"""Tables whose runs take no time."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from scripted import scripted_run

from recbole_signed.runs import processes


class Runs:
    """A Python script in the place of runs, and which of them were started."""

    def __init__(self, patch: pytest.MonkeyPatch, told: Path) -> None:
        self._patch, self._told = patch, told
        self.become()

    def become(self, script: str = "", **values: Any) -> None:
        """Let the script change rows of these values."""
        row = {"test": {"recall@5": 0.5, "dislikerecall@5": 0.25}, **values}
        self._patch.setattr(processes, "made", partial(scripted_run, script, str(self._told), row))

    def started(self) -> list[str]:
        """Return the titles of the runs that were started since it was last asked."""
        lines = self._told.read_text(encoding="utf-8").splitlines() if self._told.exists() else []
        self._told.unlink(missing_ok=True)
        return lines


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runs:
    """Replace the runs of tables by a script that gives a row."""
    return Runs(monkeypatch, tmp_path / "started")


@pytest.fixture
def write(toy: str, tmp_path: Path) -> Callable[..., Path]:
    """Write tables into one folder, beside the planted set."""
    folder = tmp_path / "tables"
    folder.mkdir()

    def write_table(text: str, name: str = "tiny") -> Path:
        path = folder / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_table
