"""The committed results, and a small clone of the repository, whose results tests may change."""

import shutil
from pathlib import Path

import pytest
from signed_report.results import Results, read_results


@pytest.fixture(scope="session")
def results() -> Results:
    return read_results(Path(__file__).resolve().parents[2])


@pytest.fixture
def clone(repository: Path, tmp_path: Path) -> Path:
    """What the report is made of, copied: docs/report, yaml, results, README.md."""
    root = tmp_path / "clone"
    shutil.copytree(repository / "docs" / "report", root / "docs" / "report")
    shutil.copytree(repository / "yaml", root / "yaml")
    shutil.copytree(repository / "results", root / "results")
    shutil.copy(repository / "README.md", root)
    return root
