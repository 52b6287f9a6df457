"""Lists of users do not depend on the order of the rows that a model was fitted to, however many scores are equal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import recbole_signed as rs
from recbole_signed.graph import top_scores
from recbole_signed.graph.top_scores import best_of_each
from recbole_signed.ids_and_times import hashes
from recbole_signed.live.serve.engine import Engine
from recbole_signed.plugin import registry

COLUMNS: dict[str, Any] = {"user": "who", "item": "what", "sign": "sign", "time": "when"}


def keys_of(ids: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(hashes(ids))


def rows() -> pl.DataFrame:
    """24 items with four likes and a dislike each at the same moments: nothing tells them apart without taste."""
    user = [f"user {(item + step) % 24}" for item in range(24) for step in range(5)]
    sign = [1 if step < 4 else -1 for _ in range(24) for step in range(5)]
    when = [1_600_000_000 + 3600 * step for _ in range(24) for step in range(5)]
    what = [f"item {item}" for item in range(24) for _ in range(5)]
    return pl.DataFrame({"who": user, "what": what, "sign": sign, "when": when})


def started(model: Any, folder: Path) -> rs.OnlineTrainer:
    """Begin a live state with a fitted model."""
    model.config["online_state"] = str(folder / "state")
    trainer = rs.OnlineTrainer(model.config, model.model)
    trainer.start(model.dataset)
    return trainer


@pytest.mark.parametrize("name", ["SSF", "SSFL", "SSFT", "Pop", "DecayPop", "EASE"])
def test_lists_of_users_without_edges_do_not_follow_the_order_of_rows(name: str) -> None:
    lists = []
    for seed in range(3):
        shuffled = rows().sample(fraction=1.0, shuffle=True, seed=seed)
        more = {"auto": False} if name.startswith("SSF") else {}
        found = rs.fit(name, rs.from_frame(shuffled, **COLUMNS), seed=1, **more).recommend("nobody", k=10)
        assert found["score"].n_unique() == 1  # all are equal, and the list is one of very many
        lists.append(found["item"].to_list())
    assert lists[0] == lists[1] == lists[2]


@pytest.mark.parametrize("alike", [False, True], ids=["", "items that are all alike"])
@pytest.mark.parametrize("name", ["SSF", "SSFL", "Pop", "SignedEASE", "SignediALS"])
def test_a_live_state_ranks_for_users_without_edges_as_the_fitted_model(
    name: str, alike: bool, data: Any, tmp_path: Path
) -> None:
    """SignedEASE and SignediALS score all items 0 for them, so their live lists were in an order by chance."""
    given = rs.from_frame(rows(), **COLUMNS) if alike else data
    model = rs.fit(name, given, **({"auto": False} if name.startswith("SSF") else {}))
    few = sorted(model.items)[::8]
    first, out = few[:2]
    wanted = [model.recommend("nobody", k=30, include_only=o, exclude=[out])["item"].to_list() for o in (None, few)]
    trainer = started(model, tmp_path)
    trainer.update([rs.Event(kind, "left", first, kind, time) for kind, time in (("like", 1), ("unlike", 2))])
    trainer.update([rs.Event(kind, "looked", out, kind, time) for kind, time in (("view", 1), ("skip", 2))])
    # one who is not known, one who took back all that it said, and one who has said nothing yet
    for user in ("nobody", "left", "looked"):
        for only, items in zip((None, few), wanted, strict=True):
            found = trainer.recommend(user, k=30, include_only=only, exclude=[out])
            assert [item for item, _ in found] == items
    engine = Engine(trainer)
    served = [item for item, _ in engine.recommend("nobody", 30).items]
    assert served == model.recommend("nobody", k=30)["item"].to_list()
    engine.close()
    trainer.close()


@pytest.mark.parametrize("name", ["SSF", "SignedEASE", "SignediALS", "EASE", "ItemKNN", "LightGCN", "SGCN"])
def test_users_of_whom_a_model_reads_nothing_get_items_by_their_likes(
    name: str, frame: pl.DataFrame, tmp_path: Path
) -> None:
    """It scores all items alike for them, or by what it drew at first, so the list was one by chance; live too."""
    three = {"rating": [3.0, 3.0, 1.0], "when": [1_600_000_000] * 3}
    who = pl.DataFrame({"who": ["looked", "looked", "objects"], "what": [100, 107, 113], **three})
    taken = rs.from_frame(
        pl.concat([frame, who]), user="who", item="what", like="rating >= 4", dislike="rating <= 2", time="when"
    )
    given: dict[str, Any] = {"SSF": {"auto": False}, "LightGCN": {"epochs": 1}, "SGCN": {"epochs": 1}}.get(name, {})
    model = rs.fit(name, taken, **given)

    def items(user: str, *without: str) -> list[str]:
        return model.recommend(user, k=40, exclude=without)["item"].to_list()

    assert items("looked") == items("nobody", "100", "107")
    if name in ("EASE", "ItemKNN", "LightGCN"):  # which read likes alone
        assert items("objects") == items("nobody", "113")
    else:
        assert items("objects") != items("nobody", "113")
    if name in ("LightGCN", "SGCN"):
        trainer = started(model, tmp_path)
        assert trainer.recommend("looked", k=40) == trainer.recommend("nobody", k=40, exclude=["100", "107"])
        trainer.close()


@pytest.mark.parametrize("name", ["Pop", "EASE", "LightGCN"])
def test_an_aversion_counts_for_users_of_whom_the_model_reads_nothing(name: str, data: Any) -> None:
    few = {"epochs": 1} if name == "LightGCN" else {}
    model = rs.fit(name, data, dislike_aversion=3.0, **few)
    known = rs.fit("Pop", data, dislike_aversion=3.0).recommend("user 3", k=40, include_seen=True)
    found = model.recommend("nobody", k=40)["item"]
    assert found.equals(known["item"])
    assert not found.equals(rs.fit(name, data, **few).recommend("nobody", k=40)["item"])


@settings(max_examples=100)
@given(
    st.lists(st.lists(st.integers(0, 3), min_size=7, max_size=7), min_size=1, max_size=4),
    st.integers(0, 999),
    st.sampled_from((1, 2, 64)),
)
def test_columns_in_any_order_give_the_same_lists(table: list[list[int]], seed: int, many: int) -> None:
    """Equal scores in the order of the ids' hashes, all else by score, whether few or many are equal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(top_scores, "MANY", many)
        check_lists_in_any_order(table, seed)


