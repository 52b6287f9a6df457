"""RecBole on today's stack: each fault shows without its repair and is gone with it; checkpoints stay data."""

import collections
import datetime
import importlib
import io
import json
import logging
import os
import pickle
import struct
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import recbole.utils
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from recbole.config import Config
from recbole.data import create_dataset
from recbole.quick_start import load_data_and_model, run_recbole
from recbole.utils import get_trainer
from warm_python import WarmPython

from recbole_signed import UsageError
from recbole_signed.compat import checkpoint
from recbole_signed.compat import repairs as compat

NEW_TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 6)

# ---- every fault, without and with its repair ----

PROBES = r"""
import json, os, sys, traceback, warnings
warnings.simplefilter("ignore")
fixed = sys.argv.pop() == "fixed"
outcome = {}

class Absent:  # what a machine without them is like
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in ("ray", "torch_sparse"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent)

def repaired(name):
    module = __import__(name, fromlist=["_"])
    if fixed:
        from recbole_signed.compat import checkpoint
        from recbole_signed.compat import repairs as compat
        compat.apply(name, module)
    return module

def probe(function):
    try:
        function()
        outcome[function.__name__] = "ok"
    except Exception as error:
        outcome[function.__name__] = f"{type(error).__name__}: {error}"

repaired("recbole")
repaired("recbole.utils")
for name in ("recbole.evaluator.collector", "recbole.model.abstract_recommender", "recbole.data"):
    repaired(name)

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer

@probe
def sklearn_when_called():
    import numpy as np
    from recbole.evaluator import metrics
    assert not [name for name in sys.modules if name.split(".")[0] == "sklearn"], "scikit-learn was imported"
    area = metrics.sk_auc(np.array([0.0, 0.5, 1.0]), np.array([0.0, 1.0, 1.0]))
    error = metrics.mean_squared_error([1.0, 2.0], [1.0, 4.0])
    import sklearn.metrics
    assert area == 0.75 and error == 2.0 and sklearn.metrics.accuracy_score([1], [1]) == 1.0

@probe
def numpy_names_without_a_config():
    from recbole.evaluator.metrics import MAP
    MAP({"topk": [1], "metric_decimal_place": 4}).metric_info(np.array([[True]]), np.array([1]))

def configuration(model, **settings):
    return Config(model, "tiny", config_dict={
        "data_path": os.getcwd(), "epochs": 1, "state": "ERROR", "show_progress": False, "embedding_size": 4,
        "topk": 3, "metrics": ["Recall", "NDCG"], "valid_metric": "NDCG@3", **settings})

@probe
def numpy_names():
    configuration("BPR")

for name, value in {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}.items():
    if name not in vars(np):
        setattr(np, name, value)  # so that the later probes get as far as their own fault

def train(model, **settings):
    config = configuration(model, **settings)
    parts = data_preparation(config, create_dataset(config))
    built = get_model(model)(config, parts[0]._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], model)(config, built)
    trainer.fit(*parts[:2], verbose=False, saved=True)
    return trainer, parts[2]

@probe
def dok_update():
    trainer, _ = train("LightGCN")
    matrix, inter = trainer.model.norm_adj_matrix.to_dense(), trainer.model.interaction_matrix
    users = trainer.model.n_users
    degree = np.maximum(inter.toarray().sum(1), 1e-7)
    assert (matrix[:users, users:].numpy() > 0).sum() == inter.nnz
    user, item = int(inter.row[0]), int(inter.col[0])
    expected = degree[user] ** -0.5 * inter.toarray()[:, item].sum() ** -0.5
    assert abs(float(matrix[user, users + item]) - expected) < 1e-4

@probe
def checkpoint_loading():
    trainer, test = train("BPR")
    trainer.evaluate(test, load_best_model=True)

@probe
def collector_plain_values():
    metrics = ["ItemCoverage", "GiniIndex", "AveragePopularity", "TailPercentage", "Recall"]
    trainer, test = train("BPR", metrics=metrics, valid_metric="Recall@3")
    result = trainer.evaluate(test, load_best_model=False)
    items = trainer.eval_collector.data_struct.get("data.num_items")
    assert isinstance(items, int) and 3 / items <= result["itemcoverage@3"] <= 1, (items, result)

@probe
def torch_sparse_optional():
    import recbole_gnn.model.layers as layers
    import recbole_gnn.data as data
    import torch_geometric.typing
    assert not data.is_sparse and not torch_geometric.typing.WITH_TORCH_SPARSE
    assert "torch_sparse" not in sys.modules
    try:
        layers.matmul()
    except ImportError as error:
        assert "torch_sparse" in str(error)

@probe
def ray_optional():
    from recbole.quick_start import objective_function
    assert not [name for name in sys.modules if name.split(".")[0] == "ray"]
    objective_function({"model": "Pop", "dataset": "tiny", "data_path": os.getcwd(), "state": "ERROR",
                        "epochs": 1, "show_progress": False, "metrics": ["Recall"], "valid_metric": "Recall@10"},
                       saved=False)

@probe
def folders_made_at_once():
    utils, exists = repaired("recbole.utils.utils"), os.path.exists
    os.path.exists = lambda path: False  # as another process makes the folder after the look
    try:
        utils.ensure_dir(os.getcwd())
    finally:
        os.path.exists = exists

@probe
def flops_of_one_row():
    import logging
    from recbole.data.transform import construct_transform
    config = configuration("BPR")
    part = data_preparation(config, create_dataset(config))[0]._dataset
    model, one = get_model("BPR")(config, part), part.copy(part.inter_feat[:1])
    count = repaired("recbole.utils.utils").get_flops
    count(model, one, config["device"], logging.getLogger(), construct_transform(config))

@probe
def dgcf_small_samples():
    dgcf = repaired("recbole.model.general_recommender.dgcf")
    users, items = dgcf.sample_cor_samples(3, 9, 5)
    assert sorted(users) == [0, 1, 2] and len(set(items)) == 5

streams = sys.stdout, sys.stderr
@probe
def streams_wrapped_once():
    logger = repaired("recbole.utils.logger")
    try:
        for _ in range(500):
            logger.init(autoreset=True)
        print("a line of the log")
    finally:
        sys.stdout, sys.stderr = streams

json.dump(outcome, open("fixed.json" if fixed else "bare.json", "w"))
"""

