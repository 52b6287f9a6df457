"""Exported models run in stock RecBole, and give what they give in this package."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.quick_start import run_recbole
from recbole.utils import get_model
from stock_recbole import COMMON, DISLIKES, LIKES, SEQUENCES, TIMED_DISLIKES, TIMED_LIKES, Runner

from recbole_signed.lab.upstream.bridge import DISLIKE_FIELDS, TimedDislikes
from recbole_signed.lab.upstream.bundle import recipe_of
from recbole_signed.plugin import registry

FITTED, TRAINED = ["SSF", "GFCF"], ["LSGRec"]
SLOW_FITTED = [
    *("BSPM", "ChebyCF", "DEQL", "EDLAE", "SGFCF", "SSFL", "SVDAE", "TurboCF"),
    *("SignedEASE", "SignedGFCF", "SignedSGFCF", "SignedTurboCF", "SignediALS"),
]
REFUSED = [name for name in registry.models() if recipe_of(name).refusal]
SEQUENTIAL = ["SignedSASRec"]
SLOW_TRAINED = sorted({*registry.models()} - {*REFUSED, *FITTED, *SLOW_FITTED, *TRAINED, *SEQUENTIAL})
Runs = Callable[[str], dict[str, dict[str, Any]]]


def also_slow(quick: list[str], slow: list[str]) -> Any:
    """Parametrise a test by models, of which some are left to the slow tests."""
    return pytest.mark.parametrize("model", [*quick, *(pytest.param(each, marks=pytest.mark.slow) for each in slow)])


@pytest.fixture(scope="module")
def runs_of(run_stock: Runner) -> Runs:
    """Return the runs of a model on likes alone and with dislikes; all quick or all slow models are run at once."""
    known: dict[str, dict[str, dict[str, Any]]] = {}

    def of(model: str) -> dict[str, dict[str, Any]]:
        if model not in known:
            is_quick = model in (*FITTED, *TRAINED)
            jobs = []
            for name in (*FITTED, *TRAINED) if is_quick else (*SLOW_FITTED, *SLOW_TRAINED):
                epochs = {**dict.fromkeys((*FITTED, *SLOW_FITTED), 1), "LSGRec": 3, "UltraGCN": 40}.get(name, 12)
                more = {"train_batch_size": 256, "learning_rate": 0.01} if epochs > 1 and name != "SIGformer" else {}
                jobs += [(name, {"epochs": epochs, **more, **settings}) for settings in (LIKES, DISLIKES)]
            for (name, settings), done in zip(jobs, run_stock(*jobs), strict=True):
                kind = "dislikes" if settings["load_col"].get("dislike") else "likes"
                known.setdefault(name, {})[kind] = done
        return known[model]

    return of


def _run_here(model: str, data: Path, dataset: str, **more: Any) -> tuple[list[str], np.ndarray, dict[str, float]]:
    """Return users, scores and metrics of this package's own run."""
    settings = {**COMMON, "data_path": str(data), "epochs": 1, **more}
    if model in ("SSF", "SSFL"):
        # what is chosen on validation is not exported, nor what a dislike does to the items near it
        settings |= {"auto": False, "dislike_strength": 0.0}
    done = run_recbole(model=model, dataset=dataset, config_dict=settings, saved=False)
    config = Config(model=model, dataset=dataset, config_dict=settings)
    train, _, _ = data_preparation(config, create_dataset(config))
    instance = get_model(model)(config, train._dataset)
    instance.fit()
    scores = instance.score(torch.arange(1, instance.n_users)).numpy()
    users = [str(each) for each in train._dataset.field2id_token["user_id"][1:]]
    return users, scores, {name: float(value) for name, value in done["test_result"].items()}


@also_slow(FITTED, SLOW_FITTED)
def test_scores_and_metrics_are_those_of_this_package(model: str, runs_of: Runs, data: Path) -> None:
    """With dislikes supplied, and on likes alone where the model needs no more."""
    kinds: dict[str, tuple[str, dict[str, Any]]] = {"dislikes": ("signed", {})}
    if not registry.load_object(f"{registry.models()[model].module}:{model}").needs_sign:
        kinds["likes"] = "stock", LIKES
    for kind, (dataset, settings) in kinds.items():
        stock = runs_of(model)[kind]
        users, scores, result = _run_here(model, data, dataset, **settings)
        assert stock["class"] == f"recbole.model.general_recommender.{model.lower()}"
        assert stock["users"] == users
        theirs = np.array(stock["scores"], dtype=np.float32)
        hidden = theirs < -1e29
        assert hidden.sum() == stock["dislikes"]
        assert (stock["dislikes"] > 0) == (kind == "dislikes")
        np.testing.assert_allclose(theirs[~hidden], scores[~hidden], rtol=1e-5, atol=1e-6)
        assert stock["result"] == pytest.approx(result, abs=1e-9)


@also_slow(TRAINED, SLOW_TRAINED)
def test_it_learns_from_likes_and_from_dislikes(model: str, runs_of: Runs) -> None:
    for kind, run in runs_of(model).items():
        assert np.isfinite(run["losses"]).all()
        assert np.mean(run["losses"][-2:]) < run["losses"][0]
        assert run["result"]["recall@10"] > 0.15  # a random order has 0.11
        assert (run["dislikes"] > 0) == (kind == "dislikes")


