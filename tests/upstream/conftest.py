"""Stock RecBole with exported models in it, and small data that it and this package split alike."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stock_recbole import COMMON, REPOSITORY, Runner

from recbole_signed.lab.upstream import upstream
from recbole_signed.plugin import registry

ROOT = Path(__file__).resolve().parents[2]


def table(path: Path, columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(columns), *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planted set in three parts: ``signed`` for this package, ``stock`` for RecBole; dislikes in training alone."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(7)
    tastes, traits = rng.standard_normal((150, 3)), rng.standard_normal((100, 3))
    affinity = tastes @ traits.T + 0.3 * rng.standard_normal((150, 100))
    seen = rng.random((150, 100)) < 1 / (1 + np.exp(1.0 - 0.8 * np.abs(affinity)))
    pairs = [(f"u{u}", f"i{i}", 1 if affinity[u, i] > 0 else -1) for u, i in rng.permutation(np.argwhere(seen))]
    likes, dislikes = [pair for pair in pairs if pair[2] > 0], [pair for pair in pairs if pair[2] < 0]
    part = np.random.default_rng(1).choice(3, len(likes), p=[0.7, 0.1, 0.2])
    for number, name in enumerate(("train", "valid", "test")):
        own = [pair for pair, each in zip(likes, part, strict=True) if each == number]
        signed = own + (dislikes if number == 0 else [])
        table(root / f"signed/signed.{name}.inter", ["user_id:token", "item_id:token", "sign:float"], signed)
        table(root / f"stock/stock.{name}.inter", ["user_id:token", "item_id:token"], [each[:2] for each in own])
    columns = ["dislike_user_id:token", "dislike_item_id:token"]
    table(root / "stock/stock.dislike", columns, [each[:2] for each in dislikes])
    return root


@pytest.fixture(scope="session")
def timed_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with times, several events of a user at some of them; each user's last likes are after its dislikes.

    Half of the users like the items with even numbers, the others those with odd ones.
    """
    root, rng = tmp_path_factory.mktemp("timed"), np.random.default_rng(11)
    likes, dislikes = [], []
    for user in range(150):
        items = rng.permutation(60)[: rng.integers(16, 40)]
        liked = items % 2 == user % 2
        kept = liked | (np.arange(len(items)) < np.flatnonzero(liked)[-3])  # no dislike after the third last like
        items, liked = items[kept], liked[kept]
        times = np.sort(rng.integers(0, 2 * len(items), len(items)))
        for item, time, like in zip(items, times, liked, strict=True):
            (likes if like else dislikes).append((f"u{user}", f"i{item}", float(time)))
    mixed = [*((*row, 1) for row in likes), *((*row, -1) for row in dislikes)]
    order = rng.permutation(len(mixed))
    columns = ["user_id:token", "item_id:token", "timestamp:float"]
    shuffled = [mixed[place] for place in order]
    table(root / "signed/signed.inter", [*columns, "sign:float"], shuffled)
    table(root / "stock/stock.inter", columns, [row[:3] for row in shuffled if row[3] > 0])
    table(root / "stock/stock.dislike", [f"dislike_{each}" for each in columns], [r[:3] for r in shuffled if r[3] < 0])
    return root


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the installed RecBole, with stand-ins for the parts of its repository that are not in the wheel."""
    folder, installed = tmp_path_factory.mktemp("RecBole"), registry.recbole_folder()
    assert installed is not None
    shutil.copytree(installed, folder / "recbole", ignore=shutil.ignore_patterns("dataset_example"))
    for path, text in REPOSITORY.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def exported(checkout: Path) -> Callable[[str], Path]:
    """Export a model into the checkout, once; return its file."""

    def export(model: str) -> Path:
        kinds = ("general", "sequential")
        paths = [checkout / f"recbole/model/{each}_recommender/{model.lower()}.py" for each in kinds]
        if not any(path.exists() for path in paths):
            upstream(model, checkout, author="A. Author", email="a.author@example.org")
        return next(path for path in paths if path.exists())

    return export


@pytest.fixture(scope="session")
def run_stock(checkout: Path, exported: Callable[[str], Path], data: Path, tmp_path_factory: Any) -> Runner:
    """Run (model, settings) with stock RecBole in a process where this package can't be imported."""

    def run(*jobs: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
        folder = tmp_path_factory.mktemp("run")
        for model, _ in jobs:
            exported(model)
        written = [
            {"model": model, "dataset": "stock", "config": {**COMMON, "data_path": str(data), **config}}
            for model, config in jobs
        ]
        (folder / "jobs.json").write_text(json.dumps(written), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(Path(__file__).parent / "stock_child.py"), "jobs.json"],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": str(checkout),
                "OMP_NUM_THREADS": "1",
                "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",  # for RecBole's checkpoints
            },
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run