FAULTS = {
    "ray_optional": "No module named 'ray", "torch_sparse_optional": "No module named 'torch_sparse",
    "numpy_names": "float_", "numpy_names_without_a_config": "no attribute 'float'", "dok_update": "_update",
    "checkpoint_loading": "Weights only load failed", "collector_plain_values": "no attribute 'cpu'",
    "folders_made_at_once": "FileExistsError", "sklearn_when_called": "scikit-learn was imported",
    "streams_wrapped_once": "RecursionError", "flops_of_one_row": "IndexError",
    "dgcf_small_samples": "Sample larger than population",
}  # fmt: skip


def write_tiny(folder: Path, name: str = "tiny", header: str = "", column: str = "") -> None:
    """30 users and 20 items, half of the pairs."""
    rng = np.random.default_rng(3)
    (folder / name).mkdir(parents=True)
    rows = [f"u{key // 20}\ti{key % 20}{column}" for key in rng.permutation(600)[:300]]
    head = f"user_id:token\titem_id:token{header}"
    (folder / name / f"{name}.inter").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What each probe did in a process without our package, and in one with the repairs."""
    folder = tmp_path_factory.mktemp("stacks")
    write_tiny(folder)
    for file, text in {
        "probes.py": PROBES,
        "recbole_gnn/model/layers.py": "from torch_sparse import matmul\nfrom torch_geometric.nn import GCNConv\n",
        "recbole_gnn/data/__init__.py": (
            "try:\n    from torch_sparse import SparseTensor\n    is_sparse = True\n"
            "except ImportError:\n    is_sparse = False\n"
        ),
    }.items():  # RecBole-GNN's layout: no __init__.py at its top
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text, encoding="utf-8")
    root = Path(compat.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{root}", "OMP_NUM_THREADS": "1"}
    runs = {
        state: subprocess.Popen(
            [sys.executable, "probes.py", state], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
        )
        for state in ("bare", "fixed")
    }
    results = {}
    for state, process in runs.items():
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors[-3000:]
        results[state] = json.loads((folder / f"{state}.json").read_text(encoding="utf-8"))
    return results


@pytest.mark.parametrize("fault", FAULTS)
def test_the_fault_is_there_without_the_repair_alone(fault: str, outcomes: dict[str, dict[str, str]]) -> None:
    assert outcomes["fixed"][fault] == "ok"
    if outcomes["bare"][fault] == "ok":
        pytest.skip("this stack does not have the fault")
    assert FAULTS[fault] in outcomes["bare"][fault]


def test_a_second_application_changes_nothing() -> None:
    def state() -> list[Any]:
        collector = importlib.import_module("recbole.evaluator.collector").Collector
        tuning = importlib.import_module("recbole.trainer.hyper_tuning")
        finders = [type(finder) for finder in sys.meta_path]
        sparse = importlib.import_module("scipy.sparse")
        utils = importlib.import_module("recbole.utils.utils")
        names = sparse.dok_matrix._update, vars(np)["float_"], torch.load, utils.SummaryWriter, utils.ensure_dir
        return [collector.get_data_struct, tuning.exhaustive_search, finders, *names]

    states = []
    for _ in range(2):
        for name in compat.REPAIRS.keys() - {"recbole_gnn"}:
            compat.apply(name, importlib.import_module(name))
        states.append(state())
    assert states[0] == states[1]
    compat.apply("no.such.module", types.ModuleType("no.such.module"))


def test_recboles_own_numpy_settings_leave_numpy_as_it_was() -> None:
    before = {name: value for name, value in vars(np).items() if not name.startswith("_")}
    Config.compatibility_settings(object.__new__(Config))
    changed = {name for name, value in before.items() if vars(np)[name] is not value}
    assert changed <= ({"long"} if sys.platform == "win32" else set())


# ---- stand-ins ----


def test_a_stand_in_is_seen_by_its_module_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other_one.py").write_text("import sys\nsaw = 'wanted_one' in sys.modules\n")
    (tmp_path / "served_one.py").write_text("import other_one\nfrom wanted_one import thing\n")
    (tmp_path / "broken_one.py").write_text("import wanted_one\nraise RuntimeError('half-way')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    finder = compat._StandIns()
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])

    def stand_in() -> dict[str, types.ModuleType]:
        module = types.ModuleType("wanted_one")
        module.thing = "stand-in"  # type: ignore[attr-defined]
        return {"wanted_one": module}

    finder.serve("served_one", ("other_one",), stand_in)
    finder.serve("broken_one", (), stand_in)
    served: Any = importlib.import_module("served_one")
    assert served.thing == "stand-in"
    assert not served.other_one.saw
    assert "wanted_one" not in sys.modules
    with pytest.raises(RuntimeError, match="half-way"):
        importlib.import_module("broken_one")
    assert "wanted_one" not in sys.modules
    real = types.ModuleType("wanted_one")
    monkeypatch.setitem(sys.modules, "wanted_one", real)
    with pytest.raises(RuntimeError, match="half-way"):
        importlib.import_module("broken_one")
    assert sys.modules["wanted_one"] is real
    for name in ("served_one", "other_one"):
        monkeypatch.delitem(sys.modules, name)


def test_metrics_reach_the_real_ray_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tune: Any = importlib.import_module("recbole.quick_start.quick_start").tune
    if getattr(tune.report, "__module__", "") != compat.__name__:
        pytest.skip("RecBole's quick_start was imported with a real ray before this package")
    seen: list[Any] = []
    monkeypatch.delitem(sys.modules, "ray.tune", raising=False)
    tune.report(**{"recall@10": 0.5})

    def old(_metric: Any = None, **metrics: Any) -> None:
        seen.append(metrics)

    def new(metrics: dict[str, float], *, checkpoint: Any = None) -> None:
        seen.append(metrics)

    for report in (old, new):
        monkeypatch.setitem(sys.modules, "ray.tune", types.SimpleNamespace(report=report))
        tune.report(**{"recall@10": 0.5})
    assert seen == [{"recall@10": 0.5}, {"recall@10": 0.5}]


def test_an_importable_torch_sparse_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_sparse", types.ModuleType("torch_sparse"))
    assert compat._torch_sparse_stand_in() == {}


# ---- pandas ----


def test_lost_fills_are_refused(tmp_path: Path) -> None:
    write_tiny(tmp_path, "gaps", "\trating:float", "\t2")
    file = tmp_path / "gaps" / "gaps.inter"
    file.write_text(file.read_text().replace("\t2\n", "\t\n", 5))
    chosen = {"data_path": str(tmp_path), "load_col": {"inter": ["user_id", "item_id", "rating"]}}
    config = Config("BPR", "gaps", config_dict={**chosen, "state": "ERROR"})

    def unfilled() -> bool:
        return bool(create_dataset(config).inter_feat["rating"].isna().any())

    if int(pd.__version__.split(".")[0]) < 3:
        assert not unfilled()
        compat.refuse_pandas_3(types.ModuleType("recbole.data"))
    with pd.option_context("mode.copy_on_write", True):  # as pandas 3 always is
        assert unfilled()
        with pytest.raises(UsageError, match="silently leaves RecBole's missing values unfilled"):
            compat.refuse_pandas_3(types.ModuleType("recbole.data"))


def test_fills_that_work_are_not_warned_of(tmp_path: Path, warm_python: WarmPython) -> None:
    write_tiny(tmp_path, "gaps", "\trating:float", "\t2")
    chosen = {"data_path": str(tmp_path), "load_col": {"inter": ["user_id", "item_id", "rating"]}, "state": "ERROR"}
    (tmp_path / "script.py").write_text(
        "import recbole_signed\nfrom recbole.config import Config\nfrom recbole.data import create_dataset\n"
        f"create_dataset(Config('BPR', 'gaps', config_dict={chosen!r}))\n"
    )
    done = warm_python.run(tmp_path / "script.py", cwd=tmp_path)
    assert done.status == 0, done.err
    assert "FutureWarning" not in done.err


# ---- exhaustive search ----


@pytest.mark.parametrize("generator", [True, False])
def test_exhaustive_search_suits_the_hyperopt_at_hand(generator: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def randint_new(upper: int, rng: Any) -> int:
        return int(rng.integers(0, upper))

    def randint_old(upper: int, rng: Any) -> int:
        return int(rng.randint(0, upper))

    randint = randint_new if generator else randint_old
    stochastic = types.SimpleNamespace(randint=randint)
    pyll = types.SimpleNamespace(
        stochastic=stochastic, rec_eval=lambda _space, memo: ({"a": [0]}, {"a": [randint(5, memo["rng"])]})
    )
    base = types.SimpleNamespace(miscs_update_idxs_vals=lambda miscs, idxs, vals: miscs[0].update(vals=vals))
    for name, module in {
        "hyperopt": types.SimpleNamespace(pyll=pyll, base=base),
        "hyperopt.pyll": pyll,
        "hyperopt.pyll.stochastic": stochastic,
        "hyperopt.base": base,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    tuning: Any = importlib.import_module("recbole.trainer.hyper_tuning")
    domain = types.SimpleNamespace(
        s_idxs_vals=None, s_new_ids="ids", s_rng="rng", cmd=None, workdir=None, new_result=dict
    )

    class Trials:
        trials: list[Any] = []  # noqa: RUF012

        def new_trial_docs(self, _ids: Any, _specs: Any, _results: Any, miscs: list[Any]) -> list[Any]:
            return [{"misc": misc} for misc in miscs]

    def first_of(search: Callable[..., Any], seed: int) -> Any:
        return search([0], domain, Trials(), seed)[0]["misc"]["vals"]["a"][0]

    if generator:
        with pytest.raises(AttributeError, match="integers"):
            first_of(tuning.exhaustive_search.__wrapped__, 1)
    drawn = [first_of(tuning.exhaustive_search, seed) for seed in range(30)]
    assert drawn == [first_of(tuning.exhaustive_search, seed) for seed in range(30)]
    assert set(drawn) == set(range(5))


# ---- checkpoints: what RecBole saves ----


def as_recbole(source: str) -> dict[str, Any]:
    """Run source as code of a module of RecBole."""
    scope: dict[str, Any] = {"__name__": "recbole.trainer.made_up", "torch": torch}
    exec(source, scope)
    return scope


load_as_recbole: Callable[..., Any] = as_recbole("def load(f, **kwargs): return torch.load(f, **kwargs)")["load"]


def saved(value: Any, **how: Any) -> io.BytesIO:
    """Return a file as torch.save writes it."""
    file = io.BytesIO()
    torch.save(value, file, **how)
    file.seek(0)
    return file


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """Train a model with RecBole for an epoch; returns its checkpoint."""
    write_tiny(tmp_path)
    write_tiny(tmp_path, "both", "\tsign:float", "\t1")
    with open(tmp_path / "both" / "both.inter", "a", encoding="utf-8") as file:
        file.writelines(f"u{user}\ti{user % 20}\t-1\n" for user in range(30))

    def train(model: str, dataset: str = "tiny", **chosen: Any) -> Path:
        folder = tmp_path / "saved" / model
        known = set(folder.glob("*.pth"))
        quiet = {"state": "ERROR", "show_progress": False, "data_path": str(tmp_path), "topk": [3]}
        quiet |= {"checkpoint_dir": str(folder), "epochs": 1, "valid_metric": "NDCG@3", "metrics": ["NDCG"]}
        run_recbole(model=model, dataset=dataset, config_dict={**quiet, **chosen})
        (new,) = set(folder.glob("*.pth")) - known
        return new.rename(new.with_name(f"{model}{len(known)}{dataset}.pth"))

    return train


@pytest.mark.parametrize("model", ["BPR", "LightGCN", "MultiVAE", "EASE", "ItemKNN"])
def test_a_checkpoint_gives_the_same_model_and_metrics(model: str, run: Callable[..., Path]) -> None:
    file = run(model, **({"train_neg_sample_args": None} if model == "MultiVAE" else {}))
    config, loaded, *_, test = load_data_and_model(str(file))
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, loaded)
    best = trainer.evaluate(test, load_best_model=True, model_file=str(file))
    assert best == trainer.evaluate(test, load_best_model=False)
    trainer.resume_checkpoint(str(file))
    assert trainer.start_epoch == 1
    stored = torch.load(file, weights_only=False)
    assert all(torch.equal(stored["state_dict"][name], value) for name, value in loaded.state_dict().items())
    assert stored["config"]["model"] == model


def test_torch_alone_refuses_the_same_checkpoint(run: Callable[..., Path]) -> None:
    file = run("BPR")
    assert load_as_recbole(file)["config"]["model"] == "BPR"
    if not NEW_TORCH:
        pytest.skip("torch before 2.6 loads anything, and runs it")
    with pytest.raises(pickle.UnpicklingError, match="Weights only"):
        torch.load(file)  # of this module: none of ours


def test_signed_settings_and_pretrained_parts_come_back(run: Callable[..., Path]) -> None:
    config, *_ = load_data_and_model(str(run("BPR", "both")))
    assert config["signed"].sign_field == "sign"
    parts = [run("NeuMF", mf_train=mf, mlp_train=not mf) for mf in (True, False)]
    file = run("NeuMF", use_pretrain=True, mf_pretrain_path=str(parts[0]), mlp_pretrain_path=str(parts[1]), epochs=1)
    assert load_as_recbole(file, map_location="cpu")["state_dict"]["predict_layer.weight"].shape[0] == 1


ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.dates(),
    st.timedeltas(),
    st.sampled_from([*recbole.utils.ModelType, torch.float32, np.float32, torch.Size([2, 3]), range(3), Path("a/b")]),
    st.sampled_from([torch.device("cpu"), datetime.timezone.utc, frozenset({1}), slice(1, None), bytearray(b"x")]),
    st.integers(-5, 5).map(np.int64),
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.dictionaries(st.text(max_size=3), inner, max_size=3).map(collections.OrderedDict),
        st.dictionaries(st.text(max_size=3), inner, max_size=3).map(lambda d: collections.defaultdict(list, d)),
        st.sets(st.integers(), max_size=3),
    ),
    max_leaves=8,
)


@example(range(3), 2)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES, protocol=st.sampled_from([2, 4]))
def test_what_a_checkpoint_may_hold_comes_back_equal(value: Any, protocol: int) -> None:
    back = load_as_recbole(saved(value, pickle_protocol=protocol))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("protocol", [2, 4])
def test_arrays_and_matrices_come_back(protocol: int) -> None:
    sparse, dense = importlib.import_module("scipy.sparse"), np.arange(6.0).reshape(2, 3)
    values = {
        "array": dense, "objects": np.array([None, "a", 3], dtype=object),
        "record": np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]), "matrix": np.asmatrix(dense),
        **{form: getattr(sparse, form)(dense) for form in ("csr_matrix", "coo_matrix", "csc_array")},
        "tensor": torch.arange(4), "parameter": torch.nn.Parameter(torch.ones(2)), "coo": torch.eye(2).to_sparse(),
        "layer": torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.ReLU()),
    }  # fmt: skip
    back = load_as_recbole(saved(values, pickle_protocol=protocol))
    assert np.array_equal(back["array"], dense)
    assert isinstance(back["matrix"], np.matrix)
    assert back["objects"].tolist() == [None, "a", 3]
    assert back["record"].dtype == values["record"].dtype
    assert all(np.array_equal(back[form].toarray(), dense) for form in ("csr_matrix", "coo_matrix", "csc_array"))
    assert torch.equal(back["tensor"], values["tensor"])
    assert isinstance(back["parameter"], torch.nn.Parameter)
    assert torch.equal(back["coo"].to_dense(), torch.eye(2))
    assert torch.equal(back["layer"](torch.ones(1, 2)), values["layer"](torch.ones(1, 2)))


# ---- checkpoints: what somebody else saves ----

EFFECTS: list[str] = []


class Effect:
    """A class of a trusted package, whose constructor must not be called by loading a file."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        EFFECTS.append("called")


