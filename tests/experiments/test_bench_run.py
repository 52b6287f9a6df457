import json
import shutil
import sys
import weakref
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from refusals import check_refused

from recbole_signed import fit, from_frame
from recbole_signed.convert import convert
from recbole_signed.plugin import make_config
from recbole_signed.runs import RunRow, TableSpec, data_sha256, run, runner
from recbole_signed.runs.building import run_table
from recbole_signed.runs.provenance import config_hash, data_folder, data_version, digest, machine, versions
from recbole_signed.runs.user_values import drawn_by_seed

QUICK = {"epochs": 2, "state": "ERROR", "embedding_size": 8}


def test_a_run_is_a_row_with_its_provenance(toy: str) -> None:
    row = run("BPR", toy, overrides=QUICK, seed=7)
    assert (row.model, row.dataset, row.seed, row.status, row.protocol) == ("BPR", toy, 7, "ok", "recbole")
    expected = {
        f"{name}@{k}"
        for name in ("recall", "mrr", "ndcg", "hit", "precision", "dislikerecall", "dislikeshare")
        for k in (10, 20)
    }
    assert set(row.test) == set(row.valid) == expected | {"signauc"}
    assert (row.valid_metric, row.epochs) == ("mrr@10", 2)
    assert row.signed
    assert row.n_parameters == (61 + 43) * 8, "users and items with their padding"
    assert 0 < row.fit_seconds < 60
    assert 0 < row.eval_seconds < 60
    assert row.fit_cpu_seconds > 0
    assert 50e6 < row.base_memory_bytes <= row.peak_memory_bytes < 10e9
    assert (row.settings, row.split["order"]) == (QUICK, "RO")
    assert row.data_sha256 == data_sha256(Path("atomic_files") / toy, toy)
    assert row.versions == versions()
    assert row.machine == machine()
    assert RunRow.from_dict(json.loads(json.dumps(row.as_dict()))) == row
    assert len(list(Path("runs").glob("BPR-toy-signed-7-*.pth"))) == 1


def test_the_rows_as_read_are_gone_when_a_model_is_fitted(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole_signed.ssf import SSF

    read: list[weakref.ref[Any]] = []

    def configured(*words: Any, do: Any = runner.configured_data, **options: Any) -> Any:
        config, data = do(*words, **options)
        read.append(weakref.ref(data))
        return config, data

    def fit(model: Any, do: Any = SSF.fit) -> None:
        assert read[-1]() is None
        do(model)

    monkeypatch.setattr(runner, "configured_data", configured)
    monkeypatch.setattr(SSF, "fit", fit)
    per_user = Path("users.parquet")
    assert run("SSF", toy, overrides={"state": "ERROR", "auto": False}, save=False, per_user=per_user).status == "ok"
    assert per_user.stat().st_size


def test_runs_within_one_second_keep_a_checkpoint_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "datetime", SimpleNamespace(now=lambda: datetime(2026, 1, 1)))
    config = {"model": "Pop", "dataset": "toy", "seed": 1, "checkpoint_dir": str(tmp_path)}
    for number, keep in enumerate((True, False, True)):
        trainer = SimpleNamespace(tensorboard=SimpleNamespace(close=lambda: None))
        with runner.own_checkpoint(trainer, config, keep=keep):
            Path(trainer.saved_model_file).write_text(str(number), encoding="utf-8")
    assert sorted(each.read_text(encoding="utf-8") for each in tmp_path.iterdir()) == ["0", "2"]


def test_it_agrees_with_run_recbole_and_counts_its_steps(toy: str) -> None:
    searched = run("SSF", toy, overrides={"state": "ERROR", "valid_metric": "NDCG@10"}, save=False)
    assert searched.settings_ranked == searched.n_ranked > 20
    fixed = run("SSF", toy, overrides={"state": "ERROR", "auto": False}, save=False)
    assert (fixed.settings_ranked, fixed.n_ranked, RunRow("A", "d", 1, tuned={"tried": 7}).n_ranked) == (None, None, 7)
    assert RunRow("A", "d", 1, tuned={"tried": 7}, settings_ranked=20).n_ranked == 27
    trained = run("SGCN", toy, overrides={**QUICK, "train_batch_size": 64, "eval_every_steps": 4, "max_steps": 6})
    assert (trained.steps, trained.stopped_by, len(trained.curve)) == (6, "budget", 2)
    assert trained.epochs == 1
    from recbole.quick_start import run_recbole

    settings = {**QUICK, "metrics": ["Recall", "NDCG"], "topk": [5], "valid_metric": "NDCG@5", "seed": 11}
    theirs = run_recbole("BPR", toy, config_dict={**settings, "show_progress": False})
    ours = run("BPR", toy, overrides=settings)
    assert ours.test == dict(theirs["test_result"])
    assert ours.valid == dict(theirs["best_valid_result"])


