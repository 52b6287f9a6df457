"""A fitted model with raw ids: what it recommends, explains and keeps, and what it refuses."""

from __future__ import annotations

import os
import re
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import check_refused

import recbole_signed as rs
from recbole_signed.api.ids import Ids


def touched(frame: pl.DataFrame, user: str) -> set[str]:
    return set(frame.filter(pl.col("who") == user)["what"].cast(pl.String))


@pytest.fixture(scope="module", params=["SSF", "SSFL", "SSFT", "LightGCN", "EASE", "Pop", "SGCN", "MultiVAE", "DMF"])
def model(request: Any, data: Any) -> Any:
    short = {"auto": False} if request.param.startswith("SSF") else {"epochs": 1}
    return rs.fit(request.param, data, **({} if request.param in ("EASE", "Pop") else short))


def test_a_ranking_is_that_of_the_models_scores_without_seen_items(model: Any, frame: pl.DataFrame) -> None:
    """The reference goes user by user through RecBole's own ``full_sort_predict``."""
    found = model.recommend(["user 3", "user 8"], k=4)
    for user in ("user 3", "user 8"):
        dataset = model._dataset
        number = dataset.token2id("user_id", user)
        batch = dataset.join(type(dataset.inter_feat)({"user_id": torch.tensor([number])}))
        with torch.no_grad():
            scores = model.model.full_sort_predict(batch).view(-1)
        expected = {
            item: float(scores[dataset.token2id("item_id", item)])
            for item in dataset.field2id_token["item_id"][1:]
            if item not in touched(frame, user)
        }
        mine = found.filter(pl.col("user") == user)
        assert mine["rank"].to_list() == [1, 2, 3, 4]
        np.testing.assert_allclose(mine["score"], sorted(expected.values(), reverse=True)[:4], rtol=1e-5)
        np.testing.assert_allclose(mine["score"], [expected[item] for item in mine["item"]], rtol=1e-5)
    assert found.schema == {
        "user": pl.String,
        "item": pl.String,
        "score": pl.Float32,
        "rank": pl.Int32,
        "known": pl.Boolean,
    }
    assert found["known"].all()


def test_unknown_users_get_what_a_user_without_edges_gets(model: Any, frame: pl.DataFrame) -> None:
    found = model.recommend(["nobody", "user 3", "[PAD]"], k=40)
    known = dict(found.group_by("user").agg(pl.col("known").all()).iter_rows())
    assert known == {"nobody": False, "user 3": True, "[PAD]": False}
    first, other = (found.filter(pl.col("user") == user) for user in ("nobody", "[PAD]"))
    assert first["item"].to_list() == other["item"].to_list()
    assert len(first) == frame["what"].n_unique()
    if model.config["model"] == "SSFT":  # what is in demand lately counts too
        return
    likes = frame.filter(pl.col("rating") >= 4).group_by("what").len()
    assert first["item"][0] in set(likes.filter(pl.col("len") == pl.col("len").max())["what"].cast(pl.String))


def test_items_can_be_excluded_chosen_and_seen_again(model: Any, frame: pl.DataFrame) -> None:
    mine = touched(frame, "user 3")
    best = model.recommend("user 3", k=2)["item"].to_list()
    assert model.recommend("user 3", k=2, exclude=None)["item"].to_list() == best
    assert not set(best) & set(model.recommend("user 3", k=100, exclude=best)["item"])
    only = model.recommend("user 3", k=100, include_only=[*best, *mine])
    assert set(only["item"]) == set(best)
    assert set(model.recommend("user 3", k=100, include_only=mine, include_seen=True)["item"]) == mine
    everything = model.recommend("user 3", k=100)
    assert set(everything["item"]) == set(frame["what"].cast(pl.String)) - mine


def test_a_saved_model_is_the_same_model(model: Any, frame: pl.DataFrame) -> None:
    model.save("model.rs")
    assert os.listdir() == ["model.rs"]
    again = rs.load("model.rs")
    users = [*frame["who"].unique().sort(), "nobody"]
    assert again.recommend(users, k=5).equals(model.recommend(users, k=5))
    again.save("model.rs")  # in the place of the file that it was read from
    assert rs.load("model.rs").recommend(users, k=5).equals(model.recommend(users, k=5))
    assert os.listdir() == ["model.rs"]


