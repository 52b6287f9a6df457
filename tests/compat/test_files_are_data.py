"""Nothing in a yaml, on a command line, in a checkpoint or in a cached data set is executed."""

import logging
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prepared import prepared
from recbole.config import Config
from recbole.data import create_dataset
from recbole.quick_start import run_recbole
from refusals import check_refused

from recbole_signed.errors import UsageError
from recbole_signed.runs import run

MARK = "executed"
ATTACKS = [
    f"__import__('pathlib').Path('{MARK}').touch()",
    f"[__import__('os').system('touch {MARK}')]",
    f"(lambda: open('{MARK}', 'w'))()",
]


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {MARK}",)


@pytest.fixture(autouse=True)
def _nothing_was_executed() -> Any:
    yield
    assert not Path(MARK).exists()


@pytest.fixture
def data(signed: str) -> dict[str, Any]:
    return {"data_path": "dataset"}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("where", ["yaml", "dictionary", "overrides"])
def test_settings_are_not_evaluated(attack: str, where: str, data: dict[str, Any], quick: dict[str, Any]) -> None:
    """A text that is not a literal stays text, wherever it comes from."""
    settings: dict[str, Any] = {**data, **quick}
    if where == "overrides":
        with pytest.raises((UsageError, ValueError)):
            run("BPR", "signed", overrides={**settings, "learner": attack, "topk": attack}, save=False)
        return
    if where == "yaml":
        Path("attack.yaml").write_text(f'wandb_project: "{attack}"\n')
        config = Config(model="BPR", dataset="signed", config_file_list=["attack.yaml"], config_dict=settings)
    else:
        config = Config(model="BPR", dataset="signed", config_dict={**settings, "wandb_project": attack})
    assert config["wandb_project"] == attack


def test_literals_are_values_and_choices_are_not_evaluated() -> None:
    from recbole_signed.compat import file_values

    texts = ["5e-4", "-3", "[1, 2.5, 'a']", "{'RS': [0.8, 0.1, 0.1]}", "(1, 2)", "True", "None", "'text'"]
    assert [file_values.literal(text) for text in texts] == [eval(text) for text in texts]
    for text in ("adam", "ml-100k", "print", "1/0", "(" * 200, "os.system"):
        with pytest.raises(NameError):
            file_values.literal(text)
    from recbole.trainer import HyperTuning

    Path("space.hyper").write_text(f"learning_rate choice [{ATTACKS[0].replace(' ', '')}]\n")
    check_refused("must be a list of values", HyperTuning._build_space_from_file, "space.hyper")
    Path("space.hyper").write_text("learning_rate choice [0.1,0.01]\n")
    assert "learning_rate" in HyperTuning._build_space_from_file("space.hyper")


def test_teachers_are_named_and_arrays_with_pickles_refused() -> None:
    from recbole.model.context_aware_recommender import kd_dagfm

    check_refused("no teacher network", kd_dagfm.eval, ATTACKS[0])
    assert kd_dagfm.eval("CrossNet") is kd_dagfm.CrossNet
    from recbole.model.general_recommender import ldiffrec

    np.save("bomb.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    check_refused("must be an array of numbers", ldiffrec.np.load, "bomb.npy", allow_pickle=True)
    np.save("numbers.npy", np.arange(3))
    assert (ldiffrec.np.load("numbers.npy") == np.arange(3)).all()


@pytest.mark.parametrize("key", ["dataset_save_path", "dataloaders_save_path"])
def test_a_crafted_cache_is_made_again(
    key: str, data: dict[str, Any], quick: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    Path("bomb.pth").write_bytes(pickle.dumps(Bomb()))
    with caplog.at_level(logging.WARNING):
        result = run_recbole(model="Pop", dataset="signed", config_dict={**data, **quick, key: "bomb.pth"}, saved=False)
    assert result["test_result"]
    assert "made again" in caplog.text


@pytest.mark.parametrize("name", ["signed-SignedDataset.pth", "signed-for-Pop-dataloader.pth"])
def test_a_crafted_file_beside_the_checkpoints(name: str, data: dict[str, Any], quick: dict[str, Any]) -> None:
    Path("saved").mkdir()
    (Path("saved") / name).write_bytes(pickle.dumps(Bomb()))
    run_recbole(model="Pop", dataset="signed", config_dict={**data, **quick, "checkpoint_dir": "saved"}, saved=False)


def test_own_caches_are_read(data: dict[str, Any], quick: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """The data set that RecBole cached is used; its loaders, which hold bound methods, are made again, the same."""
    settings = {**data, **quick, "save_dataset": True, "save_dataloaders": True, "checkpoint_dir": "saved"}

    def make() -> Any:
        return prepared("signed", "BPR", **settings)[1:]

    first, parts = make()
    assert list(Path("saved").glob("*.pth"))
    with caplog.at_level(logging.WARNING):
        again, loaded = make()
    assert "cached data set is not used" not in caplog.text
    assert (again.field2id_token["item_id"] == first.field2id_token["item_id"]).all()
    assert (loaded[2].dataset.inter_feat["item_id"] == parts[2].dataset.inter_feat["item_id"]).all()


def test_caches_of_loaders_and_of_other_buckets(data: dict[str, Any], quick: dict[str, Any]) -> None:
    settings = {**data, **quick, "save_dataset": True, "checkpoint_dir": "saved", "numerical_features": ["timestamp"]}
    settings["load_col"] = {"inter": ["user_id", "item_id", "sign", "timestamp"]}
    for number in (2, 5):
        buckets = {"timestamp": {"method": "ED", "bucket": number}}
        config = Config(model="BPR", dataset="signed", config_dict={**settings, "discretization": buckets})
        found = create_dataset(config)
        found._change_feat_format()
        assert found.inter_feat["timestamp"][:, 1].max() == number + 1  # the largest value has a bucket of its own
    # recBole takes the generators off the loaders that it saves, and trains with those
    settings = {**data, **quick, "epochs": 2, "checkpoint_dir": "saved"}
    results = [
        run_recbole(model="BPR", dataset="signed", config_dict={**settings, "save_dataloaders": saves}, saved=False)
        for saves in (False, True, False)
    ]
    assert list(Path("saved").glob("*dataloader.pth"))
    assert results[0] == results[1] == results[2]