def test_memory_of_training_is_what_training_added(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from recbole.model.general_recommender.bpr import BPR

    def loss(self: Any, interaction: Any) -> torch.Tensor:
        waste = torch.ones(75_000_000 * waste_it)
        return original(self, interaction) + 0 * waste.sum()

    original = BPR.calculate_loss
    monkeypatch.setattr(BPR, "calculate_loss", loss)
    settings, waste_it = {**QUICK, "epochs": 1}, 0
    run("BPR", toy, overrides=settings, save=False)  # what the first run of a process imports is not in question
    thrifty = run("BPR", toy, overrides=settings, save=False)
    waste_it = 1
    wasteful = run("BPR", toy, overrides=settings, save=False)
    assert 240e6 < wasteful.fit_memory_bytes - thrifty.fit_memory_bytes < 360e6, "300 MB more"
    assert thrifty.fit_memory_bytes < 120e6
    assert wasteful.fit_memory_bytes < wasteful.peak_memory_bytes


@pytest.mark.parametrize(("model", "reads"), [("SSF", 0), ("EASE", 0), ("BPR", 1)])
def test_one_pass_fits_are_not_read_again(toy: str, model: str, reads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole.model.abstract_recommender import GeneralRecommender

    read: list[str] = []

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        read.append(type(self).__name__)
        return super(GeneralRecommender, self).load_state_dict(*args, **kwargs)

    monkeypatch.setattr(GeneralRecommender, "load_state_dict", counted, raising=False)
    row = run(model, toy, overrides={"state": "ERROR", "topk": [5], "valid_metric": "NDCG@5", "epochs": 2})
    assert len(read) == reads
    assert len(list(Path("runs").glob("*.pth"))) == 1  # it is kept all the same
    assert row.test


def test_a_run_has_the_same_hash_in_any_folder(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [run("EASE", toy, overrides={"state": "ERROR"}, save=False)]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    data = {"data_path": str(tmp_path / "atomic_files"), "checkpoint_dir": "x", "state": "CRITICAL"}
    rows.append(run("EASE", toy, overrides=data, save=False))
    rows.append(run("EASE", toy, overrides={**data, "reg_weight": 3.0}, save=False))
    rows.append(run("EASE", toy, overrides=data, seed=1, save=False))
    first, moved, other_weight, other_seed = rows
    assert first.config_hash == moved.config_hash
    assert first.test == moved.test
    assert len({moved.config_hash, other_weight.config_hash, other_seed.config_hash}) == 3
    assert not list(Path("x").glob("*.pth")), "nothing is kept"


def test_what_the_user_sets_counts_and_the_command_line_does_not(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = run("Pop", toy, overrides={"metrics": ["Hit"], "topk": [3], "state": "ERROR"}, save=False)
    assert set(row.test) == {"hit@3"}
    assert row.valid_metric == "hit@3", "RecBole's MRR@10 is not evaluated"
    row = run("Pop", toy, overrides={"valid_metric": "NDCG@7", "state": "ERROR"}, save=False)
    assert {"ndcg@7", "ndcg@10", "ndcg@20"} < set(row.test)
    assert row.valid_metric == "ndcg@7"
    monkeypatch.setattr(sys, "argv", ["recbole-signed", "--epochs=0", "--seed=5", "--json"])
    row = run("BPR", toy, overrides=QUICK, save=False)
    assert (row.epochs, row.seed) == (2, 2020)
    assert sys.argv[1] == "--epochs=0"


def test_settings_from_files_words_and_folders(toy: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "eval_args: {split: {RS: [6, 2, 2]}}\nembedding_size: 4\nepochs: 1\n", encoding="utf-8"
    )
    (tmp_path / "b.yaml").write_text("embedding_size: 16\n", encoding="utf-8")
    overrides = {"eval_args.order": "TO", "seed": 3, "state": "ERROR"}
    row = run("BPR", toy, [tmp_path / "a.yaml", "b.yaml"], overrides, seed=4, save=False)
    assert (row.seed, row.split["split"], row.split["order"]) == (4, {"RS": [6, 2, 2]}, "TO")
    assert row.n_parameters == (61 + 43) * 16
    assert row.epochs == 1
    assert data_folder(toy) == Path("atomic_files") / toy
    assert data_folder(toy, str(tmp_path / "atomic_files")) == tmp_path / "atomic_files" / toy
    assert data_folder("ml-100k").joinpath("ml-100k.inter").is_file()
    check_refused("no data set 'toy-signd'", data_folder, "toy-signd", "atomic_files")
    assert data_folder("ml-100k-signed") == Path("atomic_files/ml-100k-signed")
    assert data_folder("ml-100k-signed").joinpath("ml-100k-signed.inter").is_file(), "it makes itself"


def test_metrics_that_judge_and_that_are_undefined(toy: str) -> None:
    given: dict[str, Any] = {"state": "ERROR", "metrics": ["DislikeRecall", "Recall"], "topk": [3, 7]}
    config = make_config("Pop", toy, overrides=given)
    assert (config["valid_metric"], config["valid_metric_bigger"]) == ("DislikeRecall@7", False)
    config = make_config("Pop", toy, overrides={**given, "metrics": ["Recall", "DislikeRecall"]})
    assert (config["valid_metric"], config["valid_metric_bigger"]) == ("Recall@7", True)
    config = make_config("Pop", toy, overrides={**given, "metrics": ["GroupRecall", "Recall"]})
    assert config["valid_metric"] == "Recall@7", "one that has a result of its own name"
    settings = {"metrics": ["Recall", "DislikeShare"], "topk": [1], "valid_metric": "DislikeShare@1", "state": "ERROR"}
    settings["eval_args"] = {"split": {"RS": [98, 1, 1]}, "order": "TO", "group_by": "none"}
    row = run("Pop", toy, overrides=settings, save=False)
    assert row.test["dislikeshare@1"] is None or 0 <= row.test["dislikeshare@1"] <= 1
    assert row.as_dict()["test"].keys() == {"recall@1", "dislikeshare@1"}


@pytest.fixture
def published(tmp_path: Path) -> str:
    """The name of a data set that is split already."""
    raw = tmp_path / "split"
    raw.mkdir()
    train = "".join(f"{user} {item} 1\n" for user in range(2) for item in range(user, 24, 2))
    for part, rows in {"train": train, "valid": "0 1 1\n1 2 1\n", "test": "0 3 1\n1 4 1\n0 5 0\n"}.items():
        (raw / f"{part}.txt").write_text(rows, encoding="utf-8")
    convert("signed-split", raw, "atomic_files")
    return "split"


def test_a_published_split_brings_its_protocol_and_shows_sampled_candidates(published: str) -> None:
    row = run("Pop", published, overrides={"state": "ERROR"}, save=False)
    assert (row.split, row.protocol, row.valid_metric) == ("predefined", "published", "ndcg@20")
    assert {"recall@5", "recall@15", "dislikendcg@20", "signauc"} < set(row.test)
    # their figures are far higher, differ between seeds, and stood in one footnote with those of all items
    settings = {"state": "ERROR", "eval_args": {"mode": "uni5"}, "metrics": ["NDCG"], "topk": [5]}
    row = run("Pop", published, overrides=settings, save=False)
    assert row.split == {"split": "predefined", "mode": {"valid": "uni5", "test": "uni5"}}
    assert "split predefined, mode uni5; protocol published" in run_table(row).notes
    assert drawn_by_seed([row])


def test_wrong_types_and_unknown_keys_are_refused(toy: str) -> None:
    data = from_frame(pl.DataFrame({"user": ["a"], "item": ["b"], "sign": [1]}), sign="sign")
    check_refused("of type Interactions, is not the name of a data set; give the name of", run, "Pop", data)
    check_refused("the model is of type Interactions; give a name, such as 'SSF'", fit, data, "Pop")
    check_refused("did you mean 'learning_rate'", run, "BPR", toy, overrides={"SIGN_FIELD": None, "learnin_rate": 1})
    row = run("BPR", toy, overrides={**QUICK, "SIGN_FIELD": None, "my_key": 1, "allow_unknown_keys": True}, save=False)
    assert row.signed is False
    assert "signauc" not in row.test


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"eval_args.ordr": "TO"}, "no entry 'ordr'; did you mean 'order'"),
        ({"valid_metric": "NDCG@7", "topk": [5]}, "valid_metric is NDCG@7"),
        ({"epochs": "many"}, "'epochs' is 'many'; it must be a number"),
        ({"show_progress": "maybe"}, "it must be True or False"),
        ({"topk": 0}, "topk is 0; it must be a list of whole numbers of 1 or more"),
        ({"topk": [43], "valid_metric": "NDCG@43"}, "topk is 43, but 'toy-signed' has only 42 items"),
        ({"protocol": "publishd"}, "did you mean 'published'"),
        ({"model": "EASE"}, "the model is 'BPR', but model=EASE is set as well"),
    ],
)
def test_bad_input_is_named(toy: str, overrides: dict[str, Any], message: str) -> None:
    check_refused(message, run, "BPR", toy, overrides=overrides)


