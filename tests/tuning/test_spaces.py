"""The spaces in ``yaml/tune``: there is one for every model that has something to tune, and each fits its model."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_signed import registry
from recbole_signed.convert import convert
from recbole_signed.tuning.space import Space
from recbole_signed.tuning.task import Task, facts_of

FOLDER = Path(__file__).resolve().parents[2] / "yaml" / "tune"
BASELINES = {"BPR", "EASE", "ItemKNN", "LightGCN", "MultiVAE", "NCL", "SGL"}


def test_every_bundled_model_and_baseline_has_a_space() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == BASELINES | {
        path.stem for path in registry.PROPERTIES.glob("*.yaml")
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    convert("toy", None, folder)
    return folder


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_a_space_fits_its_model(name: str, root: Path) -> None:
    facts = facts_of(Task(name, "toy-signed", settings={"data_path": str(root), "state": "ERROR"}))
    space = Space.read(FOLDER / f"{name}.yaml")
    space.check(name, facts.defaults, facts.judging)
    text = space.path.read_text(encoding="utf-8")
    assert text.startswith("# "), "where the ranges come from"
    outside = [key for key, each in space.parameters.items() if not each.contains(facts.defaults[key])]
    # so the search learns from the default; SSF's chooses by itself, which no point of the space does
    assert outside == (["auto", "dislike_weight"] if name == "SSF" else [])