class Bag:
    """A class of a trusted package whose methods are led by its attributes."""

    hook: Any
    shared: Any = None

    def __iter__(self) -> Any:
        self.hook()
        return iter(())

    def __setitem__(self, _key: Any, _value: Any) -> None:
        self.hook()


class Mood(Enum):
    """An enum of a trusted package."""

    GOOD = 1


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def named(kind: Any) -> bytes:
    return f"c{kind.__module__}\n{kind.__qualname__}\n".encode()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def bag(attribute: str) -> bytes:
    """A Bag with Effect as that attribute."""
    return named(Bag) + b")\x81}" + text(attribute) + named(Effect) + b"sb"


HAND_MADE: dict[str, bytes] = {
    "call": named(Effect) + b")R", "old object": b"(" + named(Effect) + b"K\x01o",
    "old instance": b"(K\x01i" + named(Effect)[1:], "attribute __new__": bag("__new__") + b")\x81",
    "attribute __new__, keywords": bag("__new__") + b")}\x92",
    "attribute __setstate__": bag("__setstate__") + b"K\x01b", "attribute append": bag("append") + b"K\x01a",
    "attribute extend": bag("extend") + b"(K\x01e", "attribute add": bag("add") + b"(K\x01\x90",
    "old reconstruction": b"ccopyreg\n_reconstructor\n" + named(Effect) * 2 + b"N\x87R",
    "own iteration": named(set) + bag("hook") + b"\x85R", "own item assignment": bag("hook") + b"K\x01K\x02s",
    "own item assignments": bag("hook") + b"(K\x01K\x02u",
}  # fmt: skip