def test_a_model_whose_ids_have_moved_or_whose_data_set_is_gone_is_not_saved(toy: str) -> None:
    """Else it would be found out when the file is loaded; rows in another order give other numbers to the same ids."""
    folder = Path("atomic_files") / toy
    model = rs.fit("SSF", folder, auto=False)
    inter = folder / f"{toy}.inter"
    head, *rows = inter.read_text("utf-8").splitlines()
    inter.write_text("\n".join([head, *rows[::-1], ""]), encoding="utf-8")
    check_refused(r"was trained on other ids than .* has now.*restore the files", model.save, "model.rs")
    assert not Path("model.rs").exists()
    inter.write_text("\n".join([head, *rows, ""]), encoding="utf-8")
    model.save("model.rs")
    assert rs.load("model.rs").recommend("1").equals(model.recommend("1"))
    shutil.rmtree(folder)
    check_refused(r"the data set folder .* is gone, so it can't be saved", model.save, "other.rs")
    assert not Path("other.rs").exists()


def test_integers_and_text_are_the_same_id() -> None:
    frame = pl.DataFrame({"user": [1, 1, 2, 2, 3, 3], "item": [7, 8, 7, 9, 8, 9], "rating": [5, 1, 4, 5, 2, 5]})
    model = rs.fit("SSF", rs.from_frame(frame, like="rating >= 4", dislike="rating <= 2"), auto=False)
    expected = model.recommend("1", k=1)
    for users in (1, [1], np.array([1]), np.int32(1), pl.Series([1]), pd.Series([1]), ("1",), range(1, 2)):
        assert model.recommend(users, k=1).equals(expected)
    assert expected["item"].to_list() == ["9"]
    assert model.recommend([1, 1], k=1)["item"].to_list() == ["9", "9"]
    assert model.recommend([], k=1).height == 0


def test_ids_that_recbole_read_as_they_stand_are_found_in_any_spelling() -> None:
    ids = Ids("user", ["[PAD]", "e\u0301", "b"], {"[PAD]": 0, "e\u0301": 1, "b": 2})
    assert ids.numbers(ids.texts(["\u00e9", "e\u0301", "b", "e"])).tolist() == [1, 1, 2, 0]
    assert ids.tokens.to_list()[1] == "e\u0301", "shown as the data set has it"


WRONG: list[tuple[Any, str]] = [
    (lambda m: m.recommend("user 3", k=0), "k is 0; give the number of items for each user, 1 or more."),
    (lambda m: m.recommend("user 3", k="5"), "k is '5'"),
    (lambda m: m.recommend("user 3", k=2.0), "k is 2.0"),
    (lambda m: m.recommend("user 3", k=True), "k is True"),
    (lambda m: m.recommend("user 3", include_seen="no"), "include_seen is 'no'; give True or False."),
    (lambda m: m.recommend(1.5), "the user id is 1.5, which is neither text nor a whole number."),
    (lambda m: m.recommend(None), "the user id is missing"),
    (lambda m: m.recommend(["user 3", True]), "the user id is True, which is neither text nor a whole number"),
    (lambda m: m.recommend("user 3", exclude=["1000"]), "the model knows no item '1000'"),
    (lambda m: m.recommend("user 3", exclude=1000), "the model knows no item '1000'"),
    (lambda m: m.recommend("user 3", include_only=["10l"]), "the model knows no item '10l'"),
    (
        lambda m: m.recommend("user 3", dislike_aversion=-1),
        "dislike_aversion is -1; give a number 0 or more and at most 100.",
    ),
    (lambda m: m.recommend("user 3", dislike_aversion=100.5), "dislike_aversion is 100.5; give a number 0 or more and"),
    (lambda m: m.recommend("user 3", dislike_aversion="high"), "dislike_aversion is 'high'"),
    (lambda m: m.explain("user 3", "[PAD]"), "the model knows no item '[PAD]'"),
    (lambda m: m.explain(1.5, 101), "the user id is 1.5, which is neither text nor a whole number"),
    (lambda m: m.similar("nothing"), "the model knows no item 'nothing'"),
    (lambda m: m.similar(101, k=-1), "k is -1; give the number of similar items, 1 or more."),
    (lambda m: m.save("/proc/no/model.rs"), "saving /proc/no/model.rs failed"),
    (
        lambda m: m.save("/"),
        "saving / failed: Is a directory (/); make room, correct the permissions, or give the path",
    ),
    (lambda m: m.recommend(b"7"), "the user id is b'7', which is neither text nor a whole number."),
    (lambda m: m.recommend({"7": 1}), "the ids of users are in a dict; give a list, array or series of them"),
    (lambda m: m.recommend(pd.DataFrame({"user": ["user 3"]})), "users are in a DataFrame; give a list"),
    (lambda m: m.recommend(pl.DataFrame({"user": ["user 3"]})), "such as its column: frame['user']."),
    (lambda m: m.recommend(pl.LazyFrame({"user": ["user 3"]})), "users are in a LazyFrame; give a list"),
    (lambda m: m.recommend("user 3", exclude=pl.DataFrame({"item": [101]})), "the ids of items are in a DataFrame"),
    (lambda m: m.recommend("user 3", dislike_aversion=10**400), "; give a number 0 or more and at most 100."),
    (lambda m: m.save(None), "path is of type NoneType; give a path, as text or pathlib.Path."),
    (lambda m: m.save(b"model.rs"), "path is of type bytes; give a path, as text or pathlib.Path."),
    (lambda m: rs.load(m), "path is of type Recommender; give a path, as text or pathlib.Path."),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[each[1][:30] for each in WRONG])
