"""The README says what is so: its commands are those that CI runs, its table is the one that was printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    ("section", "source"),
    [("## The published splits", "yaml/bench/sigformer.md"), ("## Learning from a stream", "yaml/online/kuairand.md")],
)
def test_the_other_tables_are_those_beside_their_yaml(repository: Path, section: str, source: str) -> None:
    readme = (repository / "README.md").read_text(encoding="utf-8")
    part = readme[readme.index(section) :].partition("\n## ")[0]
    shown = [line for line in part.splitlines() if line.startswith("|")]
    printed = set((repository / source).read_text(encoding="utf-8").splitlines())
    assert len(shown) > 5
    assert [line for line in shown if line not in printed] == []
