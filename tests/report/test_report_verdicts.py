"""What a personal verdict adds is measured where there is something to find, and not found where there is nothing."""

from __future__ import annotations

import json
import lzma
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from command_line import check_command_refused, printed
from refusals import check_refused
from signed_report import verdicts
from signed_report.cli import report
from signed_report.kuairand import describe_log
from signed_report.measure import measure_kuairand
from signed_report.verdicts import SHRINKAGE, _of_neighbours, _order_of_verdicts, personal_verdicts

from recbole_signed.atomic.inter_file import RawRows
from recbole_signed.evaluation.collector import pairwise_auc

N_USERS, N_ITEMS = 60, 40


def rows_of(chance: np.ndarray, seed: int = 0) -> RawRows:
    """Half of all pairs, in random order: 70 % for training, 10 % for validation, 20 % for the test."""
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(chance.size)[: chance.size // 2].astype(np.int32)
    users, items = pairs // chance.shape[1], pairs % chance.shape[1]
    signs = np.where(rng.random(len(pairs)) < chance[users, items], 1, -1).astype(np.int8)
    first, last = int(0.7 * len(pairs)), int(0.8 * len(pairs))
    parts = {"train": slice(0, first), "valid": slice(first, last), "test": slice(last, len(pairs))}
    return RawRows(users, items, signs, None, *chance.shape, parts)


def test_taste_is_found_where_verdicts_have_it() -> None:
    side = np.arange(N_USERS)[:, None] % 2 == np.arange(N_ITEMS) % 2
    found = personal_verdicts(rows_of(np.where(side, 0.95, 0.05)))
    assert found["item"]["test"] < 0.6
    assert found["neighbours"]["test"] > 0.85
    assert found["filter"]["test"] > 0.75


def test_where_verdicts_are_of_items_nothing_is_added() -> None:
    rate = np.linspace(0.1, 0.9, N_ITEMS)[None, :].repeat(N_USERS, axis=0)
    found = personal_verdicts(rows_of(rate))
    assert found["item"]["test"] > 0.7
    for way in ("neighbours", "filter"):
        assert found[way]["valid"] >= found["item"]["valid"]  # a weight of 0 is among those tried
        assert found[way]["test"] < found["item"]["test"] + 0.03


def test_order_is_the_area_under_the_curve() -> None:
    rows = rows_of(np.full((N_USERS, N_ITEMS), 0.5))
    rows.signs[::7] = 0
    score = np.random.default_rng(1).integers(0, 4, N_ITEMS).astype(float)  # with ties
    value, count = _order_of_verdicts(rows, "test", lambda part: score[rows.items[rows.parts[part]]])
    part = rows.parts["test"]
    rated = rows.signs[part] != 0
    users, items, signs = (each[part][rated] for each in (rows.users, rows.items, rows.signs))
    auc = pairwise_auc(users.astype(np.int64), score[items], signs > 0, N_USERS)
    assert value == pytest.approx(np.nanmean(auc))
    assert count == np.isfinite(auc).sum()


@pytest.mark.parametrize("items_at_a_time", [1, 7, 256])
def test_neighbours_are_those_of_all_pairs(items_at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "ITEMS", items_at_a_time)
    rows = rows_of(np.full((N_USERS, N_ITEMS), 0.5))
    train, rng = rows.parts["train"], np.random.default_rng(1)
    residuals = np.zeros((N_USERS, N_ITEMS))
    residuals[rows.users[train], rows.items[train]] = rng.uniform(-1, 1, train.stop)
    products, shared = residuals.T @ residuals, (residuals != 0).T.astype(float) @ (residuals != 0)
    np.fill_diagonal(products, 0.0)
    for (settings, estimate), shrinkage in zip(_of_neighbours(rows, sp.csr_array(residuals)), SHRINKAGE, strict=True):
        assert settings == {"shrinkage": shrinkage}
        everything = residuals @ (products / (shared + shrinkage))
        for part in ("valid", "test"):
            pairs = rows.users[rows.parts[part]], rows.items[rows.parts[part]]
            np.testing.assert_allclose(estimate(part), everything[pairs], atol=1e-12)


def test_parts_are_needed() -> None:
    rows = rows_of(np.full((N_USERS, N_ITEMS), 0.5))
    whole = RawRows(rows.users, rows.items, rows.signs, None, N_USERS, N_ITEMS, {})
    check_refused("train, valid and test", personal_verdicts, whole)
    rows.signs[rows.parts["test"]] = 1
    check_refused("no user of the part 'test' has both", personal_verdicts, rows)


def test_the_command_writes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data" / "small"
    folder.mkdir(parents=True)
    rows = rows_of(np.full((N_USERS, N_ITEMS), 0.5))
    for part, span in rows.parts.items():
        lines = zip(rows.users[span], rows.items[span], rows.signs[span], strict=True)
        text = "".join(f"u{user}\ti{item}\t{sign}\n" for user, item, sign in lines)
        (folder / f"small.{part}.inter").write_text(
            "user_id:token\titem_id:token\tsign:float\n" + text, encoding="utf-8"
        )
    options = ["small", "--verdicts", "--data-path", str(tmp_path / "data"), "--output", str(tmp_path)]
    printed(capsys, "measure", *options, commands=report)
    found = json.loads((tmp_path / "verdicts-small.json").read_text(encoding="utf-8"))
    assert 20 <= found["users"] <= N_USERS
    assert 0 < found["item"]["test"] < 1
    check_command_refused("not both", capsys, "measure", *options, "--tradeoff", "SSF", commands=report)


# ---- kuaiRand's raw log is described as it is ----


HEADER = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)
# 2022-04-25 00:05 and 09:00, 2022-04-26 00:05, in Beijing
FIRST, LATER, NEXT = 1650816300000, 1650848400000, 1650902700000


