from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import pytest

from recbole_signed.experiments.tuning import PRUNING_TRIALS, Space, Study
from recbole_signed.experiments.tuning import study as module

SPACE = "rate: {log_uniform: [1e-4, 1]}\nlayers: [1, 2, 3, 4]"
RANDOM_TRIALS, PATIENCE = 3, 4


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have few random trials, and open a file once: Optuna looks at the version of its tables each time."""
    monkeypatch.setattr(module, "RANDOM_TRIALS", RANDOM_TRIALS)
    monkeypatch.setattr(module, "_storage", functools.cache(module._storage))


def study(
    folder: Path, text: str = SPACE, name: str = "s", bigger: bool = True, seed: int = 1, **default: Any
) -> Study:
    path = folder / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return Study(folder / "study.db", name, Space.read(path), default, bigger, seed, PATIENCE)


def value(values: dict[str, Any]) -> float:
    return -abs(math.log10(values["rate"]) + 2) - abs(values["layers"] - 3) if values else -9.0


def run(each: Study, trials: int) -> None:
    while len(each.tried()) < trials:
        asked = each.ask()
        assert asked is not None
        each.complete(asked, value(asked.values), {"epochs": 7})


def tried(each: Study) -> list[dict[str, Any]]:
    return [one.values for one in each.tried()]


def test_the_default_configuration_is_the_first_trial(tmp_path: Path) -> None:
    run(first := study(tmp_path), 3)
    default, *others = first.tried()
    assert (default.number, default.is_default, default.values, default.value) == (0, True, {}, -9.0)
    assert not any(each.is_default for each in others)
    assert all({"rate", "layers"} == set(each.values) for each in others)
    assert default.about == {"epochs": 7}


def test_a_seed_gives_the_same_trials_and_another_one_others(tmp_path: Path) -> None:
    n = RANDOM_TRIALS + 2
    for number, seed in enumerate((1, 1, 2)):
        run(study(tmp_path, name=str(number), seed=seed), n)
    one, same, other = (tried(study(tmp_path, name=str(number))) for number in range(3))
    assert one == same
    assert not any(each in one for each in other[1:])


@pytest.mark.parametrize("ended_at", [0, RANDOM_TRIALS + 1])
def test_a_study_that_was_cut_off_goes_on_with_the_trials_it_would_have_had(tmp_path: Path, ended_at: int) -> None:
    n = RANDOM_TRIALS + 3
    run(whole := study(tmp_path, name="whole"), n)
    run(study(tmp_path, name="cut"), ended_at)
    cut = study(tmp_path, name="cut")
    cut.ask()  # and never ends
    again = study(tmp_path, name="cut")
    assert len(again.tried()) == ended_at
    run(again, n)
    assert tried(again) == tried(whole)
    assert [each.is_default for each in again.tried()] == [True] + [False] * (n - 1)
    assert [each.number for each in again.tried()] == list(range(n))


@pytest.mark.parametrize("bigger", [True, False])
def test_the_sampler_learns_which_way_is_better(bigger: bool, tmp_path: Path) -> None:
    each = study(tmp_path, bigger=bigger)
    found = []
    for _ in range(16):
        asked = each.ask()
        found.append(value(asked.values))
        each.complete(asked, found[-1] if bigger else -found[-1], {})
    assert sum(found[-6:]) / 6 > sum(found[1:4]) / 3 + 0.3


def test_no_values_are_tried_twice_and_a_small_space_comes_to_its_end(tmp_path: Path) -> None:
    each = study(tmp_path, "a: [1, 2, 3]\nb: [x, y]", a=2, b="y")
    while (asked := each.ask()) is not None:
        each.complete(asked, 1.0, {})
    found = [{"a": 2, "b": "y"} | one.values for one in each.tried()]
    assert len(found) == 6, "the default is one of the six"
    assert all(one not in found[:number] for number, one in enumerate(found))
    assert study(tmp_path, "a: [1, 2, 3]\nb: [x, y]", a=2, b="y").ask() is None


def test_a_default_outside_the_space_is_no_point_of_it(tmp_path: Path) -> None:
    each = study(tmp_path, "a: [1, 2]", a=7)
    asked = each.ask()
    assert asked is not None
    assert asked.values == {}
    each.complete(asked, 1.0, {})
    while (asked := each.ask()) is not None:
        each.complete(asked, 1.0, {})
    assert sorted(one.values["a"] for one in each.tried()[1:]) == [1, 2]


def test_what_was_cut_off_is_repeated_even_where_the_space_is_exhausted(tmp_path: Path) -> None:
    each = study(tmp_path, "a: [1, 2]", a=7)
    each.ask()  # the default, which never ends
    for _ in range(2):
        each.complete(each.ask(), 1.0, {})
    again = study(tmp_path, "a: [1, 2]", a=7)
    asked = again.ask()
    assert asked is not None
    assert asked.is_default
    again.complete(asked, 2.0, {})
    assert again.ask() is None
    assert [one.is_default for one in again.tried()] == [False, False, True]


def test_a_poor_curve_is_pruned_and_the_default_never(tmp_path: Path) -> None:
    each = study(tmp_path)

    def play(score: float) -> bool:
        asked = each.ask()
        assert asked is not None
        for validation in range(1, PATIENCE + 3):
            if not each.report(asked, score * validation, validation):
                assert validation == PATIENCE
                each.prune(asked, {"curve": []})
                return False
        each.complete(asked, score, {})
        return True

    assert play(0.001), "the default, which is the poorest"
    assert all(play(1.0 + 0.1 * number) for number in range(PRUNING_TRIALS))
    assert not play(0.1)
    assert play(5.0)
    states = [one.state for one in each.tried()]
    assert states.count("pruned") == 1
    assert [one.value for one in each.tried() if one.state == "pruned"] == [None]


def test_the_default_is_not_pruned_among_running_trials(tmp_path: Path) -> None:
    each = study(tmp_path)
    default = each.ask()
    for _ in range(PRUNING_TRIALS + 2):
        asked = each.ask()
        for validation in range(1, PATIENCE + 3):
            each.report(asked, 1.0, validation)
        each.complete(asked, 1.0, {})
    assert all(each.report(default, 0.0, validation) for validation in range(1, PATIENCE + 5))


def test_a_score_that_is_not_a_number_is_passed_over(tmp_path: Path) -> None:
    each = study(tmp_path)
    assert each.report(each.ask(), float("nan"), 1)


def test_a_failed_trial_counts_and_says_why(tmp_path: Path) -> None:
    each = study(tmp_path)
    each.fail(each.ask(), "no luck")
    assert [(one.state, one.value, one.about) for one in each.tried()] == [("fail", None, {"reason": "no luck"})]
