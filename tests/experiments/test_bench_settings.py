from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from refusals import check_refused

from recbole_signed.errors import UsageError
from recbole_signed.plugin import make_config
from recbole_signed.plugin.assignments import as_word, merged, parse_assignments, with_dotted
from recbole_signed.yaml_spec import read_yaml

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
        'a: "\\0"', 'a: "\\ud800"', '"\\0": 1', "a: 99999999999999999999", "a: &a [*a]", "a: !!int x", "a: !!bool x",
        "a: !!set [a]", "a: !!timestamp x", "a: !!map 3", "a: 0b_", f"a: {'9' * 5000}", "a: 2020-13-41", ALIASES,
    ],
)  # fmt: skip
def test_yaml_that_holds_no_values(tmp_path: Path, text: str) -> None:
    """What PyYAML fails on with other errors than its own, and a text that grows a billion times when it is read."""
    (tmp_path / "file.yaml").write_text(text, encoding="utf-8")
    check_refused("is not valid yaml", read_yaml, tmp_path / "file.yaml")
    check_refused("is not valid yaml", parse_assignments, [f"key={{{text}}}" if "\n" not in text else f"key={text}"])


def test_intervals_need_no_quotes_and_settings_are_no_files() -> None:
    assert parse_assignments(["user_inter_num_interval=[5,inf)"]) == {"user_inter_num_interval": "[5,inf)"}
    assert parse_assignments(["item_inter_num_interval=[5,100]"]) == {"item_inter_num_interval": "[5,100]"}
    for wrong in ({"valid_metric": "NDCG@10"}, "mine.yaml"):
        with pytest.raises(UsageError, match="give a list of yaml files, and settings as overrides="):
            make_config("Pop", "toy-signed", wrong)  # type: ignore[arg-type]
