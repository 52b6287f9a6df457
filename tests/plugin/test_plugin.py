"""The plugin is found by stock code: in whatever order things are imported, and in other processes."""

import io
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from prepared import prepared, trainer_of
from recbole.config import Config
from recbole.data import create_dataset
from recbole.model.general_recommender import BPR
from recbole.quick_start import run_recbole
from recbole.utils import get_model, get_trainer
from refusals import check_refused
from warm_python import WarmPython

import recbole_signed
from recbole_signed import UsageError
from recbole_signed.compat.checkpoint import CheckpointUnpickler
from recbole_signed.model.ponegnn import PoneGNN
from recbole_signed.plugin import registry
from recbole_signed.trainer.signed_trainer import SignedTrainer
from recbole_signed.yaml_spec import read_yaml

COLUMNS = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]
Write = Callable[..., Path]

MODEL = '''
import torch
from recbole.model.general_recommender import BPR
from recbole.trainer import Trainer

class {name}(BPR):
    """A third party's model: BPR that reads the dislikes and a default of its own."""
    needs_sign = True

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.n_dislikes = dataset.signed_graph().dislikes.nnz
        assert config["my_own_key"] == 7, config["my_own_key"]

class {name}Trainer(Trainer):
    def fit(self, *args, **kwargs):
        print("own trainer", self.model.n_dislikes)
        return super().fit(*args, **kwargs)
'''
BOTH = "{'metrics': ['Recall', 'DislikeRecall'], 'valid_metric': 'Recall@10'}"
QUICK = "{'epochs': 1, 'show_progress': False, 'state': 'ERROR', 'topk': [10], 'valid_metric': 'NDCG@10'}"


@pytest.fixture
def script(tmp_path: Path, signed: str, warm_python: WarmPython) -> Callable[..., str]:
    """Run Python code in a fresh process, in a folder with the data set 'signed'; returns its standard output."""

    def run(code: str, *, fails: bool = False, cold: bool = False, **files: str) -> str:
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        file = tmp_path / "script.py"
        file.write_text(textwrap.dedent(code))
        if cold:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=240
            )
            status, out, err = done.returncode, done.stdout, done.stderr
        else:
            warm = warm_python.run(file, cwd=tmp_path)
            status, out, err = warm.status, warm.out, warm.err
        assert (status != 0) if fails else status == 0, err[-4000:]
        return out + err if fails else out

    return run


def test_the_import_is_light() -> None:
    code = """
        import sys, time
        start = time.process_time()  # of a busy machine's clock nothing follows
        import recbole_signed
        seconds = time.process_time() - start
        heavy = {"torch", "recbole", "numpy", "pandas", "polars", "scipy"} & set(sys.modules)
        print(seconds, sorted(heavy))
    """
    runs = [
        subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True) for _ in range(3)
    ]
    seconds = min(float(run.stdout.split()[0]) for run in runs)
    assert runs[0].stdout.split(maxsplit=1)[1].strip() == "[]"
    assert seconds < 0.3


def test_a_researchers_script_works_unchanged(script: Callable[..., str]) -> None:
    out = script(
        f"""
        import recbole_signed
        from recbole.quick_start import run_recbole
        result = run_recbole(model="LightGCN", dataset="signed", config_dict={QUICK})
        print(result["test_result"]["ndcg@10"])
    """,
        cold=True,
    )
    assert 0 < float(out.split()[-1]) < 1


@pytest.mark.parametrize(
    "first", ["recbole.config", "recbole.utils", "recbole.data", "recbole.evaluator", "recbole.trainer"]
)
def test_recbole_may_be_imported_first(first: str, script: Callable[..., str]) -> None:
    out = script(f"""
        import {first}
        from recbole.config import Config
        import recbole_signed
        from recbole.data import create_dataset, data_preparation
        config = Config(model="BPR", dataset="signed", config_dict={{**{QUICK}, "metrics": ["Recall", "DislikeRecall"],
                                                                  "valid_metric": "Recall@10"}})
        print(type(create_dataset(config)).__name__)
    """)
    assert out.split()[-1] == "SignedDataset"


