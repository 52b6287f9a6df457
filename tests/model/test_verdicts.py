"""Dislike aversion at evaluation time, for models that have none of their own."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recbole.data.interaction import Interaction
from recbole.quick_start import load_data_and_model
from recbole.utils import get_model
from small_signed import build

from recbole_signed import fit, load
from recbole_signed.errors import UsageError
from recbole_signed.model.verdicts import weighed
from recbole_signed.runs import run

floats = st.floats(-50, 50, width=32)


@given(st.lists(floats, min_size=1, max_size=8), st.floats(0, 8), st.booleans())
def test_a_lower_rate_never_helps_and_order_within_a_rate_stays(scores: list[float], g: float, logits: bool) -> None:
    own = torch.tensor(scores, dtype=torch.float64)
    rates = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    found = weighed(own.expand(3, -1), rates[:, None] / 0.5, g, logits=logits)
    assert (found.diff(dim=0) >= 0).all()
    order = own.argsort(stable=True)
    assert (found[:, order].diff(dim=1) >= 0).all()


@given(st.lists(floats, min_size=2, max_size=8), st.floats(0.01, 100), st.floats(-50, 50), st.floats(0, 8))
def test_a_models_unit_or_zero_changes_no_ranking(scores: list[float], unit: float, shift: float, g: float) -> None:
    own = torch.tensor(scores, dtype=torch.float64)
    rates = torch.linspace(-2, 0.7, len(own), dtype=torch.float64).exp()
    torch.testing.assert_close(weighed(own * unit, rates, g, logits=False), weighed(own, rates, g, logits=False) * unit)
    torch.testing.assert_close(weighed(own + shift, rates, g, logits=True), weighed(own, rates, g, logits=True) + shift)


@given(st.lists(floats, min_size=1, max_size=8), st.floats(0, 8), st.booleans())
def test_low_rates_raise_no_score_and_high_ones_lower_none(scores: list[float], g: float, logits: bool) -> None:
    own = torch.tensor(scores, dtype=torch.float64)
    for rate, sign in ((0.2, -1), (0.999, -1), (1.0, 0), (1.4, 1)):
        moved = weighed(own, torch.tensor(rate, dtype=torch.float64), g, logits=logits) - own
        assert (moved.sign() * sign >= 0).all()
        assert sign or not moved.any()


def test_scores_stay_finite_and_untouched_without_aversion() -> None:
    # a negative score over it was minus infinity, that of a masked item, which no list shows
    found = weighed(torch.tensor([-1e-3, 0.0, 1e-3]), torch.tensor(0.05), 100.0, logits=False)
    assert found.isfinite().all()
    assert (found.diff() >= 0).all()
    scores = torch.randn(3, 4)
    assert weighed(scores, torch.rand(4), 0.0, logits=True) is scores


@pytest.fixture
def rows() -> list[tuple[int, int, int, int]]:
    rng = np.random.default_rng(3)
    keys = rng.permutation(30 * 20)[:300]
    return [(int(k) // 20, int(k) % 20, 1 if rng.random() < 0.6 else -1, t) for t, k in enumerate(keys)]


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "logits"),
    [("EASE", False), ("Pop", False), ("SignedEASE", False), ("SGFCF", False), ("ItemKNN", False), ("LightGCN", True),
     ("BPR", True), ("SiReN", True)],
)  # fmt: skip
def test_scores_are_own_ones_and_rates(name: str, logits: bool, write_inter: Callable[..., Path], rows: list) -> None:
    def made(**config: Any) -> Any:
        model = build(name, write_inter, rows, **config)
        if hasattr(model, "fit"):
            model.fit()
        return model.eval()

    plain, still, weighing = made(), made(dislike_aversion=0.0), made(dislike_aversion=1.5, verdict_smoothing=2.0)
    assert type(plain) is get_model(name)
    assert isinstance(weighing, get_model(name))
    assert type(weighing).__name__ == name
    users = Interaction({"user_id": torch.arange(1, plain.n_users)})
    own = torch.as_tensor(plain.full_sort_predict(users))
    np.testing.assert_array_equal(own, still.full_sort_predict(users))
    counters = build("SSF", write_inter, rows, auto=False)
    likes, dislikes = counters.item_likes.double().numpy(), counters.item_dislikes.double().numpy()
    rates = (likes + 2 * likes.sum() / (likes + dislikes).sum()) / (likes + dislikes + 2)
    assert np.ptp(rates) > 0.1
    scores = own.numpy().astype(np.float64).reshape(-1, plain.n_items)
    ratio = rates / (likes.sum() / (likes + dislikes).sum())
    factor = np.where(ratio < 1, ratio**1.5, ratio**0.25)
    assert (ratio > 1).any()
    expected = scores + np.log(factor) if logits else scores * factor ** np.where(scores < 0, -1, 1)
    found = weighing.full_sort_predict(users)
    np.testing.assert_allclose(found.reshape(-1, plain.n_items), expected, rtol=1e-5, atol=1e-6)
    pairs = Interaction({"user_id": torch.tensor([1, 2, 3]), "item_id": torch.tensor([4, 5, 1])})
    np.testing.assert_allclose(weighing.predict(pairs), expected[[0, 1, 2], [4, 5, 1]], rtol=1e-5, atol=1e-6)
    copied = copy.deepcopy(weighing)
    copied.dislike_aversion = 0.0
    np.testing.assert_array_equal(copied.full_sort_predict(users), own)
    np.testing.assert_array_equal(weighing.full_sort_predict(users), found)
    assert weighing.state_dict().keys() == plain.state_dict().keys()


@torch.no_grad()
@pytest.mark.parametrize("name", ["EASE", "SSF"])
def test_a_pair_that_is_there_twice_counts_at_its_newest_time(
    name: str, write_inter: Callable[..., Path], rows: list
) -> None:
    """Its times are not added up, which would put it after the last dislikes."""
    own = {(user, item) for user, item, *_ in rows}
    first, again, disliked = [item for item in range(20) if (0, item) not in own][:3]
    kept = [*rows, (0, again, 1, 401), (0, first, 1, 402), (0, disliked, -1, 700)]
    models = [
        build(name, write_inter, given, duplicate_pairs="keep", dislike_strength=1.0)
        for given in (kept, [*kept, (0, first, 1, 400)])
    ]
    for model in models:
        if hasattr(model, "fit"):
            model.fit()
    orders = [model._personal.verdicts(np.array([1])).item.tolist() for model in models]
    assert orders[0] == orders[1]


@torch.no_grad()
def test_a_model_that_scores_pairs_alone_is_judged_as_one_that_scores_all_items(
    write_inter: Callable[..., Path], rows: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scores(**config: Any) -> torch.Tensor:
        torch.manual_seed(0)
        model = build("BPR", write_inter, rows, **config).eval()
        return model.full_sort_predict(Interaction({"user_id": torch.arange(1, model.n_users)})).view(-1, model.n_items)

    both = {"dislike_strength": 1.0, "dislike_aversion": 1.0}
    all_at_once = scores(**both)
    assert (all_at_once != scores(dislike_aversion=1.0)).any()
    monkeypatch.delattr(get_model("BPR"), "full_sort_predict")
    torch.testing.assert_close(scores(**both), all_at_once)


def test_rates_are_smoothed_as_those_of_ssf_by_default(write_inter: Callable[..., Path], rows: list) -> None:
    model = build("Pop", write_inter, rows, dislike_aversion=1.0)
    counters = build("SSF", write_inter, rows, auto=False)
    likes, dislikes = counters.item_likes.double(), counters.item_dislikes.double()
    rates = (likes + 5 * likes.sum() / (likes + dislikes).sum()) / (likes + dislikes + 5)
    mean = likes.sum() / (likes + dislikes).sum()
    torch.testing.assert_close(model.relative_rates.double(), rates / mean, rtol=1e-5, atol=1e-6)


# ---- in runs ----


SHORT = {"state": "ERROR", "epochs": 3, "topk": [5], "metric_decimal_place": 8}


@pytest.mark.parametrize("model", ["LightGCN", "SignedEASE", "Pop", "SIGformer"])
def test_an_aversion_of_0_changes_no_result(model: str, toy: str) -> None:
    plain = run(model, toy, overrides=SHORT, save=False)
    still = run(model, toy, overrides={**SHORT, "dislike_aversion": 0}, save=False)
    assert (plain.valid, plain.test) == (still.valid, still.test)
    averse = run(model, toy, overrides={**SHORT, "dislike_aversion": 4}, save=False)
    assert averse.test["dislikerecall@5"] < plain.test["dislikerecall@5"]


def test_a_checkpoint_carries_it(toy: str) -> None:
    row = run("LightGCN", toy, overrides={**SHORT, "dislike_aversion": 2.0, "checkpoint_dir": "saved"})
    (file,) = Path("saved").glob("*.pth")
    _, model, _, _, _, test_data = load_data_and_model(str(file))
    assert model.dislike_aversion == 2.0
    users, *_ = test_data.collate_fn([0, 1])
    again = model.full_sort_predict(users)
    model.dislike_aversion = 0.0
    assert not torch.equal(again, model.full_sort_predict(users))
    assert row.settings["dislike_aversion"] == 2.0


@pytest.mark.parametrize("name", ["LightGCN", "EASE", "ItemKNN"])
def test_a_saved_model_carries_it(name: str, toy: str) -> None:
    fitted = fit(name, toy, dislike_aversion=2.0, **({"epochs": 1} if name == "LightGCN" else {}))
    fitted.save("model.rs")
    loaded = load("model.rs")
    assert loaded.model.dislike_aversion == 2.0
    assert loaded.recommend("u01").equals(fitted.recommend("u01"))


def test_data_without_a_sign_and_live_learners_are_refused(toy: str) -> None:
    with pytest.raises(UsageError, match="dislike_aversion is set, but the data set 'toy-signed' has no dislikes"):
        run("LightGCN", toy, overrides={**SHORT, "SIGN_FIELD": None, "dislike_aversion": 1.0}, save=False)
    with pytest.raises(UsageError, match="LightGCN has at evaluation alone"):
        run("LightGCN", toy, overrides={**SHORT, "trainer": "OnlineTrainer", "dislike_aversion": 1.0}, save=False)
    with pytest.raises(UsageError, match="dislike_aversion is -1"):
        run("LightGCN", toy, overrides={**SHORT, "dislike_aversion": -1}, save=False)
