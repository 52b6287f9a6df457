from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recbole_signed.errors import UsageError
from recbole_signed.lab.tuning.space import Space

Write = Callable[[str], Path]


class Scripted:
    """A trial that takes the first choice and the low end, or what it is told."""

    def __init__(self, **told: Any) -> None:
        self.told, self.asked = told, {}

    def _say(self, name: str, otherwise: Any, *question: Any) -> Any:
        self.asked[name] = question
        return self.told.get(name, otherwise)

    def suggest_categorical(self, name: str, choices: list[str]) -> Any:
        return self._say(name, choices[0], choices)

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        return self._say(name, low, low, high, step, log)

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        return self._say(name, low, low, high, step, log)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_space(text: str) -> Path:
        path = tmp_path / "Model.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_space


ALL = """
encoder: [MF, LightGCN]
mlp_hidden_size: [[300], [600, 200]]
dropout_prob: {uniform: [0, 0.5], step: 0.1}
learning_rate: {log_uniform: [1e-4, 1e-2]}
embedding_size: {int: [16, 64], step: 16}
rank: {log_int: [16, 512]}
"""


def test_each_form_asks_for_what_it_says(write: Write) -> None:
    space = Space.read(write(ALL))
    trial = Scripted(mlp_hidden_size="[600, 200]", learning_rate=0.00123456)
    assert space.suggest(trial) == {
        "encoder": "MF",
        "mlp_hidden_size": [600, 200],
        "dropout_prob": 0.0,
        "learning_rate": 0.001235,
        "embedding_size": 16,
        "rank": 16,
    }
    assert trial.asked["dropout_prob"] == (0.0, 0.5, 0.1, False)
    assert trial.asked["learning_rate"] == (1e-4, 1e-2, None, True)
    assert trial.asked["embedding_size"] == (16, 64, 16, False)
    assert trial.asked["rank"] == (16, 512, 1, True)


def test_rounding_never_leaves_the_range(write: Write) -> None:
    space = Space.read(write("a: {uniform: [0.123462, 0.234568]}"))
    for value, tried in ((0.123463, 0.1235), (0.123449, 0.123462), (0.2, 0.2), (0.234568, 0.234568)):
        assert space.suggest(Scripted(a=value)) == {"a": tried}


def test_steps_meet_round_numbers(write: Write) -> None:
    space = Space.read(write("a: {uniform: [-0.8, 0.8], step: 0.2}"))
    tried = [space.suggest(Scripted(a=-0.8 + step * 0.2))["a"] for step in range(9)]
    assert tried == [-0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8]
    assert all(space.point({"a": value}) is not None for value in tried)


def test_a_point_of_the_space_is_told_from_others(write: Write) -> None:
    space = Space.read(write(ALL))
    inside = {
        "encoder": "LightGCN",
        "mlp_hidden_size": [300],
        "dropout_prob": 0.3,
        "learning_rate": 1e-4,
        "embedding_size": 48,
        "rank": 17,
    }
    coded = space.point(inside)
    assert coded is not None
    assert space.suggest(Scripted(**coded)) == inside
    outside = {
        "encoder": "GCN",
        "mlp_hidden_size": 300,
        "dropout_prob": 0.35,
        "learning_rate": 0.02,
        "embedding_size": 40,
        "rank": 17.5,
    }
    for key, value in outside.items():
        assert space.point({**inside, key: value}) is None, key
    assert Space.read(write("auto: [0, 2]")).point({"auto": False}) is None, "False is not 0"


def test_the_size_of_a_space(write: Write) -> None:
    assert Space.read(write("a: [1, 2, 3]\nb: {int: [1, 4]}\nc: {uniform: [0, 1], step: 0.1}")).size == 3 * 4 * 11
    assert Space.read(write("a: [1, 2, 3]\nb: {uniform: [0, 1]}")).size == float("inf")


