"""What our trainer adds to RecBole's, for our models and for stock ones."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prepared import new_trainer, prepared
from recbole.trainer import Trainer
from refusals import check_refused

from recbole_signed.errors import UsageError
from recbole_signed.trainer.checkpoints import grown_parameters
from recbole_signed.trainer.signed_trainer import SignedTrainer


@pytest.fixture
def start(
    write_inter: Callable[..., Path], signed_rows: list[tuple[int, ...]], tmp_path: Path, quick: dict[str, Any]
) -> Callable[..., Any]:
    rows = [(f"u{user}", f"i{item}", sign) for user, item, sign, _ in signed_rows]
    write_inter("rows", ["user_id:token", "item_id:token", "sign:float"], rows)

    def make(name: str, **config: Any) -> tuple[Any, Any]:
        places = {"data_path": str(tmp_path / "dataset"), "checkpoint_dir": str(tmp_path / "saved")}
        load = {"inter": ["user_id", "item_id", "sign"]}
        settings, _, parts = prepared("rows", name, load_col=load, **places, **{**quick, **config})
        return new_trainer(settings, parts), parts

    return make


def fit(started: tuple[Any, Any], **kwargs: Any) -> Any:
    trainer, parts = started
    return trainer.fit(parts[0], parts[1], show_progress=False, **{"saved": False, **kwargs})


@pytest.mark.parametrize("name", ["SiReN", "LightGCN"])
def test_a_spent_budget_ends_training_after_a_validation(name: str, start: Callable[..., Any]) -> None:
    started = start(name, training_budget=1e-6, epochs=50, eval_step=2)
    score, result = fit(started)
    trainer = started[0]
    assert isinstance(trainer, SignedTrainer)
    assert trainer.stopped_by == "budget"
    assert [epoch for epoch, _ in trainer.curve] == [1]
    assert score == trainer.curve[0][1] == result["ndcg@10"]
    assert len(trainer.train_loss_dict) == 1


def test_how_a_training_ended_is_kept(start: Callable[..., Any]) -> None:
    through = start("SGCN", epochs=2, eval_step=1)
    fit(through)
    assert through[0].stopped_by == "epochs"
    assert [epoch for epoch, _ in through[0].curve] == [1, 2]
    early = start("SGCN", epochs=300, eval_step=1, stopping_step=1, learning_rate=0.1)
    fit(early)
    assert early[0].stopped_by == "early stopping"
    assert len(early[0].curve) < 300
    keys = {"eval_step": 1, "stopping_step": 1, "learning_rate": 0.1}
    for left, why in ((0, "early stopping"), (1, "epochs")):
        last = start("SGCN", epochs=len(early[0].curve) - left, **keys)
        fit(last)
        assert last[0].stopped_by == why


def test_the_learning_rate_falls_at_its_milestones(start: Callable[..., Any]) -> None:
    trainer, parts = start("SGCN", epochs=4, learning_rate=0.1, lr_milestones=[1, 3], lr_gamma=0.5)
    rates, step = [], trainer.optimizer.step
    trainer.optimizer.step = lambda *args: (rates.append(trainer.optimizer.param_groups[0]["lr"]), step(*args))[1]
    fit((trainer, parts))
    assert rates == [0.1, 0.05, 0.05, *[0.025] * (len(rates) - 3)], "from the milestone on, counted from 0"
    assert len(rates) > 3


@pytest.mark.parametrize("name", ["SGCN", "LightGCN"])
def test_validations_patience_and_limits_are_counted_in_steps(name: str, start: Callable[..., Any]) -> None:
    started = start(name, train_batch_size=32, eval_every_steps=3, max_steps=8, epochs=50)
    length = len(started[1][0])
    assert length > 3, "rounds are parts of a pass"
    score, _ = fit(started)
    trainer = started[0]
    assert (trainer.stopped_by, trainer.steps) == ("budget", 8)
    assert [epoch for epoch, _ in trainer.curve] == [round(step / length, 4) for step in (3, 6, 8)]
    assert score == max(value for _, value in trainer.curve)
    early = start(name, train_batch_size=32, eval_every_steps=2, stopping_step=3, learning_rate=0.1, epochs=99)
    best, _ = fit(early)
    scores = [value for _, value in early[0].curve]
    assert early[0].stopped_by == "early stopping"
    assert early[0].steps == 2 * len(scores)
    assert scores[::-1].index(best) == 3 + 1, "the patience, and the validation at which it is over"


def test_the_last_state_is_validated_where_a_limit_ends_between_two_validations(start: Callable[..., Any]) -> None:
    started = start("SGCN", train_batch_size=0, epochs=9, eval_step=2, max_steps=3)  # a step for each pass
    score, _ = fit(started)
    assert started[0].stopped_by == "budget"
    assert [epoch for epoch, _ in started[0].curve] == [2, 3]
    assert score == max(value for _, value in started[0].curve)


@pytest.mark.parametrize("every", [0, 7])
def test_a_limit_within_the_last_round_is_one_too(every: int, start: Callable[..., Any]) -> None:
    keys = {"train_batch_size": 32, "epochs": 3, "eval_step": 2, "stopping_step": 99, **steps(every)}
    length = len(start("SGCN", **keys)[1][0])
    trainer, parts = start("SGCN", **keys, max_steps=3 * length - 1)
    score, _ = fit((trainer, parts))
    assert (trainer.stopped_by, trainer.steps) == ("budget", 3 * length - 1)
    assert trainer.curve[-1][0] == round(trainer.steps / length, 4), "the last state is validated"
    assert score == max(value for _, value in trainer.curve)
    trainer, parts = start("SGCN", **keys, max_steps=3 * length)
    fit((trainer, parts))
    assert (trainer.stopped_by, trainer.steps) == ("epochs", 3 * length), "the limit takes nothing away"


def test_whole_passes_end_where_epochs_do_whatever_a_round_is(start: Callable[..., Any]) -> None:
    one, other = (start("SGCN", train_batch_size=32, epochs=3, stopping_step=99, **each) for each in ({}, steps(5)))
    for each in (one, other):
        each[0].fit(each[1][0], None, saved=False, show_progress=False)
    assert one[0].steps == other[0].steps == 3 * len(one[1][0])
    assert one[0].stopped_by == other[0].stopped_by == "epochs"
    assert same_parameters(one[0].model, other[0].model)


def steps(number: int) -> dict[str, int]:
    return {"eval_every_steps": number}


def same_parameters(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in one.state_dict().items())


@pytest.mark.parametrize("every", [0, 2])
def test_a_budget_counts_the_time_of_the_processor_alone_and_ends_within_a_round(
    every: int, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, parts = start("SGCN", train_batch_size=32, **steps(every), training_budget=4.5, epochs=50)
    assert len(parts[0]) > 5, "the first pass is longer"
    clock = {"cpu": 100.0, "wall": 0.0}
    monkeypatch.setattr("recbole_signed.trainer.signed_trainer.time.process_time", lambda: clock["cpu"])
    monkeypatch.setattr("recbole_signed.trainer.signed_trainer.time.perf_counter", lambda: clock["wall"])
    step = trainer.optimizer.step

    def slow_step(*args: Any) -> Any:
        clock["cpu"] += 1.0
        clock["wall"] += 1000.0
        return step(*args)

    trainer.optimizer.step = slow_step
    fit((trainer, parts))
    assert (trainer.stopped_by, trainer.steps, trainer.cpu_seconds) == ("budget", 5, 5.0)
    assert trainer.curve[-1][0] == round(5 / len(parts[0]), 4)
    assert len(trainer.curve) == (3 if every else 1)


@pytest.mark.parametrize("name", ["SGCN", "PANEGNN", "SiReN", "LightGCN"])  # SiReN draws its dropout as it goes
def test_a_training_goes_on_in_the_middle_of_a_pass_as_before(name: str, start: Callable[..., Any]) -> None:
    keys = {"train_batch_size": 100, "eval_every_steps": 3, "epochs": 4}
    whole = start(name, **keys, max_steps=11)
    assert 11 > len(whole[1][0]) > 6
    whole[0].fit(whole[1][0], None, saved=False, show_progress=False)
    first = start(name, **keys, max_steps=6)
    first[0].fit(first[1][0], None, saved=True, show_progress=False)
    second = start(name, **keys, max_steps=11, resume=first[0].saved_model_file)
    second[0].fit(second[1][0], None, saved=False, show_progress=False)
    assert second[0].steps == 11
    assert same_parameters(whole[0].model, second[0].model)
    spent = start(name, **keys, max_steps=6, resume=first[0].saved_model_file)
    spent[0].saved_model_file += "-copy"
    spent[0].fit(spent[1][0], None, saved=True, show_progress=False)
    third = start(name, **keys, max_steps=11, resume=spent[0].saved_model_file)
    third[0].fit(third[1][0], None, saved=False, show_progress=False)
    assert same_parameters(whole[0].model, third[0].model), "what is kept as the best goes on like the checkpoint"


@pytest.mark.parametrize(("last", "best"), [(0.5, 0.25), (0.125, 0.125), (float("nan"), 0.25)])
def test_a_last_validation_may_be_the_best_by_its_metric(last: float, best: float, start: Callable[..., Any]) -> None:
    keys = {"metrics": ["DislikeRecall"], "valid_metric": "DislikeRecall@10", "epochs": 3, "eval_step": 2}
    trainer, parts = start("LightGCN", **keys, training_budget=600, max_steps=1)
    trainer.best_valid_score, trainer.best_valid_result = 0.25, {"dislikerecall@10": 0.25}
    trainer.evaluator.evaluate = lambda _: {"dislikerecall@10": last}
    assert fit((trainer, parts)) == (best, {"dislikerecall@10": best})


@pytest.mark.parametrize("value", [-1, 2.5, True, "many"])
def test_steps_are_whole_numbers(value: Any, start: Callable[..., Any]) -> None:
    check_refused(r"max_steps is .*; it must be a whole number of optimiser steps", start, "SGCN", max_steps=value)


@pytest.mark.parametrize("name", ["LightGCN", "BPR", "DMF", "SGCN"])
def test_a_training_goes_on_from_a_checkpoint_as_if_nothing_had_happened(name: str, start: Callable[..., Any]) -> None:
    """Optimizer, negative samples and the order of the rows, for RecBole's models and trainer too."""
    keys = {"train_batch_size": 128, "learning_rate": 0.01}
    whole = start(name, epochs=4, **keys)
    fit(whole)
    first = start(name, epochs=2, **keys)
    assert (type(first[0]) is Trainer) == (name != "SGCN")
    first[0].fit(first[1][0], None, saved=True, show_progress=False)
    torch.rand(7)
    second = start(name, epochs=4, **keys, resume=first[0].saved_model_file)
    assert isinstance(second[0], SignedTrainer)
    assert second[0].start_epoch == 2
    fit(second)
    assert same_parameters(whole[0].model, second[0].model)
    assert second[0].train_loss_dict[3] == whole[0].train_loss_dict[3]
    assert second[0].curve[-1][0] == 4


