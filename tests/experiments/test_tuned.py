import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from refusals import check_refused
from scripted import scripted_run

from recbole_signed.plugin import make_config
from recbole_signed.plugin.assignments import as_word, merged, parse_assignments, with_dotted
from recbole_signed.runs import RunRow, TableSpec, compare, data_sha256, processes
from recbole_signed.runs.building import build_table
from recbole_signed.runs.spec import RunSpec
from recbole_signed.runs.tuned import Tuned, read_tuned, to_yaml, tuned_path
from recbole_signed.yaml_spec import read_yaml

SPLIT = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO"}


@pytest.fixture
def tuned(toy: str) -> Callable[..., Path]:
    """Write what a tuning would have chosen on the planted set."""
    checksum = data_sha256(Path("atomic_files") / toy, toy)

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
    check_refused(re.escape(said), requests, {"EASE": change})


def test_a_model_that_was_not_tuned_or_on_other_data_is_an_error(tuned: Callable[..., Path]) -> None:
    said = r"there is no yaml/model/toy-signed/EASE.yaml; 'recbole-signed tune --table tables"
    check_refused(said, requests, {"Pop": {}, "EASE": {}})
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
    print_ = (
        build_table("t", ["recall@10"], {"d": {label: [row] for label, row in rows.items()}}).sections[0].small_print
    )
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
    said = "was chosen on published, but the table says on elsewhere"
    check_refused(said, requests, ["EASE"], common={"tuned": {**frozen, "data": "elsewhere"}})
    check_refused(r"\{name: FOLDER, data: DATASET\}", requests, ["EASE"], common={"tuned": {"name": "frozen"}})


def test_different_seconds_and_another_split_are_said() -> None:
    how = {"trials": 5, "training_budget": 60.0, "split": SPLIT}
    slow = RunRow("BPR", "d", 1, test={"recall@10": 0.5}, split="predefined", tuned=how)
    quick = RunRow("EASE", "d", 1, test={"recall@10": 0.5}, split=SPLIT, tuned={**how, "training_budget": None})
    built = build_table("t", ["recall@10"], {"d": {"BPR": [slow], "EASE": [quick]}})
    assert (
        "tuned on validation with 5 trials of at most 60 s (BPR); 5 trials (EASE), on another split: BPR"
        in built.sections[0].small_print
    )
    other = replace(quick, valid_metric="ndcg@10", tuned={**how, "metric": "DislikeRecall@20"})
    same = replace(other, model="SSF", tuned={**how, "metric": "NDCG@10"})
    section = build_table("t", ["recall@10"], {"d": {"EASE": [other], "SSF": [same]}}).sections[0]
    assert section.small_print.endswith("for each model, by another metric: EASE (DislikeRecall@20)")
    alone = build_table("t", ["recall@10"], {"d": {"EASE": [replace(quick, tuned=None)]}})
    assert "tuned" not in alone.sections[0].small_print


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(1 - 2**63, 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=15),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@example("0E0")
@example("\x85")
@example("a\u2028b")
@given(VALUES)
def test_a_word_is_read_back(value: object) -> None:
    assert parse_assignments([as_word("key", value)]) == {"key": value}


def test_values_are_yaml() -> None:
    words = [
        "a=1e-3", "b=[Recall, NDCG]", "c={like: 'rating >= 4'}", "--d=true", "e.f=x=y", "g=", "h=1.5E5",
        "i=NDCG@20",
    ]  # fmt: skip
    assert parse_assignments(words) == {
        "a": 0.001, "b": ["Recall", "NDCG"], "c": {"like": "rating >= 4"}, "d": True, "e.f": "x=y", "g": None,
        "h": 150000.0, "i": "NDCG@20",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["epochs"], "expected key=value, got 'epochs'"),
        (["=3"], "expected key=value"),
        (["a=1", "a=2"], "'a' is given twice"),
        (["a=[1"], "'a' is not valid yaml"),
    ],
)
def test_bad_words(words: list[str], message: str) -> None:
    check_refused(message, parse_assignments, words)


def test_dotted_keys_change_one_entry_of_the_nearest_base() -> None:
    files = {"eval_args": {"split": {"RS": [1, 1, 1]}, "order": "RO"}}
    defaults = {"eval_args": {"order": "RO"}, "train_neg_sample_args": {"sample_num": 1, "dynamic": False}}
    given_keys = {
        "eval_args.order": "TO",
        "eval_args.group_by": "none",
        "train_neg_sample_args.sample_num": 5,
        "sign_rule.like": "a > 1",
    }
    assert with_dotted(given_keys, files, defaults) == {
        "eval_args": {"split": {"RS": [1, 1, 1]}, "order": "TO", "group_by": "none"},
        "train_neg_sample_args": {"sample_num": 5, "dynamic": False},
        "sign_rule": {"like": "a > 1"},
    }
    assert files["eval_args"]["order"] == "RO", "bases stay as they are"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("eval_args.ordr", "no entry 'ordr'; did you mean 'order'"),
        ("seed.x", "seed is 2020 and has no entries"),
        ("eval_args.mode.valid", "eval_args.mode is 'full'"),
        ("eval_args.", "is not a key"),
    ],
)
def test_dotted_keys_that_lead_nowhere(key: str, message: str) -> None:
    check_refused(message, with_dotted, {key: 1}, {"seed": 2020, "eval_args": {"mode": "full"}})