def test_a_wrong_call_is_one_sentence(call: Any, message: str, ssf: Any) -> None:
    with pytest.raises(rs.UsageError, match=re.escape(message)) as caught:
        call(ssf)
    assert "\n" not in str(caught.value)


def test_what_is_printed_says_what_it_is(ssf: Any) -> None:
    assert repr(ssf) == "<SSF fitted to 40 users and 30 items>"
    assert (repr(ssf.users), repr(ssf.items)) == ("<40 user ids>", "<30 item ids>")


def test_what_a_model_lacks_is_one_sentence(data: Any) -> None:
    pop = rs.fit("Pop", data)
    calls: list[Any] = [
        lambda: pop.recommend("user 3", dislike_aversion=1.0),
        lambda: pop.recommend("user 3", dislike_strength=1.0),
        lambda: pop.explain("user 3", 101),
        lambda: pop.similar(101),
        lambda: pop.item_embeddings(),
        lambda: pop.user_embeddings(),
    ]
    for call in calls:
        check_refused(r"^Pop ", call)


def test_an_item_that_nobody_liked_or_disliked_comes_last_and_says_so(frame: pl.DataFrame) -> None:
    seen = frame.head(1).with_columns(what=pl.lit(999, dtype=frame["what"].dtype), rating=pl.lit(3.0))
    data = rs.from_frame(
        pl.concat([frame, seen]), user="who", item="what", like="rating >= 4", dislike="rating <= 2", time="when"
    )
    model = rs.fit("SSF", data, auto=False, rank=16, cutoff=8)
    user = frame["who"][100]
    told = model.explain(user, 999)
    assert told.sentence.startswith("Nobody has liked or disliked item 999")
    ranked = model.recommend(user, k=100, include_seen=True)
    assert ranked["item"][-1] == "999"
    assert "999" not in model.similar(100, k=100)["item"], "nothing is known of it"
    assert ranked["score"][-1] is None


def test_dislike_aversion_holds_for_one_call(ssf: Any) -> None:
    before = ssf.recommend("user 3", k=30)
    averse = ssf.recommend("user 3", k=30, dislike_aversion=2.0)
    assert ssf.recommend("user 3", k=30).equals(before)
    model = ssf.model
    model.dislike_aversion = 2.0
    try:
        assert ssf.recommend("user 3", k=30).equals(averse)
    finally:
        model.dislike_aversion = 0.0
    assert ssf.recommend("user 3", k=30).equals(before)
    assert not averse["score"].equals(before["score"])