@pytest.mark.parametrize("name", ["LightGCN", "SGCN"])
def test_a_resumed_training_that_gets_no_better_has_the_result_of_its_best_state(
    name: str, start: Callable[..., Any]
) -> None:
    keys = {"train_batch_size": 128, "learning_rate": 0.01}
    first = start(name, epochs=2, **keys)
    path, (_, best) = first[0].saved_model_file, fit(first, saved=True)
    torch.save({**torch.load(path, weights_only=False), "best_valid_score": 0.99}, path)  # no state after it is as good
    second = start(name, epochs=4, **keys, resume=path)
    assert fit(second) == (0.99, best)
    assert second[0].curve[-1][0] == 4


@pytest.mark.parametrize("name", ["DiffRec", "LDiffRec", "LINE", "MacridVAE", "MultiVAE"])
def test_what_a_training_changes_beside_parameters_goes_on_too(name: str, start: Callable[..., Any]) -> None:
    """Counters of annealing, losses of the past, what is sampled next."""
    annealing = {"total_anneal_steps": 40, "anneal_steps": 40, "vae_anneal_steps": 40, "n_cate": 1}
    keys = {"train_batch_size": 32, "learning_rate": 0.01, **annealing}
    whole = start(name, epochs=4, **keys)
    whole[0].fit(whole[1][0], None, saved=False, show_progress=False)
    first = start(name, epochs=2, **keys)
    first[0].fit(first[1][0], None, saved=True, show_progress=False)
    second = start(name, epochs=4, **keys, resume=first[0].saved_model_file)
    second[0].fit(second[1][0], None, saved=False, show_progress=False)
    assert second[0].train_loss_dict[3] == whole[0].train_loss_dict[3]
    assert same_parameters(whole[0].model, second[0].model)


