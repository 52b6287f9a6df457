"""RecBole-GNN has models of the same names: each package finds its own, and both compute the same.

The checkout of https://github.com/RUCAIBox/RecBole-GNN is given by the environment variable RECBOLE_GNN.
"""

import json
import os
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from warm_python import WarmPython

COLUMNS = ["user_id:token", "item_id:token", "timestamp:float"]
SHARED_NAMES = ("DirectAU", "LightGCL", "SimGCL", "XSimGCL")
QUICK = {
    "epochs": 2, "show_progress": False, "state": "ERROR", "topk": [10], "valid_metric": "NDCG@10",
    "enable_sparse": False, "load_col": {"inter": ["user_id", "item_id"]},
}  # fmt: skip


@pytest.fixture
def script(tmp_path: Path, write_inter: Callable[..., Path], warm_python: WarmPython) -> Callable[..., Any]:
    """Run code in a fresh process with a folder on its path, beside an unsigned data set; returns its last line."""
    keys = np.random.default_rng(3).permutation(50 * 40)[:900]
    write_inter("plain", COLUMNS, [(f"u{key // 40}", f"i{key % 40}", 1) for key in keys])

    def run(code: str, path: Path) -> Any:
        file = tmp_path / "script.py"
        file.write_text(f"import recbole_signed\nCONFIG = {QUICK!r}\n" + textwrap.dedent(code))
        done = warm_python.run(file, cwd=tmp_path, path=[path])
        assert done.status == 0, done.err[-4000:]
        return json.loads(done.out.splitlines()[-1])

    return run


@pytest.fixture
def checkout() -> Path:
    given = os.environ.get("RECBOLE_GNN")
    if not given or not (Path(given) / "recbole_gnn").is_dir():
        pytest.skip("the environment variable RECBOLE_GNN names no checkout of RecBole-GNN")
    return Path(given)


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A package that looks up models and trainers in the order in which RecBole-GNN does."""
    package = tmp_path / "stand_in" / "recbole_gnn"
    (package / "model" / "general_recommender").mkdir(parents=True)
    for folder in (package, package / "model", package / "model" / "general_recommender"):
        (folder / "__init__.py").write_text("")
    (package / "model" / "general_recommender" / "simgcl.py").write_text(
        "from recbole.model.general_recommender import BPR\nclass SimGCL(BPR):\n    pass\n"
    )
    (package / "utils.py").write_text(
        textwrap.dedent("""
            import importlib, importlib.util
            from recbole.utils import get_model as theirs, get_trainer as their_trainer

            def get_model(name):
                path = "recbole_gnn.model.general_recommender." + name.lower()
                return getattr(importlib.import_module(path), name) if importlib.util.find_spec(path) else theirs(name)

            def get_trainer(model_type, model_name):
                return their_trainer(model_type, model_name)
        """)
    )
    (package / "config.py").write_text(
        textwrap.dedent("""
            from recbole.config import Config as Base
            from recbole_gnn.utils import get_model

            class Config(Base):
                def _get_model_and_dataset(self, model, dataset):
                    return model, get_model(model), dataset
        """)
    )
    return package.parent


LOOK_UP = """
    import json
    from recbole_gnn.utils import get_model, get_trainer
    from recbole_gnn.config import Config
    from recbole.utils import ModelType, get_model as stock
    from recbole.config import Config as StockConfig
    theirs, ours = Config(model="SimGCL", dataset="plain", config_dict=CONFIG), StockConfig(
        model="SimGCL", dataset="plain", config_dict=CONFIG)
    print(json.dumps({
        "theirs": get_model("SimGCL").__module__, "ours": stock("SimGCL").__module__,
        "their trainer": get_trainer(ModelType.GENERAL, "SimGCL").__name__,
        "our trainer": get_trainer(model_type=ModelType.GENERAL, model_name="SSF").__name__,
        "their negatives": theirs["n_negatives"], "our negatives": ours["n_negatives"],
        "their layers": theirs["n_layers"],
    }))
