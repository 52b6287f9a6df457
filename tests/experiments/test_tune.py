"""The whole of a tuning, with workers that are scripts: they start in a moment, and do what a test needs."""

import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from refusals import check_refused
from scripted import scripted_trials

from recbole_signed.errors import MissingExtraError
from recbole_signed.files import DirectoryLock
from recbole_signed.lab.tuning import Plan, tune_table
from recbole_signed.lab.tuning import search as module
from recbole_signed.lab.tuning.result import Tuning, tuning_table
from recbole_signed.lab.tuning.search import tune
from recbole_signed.plugin import registry
from recbole_signed.runs import TableSpec
from recbole_signed.runs.tuned import read_tuned
from recbole_signed.ssf.search import SIGN_AWARE_AVERSIONS
from recbole_signed.table import to_text

EASE_SPACE = "reg_weight: {log_uniform: [1.0, 1000.0]}"


def write_spaces(**by_model: str) -> None:
    folder = Path("yaml/tune")
    folder.mkdir(parents=True, exist_ok=True)
    for model, space in by_model.items():
        (folder / f"{model}.yaml").write_text(f"{space}\n", encoding="utf-8")


@pytest.fixture
def toy(toy: str) -> str:
    """The planted set and a space, where a user has them."""
    write_spaces(EASE=EASE_SPACE, BPR="learning_rate: {log_uniform: [1e-4, 1e-1]}")
    return toy


def tuned(toy: str, script: str = "", model: str = "EASE", seed: int | None = 7, **plan: Any) -> Tuning:
    settings = {"state": "ERROR", "valid_metric": "NDCG@10", **plan.pop("settings", {})}
    files, start = plan.pop("files", ()), plan.pop("start", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "answer", partial(scripted_trials, script))
        return tune(model, toy, files, settings, seed, Plan(**{"trials": 6, **plan}), start)


def values(tuning: Tuning) -> list[dict[str, Any]]:
    return [each.values for each in tuning.trials]


def test_the_best_trial_is_written_with_its_origin(toy: str) -> None:
    tuning = tuned(toy)
    assert (len(tuning.trials), tuning.n_new, tuning.trials[0].is_default) == (6, 6, True)
    assert tuning.best.value == max(each.value or 0.0 for each in tuning.trials) > 0.5
    assert tuning.file == Path("yaml/model/toy-signed/EASE.yaml")
    found = read_tuned(tuning.file)
    assert found.values == tuning.values == tuning.best.values
    how = found.how
    assert (how["model"], how["dataset"], how["trials"], how["seed"]) == ("EASE", toy, 6, 7)
    assert (how["metric"], how["value"], how["default_value"]) == ("NDCG@10", tuning.best.value, 0.5)
    command = "recbole-signed tune -m EASE -d toy-signed --trials 6 --seed 7 valid_metric=NDCG@10"
    assert how["command"] == command
    use = f"#   recbole-signed run -m EASE -d toy-signed --seed 7 -c {tuning.file} valid_metric=NDCG@10"
    assert tuning.file.read_text(encoding="utf-8").splitlines()[1] == use
    assert how["data_version"] == how["data_sha256"][:12]
    text = str(tuning)
    assert "EASE on toy-signed, seed 7: NDCG@10 on validation" in text
    lines = [line.split() for line in text.splitlines()]
    assert [str(tuning.best.number), f"{tuning.best.value:.4f}"] in [line[:2] for line in lines]
    assert "default configuration" in text
    assert "6 trials (6 complete, 0 pruned), 6 now" in text
    slow_start = replace(tuning.trials[0], seconds=60.0, about={"fit_seconds": 1.5})
    text = to_text(tuning_table(replace(tuning, trials=[slow_start, *tuning.trials[1:]])))
    assert any(line.split()[:3] == ["0", "0.5000", "1.5"] for line in text.splitlines()), "without reading the data"


def test_a_model_may_be_named_as_tables_print_it(toy: str) -> None:
    script = """
def trial(values):
    say(row={"model": task["model"], "dataset": task["dataset"], "seed": 1, "valid": {"ndcg@10": 1}})
"""
    assert tuned(toy, script, "ssf-l", trials=1).file == Path("yaml/model/toy-signed/SSFL.yaml")