def test_checksums_and_digests_follow_contents(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "d.inter").write_text("a", encoding="utf-8")
    before = data_sha256(folder, "d")
    (folder / "dataset.json").write_text("{}", encoding="utf-8")
    (folder / "d.yaml").write_text("a: 1", encoding="utf-8")
    assert data_sha256(folder, "d") == before
    (folder / "d.inter").write_text("b", encoding="utf-8")
    changed = data_sha256(folder, "d")
    (folder / "d.inter").rename(folder / "d.train.inter")
    assert len({before, changed, data_sha256(folder, "d")}) == 3
    assert digest({"a": (1, 2), "b": {"y", "x"}}) == digest({"b": {"x", "y"}, "a": [1, 2]})
    assert config_hash({"a": 1, "gpu_id": "0"}) == config_hash({"gpu_id": "1", "a": 1, "checkpoint_dir": "x"})
    assert config_hash({"a": 1}) != config_hash({"a": 2})


@pytest.fixture
def folder(toy: str, tmp_path: Path) -> Path:
    return tmp_path / "atomic_files" / toy


def change(folder: Path) -> None:
    path = folder / "toy-signed.inter"
    text = path.read_text()
    assert "\t5\t1\t" in text
    path.write_text(text.replace("\t5\t1\t", "\t5\t0\t", 1))


