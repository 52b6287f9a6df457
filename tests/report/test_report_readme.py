"""Marked blocks of a README are rewritten from the Markdown beside the tables, and nothing else is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from signed_report.cli import report
from signed_report.readme import block, rewrite

from recbole_signed.cli import app as cli
from recbole_signed.errors import UsageError


def test_old_numbers_are_found_and_replaced(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme = clone / "README.md"
    before = readme.read_text(encoding="utf-8")
    assert rewrite(readme, clone) == []
    printed = clone / "yaml" / "bench" / "headline.md"
    old = next(line for line in printed.read_text(encoding="utf-8").splitlines() if line.startswith("| SSF |"))
    new = old.replace("| 1 |", "| 1 | 0.9999 |", 1)
    printed.write_text(printed.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")

    def call(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as exit_:
            cli.main(["readme", "--root", str(clone), *words], commands=report)
        return int(exit_.value.code or 0), capsys.readouterr().out

    assert call("--check") == (1, "differ: yaml/bench/headline\n")
    assert readme.read_text(encoding="utf-8") == before
    assert call() == (0, "rewritten: yaml/bench/headline\n")
    assert readme.read_text(encoding="utf-8") == before.replace(old, new)
    assert call("--check", "--json")[1].split() == ["{", '"changed":', "[]", "}"]


def test_a_block_is_the_tables_with_their_small_print(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "# T\n\n## one\n\n| x |\n|---|\n| 1 |\n\nData sha256 abc.\n\n## two: 5 cases\n\n| y |\n|---|\n| 2 |\n\nNote.\n",
        encoding="utf-8",
    )
    one, two = "| x |\n|---|\n| 1 |", "| y |\n|---|\n| 2 |"
    assert block("a", tmp_path) == f"### one\n\n{one}\n\nData sha256 abc.\n\n### two: 5 cases\n\n{two}"
    assert block("a notes", tmp_path) == f"### one\n\n{one}\n\nData sha256 abc.\n\n### two: 5 cases\n\n{two}\n\nNote."
    assert block("a: two", tmp_path) == two


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- table: a -->\n| x |\n", "has no '<!-- end -->'"),
        ("<!-- table: a -->\n<!-- table: a -->\n<!-- end -->\n", "starts before the one above it"),
        ("<!-- table: b -->\n<!-- end -->\n", "can't be read"),
        ("<!-- table: a: three -->\n<!-- end -->\n", "names no section with a table; .* has one"),
        ("<!-- table: empty -->\n<!-- end -->\n", "holds no table"),
    ],
)
def test_wrong_marks_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.md").write_text("## one\n\n| x |\n|---|\n| 1 |\n", encoding="utf-8")
    (tmp_path / "empty.md").write_text("## one\n\nnothing\n", encoding="utf-8")
    readme = tmp_path / "README.md"
    readme.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        rewrite(readme, tmp_path)
    assert readme.read_text(encoding="utf-8") == text


def test_the_readme_command_needs_no_matplotlib_and_no_torch(clone: Path) -> None:
    with pytest.raises(UsageError, match="can't read"):
        rewrite(clone / "none.md", clone)
    code = (
        f"import sys; sys.path.insert(0, {str(clone / 'docs' / 'report')!r}); "
        "from pathlib import Path; from signed_report.readme import rewrite; "
        "print(rewrite(Path('README.md'), Path('.'), write=False), {'torch', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=clone, capture_output=True, text=True, check=True)
    assert done.stdout == "[] set()\n"
