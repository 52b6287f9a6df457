"""Every code block of the README, of CONTRIBUTING and of the documentation runs, and so do the tutorials."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from generated_pages import without_generated
from pages import Page, blocks
from warm_python import WarmPython

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = {"bash", "python", "yaml", "text"}
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "atomic_files/README.md")),
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "report" not in path.parts),
]


def _text(path: Path) -> str:
    """A page without what is generated: its code is run where it comes from."""
    return without_generated(path.read_text(encoding="utf-8"))


WITH_BLOCKS = [path for path in PAGES if blocks(_text(path))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the toy set, the yaml files and ``ratings.csv``: 40 users, 60 items, a MovieLens file."""
    for name in ("atomic_files/toy-signed", "yaml", "results"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.jsonl", "*.users"))
    curves = "results/bench/signed/sigformer-kuairand.jsonl"
    shutil.copy(ROOT / curves, tmp_path / curves)
    rng = np.random.default_rng(3)
    pairs = rng.permutation(40 * 60)[:900]
    users, items = pairs // 60 + 1, pairs % 60 + 1
    stars = np.where(users % 3 == items % 3, rng.integers(3, 6, len(pairs)), rng.integers(1, 4, len(pairs)))
    table = np.stack([users, items, stars, 1_600_000_000 + np.arange(len(pairs))], axis=1)
    rows = [",".join(map(str, row)) for row in table.tolist()]
    (tmp_path / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *rows]) + "\n")
    return tmp_path


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=_name)
def test_the_code_blocks_of_a_page_run(page: Path, folder: Path, warm_python: WarmPython) -> None:
    text = _text(page)
    assert text.count("\n```") == 2 * len(blocks(text)) + 2 * text.count("\n```{")
    assert [block.body for block in blocks(text) if block.language not in LANGUAGES] == []
    Page(text, folder, warm_python).run()


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=_name)
def test_a_tutorial_runs(script: Path, folder: Path, warm_python: WarmPython) -> None:
    """On the toy set, and on ``ratings.csv``, which they take where it is there; once more over what that left."""
    text = script.read_text(encoding="utf-8")
    for _ in range(2):
        Page(f"```python\n{text.replace('ml-100k-signed', 'toy-signed')}```", folder, warm_python).run()


# ---- CONTRIBUTING.md: the example of RecBole-GNN, the length of the model, and the checks of CI ----


NEEDS_GNN = "run_gnn.py"


@pytest.fixture
def examples(repository: Path, tmp_path: Path) -> list[str]:
    """Write the examples into an empty folder beside the toy set; return their scripts in order."""
    text = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = {block.file: block.body for block in blocks(text) if block.file is not None}
    shutil.copytree(repository / "atomic_files" / "toy-signed", tmp_path / "atomic_files" / "toy-signed")
    for name, body in found.items():
        (tmp_path / name).write_text(body, encoding="utf-8")
    return [name for name in found if name.endswith(".py")]


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


def test_the_example_of_a_model_is_short_and_checked_by_ci(
    examples: list[str], tmp_path: Path, repository: Path
) -> None:
    assert len((tmp_path / "dislikemf.py").read_text(encoding="utf-8").splitlines()) <= 70
    text = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = text[text.index("## Run the checks") :]
    commands = block[block.index("```bash\n") + 8 :].partition("```")[0].splitlines()
    ci = (repository / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [each for each in commands if each not in ci] == ["python -m pytest -m slow"]
