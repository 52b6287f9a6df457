"""``.ci/upstream``: RecBole's own tests run with ``pytest -p recbole_signed``, which imports the package first."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

OTHERS = """
from recbole.model.general_recommender import BPR  # imports NumPy's names that are no longer there


def test_the_package_came_first():
    import sys

    assert list(sys.modules).index("recbole_signed") < list(sys.modules).index("recbole")
"""


def test_a_suite_of_recbole_is_run_with_the_package_and_by_schedule(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "test_others.py").write_text(OTHERS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "recbole_signed", "-p", "no:cacheprovider", "test_others.py"]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
    workflow = yaml.safe_load((repository / ".github" / "workflows" / "upstream.yml").read_text(encoding="utf-8"))
    assert set(workflow[True]) == {"schedule", "workflow_dispatch"}  # YAML 1.1 reads the key 'on' as true
    assert [step["run"] for step in workflow["jobs"]["upstream"]["steps"] if "run" in step] == ["bash .ci/upstream"]
    assert "pytest -p recbole_signed " in (repository / ".ci" / "upstream").read_text(encoding="utf-8")