class RawPickler:
    """Takes bytes for a pickle as they are."""

    def __init__(self, file: Any, **_kwargs: Any) -> None:
        self.file = file

    def dump(self, data: bytes) -> None:
        self.file.write(data)


def archive(data: bytes) -> io.BytesIO:
    """Return a file as torch.save writes it, with that pickle in it."""
    return saved(data, pickle_module=types.SimpleNamespace(__name__="raw", Pickler=RawPickler))


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """This module's classes count as a registered model's."""
    monkeypatch.setattr(checkpoint, "TRUSTED_ROOTS", {*checkpoint.TRUSTED_ROOTS, __name__})
    EFFECTS.clear()


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("trick", HAND_MADE)
def test_loading_calls_no_class(trick: str) -> None:
    data = b"\x80\x04" + HAND_MADE[trick] + b"."
    pickle._Unpickler(io.BytesIO(data)).load()
    assert EFFECTS == ["called"], "without the restriction the trick works"
    EFFECTS.clear()
    with pytest.raises(pickle.UnpicklingError):
        load_as_recbole(archive(data))
    assert not EFFECTS


@pytest.mark.usefixtures("trusted")
def test_a_layer_keeps_its_logger_and_loading_alters_no_class() -> None:
    on_class = named(Bag) + b"(N}" + text("shared") + b"K\x01stb"
    on_enum = named(Mood) + b"K\x01\x85R}" + text("shared") + b"K\x01sb"
    for data in (on_class, on_enum):
        with pytest.raises(pickle.UnpicklingError):
            load_as_recbole(archive(b"\x80\x04" + data + b"."))
    assert Bag.shared is None
    assert not hasattr(Mood.GOOD, "shared")
    loaded = load_as_recbole(archive(b"\x80\x04" + bag("hook") + b"."))
    assert isinstance(loaded, Bag)
    assert loaded.hook is Effect
    assert not EFFECTS