def test_the_best_epoch_stays_the_best_where_none_is_better(start: Callable[..., Any], tmp_path: Path) -> None:
    keys = {"learning_rate": 0.05, "train_batch_size": 64, "stopping_step": 3, "epochs": 30, "training_budget": 600}
    first = start("LightGCN", **keys)
    score, result = fit(first, saved=True)
    assert first[0].stopped_by == "early stopping"
    kept = torch.load(first[0].saved_model_file, weights_only=False)
    assert kept["best_valid_result"] == result
    assert kept["epoch"] + 1 < first[0].curve[-1][0]
    again = start("LightGCN", **keys, resume=first[0].saved_model_file)
    again[0].saved_model_file = str(tmp_path / "saved" / "again.pth")  # as a run names it
    assert fit(again, saved=True) == (score, result)
    copied = torch.load(again[0].saved_model_file, weights_only=False)
    assert copied["epoch"] == kept["epoch"]
    assert all(torch.equal(value, kept["state_dict"][name]) for name, value in copied["state_dict"].items())
    over = start("LightGCN", **{**keys, "epochs": kept["epoch"] + 1}, resume=first[0].saved_model_file)
    assert fit(over) == (score, result)
    assert over[0].stopped_by == "epochs"


def test_a_finished_training_that_goes_on_twice_validates_where_it_would_have(start: Callable[..., Any]) -> None:
    first, parts = start("SGCN", epochs=3)
    first.fit(parts[0], saved=True)
    again, parts = start("SGCN", epochs=3, resume=first.saved_model_file)
    again.fit(parts[0], parts[1], saved=True)
    longer = start("SGCN", epochs=6, eval_step=2, resume=again.saved_model_file)
    fit(longer)
    through = start("SGCN", epochs=6, eval_step=2)
    fit(through)
    assert [epoch for epoch, _ in longer[0].curve] == [4, 6]
    assert longer[0].curve == through[0].curve[1:]