"""


def _check(found: dict[str, Any]) -> None:
    assert found["theirs"] == "recbole_gnn.model.general_recommender.simgcl"
    assert (found["ours"], found["their trainer"]) == ("recbole_signed.model.simgcl", "Trainer")
    assert found["our trainer"] == "SSFTrainer"
    assert found["their negatives"] is None
    assert found["our negatives"] == 1


def test_each_package_finds_its_own(script: Callable[..., Any], stand_in: Path) -> None:
    _check(script(LOOK_UP, stand_in))


def test_recbole_gnn_finds_and_runs_its_own(script: Callable[..., Any], checkout: Path) -> None:
    found = script(LOOK_UP, checkout)
    _check(found)
    assert found["their layers"] == 2  # of its own yaml
    code = f"""
        import json
        from recbole_gnn.quick_start import run_recbole_gnn
        results = [
            run_recbole_gnn(model=name, dataset="plain", config_dict=CONFIG)["test_result"]["ndcg@10"]
            for name in {SHARED_NAMES}
        ]
        print(json.dumps(results))
    """
    assert all(0 < each <= 1 for each in script(code, checkout))


def test_data_without_a_sign_will_do_for_positive_only_models_alone(script: Callable[..., Any], tmp_path: Path) -> None:
    code = f"""
        import json
        from recbole.quick_start import run_recbole
        from recbole_signed import UsageError
        results = [
            run_recbole(model=name, dataset="plain", config_dict=CONFIG)["test_result"]["ndcg@10"]
            for name in {(*SHARED_NAMES, "UltraGCN")}
        ]
        try:
            run_recbole(model="SGCN", dataset="plain", config_dict=CONFIG)
        except UsageError as error:
            print(json.dumps([results, str(error)]))
    """
    results, refusal = script(code, tmp_path)
    assert all(0 < each <= 1 for each in results)
    assert "has no sign" in refusal


BOTH = """
    import json, torch
    from recbole.config import Config as StockConfig
    from recbole.data import create_dataset, data_preparation
    from recbole.data.interaction import Interaction
    from recbole.utils import get_model as stock, init_seed
    from recbole_gnn.config import Config
    from recbole_gnn.utils import create_dataset as their_dataset, data_preparation as their_preparation, get_model

    found = []
    for NAME, SETTINGS in CASES:
        pairs = []
        for config_class, dataset_of, prepare, model_of in (
            (StockConfig, create_dataset, data_preparation, stock),
            (Config, their_dataset, their_preparation, get_model),
        ):
            config = config_class(model=NAME, dataset="plain", config_dict={**CONFIG, **SETTINGS})
            init_seed(config["seed"], True)
            train = prepare(config, dataset_of(config))[0]
            pairs.append(model_of(NAME)(config, train._dataset))
        ours, theirs = pairs
        assert type(ours).__module__ != type(theirs).__module__
        state = [ours.user_embedding.weight, ours.item_embedding.weight]
        wanted = {len(each): each for each in state}
        with torch.no_grad():
            for each in theirs.parameters():
                each.copy_(wanted[len(each)])
        n = min(ours.n_users, ours.n_items) - 1
        generator = torch.Generator().manual_seed(0)
        batch = Interaction({
            "user_id": 1 + torch.randperm(ours.n_users - 1, generator=generator)[:n],
            "item_id": 1 + torch.randperm(ours.n_items - 1, generator=generator)[:n],
            "neg_item_id": 1 + torch.randperm(ours.n_items - 1, generator=generator)[:n],
        })
        def total(loss):
            return float(sum(loss)) if isinstance(loss, tuple) else float(loss)
        losses = [total(each.calculate_loss(batch)) for each in pairs]
        for each in pairs:
            each.eval()
        with torch.no_grad():
            users = Interaction({"user_id": torch.arange(1, 9)})
            first, second = (each.full_sort_predict(users).view(8, -1) for each in pairs)
        apart, size = (float(each.abs().max()) for each in (first - second, first))
        found.append({"losses": losses, "apart": apart, "size": size})
    print(json.dumps(found))
"""

CASES = [
    # no noise and no weight decay: theirs is the norm of all rows, not the mean of their squares
    ("SimGCL", {"lambda": 0.0, "reg_weight": 0.0, "n_layers": 2}),
    ("XSimGCL", {"lambda": 0.3, "reg_weight": 0.0, "n_layers": 2, "eps": 0.0, "layer_cl": 1}),
    ("LightGCL", {"lambda1": 0.3, "lambda2": 1e-3, "n_layers": 2, "dropout": 0.0, "temp": 0.5, "q": 39}),
    ("DirectAU", {"encoder": "MF", "gamma": 0.7}),
    ("DirectAU", {"encoder": "LightGCN", "gamma": 0.7, "n_layers": 2, "reg_weight": 0.0}),
]


def test_both_compute_the_same_and_find_models_as_printed(script: Callable[..., Any], checkout: Path) -> None:
    found = script(f"CASES = {CASES!r}\n" + textwrap.dedent(BOTH), checkout)
    for (name, _), each in zip(CASES, found, strict=True):
        assert each["size"] > 1e-3
        assert each["apart"] < 1e-5 * max(each["size"], 1.0)
        ours, theirs = each["losses"]
        assert ours == pytest.approx(theirs, rel=1e-3 if name == "LightGCL" else 1e-5), name
    code = """
    import json
    from recbole_gnn.config import Config
    recbole_signed.convert("toy", None, "atomic_files")
    print(json.dumps(Config("ssf-l", "toy-signed", config_dict={"enable_sparse": False})["model"]))
    """
    assert script(code, checkout) == "SSFL"
