"""The README says what is so: its commands are those that CI runs, its table is the one that was printed."""

from __future__ import annotations

import re
from pathlib import Path

from recbole_signed import registry
from recbole_signed.data.settings import SETTING_KEYS


def test_ci_calls_the_test_command(repository: Path) -> None:
    readme = (repository / "README.md").read_text(encoding="utf-8")
    command = re.search(r"\.venv/bin/(python -m pytest .*)$", readme, re.MULTILINE)
    assert command is not None
    assert command[1] in (repository / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_first_table_is_the_one_beside_its_yaml(repository: Path) -> None:
    readme = (repository / "README.md").read_text(encoding="utf-8")
    printed = (repository / "yaml" / "bench" / "ml-100k.md").read_text(encoding="utf-8")
    rows = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 7
    assert "\n".join(rows) in readme


def test_every_key_is_explained(repository: Path) -> None:
    readme = (repository / "README.md").read_text(encoding="utf-8")
    assert [key for key in SETTING_KEYS if f"`{key}`" not in readme] == []
    assert [name for name in registry.models() if f"`{name}`" not in readme] == []