def check_lists_in_any_order(table: list[list[int]], seed: int) -> None:
    scores, ids = torch.tensor(table).float(), np.array([f"item {each}" for each in range(7)])
    scores[scores == 0] = -torch.inf
    wanted_values, best = best_of_each(scores, 4, keys_of(ids))
    place = np.random.default_rng(seed).permutation(7)
    values, moved = best_of_each(scores[:, place], 4, keys_of(ids[place]))
    torch.testing.assert_close(values, wanted_values)
    shown = wanted_values > -torch.inf
    assert (ids[place][moved.numpy()][shown] == ids[best.numpy()][shown]).all()
    torch.testing.assert_close(scores.sort(dim=1, descending=True).values[:, :4], values)


def test_lists_have_one_order_of_equal_scores() -> None:
    # the only ties of this row are those of the last place that is shown
    scores = torch.tensor([[5.0, 4.0, 3.0, 3.0, 3.0, 0.0]])
    for last in (2, 3, 4):
        keys = torch.tensor([0, 1, *(-7 if each == last else 7 for each in (2, 3, 4)), 5])
        values, best = best_of_each(scores, 3, keys)
        assert (values.tolist(), best.tolist()) == ([[5.0, 4.0, 3.0]], [[0, 1, last]])
    ids = np.array([f"item {each}" for each in range(9_000)])
    scores = torch.randint(0, 40, (3, 9_000), generator=torch.Generator().manual_seed(0)).float()
    scores[0] = torch.randn(9_000, generator=torch.Generator().manual_seed(1))
    keys = keys_of(ids)
    order = keys.argsort()
    values, best = best_of_each(scores, 10, keys)
    wanted = scores[:, order].sort(dim=1, descending=True, stable=True)
    assert torch.equal(values, wanted.values[:, :10])
    assert torch.equal(best, order[wanted.indices[:, :10]])