@pytest.mark.parametrize("how", ["a call", "an entry point"])
def test_a_third_party_registers_a_model(how: str, script: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "Theirs.yaml").write_text("embedding_size: 8\nmy_own_key: 7        # (int) A default.\n")
    call = ""
    if how == "a call":
        words = "'Theirs', 'theirs', properties='Theirs.yaml', trainer='theirs:TheirsTrainer'"
        call = f"recbole_signed.register_model({words})"
    else:
        info = tmp_path / "theirs-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[recbole_signed.models]\nTheirs = theirs:Theirs\n")
    out = script(
        f"""
        import recbole_signed
        {call}
        from recbole.quick_start import run_recbole, load_data_and_model
        from recbole.utils import get_model, get_trainer, ModelType
        assert get_model("Theirs").__module__ == "theirs"
        run_recbole(model="Theirs", dataset="signed", config_dict={QUICK})
        print(get_trainer(ModelType.GENERAL, "Theirs").__name__, "Theirs" in recbole_signed.plugin.registry.models())
    """,
        theirs=MODEL.format(name="Theirs"),
    )
    assert out.split()[-2:] == ["TheirsTrainer" if call else "Trainer", "True"]
    assert ("own trainer" in out) == bool(call)


def test_a_checkpoint_brings_the_plugin_along(script: Callable[..., str], tmp_path: Path) -> None:
    """Whoever loads a stock model that was trained on signed data gets signed data, without naming the plugin."""
    out = script(f"""
        import recbole_signed
        from recbole.quick_start import run_recbole, load_data_and_model
        import glob, sys, pickle
        result = run_recbole(model="BPR", dataset="signed", config_dict={QUICK})
        file = glob.glob("saved/BPR-*.pth")[0]
        config, model, dataset, train, valid, test = load_data_and_model(file)
        from recbole.utils import get_trainer
        again = get_trainer(config["MODEL_TYPE"], "BPR")(config, model).evaluate(test, load_best_model=False)
        print(type(dataset).__name__, again == result["test_result"])
    """)
    assert out.split()[-2:] == ["SignedDataset", "True"]
    checkpoint = next((tmp_path / "saved").glob("BPR-*.pth"))
    out = script(f"""
        import sys, torch
        checkpoint = torch.load({str(checkpoint)!r}, weights_only=False)
        print("recbole_signed" in sys.modules, type(checkpoint["config"]["signed"]).__module__)
    """)
    assert out.split()[-2:] == ["True", "recbole_signed.data.settings"]


def test_a_pickled_entry_point_imports_the_plugin_in_the_worker(script: Callable[..., str], tmp_path: Path) -> None:
    script("""
        import recbole.config
        import recbole_signed
        from recbole.quick_start import objective_function, run_recbole
        import pickle
        from pathlib import Path
        Path("call.pickle").write_bytes(pickle.dumps(objective_function))
    """)
    out = script(f"""
        import pickle, sys
        from pathlib import Path
        objective_function = pickle.loads(Path("call.pickle").read_bytes())
        settings = {{**{QUICK}, **{BOTH}, "model": "BPR", "dataset": "signed"}}
        result = objective_function(config_dict=settings, saved=False)
        import recbole.quick_start
        print(recbole.quick_start.objective_function is objective_function, "dislikerecall@10" in result["test_result"])
    """)
    assert out.split()[-2:] == ["True", "True"]


def test_spawned_processes_know_the_plugin(script: Callable[..., str]) -> None:
    out = script(
        f"""
        if __name__ == "__main__":
            import recbole_signed
            from recbole.quick_start import run_recbole
            from concurrent.futures import ProcessPoolExecutor
            import multiprocessing
            settings = {{**{QUICK}, **{BOTH}}}
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                result = pool.submit(run_recbole, "BPR", "signed", None, settings, False).result()
            print("dislikerecall@10" in result["test_result"])
    """,
        cold=True,
    )
    assert out.split()[-1] == "True"


