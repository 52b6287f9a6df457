from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from refusals import check_refused
from scripted import scripted_run

from recbole_signed.convert import convert
from recbole_signed.errors import UsageError
from recbole_signed.runs import RunRow, TableSpec, compare, data_sha256, processes
from recbole_signed.runs.building import build_table
from recbole_signed.runs.spec import RunSpec
from recbole_signed.runs.tuned import Tuned, read_tuned, to_yaml, tuned_path

SPLIT = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO"}


@pytest.fixture
def tuned(tmp_path: Path) -> Callable[..., Path]:
    """Write what a tuning would have chosen on the planted set."""
    convert("toy", None, tmp_path / "atomic_files")
    checksum = data_sha256(tmp_path / "atomic_files" / "toy-signed", "toy-signed")

    def write(model: str, values: dict[str, Any], name: str = "toy-signed", **how: Any) -> Path:
        path = tuned_path(model, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        origin = {"trials": 20, "training_budget": None, "split": SPLIT, "data_sha256": checksum, **how}
        path.write_text(to_yaml(Tuned(values, origin), "The best.\nOf all: '# tuning:' not here"), encoding="utf-8")
        return path

    Path("yaml/tune").mkdir(parents=True)
    for model in ("EASE", "BPR"):
        Path(f"yaml/tune/{model}.yaml").write_text("reg_weight: [1.0]\n", encoding="utf-8")
    return write


def table(models: Any, **more: Any) -> Path:
    content = {"datasets": ["toy-signed"], "models": models, "common": {"tuned": True}, "seeds": [1], **more}
    path = Path("tables/tiny.yaml")
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def requests(models: Any, **more: Any) -> dict[str, RunSpec]:
    return {each.label: each for each in TableSpec.read(table(models, **more)).requests()}


def test_a_tuned_file_is_read_by_any_name(tuned: Callable[..., Path]) -> None:
    values = {"learning_rate": 1e-05, "mlp_hidden_size": [600], "encoder": "MF", "auto": True}
    path = tuned("EASE", values, metric="NDCG@10", settings={"note": "a: b # c"})
    found = read_tuned(path)
    assert found.values == values == yaml.safe_load(path.read_text(encoding="utf-8"))
    assert found.how["trials"] == 20
    assert found.how["settings"] == {"note": "a: b # c"}
    assert found.how["split"] == SPLIT
    tuned("EASE", {"reg_weight": 1.0})
    tuned("EASE", {"reg_weight": 2.0}, name="by-time")
    datasets = {"toy-signed": {}, "late": {"dataset": "toy-signed", "tuned": "by-time"}}
    spec = TableSpec.read(table(["EASE"], datasets=datasets))
    assert [each.settings for each in spec.requests()] == [{"reg_weight": 1.0}, {"reg_weight": 2.0}]


@pytest.mark.parametrize("comment", ["", "# mine\n", "# tuning:\n#   trials: many\n", "# tuning:\n#  : [\n"])
def test_a_file_that_says_nothing_of_its_origin_is_no_tuned_one(comment: str, tmp_path: Path) -> None:
    path = tmp_path / "EASE.yaml"
    path.write_text(f"{comment}reg_weight: 1.0\n", encoding="utf-8")
    check_refused("does not say how many trials it comes from", read_tuned, path)


def test_what_was_chosen_lies_under_the_tables_own_keys(tuned: Callable[..., Path]) -> None:
    tuned("EASE", {"reg_weight": 7.0})
    tuned("BPR", {"learning_rate": 0.1, "embedding_size": 8, "epochs": 3})
    models = {"Pop": {}, "EASE": {}, "BPR": {"embedding_size": 16}, "fixed": {"model": "EASE", "tuned": False}}
    found = requests(models, common={"tuned": True, "epochs": 5})
    assert found["EASE"].settings == {"reg_weight": 7.0, "epochs": 5}
    assert found["BPR"].settings == {"learning_rate": 0.1, "embedding_size": 16, "epochs": 5}
    assert found["Pop"].settings == found["fixed"].settings == {"epochs": 5}
    assert found["Pop"].tuned is found["fixed"].tuned is None
    assert found["EASE"].tuned == {"trials": 20, "training_budget": None, "seed": None, "metric": None, "split": SPLIT}
    before = found["EASE"].request_hash
    tuned("EASE", {"reg_weight": 8.0})
    assert requests(models)["EASE"].request_hash != before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tuned": "yes/no"}, "'tuned' is 'yes/no'; it must be true, false, the name of a folder in yaml/model"),
        ({"tuned": 3}, "'tuned' is 3"),
        ({"tuned": "other"}, "'recbole-signed tune --table tables/tiny.yaml -m EASE -d toy-signed' makes it"),
    ],
)
def test_a_wrong_wish_is_one_sentence(change: dict[str, Any], said: str, tuned: Callable[..., Path]) -> None:
    tuned("EASE", {"reg_weight": 1.0})
    with pytest.raises(UsageError) as error:
        requests({"EASE": change})
    assert said in str(error.value)