def test_what_can_not_go_on_exactly_is_refused(start: Callable[..., Any]) -> None:
    first = start("LightGCN", epochs=1)
    first[0].fit(first[1][0], None, saved=True, show_progress=False)
    path = first[0].saved_model_file
    state = torch.load(path, weights_only=False)
    torch.save({**state, "rng": {**state["rng"], "loader": None}}, path)
    second = start("LightGCN", epochs=2, resume=path)
    check_refused("no state of the generator that orders the training rows", fit, second)
    del state["rng"]
    torch.save(state, path)
    check_refused("no states of the random generators", start, "LightGCN", epochs=2, resume=path)
    check_refused("EASE has a trainer of its own", start, "EASE", resume=path)
    for key in ("training_budget", "max_steps", "eval_every_steps"):
        check_refused(
            f"RecVAE has a trainer of its own, RecVAETrainer, on which {key} has", start, "RecVAE", **{key: 9}
        )
        assert start("EASE", **{key: 9})


@pytest.mark.parametrize("name", ["SGCN", "SIGformer", "SimGCL"])
def test_mixed_precision_has_no_effect_on_sparse_products_and_that_is_said(
    name: str, start: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    scores = []
    for amp in (False, True):
        scores.append(fit(start(name, epochs=1, enable_amp=amp))[0])
        assert (f"enable_amp has no effect on {name}" in caplog.text) == amp
    assert scores[0] == scores[1]


def test_trainers_of_stock_models_and_rows_of_new_ids(start: Callable[..., Any]) -> None:
    assert type(start("LightGCN")[0]) is Trainer
    saved, fresh = torch.tensor([[1.0], [2.0]]), torch.tensor([[10.0], [20.0], [30.0]])
    assert grown_parameters({"a": saved}, {"a": fresh})["a"].tolist() == [[1.0], [2.0], [30.0]]


def test_what_is_no_checkpoint_of_the_model_is_refused(start: Callable[..., Any], tmp_path: Path) -> None:
    import pickle

    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"epoch": 1}))
    check_refused("can't be read as a checkpoint", start, "SGCN", resume=str(path))
    trainer, _ = start("SGCN")
    trainer._save_checkpoint(0, verbose=False)
    check_refused("is a checkpoint of SGCN, and SiReN is to go on", start, "SiReN", resume=trainer.saved_model_file)