@pytest.mark.parametrize(("model", "n_keys"), [("EASE", 2), ("Pop", 1)])
def test_a_price_on_dislikes_tunes_the_aversion_of_every_model(toy: str, model: str, n_keys: int) -> None:
    """Also of one that has no space of its own; the default is the point 0."""
    script = """
def row(value):
    say(row={"model": task["model"], "dataset": task["dataset"], "seed": 1, "valid": {"signedndcg@10": value}})
def trial(values):
    row(-abs(values.get("dislike_aversion", 0) - 4) - 1)
"""
    priced = {"valid_metric": "SignedNDCG@10", "signed_gamma": 2}
    tuning = tuned(toy, script, model, trials=10, settings=priced)
    assert {len(each.values) for each in tuning.trials[1:]} == {n_keys}
    if model == "Pop":
        assert tuning.values == {"dislike_aversion": 4.0}
        assert sorted(each.values.get("dislike_aversion", 0.0) for each in tuning.trials) == sorted(
            SIGN_AWARE_AVERSIONS
        )
    check_refused(r"there is no .*Pop\.yaml", tuned, toy, script, "Pop", settings={**priced, "signed_gamma": 0})


def test_the_best_default_is_written_and_no_trial_begins_late(toy: str) -> None:
    tuning = tuned(toy, "def trial(values): row(0.5 if values else 0.9)")
    assert tuning.best.is_default
    assert tuning.values == {"reg_weight": 250.0}
    assert read_tuned(tuning.file).how["best_trial"] == 0
    tuning = tuned(toy, "def trial(values): time.sleep(0.3); row(0.5)", trials=50, timeout=0.5)
    assert 1 <= len(tuning.trials) < 50
    assert read_tuned(tuning.file).how["trials"] == len(tuning.trials)


def test_the_same_command_goes_on_and_another_question_begins_anew(toy: str) -> None:
    first, second = tuned(toy, trials=3), tuned(toy, trials=6, jobs=2)
    assert second.n_new == 3
    assert values(second)[:3] == values(first)
    fewer = tuned(toy, trials=2)
    assert fewer.n_new == 0
    assert "--trials 6 " in read_tuned(fewer.file).how["command"], "what it says it chose from"
    assert len(Path("tried").read_text(encoding="utf-8").splitlines()) == 6
    assert tuned(toy, trials=2, seed=8).n_new == 2
    assert tuned(toy, trials=2, budget=5.0).n_new == 2
    write_spaces(EASE="reg_weight: [1.0, 2.0, 3.0]")
    assert tuned(toy, trials=2).n_new == 2


def test_an_interrupted_tuning_leaves_no_process_and_goes_on_as_if_nothing_had_been(
    toy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = "open('pid', 'w').write(str(os.getpid()))\n"
    slow = "def trial(values): row(0.5) if len(open('tried').readlines()) < 3 else time.sleep(60)"
    ended = module.Jobs.next

    def interrupted(self: Any, timeout: float) -> Any:
        said = ended(self, timeout)
        tried = Path("tried")  # of a worker that may not have begun yet
        if said is None and tried.is_file() and len(tried.read_text(encoding="utf-8").splitlines()) == 3:
            raise KeyboardInterrupt
        return said

    with monkeypatch.context() as patch:
        patch.setattr(module.Jobs, "next", interrupted)
        patch.setattr(module, "_POLL_SECONDS", 0.05)
        with pytest.raises(KeyboardInterrupt):
            tuned(toy, pid + slow)
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path("pid").read_text(encoding="utf-8")), 0)
    assert not Path("yaml/model").exists()
    again = tuned(toy)
    assert (again.n_new, len(again.trials)) == (4, 6)
    tried = Path("tried").read_text(encoding="utf-8").splitlines()
    assert len(tried) == 7
    assert tried[2] == tried[3], "the trial that was cut off"


@pytest.mark.parametrize("last", ["", "os.write(connection.fileno(), bytes(3))"], ids=["at work", "while it writes"])
def test_a_worker_that_dies_costs_one_trial(last: str, toy: str) -> None:
    dies = f"""
def trial(values):
    if len(open('tried').readlines()) != 2:
        return row(0.5)
    {last}
    os.kill(os.getpid(), 9)
"""
    tuning = tuned(toy, dies, trials=4)
    assert [each.state for each in tuning.trials] == ["complete", "fail", "complete", "complete"]
    assert tuning.trials[1].about == {"reason": "the process was ended by SIGKILL (out of memory?)"}
    assert len(Path("tasks").read_text(encoding="utf-8").splitlines()) == 2
    assert read_tuned(tuning.file).how["failed"] == 1