def test_what_is_alike_for_nearly_all_items_costs_no_sort_of_all() -> None:
    scores, keys = torch.zeros(8, 50_000), torch.randperm(50_000, generator=torch.Generator().manual_seed(2))
    scores[:, :5] = torch.tensor([1.0, 2.0, 2.0, 3.0, torch.nan])
    scores[7, :6] = torch.arange(6.0)
    order = keys.argsort()
    wanted = scores[:7, order].sort(dim=1, descending=True, stable=True).indices[:, :10]
    values, best = best_of_each(scores, 10, keys)
    assert torch.equal(best[:7], order[wanted])
    assert values[7].tolist() == [5.0, 4.0, 3.0, 2.0, 1.0] + [0.0] * 5
    others = [each for each in order.tolist() if not 1 <= each < 6]
    assert best[7].tolist() == [5, 4, 3, 2, 1, *others[:5]]


@pytest.mark.parametrize("n_items", [50, 9_000])
def test_what_is_not_a_number_is_seen(n_items: int) -> None:
    scores = torch.randn(3, n_items, generator=torch.Generator().manual_seed(0))
    scores[1, n_items - 2] = torch.nan
    values, _ = best_of_each(scores, 5, torch.arange(n_items))
    assert values.isnan().any(dim=1).tolist() == [False, True, False]


# ---- recBole's ``full_sort_scores`` and ``full_sort_topk`` on signed data, for every model that ranks ----


SEQUENTIAL = {"SignedSASRec"}
OURS = sorted({path.stem for path in registry.PROPERTIES.glob("*.yaml")} - SEQUENTIAL)
STOCK = ["BPR", "LightGCN", "NeuMF", "Pop", "EASE", "ItemKNN", "MultiVAE", "DMF", "NGCF", "ENMF", "Random", "SGL"]


@pytest.mark.parametrize("name", [*OURS, *STOCK])
def test_scores_hide_what_the_user_touched(name: str, prepare_model: Callable[..., Any]) -> None:
    from recbole.utils.case_study import full_sort_scores, full_sort_topk

    model, config, (train, valid, test) = prepare_model(name, metrics=["Recall"], valid_metric="Recall@10")
    users = test.users[:5]
    scores = full_sort_scores(users, model, test, device=config["device"])
    assert scores.shape == (5, model.n_items)
    hidden = {user: {0} for user in users.tolist()}
    for table in (train._dataset.inter_feat, train._dataset.neg_feat, train._dataset.neutral_feat):
        for user, item in zip(table["user_id"].tolist(), table["item_id"].tolist(), strict=True):
            hidden.get(user, set()).add(item)
    for user, item in zip(*(valid._dataset.inter_feat[f].tolist() for f in ("user_id", "item_id")), strict=True):
        hidden.get(user, set()).add(item)
    for row, user in enumerate(users.tolist()):
        assert set(np.flatnonzero(torch.isneginf(scores[row]))) == hidden[user]
    values, items = full_sort_topk(users, model, test, k=3, device=config["device"])
    torch.testing.assert_close(values, scores.topk(3).values)
    assert not any(int(item) in hidden[user] for user, row in zip(users.tolist(), items, strict=True) for item in row)


@pytest.mark.parametrize("name", [*sorted(SEQUENTIAL), "GRU4Rec"])
def test_sequential_scores_hide_what_its_evaluation_hides(name: str, prepare_model: Callable[..., Any]) -> None:
    from recbole.utils.case_study import full_sort_scores, full_sort_topk

    for mask_seen in (True, False):
        given: dict[str, Any] = {"metrics": ["Recall"], "valid_metric": "Recall@10", "mask_seen": mask_seen}
        given |= {"eval_args": {"order": "TO", "split": {"LS": "valid_and_test"}}, "train_neg_sample_args": None}
        model, config, (_, _, test) = prepare_model(name, **given)
        hidden: dict[int, set[int]] = {}
        for batch, (rows, items), _, _ in test:
            users = batch["user_id"]
            for row, item in zip(rows.tolist(), items.tolist(), strict=True):
                hidden.setdefault(int(users[row]), {0}).add(item)
        users = test.users[:5].flip(0)  # each has one row
        scores = full_sort_scores(users, model, test, device=config["device"])
        assert scores.shape == (5, model.n_items)
        for user, row in zip(users.tolist(), scores, strict=True):
            assert set(np.flatnonzero(torch.isneginf(row))) == hidden.get(user, {0})
            assert mask_seen == (len(hidden.get(user, {0})) > 1)
        values, _ = full_sort_topk(users, model, test_data=test, k=3, device=config["device"])
        torch.testing.assert_close(values, scores.topk(3).values)
