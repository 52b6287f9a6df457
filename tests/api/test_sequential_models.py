"""``fit``, ``save`` and ``load`` of models that read sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import recbole_signed as rs

SMALL = {
    "GRU4Rec": {"embedding_size": 8, "hidden_size": 8, "MAX_ITEM_LIST_LENGTH": 6},
    "SignedSASRec": {"hidden_size": 8, "inner_size": 8, "n_layers": 1, "MAX_ITEM_LIST_LENGTH": 6},
}


@pytest.mark.parametrize("name", SMALL)
def test_a_sequential_model_is_fitted_saved_and_loaded(name: str, data: Any, frame: pl.DataFrame) -> None:
    model = rs.fit(name, data, epochs=2, **SMALL[name])
    users = ["user 3", "user 4", "nobody"]
    found = model.recommend(users, k=40)
    assert dict(found.select("user", "known").unique().iter_rows()) == {
        "user 3": True,
        "user 4": True,
        "nobody": False,
    }
    touched = set(frame.filter(pl.col("who") == "user 3")["what"].cast(pl.String))
    assert not touched & set(found.filter(pl.col("user") == "user 3")["item"])
    model.save("model.rs")
    assert rs.load("model.rs").recommend(users, k=9).equals(model.recommend(users, k=9))


@pytest.mark.parametrize(("name", "kept"), [("GRU4Rec", "rating >= 4"), ("SignedSASRec", "rating != 3")])
def test_what_follows_the_whole_sequence_is_recommended(name: str, kept: str, data: Any, frame: pl.DataFrame) -> None:
    """The scores are those of the model on the user's last events, put together from the frame."""
    model = rs.fit(name, data, epochs=1, **SMALL[name])
    own = frame.filter(pl.col("who") == "user 3").filter(pl.sql_expr(kept)).sort("when").tail(6)
    items = [model.dataset.token2id(model.dataset.iid_field, str(item)) for item in own["what"]]
    padding = [0] * (6 - len(items))
    signs = np.where(own["rating"] >= 4, 1, -1).tolist()
    batch = {
        f"{model.dataset.iid_field}_list": torch.tensor([items + padding]),
        "item_length": torch.tensor([len(items)]),
        "sign_list": torch.tensor([signs + padding]),
    }
    with torch.no_grad():
        scores = model.model.full_sort_predict(type(model.dataset.inter_feat)(batch)).view(-1)
    found = model.recommend("user 3", k=50, include_seen=True)
    expected = [float(scores[model.dataset.token2id(model.dataset.iid_field, item)]) for item in found["item"]]
    np.testing.assert_allclose(found["score"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_likes_that_are_the_target_of_no_row_are_hidden_and_counted(name: str) -> None:
    """The first like after a dislike, and that of a user who has no other."""
    rows, rng = [("one", "first", 5, 0)], np.random.default_rng(0)
    for user in range(12):
        items = [f"disliked {user % 4}", "first", *(f"item {item}" for item in rng.permutation(8)[:4])]
        rows += [(f"user {user}", item, 1 if not place else 5, 100 * user + place) for place, item in enumerate(items)]
    frame = pl.DataFrame(rows, ["user", "item", "rating", "timestamp"], orient="row")
    model = rs.fit(name, rs.from_frame(frame, like="rating >= 4", dislike="rating <= 2"), epochs=1, **SMALL[name])
    model.save("model.rs")
    for each in (model, rs.load("model.rs")):
        users = ["user 0", "user 1", "one"]
        found = each.recommend(users, k=50)
        assert found.join(frame, on=["user", "item"]).is_empty()
        best = each.recommend("nobody", k=1)
        assert best["item"].to_list() == ["first"]
        assert best["score"].to_list() == [13.0]


def test_first_likes_of_data_without_signs_are_counted(tmp_path: Path) -> None:
    """RecBole makes no row of them."""
    rows = [f"user {user}\titem {(user, 7, 8)[place]}\t{place}" for user in range(3) for place in range(3)]
    rows.append("once\titem 9\t4")
    columns = "user_id:token\titem_id:token\ttimestamp:float"
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "plain.inter").write_text("\n".join([columns, *rows]) + "\n")
    load = {"inter": ["user_id", "item_id", "timestamp"]}
    model = rs.fit(
        "GRU4Rec", tmp_path / "plain", epochs=1, load_col=load, train_neg_sample_args=None, **SMALL["GRU4Rec"]
    )
    likes = {"item 7": 3, "item 8": 3, "item 0": 1, "item 1": 1, "item 2": 1}
    for user in ("nobody", "once"):  # a single interaction is no sequence
        found = model.recommend(user, k=9, exclude=["item 9"])
        assert not found["known"].any()
        assert dict(found.select("item", "score").iter_rows()) == likes


def test_the_number_of_epochs_is_chosen_on_the_last_likes(data: Any) -> None:
    model = rs.fit("GRU4Rec", data, **SMALL["GRU4Rec"], stopping_step=1, learning_rate=0.05)
    assert 1 <= model.config["epochs"] < 300


def test_data_without_times_has_no_sequences(frame: pl.DataFrame) -> None:
    timeless = rs.from_frame(frame, user="who", item="what", like="rating >= 4", dislike="rating <= 2")
    with pytest.raises(rs.UsageError, match=r"SASRec reads sequences, but .* has no column"):
        rs.fit("SASRec", timeless, epochs=1)