def test_given_keys_leave_the_space(write: Write) -> None:
    space = Space.read(write("a: [1]\nb: [2]"))
    assert set(space.without({"a": 5, "seed": 1}).parameters) == {"b"}
    with pytest.raises(UsageError, match=r"every key of .*Model.yaml is given a value"):
        space.without(["a", "b"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no key to tune"),
        ("a: 3", "write a list of choices, or a range such as"),
        ("a: []", "has no choices"),
        ("a: [1, 1.0]", "the choice 1.0 twice"),
        ("a: [2020-01-01]", "which is not a number, word, list or mapping"),
        ("a: {loguniform: [1, 2]}", "with a 'step' or without); did you mean 'log_uniform'?"),
        ("a: {step: 1}", "must have one of uniform, log_uniform, int, log_int, but has none"),
        ("a: {uniform: [1, 2], int: [1, 2]}", "but has uniform, int"),
        ("a: {uniform: [1]}", "must be the two ends of a range, numbers"),
        ("a: {uniform: [.nan, 1]}", "must be the two ends of a range, numbers"),
        ("a: {int: [1.5, 2]}", "must be the two ends of a range, whole numbers"),
        ("a: {uniform: [2, 1]}", "goes from 2 to 1"),
        ("a: {log_uniform: [0, 1]}", "starts at 0; a 'log_uniform' range must start above 0"),
        ("a: {log_int: [1, 8], step: 2}", "only uniform and int have one"),
        ("a: {int: [1, 8], step: 0.5}", "has the step 0.5"),
        ("a: {uniform: [0, 1], step: 2}", "has the step 2"),
    ],
)
def test_a_wrong_space_is_one_sentence(text: str, said: str, write: Write) -> None:
    with pytest.raises(UsageError) as error:
        Space.read(write(text))
    assert said in str(error.value)
    assert "Model.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("reg_wieght: [1.0]", "EASE has no key 'reg_wieght'; did you mean 'reg_weight'?"),
        ("topk: [5, 10]", "'topk' decides how trials are judged"),
        ("reg_weight: [small]", "'reg_weight' has the value 'small'; it must be a number"),
        ("auto: [1, 0]", "'auto' has the value 1; it must be True or False"),
        ("reg_weight: [True]", "it must be a number"),
    ],
)
def test_a_space_of_another_model_is_one_sentence(text: str, said: str, write: Write) -> None:
    space = Space.read(write(text))
    with pytest.raises(UsageError) as error:
        space.check("EASE", {"reg_weight": 250.0, "auto": True, "topk": [10], "weight_decay": None}, {"topk"})
    assert said in str(error.value)


def test_a_key_without_a_default_takes_anything(write: Write) -> None:
    Space.read(write("weight_decay: [0.0, 0.1]")).check("EASE", {"weight_decay": None}, set())


def test_what_lies_on_an_edge(write: Write) -> None:
    space = Space.read(write(ALL + "weight_decay: [0.0, 1.0e-4]\n"))
    inside = {"encoder": "MF", "mlp_hidden_size": [300], "dropout_prob": 0.2, "learning_rate": 1e-3, "rank": 64}
    assert space.edges({**inside, "embedding_size": 32, "weight_decay": 0.0}) == {}, "0 leaves a term out"
    ends = {"dropout_prob": 0.5, "learning_rate": 1.1e-4, "embedding_size": 64, "rank": 16, "weight_decay": 1e-4}
    lowest = {"learning_rate": "lowest", "rank": "lowest"}
    assert space.edges(ends) == lowest | dict.fromkeys(("dropout_prob", "embedding_size", "weight_decay"), "highest")
    assert space.edges({"learning_rate": 0.5, "dropout_prob": 0.0}) == {}, "outside, and nothing beyond"
    assert space.edges({"learning_rate": 9e-3}) == {"learning_rate": "highest"}, "a twentieth of the range is its edge"
    assert space.edges({"learning_rate": 7.5e-3}) == space.edges({"learning_rate": 1.3e-4}) == {}
    unordered = Space.read(write("w: [10.0, 0.1, 1.0]"))
    assert [unordered.edges({"w": each}).get("w") for each in (10.0, 0.1, 1.0)] == ["highest", "lowest", None]


def test_a_whole_number_is_the_choice_of_the_same_value(write: Write) -> None:
    """A default of 1 is one of the choices 0.1, 1.0 and 10.0, and is coded as that one is."""
    space = Space.read(write("w: [0.1, 1.0, 10.0]"))
    assert space.point({"w": 1}) == space.point({"w": 1.0}) == {"w": "1.0"}


def test_the_points_of_a_space_are_those_that_can_be_drawn(write: Write) -> None:
    space = Space.read(write("a: {uniform: [-0.3, 0.3], step: 0.1}\nb: {int: [1, 6], step: 2}\nc: [x, y]"))
    points = list(space.points())
    assert len(points) == space.size == 7 * 3 * 2
    assert points[0] == {"a": -0.3, "b": 1, "c": '"x"'}
    assert {each["a"] for each in points} == {-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3}
    assert space.rounded({"a": 0.1 + 0.2, "b": 1, "c": "x"}) == {"a": 0.3, "b": 1, "c": "x"}
    endless = Space.read(write("a: {log_uniform: [1e-14, 1e-12]}"))
    assert (list(endless.points()), endless.rounded({"a": 1.5e-14})) == ([], {"a": 1.5e-14})