def test_dislike_strength_holds_for_one_call(averse: Any) -> None:
    """A caller had the fitted strength, whatever the user asked for."""
    before = averse.recommend("user 3", k=30)
    free = averse.recommend("user 3", k=30, dislike_strength=0)
    assert not free["score"].equals(before["score"])
    assert averse.recommend("user 3", k=30).equals(before)
    fallen = next(told for item in before["item"] if (told := averse.explain("user 3", item)).lowered)
    assert averse.explain("user 3", fallen.item, dislike_strength=0).lowered == 0
    full, half = (averse.explain("user 3", fallen.item, dislike_strength=each) for each in (1, 0.5))
    assert full.lowered > half.lowered > 0
    for strength in (-0.1, 1.1, "1", float("nan")):
        check_refused(r"^dislike_strength is .*; give ", averse.recommend, "user 3", dislike_strength=strength)


def test_models_fitted_with_a_strength_have_another_for_one_call(data: Any) -> None:
    fitted, plain = (
        rs.fit("LightGCN", data, epochs=1, **{each: 0.5}) for each in ("dislike_strength", "dislike_aversion")
    )
    assert not fitted.recommend("user 3", dislike_strength=0.0).equals(fitted.recommend("user 3"))
    with pytest.raises(rs.UsageError, match="LightGCN was fitted without dislike_strength; fit it with one"):
        plain.recommend("user 3", dislike_strength=0.5)


@pytest.fixture(scope="module", params=["SSF", "SSFL", "SSFT"])
def averse(request: Any, data: Any) -> Any:
    return rs.fit(request.param, data, auto=False, dislike_aversion=0.25, popularity_exponent=0.1)


@given(user=st.integers(0, 39), item=st.integers(100, 129), g=st.sampled_from([None, 0.5, 2.0]))
def test_an_explanation_adds_up(averse: Any, user: int, item: int, g: float | None) -> None:
    model = averse
    told = model.explain(f"user {user}", item, dislike_aversion=g)
    total = told.edges["contribution"].sum() + told.popularity - told.lowered
    rounding = 1e-6 * (told.edges["contribution"].abs().sum() + abs(told.popularity))  # of float32: terms may cancel
    assert told.score == pytest.approx(total, rel=1e-4, abs=rounding)
    judged = str(item) in told.edges["item"]
    ranked = model.recommend(f"user {user}", k=100, include_seen=True, dislike_aversion=g)
    (score,) = ranked.filter(pl.col("item") == str(item))["score"]
    assert told.score == pytest.approx(score, rel=1e-4, abs=rounding)
    assert told.edges["contribution"].abs().is_sorted(descending=True)
    timed = model.config["model"] == "SSFT"
    assert ("recency" in told.edges.columns) == timed
    assert ("The trend of item" in told.sentence) == (told.trend != 0.0 and not judged)
    assert timed or told.trend == 0.0


def test_the_part_that_order_has_in_a_contribution_is_that_of_its_edge(data: Any) -> None:
    """The rest of it is what the edge contributes where order has no weight."""
    shared: dict[str, Any] = {"auto": False, "dislike_aversion": 0.5, "rank": 16, "cutoff": 8}
    order = [0.5] * 7
    weights = ([0.1] * 8 + each + [0.1] * 7 for each in (order, [0.0] * 7))
    ordered, plain = (rs.fit("SSFT", data, **shared, order_weights=each) for each in weights)
    told, without = (model.explain("user 3", 104).edges for model in (ordered, plain))
    assert (told["recency"] != 0).any()
    both = told.join(without, on="item", suffix=" without")
    np.testing.assert_allclose(both["contribution"] - both["recency"], both["contribution without"], rtol=1e-3)


def test_what_is_near_to_a_dislike_is_told_with_its_reason(averse: Any, frame: pl.DataFrame) -> None:
    """Scores were those before the fall, and the dislike of what is near an item was named as what raises it."""
    sign = frame.with_columns(like=pl.col("rating") >= 4, dislike=pl.col("rating") <= 2)
    told_of = 0
    for user in range(0, 40, 5):
        name = f"user {user}"
        mine = sign.filter(pl.col("who") == name)
        for item in set(range(100, 130)) - set(mine.filter(pl.col("like") | pl.col("dislike"))["what"].to_list()):
            told = averse.explain(name, item)
            for reasons in re.findall(r"raises? it [^.]*most of all (.*?)\)\.", told.sentence):
                assert "dislike" not in reasons
            assert ("shown less" in told.sentence) == (told.lowered > 0)
            if told.cause is None:
                continue
            told_of += 1
            cause = mine.filter((pl.col("what") == int(told.cause)) & pl.col("dislike")).row(0, named=True)
            both = [sign.filter((pl.col("what") == each) & pl.col("like"))["who"] for each in (item, cause["what"])]
            assert told.common_likes == len(set(both[0]) & set(both[1]))
            day = datetime.fromtimestamp(cause["when"], timezone.utc).date()
            said = f"It is shown less ({-told.lowered:+.3g}): user {name} disliked item {told.cause} on {day}; near by "
            assert said in told.sentence
    assert told_of > 8


