"""``load``: RecBole's own checkpoints of every kind of model, and what is not a model."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from refusals import check_refused

import recbole_signed as rs
from recbole_signed.convert import raw_files

COLUMNS = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]
QUICK = {"epochs": 1, "state": "ERROR", "show_progress": False, "data_path": "dataset", "checkpoint_dir": "saved"}


@pytest.fixture
def trained(write_inter: Callable[..., Path], signed_rows: list) -> Callable[..., Path]:
    """Train a model by RecBole's own run_recbole, and return its checkpoint."""
    write_inter("small", COLUMNS, signed_rows)

    def train(model: str, **settings: Any) -> Path:
        from recbole.quick_start import run_recbole

        run_recbole(model=model, dataset="small", config_dict={**QUICK, **settings})
        (file,) = Path("saved").glob(f"{model}-*.pth")
        return file

    return train


@pytest.mark.parametrize("name", ["LightGCN", "BPR", "SSF", "SIGformer", "EASE", "NeuMF", "MultiDAE", "ItemKNN"])
def test_a_checkpoint_of_run_recbole_recommends(name: str, trained: Any, signed_rows: list) -> None:
    """The scores are those of RecBole's load_data_and_model; nothing that the user touched in any part comes."""
    from recbole.quick_start import load_data_and_model

    file = trained(name)
    found = rs.load(file).recommend([3, 7], k=100)
    for user in (3, 7):
        seen = {str(item) for who, item, *_ in signed_rows if who == user}
        mine = found.filter(pl.col("user") == str(user))
        assert not seen & set(mine["item"])
        assert len(mine) == 50 - len(seen)
    _, theirs, dataset, *_ = load_data_and_model(str(file))
    theirs.eval()
    number = dataset.token2id("user_id", "3")
    batch = dataset.join(type(dataset.inter_feat)({"user_id": torch.tensor([number])}))
    with torch.no_grad():
        try:
            scores = theirs.full_sort_predict(batch).view(-1)
        except NotImplementedError:
            batch = batch.repeat_interleave(dataset.item_num)
            batch.update(dataset.get_item_feature())
            scores = theirs.predict(batch).view(-1)
    expected = [float(scores[dataset.token2id("item_id", i)]) for i in found.filter(pl.col("user") == "3")["item"]]
    np.testing.assert_allclose(found.filter(pl.col("user") == "3")["score"], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("EASE", "recbole.model.general_recommender.ease.np.linalg.inv"),
        ("ItemKNN", "recbole.model.general_recommender.itemknn.ComputeSimilarity"),
    ],
)
def test_a_fit_at_making_is_not_repeated(name: str, fits: str, trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = trained(name)
    before = rs.load(file).recommend(["3", "7"], k=10)
    monkeypatch.setattr(fits, None)
    assert rs.load(file).recommend(["3", "7"], k=10).equals(before)


def test_a_checkpoint_becomes_one_file_without_its_data_set(trained: Any, tmp_path: Path) -> None:
    model = rs.load(trained("LightGCN"))
    model.save("model.rs")
    os.rename(tmp_path / "dataset", tmp_path / "gone")
    assert rs.load("model.rs").recommend([3, 7, "x"], k=7).equals(model.recommend([3, 7, "x"], k=7))


def test_data_sets_may_have_moved_and_must_be_there(trained: Any, tmp_path: Path) -> None:
    file = trained("BPR")
    expected = rs.load(file).recommend(3)
    os.rename(tmp_path / "dataset", tmp_path / "elsewhere")
    check_refused("the data set 'small', which is not in dataset; give the folder", rs.load, file)
    assert rs.load(file, data_path=tmp_path / "elsewhere").recommend(3).equals(expected)


@pytest.mark.parametrize("name", ["LightGCN", "SSF"])
def test_moved_ids_are_refused(name: str, trained: Any, write_inter: Callable[..., Path], signed_rows: list) -> None:
    from recbole.quick_start import load_data_and_model

    file = trained(name)
    write_inter("small", COLUMNS, signed_rows[::-1])
    check_refused("trained on other ids than 'small' has now", rs.load, file)
    check_refused("trained on other ids than 'small' has now", load_data_and_model, str(file))


def test_what_can_not_be_loaded_is_refused(tmp_path: Path) -> None:
    folder = rs.convert("toy", None, tmp_path / "atomic_files")
    rs.run("BPR", "toy-signed", overrides={"epochs": 1, "topk": [5], "valid_metric": "Recall@5", "state": "ERROR"})
    (file,) = Path("runs").glob("BPR-*.pth")
    assert rs.load(file).recommend(1).height == 10
    inter = folder / "toy-signed.inter"
    inter.write_text(inter.read_text("utf-8").replace("\t-1", "\t1", 1), encoding="utf-8")
    check_refused("'toy-signed' has changed since it was made", rs.load, file)
    torch.save({"config": Evil(), "state_dict": {}}, "evil.pth")
    with zipfile.ZipFile("evil.rs", "w") as archive:
        archive.writestr("recbole-signed.json", '{"format": 1}')
        archive.write("evil.pth", "checkpoint.pth")
        archive.writestr("data/../../escaped", "x")
        archive.writestr("/data/small/escaped", "x")
    Path("bare.pth").write_bytes(pickle.dumps(Evil()))
    for file in ("evil.pth", "evil.rs"):
        check_refused(f"^{file}: This file names '[a-z]+.system'.*--import", rs.load, file)
    check_refused("can't be read as a checkpoint", rs.load, "bare.pth")
    assert not list(tmp_path.parent.rglob("escaped"))
    assert not Path("ran").exists()


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


def test_a_pickled_data_set_beside_the_checkpoint_is_not_read(trained: Any) -> None:
    file = trained("BPR")
    expected = rs.load(file).recommend(3)
    for name in ("small-SignedDataset.pth", "small-Dataset.pth", "small-for-BPR-dataloader.pth"):
        Path("saved", name).write_bytes(pickle.dumps(Evil()))
    assert rs.load(file).recommend(3).equals(expected)
    assert not Path("ran").exists()


def test_what_is_no_model_is_one_sentence(ssf: Any) -> None:
    Path("text.pth").write_text("no model", encoding="utf-8")
    torch.save({"weights": torch.zeros(2)}, "other.pth")
    ssf.save("model.rs")
    whole = Path("model.rs").read_bytes()
    Path("half.rs").write_bytes(whole[: len(whole) // 2])
    middle = len(whole) // 3
    Path("spoilt.rs").write_bytes(whole[:middle] + bytes(200) + whole[middle + 200 :])
    with zipfile.ZipFile("new.rs", "w") as archive:
        archive.writestr("recbole-signed.json", '{"format": 2}')
    for file, message in {
        "nothing.rs": "there is no file nothing.rs",
        "modle.rs": "did you mean 'model.rs'?",
        "text.pth": "can't be read as a checkpoint",
        "other.pth": "it holds no configuration",
        "half.rs": "can't be read as a checkpoint",
        "spoilt.rs": "is damaged",
        "new.rs": "has the format 2, but 1 is read",
        ".": "is a folder; give the file of a saved model",
    }.items():
        with pytest.raises(rs.UsageError, match=message) as caught:
            rs.load(file)
        assert "\n" not in str(caught.value)


def test_a_flipped_bit_is_found_or_changes_nothing(ssf: Any, trained: Any) -> None:
    """Of the archive that a saved model is, whose names lead to files, and of the weights in a checkpoint."""
    ssf.save("model.rs")
    checkpoint, rng = trained("BPR"), np.random.default_rng(4)
    for path, last in ((Path("model.rs"), 300), (checkpoint, 0)):
        whole, refused = path.read_bytes(), 0
        expected = rs.load(path).recommend(["3", "7"], k=20)
        for place in rng.integers(len(whole) - last if last else 0, len(whole), 40).tolist():
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            try:
                assert rs.load(path).recommend(["3", "7"], k=20).equals(expected), place
            except rs.UsageError:
                refused += 1
        assert refused > 10


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", None])
def test_a_device_that_is_not_there_is_one_sentence(device: Any, ssf: Any) -> None:
    ssf.save("model.rs")
    with pytest.raises(
        rs.UsageError, match=rf"^the device {device!r} can't be used here \(.*\); give 'cpu', or one"
    ) as it:
        rs.load("model.rs", device=device)
    assert "\n" not in str(it.value)


def scores_after(model: Any, sequence: Any, longest: int, items: Any, **more: list[int]) -> list[float]:
    """Return the scores of items after a sequence of others, and what is known of these, that RecBole would pad."""
    dataset = model.dataset
    columns = {"item_id_list": [dataset.token2id("item_id", str(each)) for each in sequence], **more}
    batch = {name: torch.tensor([column + [0] * (longest - len(column))]) for name, column in columns.items()}
    batch["item_length"] = torch.tensor([len(sequence)])
    with torch.no_grad():
        scores = model.model.full_sort_predict(type(dataset.inter_feat)(batch)).view(-1)
    return [float(scores[dataset.token2id("item_id", item)]) for item in items]


@pytest.mark.parametrize("longest", [5, 50])
@pytest.mark.parametrize("name", ["SASRec", "GRU4Rec"])
def test_a_sequential_model_continues_whole_sequences(name: str, longest: int, trained: Any, signed_rows: list) -> None:
    """Without a sign, all rows are the sequence; the reference is put together from the rows, in order of time."""
    file = trained(
        name,
        SIGN_FIELD=None,
        load_col={"inter": ["user_id", "item_id", "timestamp"]},
        MAX_ITEM_LIST_LENGTH=longest,
        train_neg_sample_args=None,
        metrics=["Recall"],
        valid_metric="Recall@10",
    )
    model = rs.load(file)
    found = model.recommend([3, "nobody"], k=50, include_seen=True)
    assert dict(found.select("user", "known").unique().iter_rows()) == {"3": True, "nobody": False}
    items = [item for user, item, _, _ in signed_rows if user == 3]
    mine = found.filter(pl.col("user") == "3")
    expected = scores_after(model, items[-longest:], longest, mine["item"])
    np.testing.assert_allclose(mine["score"], expected, rtol=1e-4, atol=1e-6)
    assert not {str(item) for item in items} & set(model.recommend(3, k=50)["item"])
    model.save("model.rs")
    assert rs.load("model.rs").recommend([3, "nobody"], k=9).equals(model.recommend([3, "nobody"], k=9))


def test_a_context_aware_model_scores_pairs(trained: Any) -> None:
    settings = {"metrics": ["AUC"], "valid_metric": "AUC", "eval_args": {"mode": "labeled"}, "SIGN_FIELD": None}
    columns = {"load_col": {"inter": ["user_id", "item_id", "sign"]}, "threshold": {"sign": 0.5}}
    model = rs.load(trained("FM", **settings, **columns))
    found = model.recommend([3, 7], k=5)
    assert found.height == 10
    assert found["known"].all()
    dataset = model.dataset
    pairs = {
        "user_id": torch.tensor([dataset.token2id("user_id", user) for user in found["user"]]),
        "item_id": torch.tensor([dataset.token2id("item_id", item) for item in found["item"]]),
    }
    with torch.no_grad():
        scores = model.model.predict(type(dataset.inter_feat)(pairs))
    np.testing.assert_allclose(found["score"], scores, rtol=1e-5)


def test_a_saved_model_does_not_expand_without_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_files, "MAX_EXPANDED", 1 << 20)
    with zipfile.ZipFile(tmp_path / "bomb.rs", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("recbole-signed.json", '{"format": 1}')
        archive.writestr("data/a/a.inter", bytes(40 << 20))
    check_refused("more than 200 times its size", rs.load, tmp_path / "bomb.rs")


@pytest.mark.parametrize("head", ["[]", "{}", "3", '{"format": [1]}', "nonsense"])
def test_a_saved_model_with_another_head(tmp_path: Path, head: str) -> None:
    with zipfile.ZipFile(tmp_path / "model.rs", "w") as archive:
        archive.writestr("recbole-signed.json", head)
    check_refused(r"model\.rs", rs.load, tmp_path / "model.rs")


def test_a_saved_model_does_not_repeat_what_its_fit_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frame = pl.DataFrame(
        {"user": ["a", "a", "b", "c"] * 3, "item": ["x", "y", "x", "y"] * 3, "sign": [1, -1, 1, 1] * 3}
    )
    model = rs.fit("Pop", rs.from_frame(frame))
    assert "rows repeat a user-item pair" in caplog.text
    caplog.clear()
    model.save(tmp_path / "model.rs")
    rs.load(tmp_path / "model.rs").recommend("a", k=1)
    assert caplog.text == ""


# ---- ``fit``, ``save`` and ``load`` of models that read sequences ----


SMALL = {
    "GRU4Rec": {"embedding_size": 8, "hidden_size": 8, "MAX_ITEM_LIST_LENGTH": 6},
    "SignedSASRec": {"hidden_size": 8, "inner_size": 8, "n_layers": 1, "MAX_ITEM_LIST_LENGTH": 6},
}


@pytest.mark.parametrize(("name", "kept"), [("GRU4Rec", "rating >= 4"), ("SignedSASRec", "rating != 3")])
def test_what_follows_the_whole_sequence_is_recommended(name: str, kept: str, data: Any, frame: pl.DataFrame) -> None:
    """The scores are those of the model on the user's last events, put together from the frame; a file keeps them."""
    model = rs.fit(name, data, epochs=1, **SMALL[name])
    own = frame.filter(pl.col("who") == "user 3").filter(pl.sql_expr(kept)).sort("when").tail(6)
    signs = np.where(own["rating"] >= 4, 1, -1).tolist()
    found = model.recommend("user 3", k=50, include_seen=True)
    expected = scores_after(model, own["what"], 6, found["item"], sign_list=signs)
    np.testing.assert_allclose(found["score"], expected, rtol=1e-4, atol=1e-5)
    users = ["user 3", "user 4", "nobody"]
    found = model.recommend(users, k=40)
    assert dict(found.select("user", "known").unique().iter_rows()) == {"user 3": True, "user 4": True, "nobody": False}
    touched = set(frame.filter(pl.col("who") == "user 3")["what"].cast(pl.String))
    assert not touched & set(found.filter(pl.col("user") == "user 3")["item"])
    model.save("model.rs")
    assert rs.load("model.rs").recommend(users, k=9).equals(model.recommend(users, k=9))


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
        assert each.recommend(["user 0", "user 1", "one"], k=50).join(frame, on=["user", "item"]).is_empty()
        best = each.recommend("nobody", k=1)
        assert (best["item"].to_list(), best["score"].to_list()) == (["first"], [13.0])


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


def test_data_without_times_have_no_sequences_and_epochs_are_chosen_on_the_last_likes(
    data: Any, frame: pl.DataFrame
) -> None:
    assert 1 <= rs.fit("GRU4Rec", data, **SMALL["GRU4Rec"], stopping_step=1, learning_rate=0.05).config["epochs"] < 300
    timeless = rs.from_frame(frame, user="who", item="what", like="rating >= 4", dislike="rating <= 2")
    check_refused(r"SASRec reads sequences, but .* has no column", rs.fit, "SASRec", timeless, epochs=1)
