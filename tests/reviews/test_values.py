"""User review 6 and its tracebacks: values out of range are refused in a sentence, for every model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recbole.config import Config

from recbole_signed.errors import UsageError
from recbole_signed.plugin.ranges import RANGES, Range

COLUMNS = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]
WRONG = [
    ("n_layers", -2),
    ("embedding_size", 0),
    ("embedding_size", 4.5),
    ("epochs", -1),
    ("epochs", 2.7),
    ("training_budget", -1),
    ("training_budget", "abc"),
    ("weight_decay", -1),
    ("worker", -1),
    ("metric_decimal_place", -3),
    ("metrics", []),
    ("topk", [0]),
    ("topk", []),
    ("learner", "foo"),
    ("seed", -1),
    ("seed", 99999999999999),
    ("learning_rate", 0),
    ("learning_rate", float("nan")),
    ("stopping_step", True),
    ("eval_args", {"split": {"RS": [0.5, 0.5, -0.1]}}),
]


@pytest.fixture
def configure(write_inter: Callable[..., Path], signed_rows: list) -> Callable[..., Config]:
    write_inter("signed", COLUMNS, signed_rows)
    return lambda model, **settings: Config(
        model=model, dataset="signed", config_dict={"data_path": "dataset", "state": "ERROR", **settings}
    )


@pytest.mark.parametrize(("key", "value"), WRONG, ids=str)
@pytest.mark.parametrize("model", ["SGCN", "BPR"])
def test_wrong_values_are_refused(model: str, key: str, value: Any, configure: Callable[..., Config]) -> None:
    with pytest.raises(UsageError) as error:
        configure(model, **{key: value})
    sentence = str(error.value)
    assert key in sentence or "ratios" in sentence
    assert "\n" not in sentence


@given(
    st.sampled_from(sorted(RANGES)), st.integers() | st.floats() | st.text() | st.booleans() | st.lists(st.integers())
)
def test_a_range_holds_what_its_sentence_says(key: str, value: Any) -> None:
    limits = RANGES[key]
    holds = limits.holds(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if holds:
        assert number
        assert limits.low is None or value >= limits.low
        assert limits.high is None or value <= limits.high
        assert limits.kind is float or value == int(value)


def test_sentences() -> None:
    assert str(Range(int, 1)) == "a whole number 1 or more"
    assert str(Range(float, 0, 1, open="both")) == "a number above 0 and below 1"
    assert not Range(float, 0, open="low").holds(0)
    assert not Range(float, 0, 1, open="high").holds(1)


def test_a_model_adds_ranges_of_its_own(configure: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole.model.general_recommender import BPR

    monkeypatch.setattr(BPR, "parameter_ranges", {"embedding_size": Range(int, 8, 16)}, raising=False)
    with pytest.raises(UsageError, match="8 or more and at most 16"):
        configure("BPR", embedding_size=4)
    configure("BPR", embedding_size=8)


def test_a_gpu_that_is_not_there_is_named(configure: Callable[..., Config], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        configure("BPR", gpu_id="5", use_gpu=True)
    assert "A GPU is asked for" in caplog.text