def test_several_workers_share_the_trials(toy: str) -> None:
    both = "def trial(values): time.sleep(0.05); row(0.5)"
    tuning = tuned(toy, both, trials=8, jobs=3)
    assert len(Path("tasks").read_text(encoding="utf-8").splitlines()) == 3
    assert [each.state for each in tuning.trials] == ["complete"] * 8
    assert len({str(each) for each in values(tuning)}) == 8


def curves(score: str, end: str = "row(0.6)", epochs: int = 6, spent: str = "500 * at") -> str:
    """Return a worker's script: the ``score`` of trial ``n`` after each epoch ``at``, until it is pruned, or ends."""
    return f"""
def trial(values):
    n = len(open('tried').readlines())
    for at in range(1, {epochs + 1}):
        if not score([at, {score}], {spent}):
            return say(pruned=True)
    {end}
"""


def test_a_poor_curve_is_pruned(toy: str) -> None:
    script = curves("0.0 if n % 9 == 0 else 0.1 * at")
    tuning = tuned(toy, script, model="BPR", trials=9)
    assert [each.state for each in tuning.trials] == ["complete"] * 8 + ["pruned"]
    assert tuning.trials[-1].about["epochs"] == 3, "no trial is given up before 1,500 steps"
    assert tuning.trials[0].about["curve"] == [[epoch, 0.1 * epoch] for epoch in range(1, 7)]
    assert read_tuned(tuning.file).how["pruned"] == 1
    later = tuned(toy, script, model="BPR", trials=9, prune_after=2500)
    assert later.trials[-1].about["epochs"] == 5
    assert "--trials 9 --prune-after 2500" in read_tuned(later.file).how["command"]


def test_a_curve_is_compared_by_its_best_score_so_far(toy: str) -> None:
    """As a run is: its best epoch counts, and early stopping lets a curve fall for a while."""
    falls_at_last = curves("0.1 * at if n < 9 else 0.9 if at < 3 else 0.0")
    assert [each.state for each in tuned(toy, falls_at_last, model="BPR", trials=9).trials] == ["complete"] * 9


def test_where_smaller_is_better_the_smallest_is_chosen_and_goes_on(toy: str) -> None:
    end = """say(row={"model": "BPR", "dataset": task["dataset"], "seed": 1, "valid": {"dislikerecall@10": 1 / n}})"""
    script = curves("0.5 if n < 9 else 0.1 if at == 2 else 0.9", end, epochs=4)
    tuning = tuned(toy, script, model="BPR", trials=9, settings={"valid_metric": "DislikeRecall@10"})
    assert [each.state for each in tuning.trials] == ["complete"] * 9
    assert (tuning.best.number, tuning.best.value) == (8, 1 / 9)
    shown = [line.label for line in tuning_table(tuning).sections[0].lines]
    assert shown == ["8", "7", "6", "5", "4", "0"], "the best ones, and the default"


def test_with_a_budget_trials_are_compared_at_a_quarter_and_at_half_of_it(toy: str) -> None:
    rising, falling = (
        curves(f"0.01 * {n}", f"row(0.01 * {n})", epochs=8, spent="5000 * at, 10.0 * at") for n in ("n", "(99 - n)")
    )
    tuning = tuned(toy, rising, model="BPR", trials=7, budget=80.0)
    assert [each.state for each in tuning.trials] == ["complete"] * 7, "each is better than all before"
    again = tuned(toy, falling, model="BPR", trials=7, budget=80.0, seed=8)
    assert [each.state for each in again.trials] == ["complete"] * 2 + ["pruned"] * 5
    assert {each.about["curve"][-1][0] for each in again.trials[2:]} == {2}


