"""What our trainer adds to RecBole's, for our models and for stock ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer
from recbole.utils import get_model, get_trainer, init_seed

from recbole_signed.errors import UsageError
from recbole_signed.trainer import SignedTrainer


@pytest.fixture
def start(
    write_inter: Callable[..., Path], signed_rows: list[tuple[int, ...]], tmp_path: Path, quick: dict[str, Any]
) -> Callable[..., Any]:
    rows = [(f"u{user}", f"i{item}", sign) for user, item, sign, _ in signed_rows]
    write_inter("rows", ["user_id:token", "item_id:token", "sign:float"], rows)

    def make(name: str, **config: Any) -> tuple[Any, Any]:
        settings = Config(
            model=name,
            dataset="rows",
            config_dict={
                "data_path": str(tmp_path / "dataset"),
                "load_col": {"inter": ["user_id", "item_id", "sign"]},
                "checkpoint_dir": str(tmp_path / "saved"),
                **quick,
                **config,
            },
        )
        init_seed(settings["seed"], settings["reproducibility"])
        parts = data_preparation(settings, create_dataset(settings))
        model = get_model(name)(settings, parts[0]._dataset).to(settings["device"])
        return get_trainer(settings["MODEL_TYPE"], name)(settings, model), parts

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


def test_the_learning_rate_falls_at_its_milestones(start: Callable[..., Any]) -> None:
    trainer, parts = start("SGCN", epochs=4, learning_rate=0.1, lr_milestones=[1, 3], lr_gamma=0.5)
    rates = []
    step = trainer.optimizer.step
    trainer.optimizer.step = lambda *args: (rates.append(trainer.optimizer.param_groups[0]["lr"]), step(*args))[1]
    fit((trainer, parts))
    assert list(dict.fromkeys(rates)) == [0.1, 0.05, 0.025]


def test_a_stock_model_goes_on_from_a_checkpoint_as_if_nothing_had_happened(start: Callable[..., Any]) -> None:
    whole = start("LightGCN", epochs=4, training_budget=600)
    fit(whole)
    first = start("LightGCN", epochs=2, training_budget=600)
    first[0].fit(first[1][0], None, saved=True, show_progress=False)
    second = start("LightGCN", epochs=4, resume=first[0].saved_model_file)
    assert isinstance(second[0], SignedTrainer)
    assert second[0].start_epoch == 2
    fit(second)
    for name, value in whole[0].model.state_dict().items():
        assert value.shape == second[0].model.state_dict()[name].shape
    assert second[0].curve[-1][0] == 4


def test_stock_models_have_recboles_trainer_unless_asked(start: Callable[..., Any]) -> None:
    assert type(start("LightGCN")[0]) is Trainer


def test_what_is_no_checkpoint_is_refused(start: Callable[..., Any], tmp_path: Path) -> None:
    import pickle

    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"epoch": 1}))
    with pytest.raises(pickle.UnpicklingError):
        start("SGCN", resume=str(path))


def test_random_states_survive(start: Callable[..., Any], tmp_path: Path) -> None:
    trainer, _ = start("SGCN")
    trainer._save_checkpoint(0, verbose=False)
    drawn = torch.rand(3)
    torch.manual_seed(99)
    trainer.resume_checkpoint(trainer.saved_model_file)
    assert torch.equal(torch.rand(3), drawn)


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
    fit((grown, parts))
    assert list(grown.train_loss_dict) == [2]

    write_inter("rows", columns, rows[::-1])
    with pytest.raises(UsageError, match="other ids of 'user_id'"):
        fit(start(name, resume=path, **{**keys, "epochs": 3}))


def test_a_checkpoint_of_another_model_is_refused(start: Callable[..., Any]) -> None:
    trainer, _ = start("SGCN")
    trainer._save_checkpoint(0, verbose=False)
    with pytest.raises(UsageError, match="is a checkpoint of SGCN, and SiReN is to go on"):
        start("SiReN", resume=trainer.saved_model_file)