def test_an_item_that_the_user_judged_says_so_first(averse: Any, frame: pl.DataFrame) -> None:
    """An item that its user disliked was explained by what raises it."""
    for rating, said in ((5.0, "liked"), (1.0, "disliked")):
        row = frame.filter(pl.col("rating") == rating).row(0, named=True)
        told = averse.explain(row["who"], row["what"])
        day = datetime.fromtimestamp(row["when"], timezone.utc).date()
        first = f"User {row['who']} {said} item {row['what']} on {day}, so it is not recommended again"
        assert told.sentence.startswith(first)
        assert "raise" not in told.sentence


def test_an_item_that_the_user_only_met_says_that_no_list_has_it(toy_root: Path) -> None:
    model = rs.fit("SSF", toy_root / "toy-signed")
    assert "i23" not in model.recommend("u01", k=100)["item"]
    assert model.explain("u01", "i23").sentence.startswith(
        "User u01 has already met item i23, so it is not recommended"
    )
    sentences = [model.explain("nobody", "i23", dislike_aversion=each).sentence for each in (0.0, 2.0)]
    assert [each.partition(" by ")[2] for each in sentences] == [
        "its popularity alone.",
        "its popularity and like rate alone.",
    ]


@pytest.mark.parametrize(("item", "word"), [(105, "raise"), (104, "lower")])
def test_the_largest_contributions_come_first_and_are_named(item: int, word: str, data: Any) -> None:
    told = rs.fit("SSF", data, auto=False, dislike_weight=-1.0, dislike_strength=0).explain("user 3", item)
    assert told.edges["contribution"].abs().is_sorted(descending=True)
    rows = told.edges
    if word == "raise":  # no dislike is praised
        rows = rows.filter((pl.col("sign") > 0) & (pl.col("contribution") > 0))
    else:  # dislikes of a negative weight do so
        assert (rows["contribution"] < 0).any()
    (named,) = re.findall(rf"{rows.height} of 15 edges {word} it \(\S+\), most of all (.*?\))\.", told.sentence)
    assert re.findall(r"of item (\d+)", named) == rows["item"].to_list()[:3]


def test_an_explanation_says_it_in_words(ssf: Any, frame: pl.DataFrame) -> None:
    met = set(frame.filter(pl.col("who") == "user 3")["what"])
    item = next(each for each in range(101, 130, 2) if each not in met)
    told = ssf.explain("user 3", item)
    edges = frame.filter(pl.col("who") == "user 3").select(
        item=pl.col("what").cast(pl.String),
        sign=pl.when(pl.col("rating") >= 4).then(1).when(pl.col("rating") <= 2).then(-1).otherwise(0).cast(pl.Int8),
    )
    mine = edges.filter(pl.col("sign") != 0)
    assert told.edges.select("item", "sign").sort("item").equals(mine.sort("item"))
    assert str(told) == told.sentence
    assert repr(told) == f"<ItemExplanation: {told.sentence}>"
    assert told.sentence.startswith(f"Item {item} has the score {told.score:.3g} for user user 3.")
    assert f"of {mine.height} edges raise it" in told.sentence
    met = told.edges.filter((pl.col("sign") < 0) & (pl.col("contribution") > 0))["contribution"].sum()
    assert f"What user user 3 also came across adds {met:+.3g}." in told.sentence
    assert "has no weight (dislike_aversion 0)" in told.sentence
    assert "%, counts (dislike_aversion 2)." in ssf.explain("user 3", item, dislike_aversion=2).sentence
    nobody = ssf.explain("nobody", 101)
    assert not nobody.known
    assert nobody.edges.height == 0
    assert "knows no edges of user nobody" in nobody.sentence