def test_a_layer_keeps_its_logger_and_nobody_fills_one() -> None:
    """As in checkpoints of GRU4RecF."""
    layer = torch.nn.Linear(2, 2)
    layer.logger = logging.getLogger()
    assert load_as_recbole(saved({"config": None, "layer": layer}))["layer"].logger is logging.getLogger()
    filled = b"\x80\x02clogging\ngetLogger\n)R}X\x08\x00\x00\x00disabledK\x01sb."
    with pytest.raises(pickle.UnpicklingError, match="load_build"):
        load_as_recbole(archive(filled))
    assert not logging.getLogger().disabled


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, run: Callable[..., Path]) -> None:
    marker = tmp_path / "marker"
    write = f"open({str(marker)!r}, 'w').close()"
    settings_that_run = ("BPR", "tiny", None, {"epochs": write})
    evil: dict[str, Any] = {
        "shell": Call(os.system, f'echo ran > "{marker}"'), "eval": Call(eval, write), "exec": Call(exec, write),
        "a class of RecBole that evaluates strings": Call(Config, *settings_that_run),
        "a function of RecBole": Call(recbole.utils.ensure_dir, str(marker)),
        "a tensor's detour": Call(torch._tensor._rebuild_from_type_v2, eval, torch.Tensor, (write,), {}),
        "a file in the file": Call(torch.storage._load_from_bytes, archive(pickle.dumps(Call(eval, write))).read()),
        "getattr": Call(getattr, "text", "upper"), "a default": collections.defaultdict(Effect),
    }  # fmt: skip
    dotted = (
        b"\x80\x04" + text("recbole.utils.utils") + text("os.system") + b"\x93" + text(f"touch {marker}") + b"\x85R."
    )
    honest = run("BPR")
    config, model, *_ = load_data_and_model(str(honest))
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    for protocol in (2, 4):
        for name, payload in evil.items():
            file = tmp_path / "evil.pth"
            torch.save({**torch.load(honest, weights_only=False), "cur_step": payload}, file, pickle_protocol=protocol)
            for load in (trainer.resume_checkpoint, load_data_and_model, load_as_recbole):
                with pytest.raises(pickle.UnpicklingError, match=r"so it was not loaded|defaultdict"):
                    load(str(file))
            if NEW_TORCH:  # called from here, torch decides; it does not let these through either
                with pytest.raises(pickle.UnpicklingError):
                    torch.load(file)
            assert not marker.exists(), name
    with pytest.raises(pickle.UnpicklingError, match=r"recbole.utils.utils.os.system"):
        load_as_recbole(archive(dotted))
    assert not marker.exists()
    torch.save(evil["eval"], file)
    torch.load(file, weights_only=False)  # the payloads are real, and whoever asks for it gets torch's own way
    assert marker.exists()