def test_rows_have_a_version_where_there_is_a_manifest(folder: Path) -> None:
    row = run("BPR", "toy-signed", overrides=QUICK, save=False)
    record = json.loads((folder / "dataset.json").read_text())
    assert row.data_version == record["version"] == data_version(folder, "toy-signed")
    assert row.data_sha256 is not None
    assert row.data_sha256.startswith(row.data_version)
    assert row.as_dict()["data_version"] == row.data_version
    whole = data_sha256(folder, "toy-signed")
    (folder / "dataset.json").unlink()
    assert data_version(folder, "toy-signed") is None
    assert data_sha256(folder, "toy-signed") == whole
    change(folder)
    assert data_sha256(folder, "toy-signed") != whole


def test_changed_files_are_refused_by_run_and_by_run_recbole(folder: Path) -> None:
    from recbole.quick_start import run_recbole

    change(folder)
    message = r"the data set 'toy-signed' has changed since it was made: .*recbole-signed data accept toy-signed"
    check_refused(message, run, "BPR", "toy-signed", overrides=QUICK, save=False)
    check_refused(message, run_recbole, "BPR", "toy-signed", config_dict=QUICK)
    check_refused(message, data_sha256, folder, "toy-signed")


def test_a_file_that_changes_while_it_is_loaded_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create = runner.create_dataset

    def late(config: object) -> object:
        data = create(config)
        change(folder)
        return data

    monkeypatch.setattr(runner, "create_dataset", late)
    message = r"has changed since it was made: .*toy-signed.inter differs"
    check_refused(message, run, "BPR", "toy-signed", overrides=QUICK, save=False)


def test_a_model_that_reads_other_files_has_other_rows(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / folder.name
    shutil.copytree(folder, other)
    change(other)
    (other / "dataset.json").unlink()
    table = tmp_path / "paths.yaml"
    table.write_text(
        "datasets: [toy-signed]\ncolumns: [recall@10]\nmodels:\n  Pop:\n"
        f"  elsewhere: {{model: Pop, data_path: {other.parent}}}\n"
    )
    here, there = TableSpec.read(table).requests()
    assert (here.data_sha256, there.data_sha256) == (data_sha256(folder, folder.name), data_sha256(other, folder.name))
    assert here.key != there.key
