import contextlib
import functools
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from refusals import check_refused

from recbole_signed.lab.tuning import study as module
from recbole_signed.lab.tuning.space import Space
from recbole_signed.lab.tuning.study import REDUCTION, Halving, Study

SPACE = "rate: {log_uniform: [1e-4, 1]}\nlayers: [1, 2, 3, 4]"
RANDOM_TRIALS = 3


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have few random trials, and open a file once: Optuna looks at the version of its tables each time."""
    monkeypatch.setattr(module, "RANDOM_TRIALS", RANDOM_TRIALS)
    monkeypatch.setattr(module, "_storage", functools.cache(module._storage))


def study(
    folder: Path,
    text: str = SPACE,
    name: str = "s",
    bigger: bool = True,
    seed: int = 1,
    start: dict[str, Any] | None = None,
    **default: Any,
) -> Study:
    path = folder / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return Study(folder / "study.db", name, Space.read(path), default, bigger, seed, start)


def value(values: dict[str, Any]) -> float:
    return -abs(math.log10(values["rate"]) + 2) - abs(values["layers"] - 3) if values else -9.0


def run(each: Study, trials: int) -> None:
    while len(each.tried()) < trials:
        asked = each.ask()
        assert asked is not None
        each.complete(asked, value(asked.values), {"epochs": 7})


def tried(each: Study) -> list[dict[str, Any]]:
    return [one.values for one in each.tried()]


def test_seeds_and_the_default_as_the_first_trial(tmp_path: Path) -> None:
    run(first := study(tmp_path), 3)
    default, *others = first.tried()
    assert (default.number, default.is_default, default.values, default.value) == (0, True, {}, -9.0)
    assert not any(each.is_default for each in others)
    assert all({"rate", "layers"} == set(each.values) for each in others)
    assert default.about == {"epochs": 7}
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
    each, found = study(tmp_path, bigger=bigger), []
    for _ in range(16):
        asked = each.ask()
        found.append(value(asked.values))
        each.complete(asked, found[-1] if bigger else -found[-1], {})
    assert sum(found[-6:]) / 6 > sum(found[1:4]) / 3 + 0.3


@pytest.mark.parametrize(
    ("text", "default", "n_points"),
    [
        ("a: [1, 2, 3]\nb: [x, y]", {"a": 2, "b": "y"}, 6),  # the default is one of the six
        ("a: [1, 2]", {"a": 7}, 3),  # here it is no point of the space
        # 0.3 is 3 times 0.1, which Optuna draws as 0.30000000000000004
        ("a: {uniform: [0.0, 0.3], step: 0.1}", {"a": 0.3}, 4),
        ("a: {uniform: [0.0, 0.5], step: 0.1}\nb: [x, y]", {"a": 0.3, "b": "y"}, 12),
    ],
)
@pytest.mark.parametrize("draws", [1, module._DRAWS], ids=["chance misses points", ""])
def test_each_point_of_a_small_space_is_tried_once(
    text: str, default: dict[str, Any], n_points: int, draws: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DRAWS", draws)
    each = study(tmp_path, text, **default)
    while (asked := each.ask()) is not None:
        each.complete(asked, 1.0, {})
    assert each.tried()[0].values == {}
    found = [default | one.values for one in each.tried()]
    assert len(found) == n_points
    assert all(one not in found[:number] for number, one in enumerate(found))
    assert study(tmp_path, text, **default).ask() is None


def test_what_was_cut_off_is_repeated_even_where_the_space_is_exhausted(tmp_path: Path) -> None:
    each = study(tmp_path, "a: [1, 2]", a=7)
    each.ask()  # the default, which never ends
    for _ in range(2):
        each.complete(each.ask(), 1.0, {})
    again = study(tmp_path, "a: [1, 2]", a=7)
    asked = again.ask()
    assert asked is not None
    assert asked.kind == "default"
    again.complete(asked, 2.0, {})
    assert again.ask() is None
    assert [one.is_default for one in again.tried()] == [False, False, True]


@pytest.mark.parametrize("bigger", [True, False])
def test_the_best_third_of_those_that_reached_a_rung_goes_on(bigger: bool, tmp_path: Path) -> None:
    each = study(tmp_path, bigger=bigger, start={"rate": 0.1, "layers": 2})

    def play(score: float) -> str:
        asked = each.ask()
        assert asked is not None
        score = score if bigger else -score
        for rung in (0, 1, 1, 2):
            if not each.report(asked, score, rung):
                each.prune(asked, {"curve": []})
                return f"pruned at rung {rung}"
        each.complete(asked, score, {})
        return "complete"

    assert [play(0.1), play(0.2)] == ["complete"] * 2, "the default and the start"
    assert play(0.3) == "complete", "the best of three"
    assert play(0.25) == "pruned at rung 1", "one of four goes on"
    assert play(0.26) == "pruned at rung 1"
    assert play(0.29) == "pruned at rung 2", "two of six go on from the first rung, one of four from the second"
    assert play(0.5) == "complete"
    assert [one.state for one in each.tried()].count("pruned") == 3
    assert {one.value for one in each.tried() if one.state == "pruned"} == {None}


def test_a_trial_that_was_cut_off_counts_once_at_its_rungs(tmp_path: Path) -> None:
    first = study(tmp_path)
    for score in (0.1, 0.9, 0.8):
        asked = first.ask()
        assert first.report(asked, score, 1) or score == 0.8
        first.complete(asked, score, {})
    again = first
    for _ in range(2):  # the process dies twice before it can say so
        assert not again.report(again.ask(), 0.2, 1)
        again = study(tmp_path)
    repeated = again.ask()
    assert not again.report(repeated, 0.2, 1)
    again.prune(repeated, {"curve": []})
    asked = again.ask()
    assert not again.report(asked, 0.85, 1), "one of five is better, as without the two that were cut off"


def test_a_training_that_ended_by_itself_counts_at_the_rungs_it_did_not_see(tmp_path: Path) -> None:
    each = study(tmp_path)
    for score in (0.1, 0.9, 0.8):
        each.complete(each.ask(), score, {})
    asked = each.ask()
    assert not each.report(asked, 0.5, 1), "two of four are better"
    assert each.report(asked, 0.5, 1), "a rung is passed once"


def test_equal_scores_are_not_ahead(tmp_path: Path) -> None:
    each = study(tmp_path)
    assert all(each.report(each.ask(), 0.5, 1) for _ in range(2 * REDUCTION))


def test_a_trial_that_passes_two_rungs_at_once_counts_at_both(tmp_path: Path) -> None:
    each = study(tmp_path)
    for _ in range(REDUCTION):
        each.report(each.ask(), 0.9, 2)  # and goes on
    assert not each.report(each.ask(), 0.5, 1)


def test_the_default_is_not_pruned_among_running_trials(tmp_path: Path) -> None:
    each = study(tmp_path)
    default = each.ask()
    for _ in range(2 * REDUCTION):
        asked = each.ask()
        each.report(asked, 1.0, 2)
        each.complete(asked, 1.0, {})
    assert all(each.report(default, 0.0, rung) for rung in (1, 2))


def test_the_start_is_kept_where_it_was_cut_off_too(tmp_path: Path) -> None:
    first = study(tmp_path, start={"rate": 0.1, "layers": 2})
    first.complete(first.ask(), 0.9, {})
    first.ask()
    again = study(tmp_path, start={"rate": 0.1, "layers": 2})
    asked = again.ask()
    assert asked.values == {"rate": 0.1, "layers": 2}
    others = [again.ask() for _ in range(5)]
    for each in others:
        again.report(each, 0.8, 1)
    assert again.report(asked, 0.1, 1)


@pytest.mark.parametrize(
    ("limits", "reached"),
    [
        ({"cpu_seconds": 100.0}, {(1499, 90.0): 0, (1500, 24.0): 0, (1500, 25.0): 1, (1500, 50.0): 2, (9999, 99.0): 2}),
        ({"max_steps": 8000}, {(1999, 1e9): 0, (2000, 1.0): 1, (4000, 1.0): 2}),
        ({"max_steps": 4000, "min_steps": 2000}, {(1000, 1.0): 0, (2000, 1.0): 2}),
        ({"cpu_seconds": 100.0, "max_steps": 8000}, {(2000, 1.0): 1, (1600, 50.0): 2}),
        ({}, {(1499, 1.0): 0, (1500, 1.0): 1, (2999, 1.0): 1, (3000, 1.0): 2, (6000, 1.0): 3}),
        ({"min_steps": 0, "cpu_seconds": 8.0}, {(1, 1.0): 0, (1, 2.0): 1}),
    ],
)
def test_rungs(limits: dict[str, float], reached: dict[tuple[int, float], int]) -> None:
    halving = Halving(**limits)
    assert {at: halving.rung(*at) for at in reached} == reached


def test_a_score_that_is_not_a_number_is_passed_over(tmp_path: Path) -> None:
    each = study(tmp_path)
    assert each.report(each.ask(), float("nan"), 1)


def test_a_failed_trial_counts_and_says_why(tmp_path: Path) -> None:
    each = study(tmp_path)
    each.fail(each.ask(), "no luck")
    assert [(one.state, one.value, one.about) for one in each.tried()] == [("fail", None, {"reason": "no luck"})]


def test_a_study_may_lie_in_any_folder_and_another_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "what? {now} 100%"
    folder.mkdir()
    assert study(folder).ask() is not None
    assert (folder / "study.db").is_file()
    (tmp_path / "study.db").write_text("not SQLite, but long enough to be looked at", encoding="utf-8")
    check_refused(r"the trials in .*study\.db can't be used \(file is not a database\)", study, tmp_path)


def test_a_study_that_is_damaged_within_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna wraps what SQLite says of a damaged page."""

    def damaged(*_: Any, **__: Any) -> Any:
        raise optuna.exceptions.StorageInternalError("during the commit")

    monkeypatch.setattr(optuna, "create_study", damaged)
    check_refused(r"the trials in .*study\.db can't be used \(during the commit\)", study, tmp_path)