def test_a_chosen_value_on_the_edge_of_its_space_is_reported(toy: str) -> None:
    write_spaces(EASE="reg_weight: [10.0, 20.0, 30.0]")
    highest = tuned(toy, "def trial(values): row(values['reg_weight'] if values else 0.0)", trials=20)
    assert highest.edges == highest.as_dict()["edges"] == {"reg_weight": "highest"}
    assert read_tuned(highest.file).how["edges"] == {"reg_weight": "highest"}
    assert "on the edge of the space, beyond which better values may lie: reg_weight=30.0 (highest)" in to_text(
        tuning_table(highest)
    )
    middle = tuned(toy, "def trial(values): row(1.0 if values.get('reg_weight') == 20.0 else 0.5)", seed=9)
    assert (middle.edges, "edge" in to_text(tuning_table(middle))) == ({}, False)


def test_a_small_space_that_was_tried_in_full_has_had_its_budget(toy: str) -> None:
    write_spaces(EASE="reg_weight: [50.0, 100.0]")
    tuning = tuned(toy, trials=20)
    assert tuning.exhausted
    assert len(tuning.trials) == 3
    how = read_tuned(tuning.file).how
    assert (how["trials"], how["tried"]) == (20, 3)
    assert "every point of the space was tried" in to_text(tuning_table(tuning))


def test_what_is_given_is_not_tuned_and_is_kept_where_it_is_the_models(toy: str, tmp_path: Path) -> None:
    write_spaces(BPR="learning_rate: [0.1, 0.2]\nembedding_size: [8, 16]\nweight_decay: [0.0]")
    (tmp_path / "fixed.yaml").write_text("embedding_size: 32\nweight_decay: 0.5\n", encoding="utf-8")
    script = "def trial(values): row(0.5 if values else 0.1)"
    tuning = tuned(toy, script, model="BPR", trials=2, files=["fixed.yaml"], budget=3.0, name="other")
    assert tuning.file == Path("yaml/model/other/BPR.yaml")
    assert tuning.values.keys() == {"embedding_size", "learning_rate", "weight_decay"}
    assert (tuning.values["embedding_size"], tuning.values["weight_decay"]) == (32, 0.5)
    how = read_tuned(tuning.file).how
    assert (how["training_budget"], how["budget_unit"]) == (3.0, "CPU s")
    assert how["settings"] == {"valid_metric": "NDCG@10"}
    assert "--budget 3 --name other --seed 7 -c fixed.yaml" in how["command"]
    text = tuning.file.read_text(encoding="utf-8")
    assert f"--seed 7 -c fixed.yaml -c {tuning.file} valid_metric=NDCG@10\n" in text


@pytest.mark.parametrize(
    ("model", "plan", "said"),
    [
        ("EASE", {"trials": 0}, "trials is 0; it must be 1 or more"),
        ("EASE", {"jobs": 0}, "jobs is 0"),
        ("EASE", {"name": "../x"}, "name is '../x'; it must be the plain name of a folder"),
        ("EASE", {"budget": 1.0, "settings": {"training_budget": 2.0}}, "give one of the two"),
        ("EASE", {"prune_after": -1}, "prune_after is -1; it must be 0 or more"),
        ("EASE", {"budget": 0.0}, "budget is 0; it must be a number of seconds above 0"),
        ("EASE", {"timeout": -1.0}, "timeout is -1"),
        ("Pop", {}, "there is no yaml/tune/Pop.yaml that says what to tune of Pop"),
        ("EASE", {"space": Path("none.yaml")}, "can't read none.yaml"),
        ("EASE", {"space": Path("yaml/tune/BPR.yaml"), "settings": {"learning_rate": 0.1}}, "nothing to tune"),
        ("EASY", {}, "there is no model named 'EASY'; did you mean 'EASE'?"),
        ("EASE", {"settings": {"eval_step": 0}}, "eval_step is 0, so nothing is validated"),
        ("EASE", {"settings": {"reg_wieght": 1.0}}, "did you mean 'reg_weight'"),
        ("BPR", {"start": {"learning_rate": 0.01}, "settings": {"learning_rate": 0.1}}, "with learning_rate=0.01"),
    ],
)
def test_a_wrong_question_is_one_sentence_at_the_start(model: str, plan: dict[str, Any], said: str, toy: str) -> None:
    check_refused(re.escape(said), tuned, toy, model=model, **plan)
    assert not Path("tasks").exists()


def test_workers_and_trials_that_all_fail_are_an_error(toy: str) -> None:
    check_refused("ended before its first trial: no luck", tuned, toy, "sys.exit('no luck')")
    said = "none of 3 trials came to its end .* the first one: ValueError: bad"
    check_refused(said, tuned, toy, "def trial(values): say(failed='ValueError: bad')", trials=3)
    said = "NDCG@10 is not defined on the validation part"
    check_refused(said, tuned, toy, "def trial(values): row(None)", trials=1, seed=9)


