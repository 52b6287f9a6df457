"""CONTRIBUTING.md: the example of RecBole-GNN, the length of the model, and the checks, which are those of CI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BLOCK = re.compile(r"^```(python|yaml)\n# (\S+\.(?:py|yaml))\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDS_GNN = "run_gnn.py"


@pytest.fixture
def examples(repository: Path, tmp_path: Path) -> list[str]:
    """Write the examples into an empty folder beside the toy set; return their scripts in order."""
    text = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = [(name, body) for _, name, body in BLOCK.findall(text)]
    shutil.copytree(repository / "atomic_files" / "toy-signed", tmp_path / "atomic_files" / "toy-signed")
    for name, body in found:
        (tmp_path / name).write_text(body, encoding="utf-8")
    return [name for name, _ in found if name.endswith(".py")]


def _run(folder: Path, code: str, *path: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*path, str(folder), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_example_of_recbole_gnn_runs(examples: list[str], tmp_path: Path) -> None:
    checkout = os.environ.get("RECBOLE_GNN")
    if not checkout:
        pytest.skip("RECBOLE_GNN does not name a checkout of RecBole-GNN")
    assert NEEDS_GNN in examples
    out = _run(tmp_path, f"import runpy; runpy.run_path({NEEDS_GNN!r})", checkout)
    assert "HMLET" in out
    assert "SignedEASE" in out


def test_its_model_is_about_sixty_lines(examples: list[str], tmp_path: Path) -> None:
    assert len((tmp_path / "dislikemf.py").read_text(encoding="utf-8").splitlines()) <= 70


def test_its_checks_are_those_of_ci(repository: Path) -> None:
    text = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = text[text.index("## Run the checks") :]
    commands = block[block.index("```bash\n") + 8 :].partition("```")[0].splitlines()
    ci = (repository / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [each for each in commands if each not in ci] == ["python -m pytest -m slow"]