class _KilledError(BaseException):
    """Stands for the death of the process."""


@contextlib.contextmanager
def _killed_at(place: int, storage: type) -> Iterator[list[str]]:
    """Have the process die before its write number ``place`` to the file of trials; give the names of the writes."""
    made: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("create_new_study", "create_new_trial", "set_trial_state_values", "set_trial_user_attr"):
            write = getattr(storage, name)

            def write_or_die(*args: Any, _write: Any = write, _name: str = name, **kwargs: Any) -> Any:
                made.append(_name)
                if len(made) == place:
                    raise _KilledError
                return _write(*args, **kwargs)

            patch.setattr(storage, name, write_or_die)
        yield made


def test_no_moment_of_its_death_costs_a_study_a_trial(tmp_path: Path) -> None:
    """Whatever was written last, the default, the start and the draws are tried once each, as without a death."""
    start = {"rate": 0.5, "layers": 2}
    given: dict[str, Any] = {"start": start, "rate": 0.1, "layers": 1}
    n = 3
    run(whole := study(tmp_path, name="whole", **given), n)
    storage, expected = type(whole._file._storage), sorted(tried(whole), key=repr)
    for place in itertools.count(1):
        name = f"killed at {place}"
        with contextlib.suppress(_KilledError), _killed_at(place, storage) as made:
            first = study(tmp_path, name=name, **given)
            run(first, 1)
            first.ask()  # and dies while it runs
            run(study(tmp_path, name=name, **given), n)
        again = study(tmp_path, name=name, **given)
        run(again, n)
        assert [each.state for each in again.tried()] == ["complete"] * n, (place, made)
        assert sorted(tried(again), key=repr) == expected, (place, made)
        assert sum(each.is_default for each in again.tried()) == 1, (place, made)
        if len(made) < place:
            return


def test_of_trials_that_were_written_as_they_began_those_that_ended_count(tmp_path: Path) -> None:
    """Earlier versions wrote them so; one that was cut off is drawn again."""
    study(tmp_path)
    old = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 'study.db'}")
    ended, cut_off = old.ask(), old.ask()
    for name, value_ in {"default": True, "values": {}, "about": {}}.items():
        ended.set_user_attr(name, value_)
    cut_off.set_user_attr("values", {"rate": 0.1, "layers": 2})
    old.tell(ended, 0.5)
    again = study(tmp_path)
    assert [(one.is_default, one.value) for one in again.tried()] == [(True, 0.5)]
    asked = again.ask()
    assert asked is not None
    assert asked.values