def test_a_model_that_was_not_tuned_or_on_other_data_is_an_error(tuned: Callable[..., Path]) -> None:
    with pytest.raises(
        UsageError, match=r"there is no yaml/model/toy-signed/EASE.yaml; 'recbole-signed tune --table tables"
    ):
        requests({"Pop": {}, "EASE": {}})
    tuned("EASE", {"reg_weight": 1.0}, data_sha256="0" * 64)
    check_refused("was chosen on other data than 'toy-signed' is now", requests, {"EASE": {}})


def test_different_numbers_of_trials_are_said(tuned: Callable[..., Path]) -> None:
    tuned("EASE", {"reg_weight": 1.0}, trials=80, tried=80, budget_unit="CPU s")
    tuned("BPR", {"epochs": 1}, trials=24, tried=23, budget_unit="CPU s", training_budget=60.0, max_steps=9000)
    rows = {}
    for each in requests({"EASE": {}, "BPR": {}, "Pop": {"tuned": False}}).values():
        rows[each.label] = RunRow(each.model, "d", 1, test={"recall@10": 0.5}, split=SPLIT, tuned=each.tuned)
    rows["SSF"] = RunRow("SSF", "d", 1, test={"recall@10": 0.5}, split=SPLIT, settings_ranked=61)
    rows["old"] = RunRow("GFCF", "d", 1, test={"recall@10": 0.5}, split=SPLIT, tuned={"trials": 8})
    print_ = build_table("t", ["recall@10"], [("d", label, row) for label, row in rows.items()]).sections[0].small_print
    assert (
        "tuned on validation with 80 trials (EASE); 24 trials of at most 60 CPU s and 9000 steps (BPR); "
        "8 trials (old), without tuning: Pop, SSF" in print_
    )
    assert "settings ranked on validation: 80 EASE; 61 SSF; 23 BPR; 0 Pop; not counted old" in print_


def test_the_small_print_states_the_budget(tuned: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"test": {"recall@10": 0.5}, "split": SPLIT}
    monkeypatch.setattr(processes, "made", partial(scripted_run, "", "started", values))
    tuned("EASE", {"reg_weight": 1.0})
    tuned("BPR", {"epochs": 1})
    path = table({"Pop": {}, "EASE": {}, "BPR": {}}, columns=["recall@10"])
    print_ = compare(path).table.sections[0].small_print
    assert "tuned on validation with 20 trials for each model, without tuning: Pop" in print_
    tuned("EASE", {"reg_weight": 1.0}, trials=30)
    tuned("BPR", {"epochs": 1}, trials=30)
    second = compare(path)
    assert second.n_new == 0, "the same values were chosen"
    assert "with 30 trials for each model" in second.table.sections[0].small_print
    assert "30 trials for each model" in path.with_suffix(".md").read_text(encoding="utf-8")


def test_what_was_chosen_on_other_data_is_taken_over_where_the_table_says_so(tuned: Callable[..., Path]) -> None:
    tuned("EASE", {"reg_weight": 1.0}, "frozen", dataset="published", data_sha256="another")
    check_refused("chosen on other data", requests, ["EASE"], common={"tuned": "frozen"})
    frozen = {"name": "frozen", "data": "published"}
    assert requests(["EASE"], common={"tuned": frozen})["EASE"].settings["reg_weight"] == 1.0
    pooled = {"datasets": {"toy-signed": {"pool": "toys"}}, "common": {"tuned": frozen}}
    by_pool = requests({"EASE": {"per_dataset": {"toys": {"reg_weight": 2.0}}}}, **pooled)["EASE"].settings
    assert by_pool["reg_weight"] == 2.0
    assert "pool" not in by_pool
    with pytest.raises(UsageError, match="was chosen on published, but the table says on elsewhere"):
        requests(["EASE"], common={"tuned": {**frozen, "data": "elsewhere"}})
    check_refused(r"\{name: FOLDER, data: DATASET\}", requests, ["EASE"], common={"tuned": {"name": "frozen"}})


def test_different_seconds_and_another_split_are_said() -> None:
    how = {"trials": 5, "training_budget": 60.0, "split": SPLIT}
    slow = RunRow("BPR", "d", 1, test={"recall@10": 0.5}, split="predefined", tuned=how)
    quick = RunRow("EASE", "d", 1, test={"recall@10": 0.5}, split=SPLIT, tuned={**how, "training_budget": None})
    built = build_table("t", ["recall@10"], [("d", "BPR", slow), ("d", "EASE", quick)])
    assert (
        "tuned on validation with 5 trials of at most 60 s (BPR); 5 trials (EASE), on another split: BPR"
        in built.sections[0].small_print
    )
    alone = build_table("t", ["recall@10"], [("d", "EASE", replace(quick, tuned=None))])
    assert "tuned" not in alone.sections[0].small_print