def test_ray_workers_know_the_plugin(script: Callable[..., str]) -> None:
    """Ray sends functions with cloudpickle, which goes by the module that a function names."""
    pytest.importorskip("cloudpickle")
    out = script("""
        import recbole_signed, cloudpickle
        from recbole.quick_start import objective_function
        print(b"recbole_signed.quick_start" in cloudpickle.dumps(objective_function))
    """)
    assert out.split()[-1] == "True"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("LightGNC", "LightGCN"),
        ("lightgcn", "LightGCN"),
        ("bpr", "BPR"),
        ("Poop", "Pop"),
        ("XGBost", "XGBoost"),
        ("SFF", "SSF"),
    ],
)
def test_a_misspelt_model_ends_in_a_hint(name: str, hint: str, signed: str) -> None:
    said = f"no model named '{name}'; did you mean '{hint}'"
    check_refused(said, run_recbole, model=name, dataset=signed, config_dict={"state": "ERROR"})
    if name.lower() != hint.lower():
        check_refused(f"did you mean '{hint}'", get_model, name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: [1\ntopk: 5\n", "second.yaml is not valid yaml: .* line 2"),
        ("epochs 1\n", "second.yaml must hold 'key: value' lines at its top, but holds str"),
    ],
)
def test_a_broken_configuration_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    files = [tmp_path / "first.yaml", tmp_path / "second.yaml"]
    files[0].write_text("epochs: 1\n")
    files[1].write_text(text)
    check_refused(message, Config, model="BPR", dataset="toy-signed", config_file_list=[str(each) for each in files])


def test_a_configuration_finds_a_model_by_the_name_that_is_printed(signed: str) -> None:
    by_class = Config("SSFL", signed)
    for given in ({"model": "SSF-L"}, {"config_dict": {"model": "ssf-l"}}):
        config = Config(dataset=signed, **given)
        assert config.model_class is by_class.model_class
        assert config.final_config_dict == by_class.final_config_dict


@pytest.mark.parametrize(
    ("model", "said"),
    [
        *((name, f"{name} reads data with a sign") for name in ("ContentKNN", "DecayPop", "FeaturePop", "LightFM")),
        ("SGCN", "SGCN learns from dislikes"),
        (type("Theirs", (BPR,), {"needs_sign": True}), "Theirs learns from dislikes"),
    ],
)
def test_a_model_of_signs_refuses_data_without(model: Any, said: str, write_inter: Write) -> None:
    """One of likes is not said to learn from dislikes."""
    write_inter("unsigned", COLUMNS[:2], [(1, 1), (2, 2)])
    settings = {"data_path": "dataset", "state": "ERROR"}
    check_refused(
        f"{said}, but the data set 'unsigned' has no sign",
        Config,
        model=model,
        dataset="unsigned",
        config_dict=settings,
    )


def test_a_registered_model_runs_in_a_table_until_its_code_changes(script: Callable[..., str], tmp_path: Path) -> None:
    """The runs of a table are processes of their own, which have not executed the script."""
    (tmp_path / "Theirs.yaml").write_text("embedding_size: 8\nmy_own_key: 7\n")
    settings = "{epochs: 1, topk: [1], metrics: [Recall], valid_metric: Recall@1, state: ERROR}"
    (tmp_path / "own.yaml").write_text(
        f"title: Own\ndatasets: [signed]\nseeds: [1]\nmodels: {{Theirs: {settings}}}\ncolumns: [recall@1]\n"
    )
    code = """
        import recbole_signed
        from pathlib import Path
        from recbole_signed.runs import TableSpec
        recbole_signed.register_model("Theirs", "theirs", properties="Theirs.yaml")
        before = recbole_signed.compare("own.yaml")
        print([row.ok for row in before.rows])
        with open("theirs.py", "a") as file:
            file.write("# changed")
        print(before.rows[0].request_hash != next(TableSpec.read(Path("own.yaml")).requests()).request_hash)
    """
    assert script(code, theirs=MODEL.format(name="Theirs")).splitlines()[-2:] == ["[True]", "True"]


