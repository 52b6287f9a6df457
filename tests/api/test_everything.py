"""A model that is fitted to everything: ``run`` and ``run_recbole`` with ``RS: [1, 0, 0]``, and ``fit``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from refusals import check_refused

import recbole_signed as rs
from recbole_signed.live.learners.base import learner_of
from recbole_signed.ssf.order import PAIRED, WEIGHTS, weights_of

COLUMNS = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]
EVERYTHING = {"eval_args": {"split": {"RS": [1, 0, 0]}}}
QUIET = {"epochs": 1, "state": "ERROR", "show_progress": False, "data_path": "dataset"}
MODELS = ["SSF", "LightGCN", "SGCN", "EASE", "MultiVAE"]


@pytest.fixture
def small(write_inter: Callable[..., Path], signed_rows: list) -> list:
    write_inter("small", COLUMNS, signed_rows)
    return signed_rows


def n_edges(model: Any) -> int:
    dataset = model.dataset
    return len(dataset.inter_feat) + len(dataset.neg_feat) + len(dataset.neutral_feat)


@pytest.mark.parametrize("how", ["run", "run_recbole"])
@pytest.mark.parametrize("name", MODELS)
def test_a_run_fits_to_everything_and_saves(name: str, how: str, small: list) -> None:
    from recbole.quick_start import run_recbole

    from recbole_signed.runs.building import run_table

    if how == "run":
        row = rs.run(name, "small", overrides={**QUIET, **EVERYTHING, "checkpoint_dir": "runs"})
        assert row.test == row.valid == {}
        assert run_table(row).title == f"{name} on small, seed 2020: fitted to everything, nothing was held out"
    else:
        keys = {**QUIET, **EVERYTHING, "checkpoint_dir": "runs"}
        assert not run_recbole(model=name, dataset="small", config_dict=keys)["test_result"]
    (file,) = Path("runs").glob("*.pth")
    model = rs.load(file)
    assert n_edges(model) == len(small)
    assert model.recommend(3, k=2).height == 2


def test_a_split_that_happens_to_leave_nothing_is_still_refused(small: list) -> None:
    one_each = [(user, item, sign, time) for user, item, sign, time in small if sign > 0]
    first = pl.DataFrame(one_each, orient="row", schema=["user", "item", "sign", "time"]).unique("user")
    folder = Path("dataset/single")
    folder.mkdir()
    rows = "\n".join("\t".join(map(str, row)) for row in first.iter_rows())
    (folder / "single.inter").write_text("\t".join(COLUMNS) + "\n" + rows + "\n", encoding="utf-8")
    check_refused("the split leaves nothing of 'single'", rs.run, "BPR", "single", overrides=QUIET)


def test_predefined_parts_are_merged(write_inter: Callable[..., Path], signed_rows: list) -> None:
    parts = {"train": signed_rows[:1000], "valid": signed_rows[1000:1200], "test": signed_rows[1200:]}
    for part, rows in parts.items():
        write_inter("parts", COLUMNS, rows, part)
    settings = {"benchmark_filename": list(parts), "auto": False}
    fitted = rs.fit("SSF", "dataset/parts", **settings)
    assert n_edges(fitted) == len(signed_rows)
    rs.run("SSF", "parts", overrides={**QUIET, **settings, **EVERYTHING})
    (file,) = Path("runs").glob("*.pth")
    assert rs.load(file).recommend(3).equals(fitted.recommend(3))


def test_fit_chooses_on_a_part_and_is_fitted_to_everything(
    data: Any, frame: pl.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    model = rs.fit("SSF", data, tune_users=30)
    assert n_edges(model) == frame.height
    again, users = rs.fit("SSF", data, **model.model.chosen, auto=False), frame["who"].unique()
    assert again.recommend(users, k=30).equals(model.recommend(users, k=30))
    with caplog.at_level("WARNING"):
        plain = rs.fit("SSF", data, valid=0)
    assert caplog.text == "", "that nothing is held out was asked for"
    assert plain.model.chosen["cutoff"] == 64
    assert not plain.recommend("user 3", k=9)["score"].equals(model.recommend("user 3", k=9)["score"])


def test_fit_is_as_long_with_the_chosen_number_and_as_a_number_that_is_given(data: Any) -> None:
    given: dict[str, Any] = {"learning_rate": 0.01, "seed": 3}
    model = rs.fit("BPR", data, stopping_step=2, **given)
    again = rs.fit("BPR", data, epochs=model.config["epochs"], **given)
    assert again.recommend("user 3").equals(model.recommend("user 3"))
    assert rs.fit("BPR", data, epochs=2).config["epochs"] == 2
    assert rs.fit("BPR", data, eval_every_steps=3, max_steps=2, **given).config["max_steps"] == 2


@pytest.mark.parametrize(
    ("every", "key", "metric"),
    [(0, "epochs", "NDCG@20"), (3, "max_steps", "NDCG@20"), (0, "epochs", "DislikeNDCG@5")],
)
def test_fit_is_as_long_as_the_training_that_ranked_best(
    every: int, key: str, metric: str, data: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """By the scores that RecBole logs of each validation; of exposure to dislikes less is better."""
    steps = {"eval_every_steps": every} if every else {}
    with caplog.at_level("INFO"):
        model = rs.fit("BPR", data, stopping_step=2, learning_rate=0.05, seed=3, valid_metric=metric, **steps)
    scores = [float(found) for found in re.findall(r"valid_score: ([\d.]+)", caplog.text)]
    assert len(set(scores)) > 2
    best = int(np.argmin(scores) if metric.startswith("Dislike") else np.argmax(scores))
    assert len(scores) < 300, "it stops early"
    assert model.config[key] == (every or 1) * (1 + best)


def test_fit_takes_the_name_or_the_folder_of_a_data_set(tmp_path: Path) -> None:
    folder = rs.convert("toy", None, tmp_path / "atomic_files")
    by_name = rs.fit("SSF", "toy-signed", auto=False).recommend(1)
    for data in (folder, str(folder), Path("atomic_files/toy-signed"), "atomic_files/toy-signed"):
        assert rs.fit("SSF", data, auto=False).recommend(1).equals(by_name)


def test_parameters_hold(data: Any) -> None:
    model = rs.fit("LightGCN", data, embedding_size=12, n_layers=1, epochs=1)
    assert np.stack(model.item_embeddings()["embedding"].to_numpy()).shape[1] == 12


WRONG: list[tuple[Any, dict[str, Any], str]] = [
    ("FM", {}, "FM does not run on "),
    ("SSSF", {}, "there is no model named 'SSSF'; did you mean 'SSF'?"),
    ("SSF", {"cutof": 3}, "'cutof' (allow_unknown_keys: True lets any key pass); did you mean 'cutoff'?"),
    ("SSF", {"dislike_aversion": -1}, "dislike_aversion is -1"),
    ("SSF", {"valid": 1}, "valid is 1; give the share of the likes to choose on"),
    ("SSF", {"valid": "x"}, "valid is 'x'"),
    ("SSF", {"eval_args": {}}, "fit takes no eval_args="),
    ("SSF", {"dataset": "x"}, "fit takes no dataset="),
    ("BPR", {"embedding_size": "big"}, "'embedding_size' is 'big'; it must be a number"),
    ("BPR", {"learning_rate": 1e30, "epochs": 3}, "diverged"),
]


@pytest.mark.parametrize(("name", "options", "message"), WRONG, ids=[each[2][:25] for each in WRONG])
def test_a_wrong_fit_is_one_sentence(name: str, options: dict[str, Any], message: str, data: Any) -> None:
    with pytest.raises(rs.UsageError, match=re.escape(message)) as caught:
        rs.fit(name, data, **options).recommend("user 3")
    assert "\n" not in str(caught.value)


def test_wrong_data_is_one_sentence(tmp_path: Path) -> None:
    empty, other = tmp_path / "empty", tmp_path / "other"
    empty.mkdir()
    other.mkdir()
    (other / "ratings.inter").write_text("user_id:token\titem_id:token\tsign:float\na\tb\t1\n")
    for data, message in {
        "toy-singed": "there is no data set 'toy-singed'",
        str(empty): "empty holds no .inter file",
        tmp_path / "nowhere": f"there is no data set 'nowhere' in {tmp_path}",
        other: "other holds ratings.inter, but RecBole looks for files .* such as other.inter; rename",
        other / "ratings.inter": "ratings.inter is a file; give the folder of the data set",
        3: "data is int; give the name or folder",
    }.items():
        check_refused(message, rs.fit, "SSF", data)


def test_what_knows_time_chooses_on_the_last_likes() -> None:
    """On likes that were held out at random, from all of time, SSF-T chose to look at neither order nor trend."""
    rng = np.random.default_rng(0)
    day = np.arange(800)
    items = (day / 800 * 40 + rng.normal(0, 3, len(day))).clip(0, 39).astype(int)  # other items each week
    frame = pl.DataFrame(
        {
            "user": rng.integers(0, 40, len(day)),
            "item": items,
            "sign": np.where(rng.random(len(day)) < 0.75, 1, -1),
            "time": 1_600_000_000 + 86_400 * day,
        }
    )
    given: dict[str, Any] = {"dislike_weight": 0.5, "degree_smoothing": 5.0, "rank": 16, "cutoff": 8}
    data = rs.from_frame(frame, sign="sign", dedup="last")
    timed = rs.fit("SSFT", data, **given)
    weights = dict(zip(WEIGHTS, timed.model.chosen["order_weights"], strict=True))
    assert weights["trend_30d"] + weights["liked_30d"] > 0.5
    assert max(weights[name] for name in ("transition", *PAIRED)) > 0.1
    assert n_edges(timed) == data.n_likes + data.n_dislikes, "nothing is held out in the end"
    untimed = rs.from_frame(frame.drop("time"), sign="sign", dedup="last")
    assert rs.fit("SSFT", untimed, **given).model.chosen["order_weights"] == weights_of(None).tolist()


def test_a_live_learner_chooses_again_what_fit_chose_and_holds_what_was_given(
    data: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING"):
        model = rs.fit("SSFT", data, cutoff=3, tune_users=30, dislike_strength=0.2)
    assert caplog.text == ""
    model.save(tmp_path / "saved")
    loaded = rs.load(tmp_path / "saved")
    for each in (model, loaded):
        told = learner_of(each.model, each.config).parameters()
        assert (told["choose_again"], told["cutoff"]) == (300, 3)
        assert told["order_weights"] == model.model.chosen["order_weights"] != weights_of(None).tolist()
    assert loaded.recommend("user 3").equals(model.recommend("user 3"))
    for nothing in ({"auto": False}, {"valid": 0}, {"order_weights": [0.1] * len(WEIGHTS), "tune_users": 30}):
        fixed = rs.fit("SSFT", data, **nothing)
        assert learner_of(fixed.model, fixed.config).parameters()["choose_again"] == 0


def test_a_fit_chooses_by_any_valid_metric(toy: str) -> None:
    """``metrics`` and ``topk`` follow it: a sign-aware one holds dislikes back more."""
    chosen = [
        rs.fit("SSF", toy, valid_metric=metric, signed_gamma=2, seed=4).model.chosen["dislike_aversion"]
        for metric in ("Recall@5", "SignedNDCG@20")
    ]
    assert chosen[0] < chosen[1]
    check_refused("no metric named 'Recal'", rs.fit, "SSF", toy, valid_metric="Recal@5")