def test_other_formats_are_refused(tmp_path: Path) -> None:
    bare, old, script = (tmp_path / name for name in ("bare.pth", "old.pth", "script.pth"))
    bare.write_bytes(pickle.dumps({"epoch": 1}))
    torch.save({"epoch": 1}, old, _use_new_zipfile_serialization=False)
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(script))
    for file in (bare, old, script):
        with pytest.raises(pickle.UnpicklingError, match=r"not an archive as torch\.save writes it"):
            load_as_recbole(file)
    with pytest.raises(FileNotFoundError):
        load_as_recbole(tmp_path / "absent.pth")


def test_the_user_may_allow_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert __name__.split(".")[0] not in checkpoint.TRUSTED_ROOTS
    file = saved({"own": Call(Effect, 1), "mood": Mood.GOOD})
    with pytest.raises(
        pickle.UnpicklingError, match=rf"'{__name__}\.Effect'.*--import.*add_safe_globals.*TRUSTED_ROOTS"
    ):
        load_as_recbole(io.BytesIO(file.getvalue()))
    before = list(torch.serialization.get_safe_globals())  # of torch 2.4 it is the list itself
    torch.serialization.add_safe_globals([Effect, Mood])
    try:
        loaded = load_as_recbole(io.BytesIO(file.getvalue()))
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)
    assert isinstance(loaded["own"], Effect)
    assert loaded["mood"] is Mood.GOOD