def test_a_missing_registered_module_is_named(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is imported when its model is first used; a module that is there and lacks another one is told by Python."""
    monkeypatch.setenv(registry.INHERITED, "{}")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lacking.py").write_text("import nothing_of_this_name\n", encoding="utf-8")
    for module in ("not_there", "not_there.inner", "lacking"):
        registry.register_model("UnheardOf", module)
        try:
            with pytest.raises((UsageError, ModuleNotFoundError)) as caught:
                recbole_signed.run("UnheardOf", toy)
        finally:
            del registry.registered["UnheardOf"]
            del sys.modules["recbole.model.general_recommender.unheardof"]
        said = f"registered with the module {module}, which can't be found" in str(caught.value)
        assert said == (module != "lacking")
        assert isinstance(caught.value, UsageError) == said


def test_names_that_are_taken_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(registry.INHERITED, "{}")
    for taken in ("BPR", "SASRec", "DeepFM", "KGAT"):  # of each of RecBole's packages
        check_refused(f"RecBole has a model of the name '{taken}'", recbole_signed.register_model, taken, "somewhere")
    said = r"'SSF' is registered already, by recbole_signed\.ssf\.ssf, and RecBole finds"
    check_refused(said, recbole_signed.register_model, "Ssf", "somewhere")
    nothing = tmp_path / "nothing.yaml"
    check_refused("does not exist", recbole_signed.register_model, "Unheard", "somewhere", properties=nothing)
    registry.register_model("UnheardOf", "first.module")
    try:
        check_refused(r"registered already, by first\.module", registry.register_model, "UnheardOf", "second.module")
        registry.register_model("UnheardOf", "first.module")
    finally:
        del registry.registered["UnheardOf"]
        del sys.modules["recbole.model.general_recommender.unheardof"]


def test_default_yamls_and_trainers_lead_to_their_classes(signed: str, signed_rows: list) -> None:
    for name, entry in registry.models().items():
        if entry.module.startswith("recbole_signed."):
            assert get_model(name).__name__ == name
            assert entry.properties is not None
            # checkpoints name the class by its module, which was once of the model alone
            for module in (entry.module, f"recbole_signed.model.{name.lower()}"):
                assert CheckpointUnpickler(io.BytesIO()).find_class(module, name) is get_model(name)
    config: Any = Config(model="BPR", dataset=signed, config_dict={"state": "ERROR"})
    assert get_trainer(config["MODEL_TYPE"], "BPR").__name__ == "Trainer"
    assert create_dataset(config).sign_report.likes == sum(row[2] > 0 for row in signed_rows)


def test_unsigned_data_is_recboles_own(script: Callable[..., str], write_inter: Write, signed_rows: list) -> None:
    """Bit for bit: the same run in a process that has the repairs alone and in one that has the whole plugin."""
    write_inter(
        "likes",
        ["user_id:token", "item_id:token", "timestamp:float"],
        [(u, i, t) for u, i, s, t in signed_rows if s > 0],
    )
    run = f"""
        from recbole.quick_start import run_recbole
        import json, recbole.data.dataset
        for model in ("BPR", "Pop", "MultiVAE"):
            result = run_recbole(model=model, dataset="likes", config_dict=dict({QUICK}, epochs=2), saved=False)
            print(json.dumps([float(value) for value in result["test_result"].values()]))
    """
    repairs = """
        import sys, types, importlib
        stock = types.ModuleType("recbole_signed")   # the package without its plugin
        stock.__path__ = PATH
        sys.modules["recbole_signed"] = stock
        from recbole_signed.compat import repairs as compat
        import wrapt
        for name in compat.REPAIRS:
            wrapt.register_post_import_hook(lambda module: compat.apply(module.__name__, module), name)
    """.replace("PATH", repr(list(recbole_signed.__path__)))
    stock, plugged = script(repairs + run), script("        import recbole_signed\n" + run)
    assert [json.loads(line) for line in stock.splitlines()[-3:]] == [
        json.loads(line) for line in plugged.splitlines()[-3:]
    ]


# ---- RecBole-GNN, which has no package: a stand-in with its data set class, in its way of looking things up ----

GNN = {
    "__init__": "",
    "dataset": """
from recbole.data.dataset import Dataset as RecBoleDataset
class GeneralGraphDataset(RecBoleDataset):
    def __init__(self, config):
        super().__init__(config)
    def edges(self):
        return len(self.inter_feat)
""",
}


def test_recbole_gnns_data_set_becomes_signed(script: Callable[..., str], tmp_path: Path, signed_rows: list) -> None:
    package = tmp_path / "recbole_gnn"
    package.mkdir()
    for name, text in GNN.items():
        (package / f"{name}.py").write_text(text)
    out = script(f"""
        import recbole_signed, copy, pickle
        from recbole.config import Config
        from recbole_gnn.dataset import GeneralGraphDataset
        config = Config(model="BPR", dataset="signed", config_dict=dict({QUICK}, save_dataset=True))
        dataset = GeneralGraphDataset(config)
        again = pickle.loads(pickle.dumps(copy.copy(dataset)))
        dataset.save()
        train, valid, test = again.build()
        print(type(again).__name__, isinstance(again, GeneralGraphDataset))
        print(dataset.edges(), len(again.neg_feat), train.edges())
    """)
    name, graph, edges, dislikes, train = out.split()[-5:]
    assert (name, graph) == ("SignedGeneralGraphDataset", "True")
    assert int(edges) == sum(row[2] > 0 for row in signed_rows) > int(train)
    assert int(dislikes) == sum(row[2] < 0 for row in signed_rows)
    assert (tmp_path / "saved" / "signed-GeneralGraphDataset.pth").is_file()


def test_a_model_that_is_given_as_a_class_has_its_trainer(signed: str, quick: dict) -> None:
    class Mine(PoneGNN):
        epochs: ClassVar[list[int]] = []

        def start_epoch(self, epoch: int) -> None:
            self.epochs.append(epoch)
            super().start_epoch(epoch)

    own = {"lr_milestones": None, "embedding_size": 8, "allow_unknown_keys": True}
    small = read_yaml(registry.models()["PoneGNN"].properties) | own
    config, _, (train, valid, _) = prepared(signed, Mine, **{**small, **quick})
    trainer = trainer_of(config, Mine(config, train._dataset))
    trainer.fit(train, valid, saved=False)
    assert isinstance(trainer, SignedTrainer)
    assert Mine.epochs == [0, 1]


@pytest.mark.parametrize("model", ["BPR", "SSF", "PoneGNN"])
def test_where_no_validation_has_a_value_the_last_state_is_tested(
    model: str, write_inter: Write, signed_rows: list, quick: dict, caplog: pytest.LogCaptureFixture
) -> None:
    write_inter("signed", COLUMNS, [(user, item, abs(sign), time) for user, item, sign, time in signed_rows])
    settings = quick | {"metrics": ["Recall", "SignAUC"], "valid_metric": "SignAUC", "state": "WARNING"}
    result: Any = run_recbole(model=model, dataset="signed", config_dict=settings)
    assert result["test_result"]["recall@10"] > 0
    assert "No epoch was the best one on validation" in caplog.text


@pytest.mark.parametrize("base", ["SSF", "SignedEASE"])
def test_a_class_that_extends_a_registered_model_is_that_model(base: str, signed: str, quick: dict) -> None:
    results = []
    for model in (base, type("Mine", (get_model(base),), {"__doc__": "A model of one's own."})):
        config, _, (train, valid, test) = prepared(signed, model, **quick)
        made = (get_model(base) if model == base else model)(config, train._dataset)
        trainer = trainer_of(config, made)
        trainer.fit(train, valid, saved=False)
        results.append((made.auto if base == "SSF" else None, trainer.evaluate(test, load_best_model=False)))
        assert isinstance(trainer, SignedTrainer)
    assert results[0] == results[1]  # with the same defaults, and SSF's choice on validation


def test_run_recbole_takes_a_class_of_ones_own(script: Callable[..., str]) -> None:
    code = """
        import recbole_signed
        from recbole.quick_start import load_data_and_model, run_recbole
        from recbole_signed.ssf import SSF

        class Mine(SSF):
            def __init__(self, config, dataset):
                super().__init__(config, dataset)
                print("mine", config["model"])

        settings = {"metrics": ["Recall"], "valid_metric": "Recall@10", "state": "ERROR", "show_progress": False}
        found = [run_recbole(model=each, dataset="signed", config_dict=settings) for each in (Mine, "SSF")]
        print(found[0]["test_result"] == found[1]["test_result"])

        from pathlib import Path
        print(type(load_data_and_model(next(Path("saved").glob("Mine-*.pth")))[1]).__name__)
    """
    assert script(code).splitlines()[-4:] == ["mine Mine", "True", "mine Mine", "Mine"]


@pytest.mark.parametrize("name", ["../../etc", "/etc", "a/b", "..", ""])
def test_a_name_of_a_data_set_does_not_leave_its_root(tmp_path: Path, name: str) -> None:
    said = "is not the name of a data set"
    check_refused(said, Config, model="SSF", dataset=name, config_dict={"data_path": str(tmp_path)})