def test_a_single_edge_is_told_as_one(frame: pl.DataFrame) -> None:
    one = pl.DataFrame({"who": ["single"], "what": [101], "rating": [5.0], "when": [1_600_000_000]})
    data = rs.from_frame(pl.concat([frame, one]), user="who", item="what", like="rating >= 4", dislike="rating <= 2")
    told = rs.fit("SSF", data, auto=False, rank=16, cutoff=8).explain("single", 103)
    assert re.search(r"1 of 1 edge (raises|lowers) it \(", told.sentence), told.sentence


def test_what_popularity_adds_is_said_where_it_counts(data: Any) -> None:
    """Where popularity was most of a score, the words named edges alone, which came to next to nothing."""
    told = rs.fit("SSF", data, auto=False, popularity_floor=3.0).explain("user 3", 104)
    assert told.popularity > 0.01 * told.score
    assert f" Its popularity adds {told.popularity:+.3g}. " in told.sentence
    assert "popularity" not in rs.fit("SSF", data, auto=False, popularity_floor=0.0).explain("user 3", 104).sentence


def test_similar_items_are_of_the_same_taste(data: Any) -> None:
    """Those who like even items dislike odd ones: the similarity is the cosine in the model's own kernel V f(S) V'."""
    ssf = rs.fit("SSF", data, auto=False, dislike_weight=-1.0)
    found = ssf.similar(104, k=8)
    fitted = ssf.model.filter
    kernel = (fitted.vectors * fitted.response(torch.tensor([fitted.median_degree]))) @ fitted.vectors.T
    cosines = kernel / kernel.diag().sqrt()[:, None] / kernel.diag().sqrt()
    places = [ssf._dataset.token2id("item_id", item) for item in ("104", *found["item"])]
    np.testing.assert_allclose(found["similarity"], cosines[places[0], places[1:]], rtol=1e-3)
    assert found.columns == ["item", "similarity", "rank"]
    assert "104" not in found["item"]
    assert sum(int(item) % 2 == 0 for item in found["item"]) >= 6
    assert found["similarity"].is_sorted(descending=True)
    assert float(found["similarity"].max()) <= 1.0 + 1e-5


@pytest.mark.parametrize("name", ["SSF", "SSFL", "LightGCN", "BPR", "SGCN", "SignediALS"])
def test_the_product_of_embeddings_is_the_score(name: str, data: Any) -> None:
    plain = (
        {"popularity_floor": 0.0, "auto": False, "dislike_strength": 0.0} if name.startswith("SSF") else {"epochs": 1}
    )
    model = rs.fit(name, data, **({} if name == "SignediALS" else plain))
    users, items = model.user_embeddings(), model.item_embeddings()
    vectors = items["embedding"].to_numpy()
    for user in ("user 3", "user 20"):
        (vector,) = users.filter(pl.col("user") == user)["embedding"].to_numpy()
        expected = dict(zip(items["item"], vectors @ vector, strict=True))
        found = model.recommend(user, k=100, include_seen=True)
        np.testing.assert_allclose([expected[item] for item in found["item"]], found["score"], rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "said"),
    [("PoneGNN", "its scores are not their products"), ("ENMF", "not their products"), ("SASRec", "no user vectors")],
)
def test_user_vectors_that_rank_other_items_are_refused(name: str, said: str, data: Any) -> None:
    """Vectors of interest and disinterest, or of a weighted product, went into a search index with a wrong order."""
    model = rs.fit(name, data, epochs=1)
    check_refused(f"^{name} .*{said}", model.user_embeddings)
    assert model.item_embeddings().height == len(model.items)


@pytest.mark.parametrize("name", ["SSF", "EASE", "ItemKNN"])
def test_an_item_of_which_nothing_is_known_is_similar_to_none(name: str) -> None:
    """It had the first items of the catalogue, or some, with the similarity 0."""
    rows = [(f"user {user}", f"item {item}", 1) for user in range(12) for item in range(user % 4, 9, 2)]
    rows += [("user 1", "only seen", 0), ("user 2", "only seen", 0)]
    frame = pl.DataFrame(rows, schema=["user", "item", "sign"], orient="row")
    model = rs.fit(name, rs.from_frame(frame, sign="sign"), **({"auto": False} if name == "SSF" else {}))
    assert model.similar("only seen", k=3).is_empty()
    assert "only seen" not in model.similar("item 4", k=100)["item"]