def test_one_tuning_of_a_model_on_a_data_set_at_a_time(toy: str) -> None:
    folder = Path("runs/tune/toy-signed/EASE")
    folder.mkdir(parents=True)
    with contextlib.closing(DirectoryLock(folder)):
        check_refused(f"is being written by process {os.getpid()}", tuned, toy)
    assert tuned(toy, trials=1).n_new == 1


def test_the_extra_is_named_where_it_is_missing(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "recbole_signed.lab.tuning.study", raising=False)
    with pytest.raises(MissingExtraError, match=r"recbole-signed\[tune\]"):
        tuned(toy)


def test_a_termination_is_an_interruption(toy: str) -> None:
    ask = "from multiprocessing import parent_process\n"
    script = ask + "def trial(values): os.kill(parent_process().pid, 15); time.sleep(60)"
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        tuned(toy, script)
    assert signal.getsignal(signal.SIGTERM) is before


def test_trials_on_other_files_of_the_data_set_are_not_taken_for_an_answer(toy: str) -> None:
    changed = """
def row(value):
    sums = {"data_sha256": "0" * 64} if len(open('tried').readlines()) == 2 else {}
    say(row={"model": task["model"], "dataset": task["dataset"], "seed": 1, "valid": {"ndcg@10": value}, **sums})
"""
    check_refused("files of the data set have changed since the tuning was begun", tuned, toy, changed, trials=3)
    again = tuned(toy, trials=3)
    assert [each.state for each in again.trials] == ["complete"] * 3
    assert again.n_new == 2


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Register a model that extends one of this package, without defaults of its own; return its module."""
    file = tmp_path / "own_ssf.py"
    file.write_text("from recbole_signed.ssf import SSF\n\n\nclass OwnSSF(SSF):\n    pass\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.register_model("OwnSSF", "own_ssf")
    yield file
    del registry.registered["OwnSSF"]
    sys.modules.pop("own_ssf", None)


def test_a_model_that_extends_one_of_this_package_keeps_its_keys(toy: str, own: Path) -> None:
    write_spaces(OwnSSF="dislike_aversion: [0.0, 1.0, 2.0]")
    script = "def trial(values): row(0.5)"
    tuning = tuned(toy, script, "OwnSSF", trials=2, settings={"rank": 4})
    assert tuning.values == read_tuned(tuning.file).values
    assert tuning.values["rank"] == 4
    assert tuned(toy, script, "OwnSSF", trials=2, settings={"rank": 4}).n_new == 0
    own.write_text(own.read_text(encoding="utf-8") + "\n    more = 1\n", encoding="utf-8")
    assert tuned(toy, script, "OwnSSF", trials=2, settings={"rank": 4}).n_new == 2, "trials of other code"


TRIAL = "def trial(values): row(values.get('reg_weight', 0.0))"
TABLE: dict[str, Any] = {
    "datasets": {"toy-signed": {"training_budget": 9}, "late": {"dataset": "toy-signed", "tuned": "by-time"}},
    "common": {"tuned": True, "valid_metric": "NDCG@10", "state": "ERROR"},
    "models": {
        "Pop": {}, "SSF": {"tuned": False}, "EASE": {"start": {"reg_weight": 777.0}}, "again": {"model": "EASE"},
        "BPR": {"embedding_size": 8, "per_dataset": {"late": {"start": {"learning_rate": 0.05}}}},
    },
    "seeds": [1, 2],
}  # fmt: skip


@pytest.fixture
def table(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_spaces(BPR="learning_rate: [0.001, 0.01, 0.05]", SSF="rank: [4]")
    monkeypatch.setattr(module, "answer", partial(scripted_trials, TRIAL))
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump(TABLE, sort_keys=False), encoding="utf-8")
    return path


def done(*given: Any, **plan: Any) -> dict[str, Tuning]:
    return {str(each.file): each for each in tune_table(str(given[0]), Plan(**{"trials": 3, **plan}), *given[1:])}


def test_what_a_table_wants_tuned_is_tuned_once_where_it_looks_for_it(table: Path) -> None:
    found = done(table, budget=2.0)
    assert list(found) == [f"yaml/model/{name}/{m}.yaml" for name in ("toy-signed", "by-time") for m in ("EASE", "BPR")]
    assert all(len(each.trials) == 3 for each in found.values())
    requests = [each for each in TableSpec.read(table).requests() if each.model == "EASE"]
    assert {each.settings["reg_weight"] for each in requests} == {777.0}  # the best of three: the second trial
    assert not any("start" in each.settings or "tuned" in each.settings for each in requests)
    assert done(table, budget=2.0)["yaml/model/by-time/EASE.yaml"].n_new == 0


def test_the_search_begins_where_the_table_says_and_its_other_keys_are_fixed(table: Path) -> None:
    found = done(table)
    assert [each.values for each in found["yaml/model/toy-signed/EASE.yaml"].trials[:2]] == [{}, {"reg_weight": 777.0}]
    early, late = (found[f"yaml/model/{name}/BPR.yaml"] for name in ("toy-signed", "by-time"))
    assert late.trials[1].values == {"learning_rate": 0.05}
    assert (early.start, early.values["embedding_size"]) == ({}, 8)
    how = read_tuned(early.file).how
    assert how["training_budget"] == 9
    assert "--start" not in how["command"]
    assert "--start learning_rate=0.05" in read_tuned(late.file).how["command"]
    assert done(table, budget=2.0)["yaml/model/toy-signed/BPR.yaml"].facts.fixed["training_budget"] == 2.0


def test_of_two_rows_with_one_file_the_untuned_one_is_named(table: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = yaml.safe_load(table.read_text(encoding="utf-8"))
    content["models"]["wide"] = {"model": "BPR", "embedding_size": 16}
    content["models"]["own"] = {"model": "BPR", "embedding_size": 32, "tuned": "own"}
    table.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    found = done(table, ["BPR", "wide", "own"], ["toy-signed"])
    assert list(found) == ["yaml/model/toy-signed/BPR.yaml", "yaml/model/own/BPR.yaml"]
    assert [each.values["embedding_size"] for each in found.values()] == [8, 32]
    told = "'wide' on toy-signed is not tuned: it takes what is chosen for 'BPR' on toy-signed, as both are BPR"
    assert [told in each.getMessage() for each in caplog.records if "not tuned" in each.getMessage()] == [True]
    assert "'tuned: NAME' gives it one of its own" in caplog.text


def test_models_and_data_sets_may_be_chosen(table: Path) -> None:
    assert list(done(table, ["BPR"], ["late"], 5)) == ["yaml/model/by-time/BPR.yaml"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((["Pop", "SSF"],), "wants none of these models tuned: write 'tuned: true'"),
        (([], ["early"]), "has no data set 'early'; it has toy-signed, late."),
        ((["BPF"],), "the table has no model 'BPF'; it has Pop, SSF, EASE, again, BPR; did you mean 'BPR'?"),
    ],
)
def test_a_wrong_wish_is_one_sentence(given: tuple[Any, ...], said: str, table: Path) -> None:
    check_refused(re.escape(said), done, table, *given)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ({"reg_weight": 0.5}, "the search can't start where it never goes: yaml/tune/EASE.yaml does not have"),
        ({"rank": 3}, "the search can't start with 'rank', which yaml/tune/EASE.yaml does not vary"),
    ],
)
def test_a_start_outside_the_space_is_refused(start: dict[str, Any], said: str, table: Path) -> None:
    settings = {"valid_metric": "NDCG@10", "state": "ERROR"}
    check_refused(re.escape(said), tune, "EASE", "toy-signed", (), settings, None, Plan(2), start)


def test_a_start_that_a_setting_overrides_is_refused(table: Path) -> None:
    write_spaces(EASE="reg_weight: [1.0, 2.0]\nlearner: [adam, sgd]")
    settings = {"valid_metric": "NDCG@10", "state": "ERROR", "reg_weight": 2.0}
    question = ("EASE", "toy-signed", (), settings, None, Plan(2))
    said = r"can't start with reg_weight=1\.0: reg_weight is set to 2\.0"
    check_refused(said, tune, *question, {"reg_weight": 1.0, "learner": "sgd"})
    tuning = tune(*question, {"learner": "sgd"})
    assert [each.values for each in tuning.trials] == [{}, {"learner": "sgd"}]