@also_slow(TRAINED, SLOW_TRAINED)
def test_same_parameters_give_the_same_scores_and_losses(
    model: str, exported: Callable[[str], Path], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported_class = _loaded(model, exported(model), monkeypatch)
    settings = {**COMMON, "data_path": str(data), "train_batch_size": 300}
    config = Config(model=model, dataset="signed", config_dict=settings)
    train, _, _ = data_preparation(config, create_dataset(config))
    ours = get_model(model)(config, train._dataset)
    stock_config = Config(model=exported_class, dataset="stock", config_dict={**settings, **DISLIKES})
    dataset = data_preparation(stock_config, create_dataset(stock_config))[0]._dataset
    theirs = exported_class(stock_config, dataset)
    assert not hasattr(dataset, "signed_graph")
    theirs.load_state_dict(ours.state_dict())

    batch = next(iter(train))
    losses = []
    for each in (ours, theirs):
        torch.manual_seed(3)
        losses.append(float(each.train().loss(batch).detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    users = torch.arange(ours.n_users)
    torch.testing.assert_close(theirs.eval().score(users), ours.eval().score(users), rtol=1e-4, atol=1e-5)


def _loaded(model: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the class of an exported file, in this process."""
    spec = importlib.util.spec_from_file_location(f"exported_{model.lower()}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look
    spec.loader.exec_module(module)
    return getattr(module, model)


# ---- sequential models


@pytest.mark.parametrize("model", SEQUENTIAL)
def test_a_sequential_model_learns_in_stock_recbole(model: str, run_stock: Runner, timed_data: Path) -> None:
    more = {**SEQUENCES, "data_path": str(timed_data), "epochs": 10, "learning_rate": 0.01, "hidden_size": 16}
    likes, dislikes = run_stock((model, {**more, **TIMED_LIKES}), (model, {**more, **TIMED_DISLIKES}))
    for run in (likes, dislikes):
        assert run["class"] == f"recbole.model.sequential_recommender.{model.lower()}"
        assert run["losses"][-1] < 0.98 * run["losses"][0]
        assert run["result"]["recall@10"] > 0.2  # a random order has 0.17
    assert likes["dislikes"] == 0
    assert dislikes["dislikes"] > 0


@pytest.mark.parametrize("model", SEQUENTIAL)
def test_sequences_scores_and_losses_of_a_sequential_model_are_the_same(
    model: str, exported: Callable[[str], Path], timed_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row by row, of all three parts, with events of one time and with sequences that are cut."""
    settings = {**COMMON, **SEQUENCES, "data_path": str(timed_data)}
    exported_class = _loaded(model, exported(model), monkeypatch)
    configs = (
        Config(model=model, dataset="signed", config_dict={**settings, "dislike_split": "time"}),
        Config(model=exported_class, dataset="stock", config_dict={**settings, **TIMED_DISLIKES}),
    )
    parts = [[loader._dataset for loader in data_preparation(each, create_dataset(each))] for each in configs]
    kinds = get_model(model), exported_class
    ours, theirs = (kind(config, own[0]).eval() for kind, config, own in zip(kinds, configs, parts, strict=True))
    assert not hasattr(parts[1][0], "signed_graph")
    names = [each.field2id_token["item_id"] for each, _, _ in parts]
    assert [*names[0]] == [*names[1]]  # or items would have to be renamed
    theirs.load_state_dict(ours.state_dict())
    disliked = 0
    for own, stock in zip(*parts, strict=True):
        rows = [each.inter_feat for each in (own, stock)]
        keys = [list(zip(each["user_id"].tolist(), each["item_id"].tolist(), strict=True)) for each in rows]
        order = [sorted(range(len(each)), key=each.__getitem__) for each in keys]
        assert sorted(keys[0]) == sorted(keys[1])
        batches = [each[torch.tensor(places)] for each, places in zip(rows, order, strict=True)]
        told = theirs.with_signs(batches[1])
        for name in ("item_id_list", "sign_list", "item_length"):
            assert torch.equal(told[name], batches[0][name]), name
        disliked += int((told["sign_list"] < 0).sum())
        losses = [
            float(each.calculate_loss(batch).detach()) for each, batch in zip((ours, theirs), batches, strict=True)
        ]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        scores = [each.full_sort_predict(batch) for each, batch in zip((ours, theirs), batches, strict=True)]
        torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-5)
    assert disliked > 1000


def test_what_would_put_dislikes_in_the_wrong_place_is_refused(timed_data: Path) -> None:
    data = {**COMMON, **SEQUENCES, "data_path": str(timed_data)}
    untimed = {**TIMED_DISLIKES, "load_col": {**TIMED_LIKES["load_col"], "dislike": list(DISLIKE_FIELDS)}}
    for more, words in (
        (untimed, "load_col needs 'timestamp' of interactions and 'dislike_timestamp' of dislikes"),
        ({**TIMED_DISLIKES, "normalize_all": True}, "times must not be normalised"),
    ):
        config = Config(model="SASRec", dataset="stock", config_dict={**data, **more})
        with pytest.raises(ValueError, match=words):
            TimedDislikes(create_dataset(config))


@pytest.mark.parametrize("model", SEQUENTIAL)
@pytest.mark.parametrize("settings", [TIMED_LIKES, TIMED_DISLIKES], ids=["likes alone", "with a file of dislikes"])
def test_a_column_of_signs_is_taken_where_likes_alone_are_left(
    model: str,
    settings: dict[str, Any],
    exported: Callable[[str], Path],
    timed_data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exported_class = _loaded(model, exported(model), monkeypatch)
    data = {**COMMON, **SEQUENCES, **settings, "data_path": str(timed_data)}
    config = Config(model=exported_class, dataset="stock", config_dict=data)
    train = data_preparation(config, create_dataset(config))[0]._dataset
    signs = torch.ones(len(train.inter_feat))  # val_interval leaves these alone
    train.inter_feat.update(Interaction({"sign": signs}))
    exported_class(config, train)
    for wrong in (-1, 0):
        signs[3] = wrong
        with pytest.raises(ValueError, match="take interactions whose 'sign' is not above 0 for likes"):
            exported_class(config, train)
