"""The bundled search spaces: there is one for every model that has something to tune, and each fits its model."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler

from recbole_signed.convert import convert
from recbole_signed.lab.tuning.space import Space
from recbole_signed.lab.tuning.task import Task, facts_of
from recbole_signed.plugin import registry
from recbole_signed.runs.reading import DataCache

FOLDER = registry.PROPERTIES.parent / "tune"
BASELINES = {"BPR", "EASE", "GRU4Rec", "ItemKNN", "LightGCN", "MultiVAE", "NCL", "SASRec", "SGL"}


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
    space.check(name, facts.defaults, facts.judging, facts.ranges)
    text = space.path.read_text(encoding="utf-8")
    assert text.startswith("# "), "where the ranges come from"
    outside = [key for key in space.parameters if not space.contains(key, facts.defaults[key])]
    # so the search learns from the default; SSF, SSF-L and SSF-T choose by themselves, which no point of a space does
    assert outside == (["auto", "dislike_weight"] if name in ("SSF", "SSFL", "SSFT") else [])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_drawn_values_can_be_run(name: str) -> None:
    if name == "NCL":
        pytest.importorskip("faiss", reason="RecBole's NCL clusters with faiss")
    one_epoch = {"epochs": 1, "eval_step": 1, "state": "ERROR", "valid_metric": "NDCG@10"}
    task, cache = Task(name, "ml-100k-signed", settings=one_epoch), DataCache()
    space = Space.read(FOLDER / f"{name}.yaml")
    for seed in range(2):
        drawn = optuna.create_study(sampler=RandomSampler(seed)).ask(dict(space.parameters))
        values = space.values(drawn.params)
        assert task.run(values, cache).valid["ndcg@10"] is not None, values
