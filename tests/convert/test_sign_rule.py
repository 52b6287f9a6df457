"""The sign rule against a slow reference that evaluates row by row in plain Python."""

import importlib
import math
import operator
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from refusals import check_refused

from recbole_signed.convert.sign_rule import SignRule
from recbole_signed.errors import UsageError

OPS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq, "!=": operator.ne}
NAN = float("nan")


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.float32, np.float64, np.bool_])
def test_types_of_columns(dtype: type) -> None:
    rule = SignRule.parse({"like": "x == 1", "dislike": "x < 1"})
    assert rule.apply({"x": np.array([0, 1], dtype=dtype)}).tolist() == [-1, 1]


def test_small_integers_against_numbers_beyond_their_type() -> None:
    assert SignRule.parse({"like": "x <= 1000"}).apply({"x": np.array([3, 127], dtype=np.int8)}).tolist() == [1, 1]


def test_single_precision_columns_meet_the_number_as_written() -> None:
    assert SignRule.parse({"like": "x >= 4.1"}).apply({"x": np.array([4.1], dtype=np.float32)}).tolist() == [1]


def test_a_row_of_both_verdicts_is_named() -> None:
    rule = SignRule.parse({"like": "rating >= 3", "dislike": "rating <= 3"})
    check_refused(r"Row 2 is a like and a dislike at once.*rating >= 3", rule.apply, {"rating": np.array([4, 3, 3])})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"like": "rating = 4"}, "Unknown operator '='.*did you mean '=='"),
        ({"like": "rating => 4"}, "did you mean '>='"),
        ({"like": "rating =! 4"}, "Unknown operator '=!'"),
        ({"like": "rating >= four"}, "Expected a number after '>='.*got 'four'"),
        ({"like": "rating >= nan"}, "Expected a number"),
        ({"like": "rating"}, "Expected COLUMN OP NUMBER"),
        ({"like": "rating >= 4 and"}, "got nothing"),
        ({"like": "or rating >= 4"}, "got nothing"),
        ({"like": "(a >= 4 or b >= 1) and c >= 1"}, "has parentheses, which are not supported"),
        ({"like": "4 <= rating <= 5"}, "Expected COLUMN OP NUMBER"),
        ({"like": ""}, "is a text"),
        ({"like": 4}, "is a text, got 4"),
        ({"like": "else"}, "Only dislikes can be 'else'"),
        ({"like": "rating >= 4", "dislike": ""}, "is a text"),
        ({"dislike": "rating <= 2"}, "needs a condition for likes"),
        ({}, "needs a condition for likes"),
        ({"like": "rating >= 4", "dislikes": "rating <= 2"}, "got 'dislikes'; did you mean 'dislike'"),
        ("rating >= 4", "is a mapping"),
        (
            {"like": "stars >= 4 or stars == good"},
            "compares column 'stars' with the number 4 and with the word 'good'; a column holds one of the two",
        ),
        ({"like": "action == 1", "dislike": "action != skip"}, "'action' with the number 1 and with the word 'skip'"),
    ],
)
def test_bad_rules(spec: dict[str, str], message: str) -> None:
    check_refused(message, SignRule.parse, spec)


def test_equal_rules_have_one_text_and_hash() -> None:
    spec = {"like": "a >= 4 and b != -1.5 or c < 1e3", "dislike": "else"}
    assert SignRule.parse(spec).as_dict() == spec
    assert SignRule.parse({"like": " a>=4  AND b !=-1.5 Or c<1e3", "dislike": " ELSE "}) == SignRule.parse(spec)
    assert SignRule.parse({"like": "x == 1", "dislike": None}).as_dict() == {"like": "x == 1"}  # type: ignore[dict-item]
    rule = SignRule.parse({"like": "a >= 4", "dislike": "a <= 2"})
    assert len({rule, SignRule.parse({"like": "a>=4", "dislike": "a<=2"})}) == 1
    assert rule != SignRule.parse({"like": "a >= 4", "dislike": "a <= 1"})
    assert pickle.loads(pickle.dumps(rule)) == rule


def test_imports_neither_torch_nor_recbole_nor_polars() -> None:
    code = (
        "import sys, types;"
        "package = types.ModuleType('recbole_signed'); package.__path__ = [sys.argv[1]];"
        "sys.modules['recbole_signed'] = package; import recbole_signed.convert.sign_rule;"
        "assert not {'torch', 'recbole', 'polars', 'pandas'} & set(sys.modules)"
    )
    module = importlib.import_module("recbole_signed.convert.sign_rule")  # the package is a function too
    subprocess.run([sys.executable, "-c", code, str(Path(str(module.__file__)).parents[1])], check=True)