def test_layers_are_joined_one_level_deep() -> None:
    low = {"eval_args": {"split": {"RS": [8, 1, 1]}, "order": "RO"}, "a": 1}
    assert merged(low, {"eval_args": {"split": {"LS": "valid_and_test"}}, "a": None}) == {
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "RO"},
        "a": None,
    }


@pytest.mark.parametrize(
    ("later", "left"),
    [
        ({"eval_args": {"order": "RO", "group_by": "none"}}, {"eval_args.mode.valid": "uni10"}),
        ({"eval_args": {"mode": "full"}}, {"eval_args.order": "TO"}),
        ({"eval_args": None}, {}),
        ({"eval_args.order": "RO"}, {"eval_args.order": "RO", "eval_args.mode.valid": "uni10"}),
        (
            {"eval_args": {"order": "RO"}, "eval_args.order": "TO"},
            {"eval_args.mode.valid": "uni10", "eval_args.order": "TO"},
        ),
        ({"eval_args_of_mine": 1}, {"eval_args.order": "TO", "eval_args.mode.valid": "uni10"}),
    ],
)
def test_a_mapping_is_above_the_dotted_keys_of_an_earlier_layer(later: dict[str, Any], left: dict[str, Any]) -> None:
    found = merged({"eval_args.order": "TO", "eval_args.mode.valid": "uni10"}, later)
    assert {key: each for key, each in found.items() if "." in key} == left
    assert {key: each for key, each in found.items() if "." not in key} == {
        key: each for key, each in later.items() if "." not in key
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "'a' is there twice"),
        ("- 1\n", "holds list"),
        ("a: [1\n", "not valid yaml"),
        ("1: 2\n", "must hold"),
    ],
)
def test_bad_yaml_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    check_refused(message, read_yaml, tmp_path / "x.yaml")


def test_keys_that_yaml_takes_for_truth_values_are_names(tmp_path: Path) -> None:
    """A table's models ``on`` and ``off`` stood in it as True and False, and variants of an experiment were refused."""
    file = tmp_path / "x.yaml"
    file.write_text("models:\n  on: {auto: yes}\n  off: {auto: no}\n'no': 1\n", encoding="utf-8")
    assert read_yaml(file) == {"models": {"on": {"auto": True}, "off": {"auto": False}}, "no": 1}
    file.write_text("on: 1\n'on': 2\n", encoding="utf-8")
    check_refused("'on' is there twice", read_yaml, file)


def test_a_yaml_file_may_hold_aliases_and_a_missing_one_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "table.yaml").write_text("", encoding="utf-8")
    assert read_yaml(tmp_path / "table.yaml") == {}
    check_refused(r"did you mean 'table.yaml'", read_yaml, tmp_path / "tabel.yaml")
    (tmp_path / "file.yaml").write_text("a: &a {b: 1}\nc: {<<: *a, d: 18446744073709551615}\n", encoding="utf-8")
    assert read_yaml(tmp_path / "file.yaml") == {"a": {"b": 1}, "c": {"b": 1, "d": 2**64 - 1}}


ALIASES = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    "text",
    [
        'a: "\\0"',
        'a: "\\ud800"',
        '"\\0": 1',
        "a: 99999999999999999999",
        "a: &a [*a]",
        "a: !!int x",
        "a: !!bool x",
        "a: !!set [a]",
        "a: !!timestamp x",
        "a: !!map 3",
        "a: 0b_",
        f"a: {'9' * 5000}",
        "a: 2020-13-41",
        ALIASES,
    ],
)
def test_yaml_that_holds_no_values(tmp_path: Path, text: str) -> None:
    """What PyYAML fails on with other errors than its own, and a text that grows a billion times when it is read."""
    (tmp_path / "file.yaml").write_text(text, encoding="utf-8")
    check_refused("is not valid yaml", read_yaml, tmp_path / "file.yaml")
    check_refused("is not valid yaml", parse_assignments, [f"key={{{text}}}" if "\n" not in text else f"key={text}"])


def test_intervals_need_no_quotes_and_settings_are_no_files() -> None:
    assert parse_assignments(["user_inter_num_interval=[5,inf)"]) == {"user_inter_num_interval": "[5,inf)"}
    assert parse_assignments(["item_inter_num_interval=[5,100]"]) == {"item_inter_num_interval": "[5,100]"}
    for wrong in ({"valid_metric": "NDCG@10"}, "mine.yaml"):
        said = "give a list of yaml files, and settings as overrides="
        check_refused(said, make_config, "Pop", "toy-signed", wrong)