def row(user: int, video: int, time: int, click: int, long: int, length: int, tab: int, date: int, hour: int) -> str:
    return f"{user},{video},{date},{hour},{time},{click},0,0,0,0,0,{long},1,{length},0,0,0,0,{tab}"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    rows = [
        row(1, 1, FIRST, 1, 1, 5_000, 1, 20220425, 0),
        row(1, 2, LATER, 1, 0, 20_000, 1, 20220425, 900),
        row(2, 1, NEXT, 0, 0, 5_000, 0, 20220426, 100),
        row(1, 1, NEXT, 0, 0, 5_000, 1, 20220425, 0),
    ]
    path = tmp_path / "raw" / "log_standard_4_25_to_5_08_pure.csv"
    path.parent.mkdir()
    path.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return path


def test_what_a_log_says(log: Path) -> None:
    found = describe_log(log)
    assert (found["rows"], found["users"], found["videos"]) == (4, 2, 2)
    assert found["signals"]["is_click"] == {"rows": 2, "is_click": 1.0, "long_view": 0.5, "share": 0.5}
    assert found["signals"]["is_hate"]["rows"] == 0
    shortest, *_, longest = found["lengths"]
    assert (shortest["rows"], shortest["up_to"], longest["up_to"]) == (3, 7.0, None)
    assert [(each["tab"], each["rows"]) for each in found["tabs"]] == [(1, 3), (0, 1)]
    assert [(each["day"], each["rows"], each["rows_of_new_users"]) for each in found["days"]] == [
        ("2022-04-25", 2, 1.0),
        ("2022-04-26", 2, 0.5),
    ]
    assert found["pairs"]["long_view"] == {"repeated_rows": 1, "of_both_signs": 1}
    assert found["clock"] == {"hour": 0.25, "date": 0.25}


def test_compressed_or_no_log(log: Path, tmp_path: Path) -> None:
    packed = log.with_suffix(".csv.xz")
    packed.write_bytes(lzma.compress(log.read_bytes()))
    assert describe_log(packed) == describe_log(log)
    check_refused(r"holds 2 files log_standard_4_2\*", measure_kuairand, log.parent, tmp_path)
    log.write_text("a,b\n1,2\n", encoding="utf-8")
    check_refused("can't be read as a log of KuaiRand", describe_log, log)


def test_the_committed_description_is_that_of_the_log(
    shared_data: Callable[[str], Path], repository: Path, tmp_path: Path
) -> None:
    made = measure_kuairand(shared_data("kuairand-pure-tail"), tmp_path)
    committed = repository / "docs" / "report" / "results" / made.name
    assert made.read_text(encoding="utf-8") == committed.read_text(encoding="utf-8")


def test_measures_name_their_command_and_data(toy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([toy], [toy, "--tradeoff", "SSF"]):
        printed(capsys, "measure", *words, "--output", tmp_path / "out", "--json", commands=report)
    statistics = json.loads((tmp_path / "out" / "stats-toy-signed.json").read_text(encoding="utf-8"))
    curve = json.loads((tmp_path / "out" / "tradeoff-SSF-toy-signed.json").read_text(encoding="utf-8"))
    assert statistics["command"] == "python docs/report measure toy-signed"
    assert statistics["rows"] == {"total": 960, "like": 480, "dislike": 360, "neutral": 120}
    assert curve["command"] == "python docs/report measure toy-signed --tradeoff SSF"
    assert curve["data_sha256"] == statistics["data_sha256"]
    assert curve["settings"]["dislike_aversion"] == curve["chosen"]
    assert "dislike_weight" in curve["settings"]
    assert len(curve["points"]) == 7


def test_nothing_to_measure_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    check_command_refused("needs a data set", capsys, "measure", commands=report)
    assert sys.argv == ["pytest"]
