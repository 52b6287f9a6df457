"""The last like of each user: what every model knows when it is predicted."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prepared import prepared
from refusals import check_refused

from recbole_signed.runs import run

COLUMNS = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]
NEXT_LIKE = {
    "eval_args": {"order": "TO", "split": {"LS": "valid_and_test"}, "group_by": "user"},
    "load_col": {"inter": ["user_id", "item_id", "sign", "timestamp"]}, "dislike_split": "time",
    "refit_for_test": True, "metrics": ["Recall", "NDCG"], "topk": [10], "valid_metric": "NDCG@10",
}  # fmt: skip


@pytest.mark.parametrize("name", ["SignedEASE", "SSF", "ItemKNN", "NCEPLRec"])  # RecBole runs the last one in epochs
def test_the_refit_is_a_fit_to_all_that_is_before_the_test(name: str, signed: str) -> None:
    found = run(name, signed, overrides=NEXT_LIKE, save=False)
    without: dict[str, Any] = {key: value for key, value in NEXT_LIKE.items() if key != "refit_for_test"}
    alone = {**without, "eval_args": {**without["eval_args"], "split": {"LS": "test_only"}}}
    assert found.valid == run(name, signed, overrides=without, save=False).valid
    if name != "SSF":  # which chooses on validation
        assert found.test == run(name, signed, overrides=alone, save=False).test
    assert found.test != run(name, signed, overrides=without, save=False).test


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("SignedEASE", {"eval_args": {"order": "TO", "split": {"RS": [8, 1, 1]}}}, "refit_for_test needs the split"),
        ("SignedEASE", {"dislike_split": "rule"}, "refit_for_test needs 'dislike_split: time'"),
        (
            "SignedEASE",
            {"eval_args": {"order": "RO", "split": {"RS": [8, 1, 1]}, "group_by": "user"}, "refit_for_test": False},
            r"dislike_split is 'time', but eval_args.order is RO",
        ),
        ("ItemKNN", {"refit_for_test": "histories"}, "refit_for_test: histories is not known for ItemKNN"),
        ("ItemKNN", {"refit_for_test": "some"}, "refit_for_test is 'some'; give true, false or histories"),
    ],
)
def test_what_can_not_be_refitted_is_refused(name: str, settings: dict[str, Any], message: str, signed: str) -> None:
    check_refused(message, run, name, signed, overrides={**NEXT_LIKE, **settings}, save=False)


@pytest.mark.parametrize("name", ["SignedEASE", "EASE", "BPR"])
def test_who_fits_once_refuses_the_key(name: str, signed: str) -> None:
    from recbole.quick_start import run_recbole

    settings = {"state": "ERROR", "epochs": 1, **NEXT_LIKE}
    check_refused("refit_for_test fits a model twice", run_recbole, model=name, dataset=signed, config_dict=settings)


def test_dislikes_before_the_test_like_are_known_and_hidden(signed: str) -> None:
    parts = [each._dataset for each in prepared(signed, **NEXT_LIKE)[2]]
    cuts = []
    for part in parts[1:]:
        times = part.times("inter_feat")
        cuts.append(dict(zip(part.inter_feat["user_id"].tolist(), times.tolist(), strict=True)))
    for number, part in enumerate(parts):
        for user, time in zip(part.neg_feat["user_id"].tolist(), part.times("neg_feat").tolist(), strict=True):
            assert sum(time >= cut.get(user, np.inf) for cut in cuts) == number
    for user in cuts[1]:
        hidden = set(parts[2].history.select(np.array([user]))[1].tolist())
        for part in parts[:2]:
            for feat in (part.inter_feat, part.neg_feat):
                assert set(feat["item_id"][feat["user_id"] == user].tolist()) <= hidden


def test_a_refit_takes_what_the_first_fit_chose(signed: str) -> None:
    from recbole.config import Config
    from recbole.data import create_dataset

    from recbole_signed.runs.runner import refitted

    config = Config(model="SSF", dataset=signed, config_dict={"state": "ERROR", "show_progress": False, **NEXT_LIKE})
    first = SimpleNamespace(chosen={"rank": 7, "cutoff": 3, "popularity_floor": 0.375})
    trainer, _ = refitted(config, create_dataset(config), first)
    settings = trainer.model.settings
    assert (settings.rank, settings.cutoff, settings.popularity_floor) == (7, 3, 0.375)
    assert getattr(trainer.model, "settings_ranked", None) is None, "nothing is chosen again"


@pytest.mark.parametrize("name", ["EASE", "SSF", "SLIST"])
def test_histories_are_read_not_fitted_again(name: str, write_inter: Callable[..., Path], signed_rows: list) -> None:
    import torch
    from recbole.data.interaction import Interaction
    from recbole.utils import get_model

    from recbole_signed.runs.runner import refitted

    write_inter("signed", COLUMNS, [row for row in signed_rows if row[2] > 0])
    more = {"state": "ERROR", "show_progress": False, "inference_decay": 1e9, "auto": False, "allow_unknown_keys": True}
    config, data, parts = prepared("signed", name, **{**NEXT_LIKE, "refit_for_test": "histories", **more})
    train, valid, _ = (each._dataset for each in parts)
    model = get_model(name)(config, train)
    if name != "EASE":
        model.fit()
    trainer, _ = refitted(config, data, model)
    assert trainer.model is model
    users = torch.arange(1, train.user_num)
    scores = model.full_sort_predict(Interaction({"user_id": users})).view(len(users), -1)
    known = torch.zeros(train.user_num, train.item_num)
    for part in (train, valid):
        known[part.inter_feat["user_id"], part.inter_feat["item_id"]] = 1.0
    if name == "SSF":
        wanted = torch.stack([model.fold_in(row.nonzero().flatten().tolist()) for row in known[1:]])
    else:
        kept = torch.arange(train.item_num) if name == "EASE" else model.liked
        weights = torch.as_tensor(np.asarray(model.item_similarity if name == "EASE" else model.item_weights))
        wanted = torch.zeros_like(scores)
        wanted[:, kept] = known[1:, kept] @ weights
    torch.testing.assert_close(scores, wanted, rtol=1e-4, atol=1e-5)