comparison = st.tuples(st.sampled_from("abc"), st.sampled_from(sorted(OPS)), st.integers(-2, 2))
condition = st.lists(st.lists(comparison, min_size=1, max_size=3), min_size=1, max_size=3)
cell = st.one_of(st.integers(-2, 2).map(float), st.just(NAN))
row = st.fixed_dictionaries(dict.fromkeys("abc", cell))


def written(any_of: list[list[tuple[str, str, int]]]) -> str:
    return " or ".join(" and ".join(f"{c} {op} {n}" for c, op, n in all_of) for all_of in any_of)


def holds(any_of: list[list[tuple[str, str, int]]], values: dict[str, float]) -> bool:
    return any(all(not math.isnan(values[c]) and OPS[op](values[c], n) for c, op, n in all_of) for all_of in any_of)


@given(like=condition, dislike=st.one_of(st.none(), st.just("else"), condition), rows=st.lists(row, max_size=20))
def test_against_the_reference(like: list, dislike: list | str | None, rows: list[dict[str, float]]) -> None:
    spec = {"like": written(like)}
    if dislike is not None:
        spec["dislike"] = dislike if isinstance(dislike, str) else written(dislike)
    expected: list[int] = []
    conflict = None
    used = {c for all_of in like for c, _, _ in all_of}
    for number, values in enumerate(rows, 1):
        liked = holds(like, values)
        if dislike == "else":
            disliked = not liked and not any(math.isnan(values[c]) for c in used)
        else:
            disliked = isinstance(dislike, list) and holds(dislike, values)
        if liked and disliked and conflict is None:
            conflict = number
        expected.append(int(liked) - int(disliked))
    columns = {name: np.array([values[name] for values in rows]) for name in "abc"}
    rule = SignRule.parse(spec)
    assert SignRule.parse(rule.as_dict()) == rule
    assert rule.has_dislikes == (dislike is not None)
    if conflict is None:
        assert rule.apply(columns).tolist() == expected
        assert rule.apply(columns).dtype == np.int8
    else:
        check_refused(f"^Row {conflict} ", rule.apply, columns)


def test_words_are_compared_as_they_are() -> None:
    rule = SignRule.parse({"like": "action == like or stars == 5", "dislike": "action == 'skip'"})
    assert rule.text_columns == {"action"}
    assert rule.as_dict() == {"like": "action == like or stars == 5", "dislike": "action == skip"}
    action = np.array(["like", "skip", "play", "", "skips"], dtype=object)
    assert rule.apply({"action": action, "stars": np.array([1, 1, 5, 1, 1])}).tolist() == [1, -1, 1, 0, 0]
    others = SignRule.parse({"like": "action == like", "dislike": "else"})
    assert others.apply({"action": action}).tolist() == [1, -1, -1, 0, -1]  # a blank says nothing
    assert SignRule.parse({"like": "action != skip"}).apply({"action": action}).tolist() == [1, 0, 1, 0, 1]
    check_refused("Expected a number after '>='", SignRule.parse, {"like": "action >= like"})


def test_columns_and_words_with_blanks_stand_in_quotes() -> None:
    spec = {"like": "'My stars (1-5)' >= 4 and kind == 'rock and roll'", "dislike": 'answer == "don\'t show this"'}
    rule = SignRule.parse(spec)
    assert rule.columns == ("My stars (1-5)", "kind", "answer")
    assert rule.as_dict() == spec
    assert SignRule.parse(rule.as_dict()) == rule
    columns = {
        "My stars (1-5)": np.array([5, 5, 1]),
        "kind": np.array(["rock and roll", "rock", ""], dtype=object),
        "answer": np.array(["", "", "don't show this"], dtype=object),
    }
    assert rule.apply(columns).tolist() == [1, 0, -1]
    odd = SignRule.parse({"like": "a == 'or'"})
    assert SignRule.parse(odd.as_dict()) == odd
    assert SignRule.parse({"like": "a == don't and b == won't"}).words_of("a") == {"don't"}
    with pytest.raises(UsageError, match=r"got 'action == not for me'.*with quotes around a column or word"):
        SignRule.parse({"like": "action == not for me"})


names = st.text(st.sampled_from("ab '\"<>=!()é1"), min_size=1, max_size=6).map(str.strip).filter(bool)
"""Of columns and words."""


@given(names, names, st.sampled_from(["==", "!="]), st.sampled_from(["", " and c == x", " OR c != 'and'"]))
def test_any_column_and_word_in_quotes_is_read_and_written_again(column: str, word: str, op: str, rest: str) -> None:
    assume(not any("'" in name and '"' in name for name in (column, word)))  # there is no escape
    first, second = (f'"{name}"' if "'" in name else f"'{name}'" for name in (column, word))
    rule = SignRule.parse({"like": f"{first} {op} {second}{rest}"})
    assert rule.columns[0] == column
    assert SignRule.parse(rule.as_dict()) == rule