def test_random_states_survive(start: Callable[..., Any], tmp_path: Path) -> None:
    trainer, _ = start("SGCN")
    np.random.standard_normal()  # noqa: NPY002  the second of a pair waits in the generator
    trainer._save_checkpoint(0, verbose=False)

    def draws() -> list[float]:
        return [*torch.rand(3).tolist(), *np.random.standard_normal(3), random.random()]  # noqa: NPY002

    drawn = draws()
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    random.seed(99)
    trainer.resume_checkpoint(trainer.saved_model_file)
    assert draws() == drawn


@pytest.mark.parametrize("name", ["LSGRec", "LightGCN"])
def test_a_checkpoint_goes_on_with_appended_rows_and_knows_whose_rows_it_has(
    name: str, start: Callable[..., Any], write_inter: Callable[..., Path], signed_rows: list[tuple[int, ...]]
) -> None:
    keys = {"epochs": 2, "training_budget": 600, "learning_rate": 0.01}
    trainer, parts = start(name, **keys)
    trainer.fit(parts[0], None, saved=True, show_progress=False)
    trained, path = trainer.model.state_dict(), trainer.saved_model_file
    columns = ["user_id:token", "item_id:token", "sign:float"]
    rows = [(f"u{user}", f"i{item}", sign) for user, item, sign, _ in signed_rows]
    # likes have the first ids, in order of appearance: a new user's and a new item's likes come after all others
    new = [("newcomer", f"i{n}", 1) for n in range(9)] + [(f"u{n}", "brand new", 1) for n in range(9)]
    write_inter("rows", columns, [*rows, *new])
    grown, parts = start(name, resume=path, **{**keys, "epochs": 3})
    assert (grown.model.n_users, grown.model.n_items) == (trainer.model.n_users + 1, trainer.model.n_items + 1)
    for key, value in grown.model.state_dict().items():
        if value.dim() == 2 and len(value) in (grown.model.n_users, grown.model.n_items):
            assert torch.equal(value[:-1], trained[key])
            assert value[-1].any(), "a new row starts as one of a new model does"
    states = trainer.optimizer.state_dict()["state"].values(), grown.optimizer.state_dict()["state"].values()
    n_grown = 0
    for before, after in zip(*states, strict=True):
        for moment in ("exp_avg", "exp_avg_sq"):
            same = after[moment][: len(before[moment])]
            assert torch.equal(same, before[moment])
            assert not after[moment][len(same) :].any(), "a row that is new has no moments"
            n_grown += len(after[moment]) > len(same)
    assert n_grown >= 4
    grown.best_valid_score = 2.0  # of the data as it was: nothing that comes could be better
    score, result = fit((grown, parts))
    assert list(grown.train_loss_dict) == [2]
    assert score == result["ndcg@10"]
    write_inter("rows", columns, rows[::-1])
    with pytest.raises(UsageError, match="other ids of 'user_id'"):
        fit(start(name, resume=path, **{**keys, "epochs": 3}))