@pytest.mark.parametrize("name", ["BPR", "TurboCF"])
def test_equal_similarities_do_not_stand_in_the_order_of_the_rows(name: str) -> None:
    """Which of them came first, and which were left out, was that of RecBole's numbers."""
    items = [*(f"i{n}" for n in range(30)), "i0", "another"]
    frame = pl.DataFrame({"user": ["u"] * 30 + ["v"] * 2, "item": items, "sign": [1] * 32})
    found = []
    for turned in (frame, frame.reverse()):
        model = rs.fit(name, rs.from_frame(turned, sign="sign"), valid=0, **({"epochs": 1} if name == "BPR" else {}))
        if name == "BPR":  # of TurboCF all are alike that one user liked
            with torch.no_grad():
                model.model.item_embedding.weight[:] = torch.eye(model.model.embedding_size)[0]
        found.append(model.similar("i7", k=5)["item"].to_list())
    assert found[0] == found[1]


def test_similarities_that_are_not_numbers_are_refused(data: Any) -> None:
    """They came first, and were left out in silence: the list was empty."""
    model = rs.fit("BPR", data, epochs=1)
    with torch.no_grad():
        model.model.item_embedding.weight[:] = torch.nan
    check_refused(r"^the similarities of BPR are not numbers", model.similar, 104)


@pytest.mark.parametrize("name", ["EASE", "ItemKNN", "SignedEASE", "TurboCF", "SLIMElastic", "EDLAE", "DEQL", "SLIST"])
def test_the_weights_of_an_item_are_what_a_user_with_it_alone_is_ranked_by(name: str) -> None:
    """Of a matrix that is not symmetric those of the item's row, which are its part in the scores of others."""
    rows = [("one", "a"), *((f"u{u}", item) for u in range(6) for item in "abcdef"[u % 3 : u % 3 + 4])]
    frame = pl.DataFrame({"user": [u for u, _ in rows], "item": [i for _, i in rows], "sign": [1] * len(rows)})
    model = rs.fit(name, rs.from_frame(frame, sign="sign"), **({"emphasis": 0.5} if name == "DEQL" else {}))
    listed = model.recommend("one", k=9).filter(pl.col("score") != 0)  # the others have no similarity
    found = model.similar("a", k=9)
    assert found["item"].to_list() == listed["item"].to_list()
    np.testing.assert_allclose(found["similarity"], listed["score"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["GFCF", "ChebyCF", "BSPM", "SGFCF", "SVDAE", "SignedGFCF", "SignedSGFCF"])
def test_a_filter_of_full_rank_tells_similar_items(name: str, data: Any) -> None:
    """Singular vectors are orthogonal, so those of all items had cosines of rounding, in which any item was first."""
    found = rs.fit(name, data, rank=40, **({"dislike_weight": -1.0} if name.startswith("Signed") else {})).similar(
        104, k=8
    )
    assert sum(int(item) % 2 == 0 for item in found["item"]) >= 6
    assert float(found["similarity"][0]) > 0.05


def test_users_and_items_can_be_iterated_and_looked_up(ssf: Any) -> None:
    assert len(ssf.users) == len(list(ssf.users)) == len(set(ssf.users)) == 40
    assert set(ssf.items) == {str(item + 100) for item in range(30)}
    assert "user 7" in ssf.users
    assert 107 in ssf.items
    assert "107" in ssf.items
    for other in ("[PAD]", "7", None, 1.5, ["107"]):
        assert other not in ssf.items
    everybody = ssf.recommend(ssf.users, k=2)
    assert everybody["user"].unique(maintain_order=True).to_list() == list(ssf.users)


def test_a_user_has_one_ranking_whoever_else_is_asked_for(data: Any, frame: pl.DataFrame) -> None:
    """Where a model reads no dislike, what is near to a run of dislikes had at most the score that another user had."""
    model = rs.fit("LightGCN", data, epochs=1, dislike_strength=0.5)
    users = frame["who"].unique().sort().to_list()
    together = model.recommend(users, k=30)
    for user in users:
        alone = model.recommend(user, k=30)
        own = together.filter(pl.col("user") == user)
        assert own["item"].equals(alone["item"])
        np.testing.assert_allclose(own["score"], alone["score"], rtol=1e-4, atol=1e-6)