def test_explicit_choices_of_the_caller_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(load_as_recbole(saved(Call(Effect)), weights_only=False), Effect)
    with pytest.raises(pickle.UnpicklingError, match="Weights only"):
        load_as_recbole(saved(Call(Effect)), weights_only=True)
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(pickle.UnpicklingError, match="Weights only"):
        load_as_recbole(saved(Call(Effect)))


# ---- training ----


@pytest.mark.skipif(not hasattr(torch.amp, "GradScaler"), reason="this torch does not warn of torch.cuda.amp")
def test_trainers_use_the_present_names_of_mixed_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = importlib.import_module("recbole.trainer.trainer")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not trainer.amp.GradScaler(enabled=False).is_enabled()
        with trainer.amp.autocast(enabled=False):
            pass
    monkeypatch.setattr(trainer, "amp", importlib.import_module("torch.cuda.amp"))
    with pytest.warns(FutureWarning, match="deprecated"):
        trainer.amp.GradScaler(enabled=False)
    compat.amp_names(trainer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.amp.GradScaler(enabled=False)


def test_training_curves_stay_where_training_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    writer = importlib.import_module("recbole.utils").get_tensorboard(logging.getLogger("no file"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    writer.add_scalar("Loss/train", 0.5, 0)
    writer.close()
    assert os.listdir(tmp_path / "elsewhere") == []
    curves = list((tmp_path / "log_tensorboard").glob("*/events.*"))
    assert b"Loss/train" in b"".join(path.read_bytes() for path in curves)


def test_everything_in_recbole_makes_folders_in_the_mended_way() -> None:
    for name in ("recbole.utils.logger", "recbole.trainer.trainer", "recbole.data.utils"):
        assert hasattr(importlib.import_module(name).ensure_dir, "__wrapped__"), name


def test_no_model_leaves_anomaly_detection_on(warm_python: WarmPython, tmp_path: Path) -> None:
    """With the plugin, and without it, where RecBole turns it on."""
    importing = "import recbole.model.sequential_recommender, torch; print(torch.is_anomaly_enabled())"
    found = []
    for first in ("", "import recbole_signed; "):
        (tmp_path / "script.py").write_text(first + importing)
        done = warm_python.run(tmp_path / "script.py", cwd=tmp_path)
        assert done.status == 0, done.err
        found.append(done.out.strip())
    assert found == ["True", "False"]


def test_a_run_of_lightgcn_is_quiet(tmp_path: Path, repository: Path) -> None:
    """Torch warns of how five of RecBole's models make their graph, with a line of RecBole's source."""
    command = [sys.executable, "-m", "recbole_signed", "run", "-m", "LightGCN", "-d", "toy-signed", "epochs=1", "-q"]
    given = [*command, f"data_path={repository / 'atomic_files'}"]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(given, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
