"""The sources ``signed-split`` and ``toy``, and the source ``csv`` on real files of others."""

import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from converted import Raw, manifest_of, tuples_of
from refusals import check_refused

from recbole_signed.convert import convert
from recbole_signed.convert.sources.toy import Planted, planted

PARTS = ("train", "valid", "test")
SIGFORMER = {
    # rows of train, valid, test; likes and dislikes of all; users, items
    "sigformer-kuairand": ((184_172, 26_309, 52_619), (116_679, 146_421), (16_974, 4_373)),
    "sigformer-kuairec": ((177_789, 25_398, 50_796), (36_560, 217_423), (1_411, 3_327)),
    "sigformer-amazon-music": ((34_915, 4_986, 9_974), (40_043, 9_832), (3_472, 2_498)),
    "sigformer-epinions": ((289_645, 41_376, 82_753), (301_378, 112_396), (17_894, 17_660)),
}


Rows = dict[str, list[tuple[str, ...]]]


def dealt(folder: Path, pairs: list[str], again: int = 0) -> Raw:
    """Rows as a split of 420, 60 and the rest, of which some of the first are in the last part again."""
    parts = {"train": pairs[:420], "valid": pairs[420:480], "test": pairs[480:] + pairs[:again]}
    return Raw(folder, "signed-split", {f"{part}.txt": "\n".join(lines) + "\n" for part, lines in parts.items()})


def parts_of(made: Path) -> Rows:
    return {part: tuples_of(made / f"{made.name}.{part}.inter") for part in PARTS}


def test_rows_are_dealt_again(tmp_path: Path) -> None:
    """Every row stays, every part keeps its numbers of likes and dislikes, and the seed decides who gets what."""
    rng = np.random.default_rng(0)
    pairs = [f"{user} {item} {rng.integers(1, 6)}" for user in range(30) for item in range(20)]
    raw = dealt(tmp_path / "raw", pairs, again=1)
    made = [raw.made(**options) for options in ({}, {"resplit": 1}, {"resplit": 2}, {"resplit": "1"})]
    assert [each.name for each in made] == ["raw", "raw-resplit1", "raw-resplit2", "raw-resplit1"]
    found = [parts_of(each) for each in made]
    for rows in found:
        for part in PARTS:
            assert sorted(row[3] for row in rows[part]) == sorted(row[3] for row in found[0][part])
        everything = [sorted(row for part in split.values() for row in part) for split in (found[0], rows)]
        assert everything[0] == everything[1]
    assert found[1] == found[3]
    assert found[0] != found[1] != found[2]
    shared = len(set(found[1]["test"]) & set(found[2]["test"])) / len(found[1]["test"])
    assert shared == pytest.approx(0.2, abs=0.1)


def test_a_resplit_may_have_a_validation_part_as_large_as_the_test_part(tmp_path: Path) -> None:
    """The test part is that of the same seed, and the validation part keeps its rows and gets some of training."""
    raw = dealt(tmp_path / "raw", [f"{u} {item} {(u * item) % 3 // 2}" for u in range(30) for item in range(20)])
    made = [raw.made(resplit=3, even=even) for even in (False, True)]
    assert [each.name for each in made] == ["raw-resplit3", "raw-resplit3-even"]
    plain, even = map(parts_of, made)
    assert even["test"] == plain["test"]
    assert set(even["valid"]) > set(plain["valid"])
    assert sorted(even["train"] + even["valid"]) == sorted(plain["train"] + plain["valid"])
    assert sorted(row[2] for row in even["valid"]) == sorted(row[2] for row in even["test"])


def test_splits_that_cannot_be_made_or_are_judged_together(tmp_path: Path) -> None:
    files = {"train.txt": "1 1 1\n1 2 0\n", "valid.txt": "1 3 1\n", "test.txt": "1 4 1\n1 5 1\n"}
    raw = Raw(tmp_path / "raw", "signed-split", files)
    raw.refuses("give resplit=SEED, too", even=True)
    raw.refuses("2 of 4 are in the test part; leave even out", resplit=1, even=True)
    # a test part of ones alone would look like likes, but the train part says that these are ratings
    made = split(tmp_path / "split", "1 1 5\n1 2 2\n", "1 3 3\n", "2 1 1\n2 2 1\n").made()
    assert [row[-1] for row in tuples_of(made / "split.test.inter")] == ["-1", "-1"]


@pytest.mark.parametrize("name", sorted(SIGFORMER))
def test_published_splits(tmp_path: Path, shared_data: Callable[[str], Path], name: str) -> None:
    rows, (likes, dislikes), (users, items) = SIGFORMER[name]
    made = convert("signed-split", shared_data(name), tmp_path)
    assert made == tmp_path / name
    record = manifest_of(made)
    assert tuple(part["rows"]["total"] for part in record["parts"].values()) == rows
    assert record["rows"] == {"total": sum(rows), "like": likes, "dislike": dislikes, "neutral": 0}
    assert (record["users"], record["items"]) == (users, items)
    train = record["parts"]["train"]
    if name == "sigformer-kuairand":
        assert (train["repeated_rows"], train["contradicting_pairs"]) == (4_159, 226)
        assert record["parts"]["test"]["pairs_also_in"]["train"] == 2_263
    else:
        assert (record["repeated_rows"], record["warnings"]) == (0, [])
    settings = yaml.safe_load((made / f"{name}.yaml").read_text())
    assert (settings["benchmark_filename"], settings["protocol"]) == (["train", "valid", "test"], "published")
    with lzma.open(shared_data(name) / "test.txt.xz", "rt") as file:
        published = [line.split() for line in file]
    written = tuples_of(made / f"{name}.test.inter")
    assert [row[:2] for row in written] == [(user, item) for user, item, _ in published]
    threshold = 1 if name in ("sigformer-kuairand", "sigformer-kuairec") else 4
    assert [row[-1] for row in written] == ["1" if float(row[2]) >= threshold else "-1" for row in published]


def split(folder: Path, train: str, valid: str = "1 2 1\n", test: str = "2 1 1\n") -> Raw:
    return Raw(folder, "signed-split", {"train.txt": train, "valid.txt.gz": valid, "test.txt.xz": test})


@pytest.mark.parametrize(
    ("train", "options", "signs", "header"),
    [
        ("1 1 1\n1 2 0\n1 2 0\n", {}, "1 -1 -1", "sign"),
        ("1 1 1.00\n1 2 0.00\n", {}, "1 -1", "sign"),
        ("1 1 1\n1 2 -1\n1 3 0\n", {}, "1 -1 0", "sign"),
        ("1 1 5\n1 2 4\n1 3 3\n1 4 1\n", {}, "1 1 -1 -1", "rating sign"),
        ("1 1 5\n1 2 4\n1 3 3\n1 4 1\n", {"like": "label >= 5"}, "1 -1 -1 -1", "rating sign"),
        ("1 1 5\n1 2 4\n1 3 3\n1 4 1\n", {"dislike": "rating <= 2"}, "1 1 0 -1", "rating sign"),
        ("1 1 9\n1 2 4\n1 3 6\n", {"like": "label >= 7", "dislike": "label <= 5"}, "1 -1 0", "rating sign"),
    ],
)
def test_labels(tmp_path: Path, train: str, options: dict[str, Any], signs: str, header: str) -> None:
    highest = max(line.split()[2] for line in train.splitlines())  # so that no part is without a like
    made = split(tmp_path / "split", train, f"1 2 {highest}\n").made(**options)
    assert " ".join(row[-1] for row in tuples_of(made / "split.train.inter")) == signs
    first = (made / "split.train.inter").read_text().splitlines()[0]
    assert [field.split(":")[0] for field in first.split("\t")][2:] == header.split()


def test_bad_splits(tmp_path: Path) -> None:
    raw = split(tmp_path / "a", "1 1 1\n1 2\n")
    raw.refuses("train.txt, line 2: 2 columns where 3 were expected")
    raw.refuses("is a file; give the folder", "train.txt")
    (raw.folder / "train.txt.gz").touch()
    raw.refuses("holds train.txt and train.txt.gz; keep one of them")
    raw = split(tmp_path / "b", "1 1 1\n", valid="1 1 x\n")
    raw.refuses("valid.txt.gz, line 1: the label needs numbers .* got 'x'")
    (raw.folder / "valid.txt.gz").rename(raw.folder / "validation.txt.gz")
    raw.refuses("holds no valid part, valid.txt was expected .or .gz, .xz, .zst of it.; did you mean")
    raw = split(tmp_path / "c", "1 1 9\n1 1 0\n")
    raw.refuses("labels from 0 to 9 are neither 0/1 nor ratings of 1 to 5; give like=")
    raw.write({"test.txt.xz": ""})
    raw.refuses("test.txt.xz is empty")
    split(tmp_path / "d", "1 1 0\n", "1 1 0\n", "1 1 0\n").refuses("leaves no likes")


def test_the_committed_toy_set_is_what_its_generator_makes(tmp_path: Path, toy_root: Path) -> None:
    made, committed = convert("toy", None, tmp_path), toy_root / "toy-signed"
    assert {path.name for path in committed.iterdir()} == {"toy-signed.inter", "toy-signed.yaml", "dataset.json"}
    for name in ("toy-signed.inter", "toy-signed.yaml"):
        assert (committed / name).read_bytes() == (made / name).read_bytes()
    # the version is the one thing that changes from release to release
    assert all(manifest_of(folder).pop("package_version") for folder in (committed, made))
    assert manifest_of(committed) | {"package_version": ""} == manifest_of(made) | {"package_version": ""}
    assert manifest_of(committed)["outputs"]["toy-signed.inter"] in (toy_root / "README.md").read_text()


@pytest.mark.parametrize("arguments", [{}, {"users": 7, "items": 26, "communities": 3, "seed": 5}, {"communities": 4}])
def test_planted_truth(arguments: dict[str, int]) -> None:
    truth = planted(**arguments)
    n_users, n_items = truth.verdict.shape
    assert (len(truth.users), len(truth.items)) == (n_users, n_items)
    own = truth.user_community[:, None] == truth.item_community[None, :]
    assert (truth.verdict[own & ~truth.bad] == 1).all()
    assert (truth.verdict[own & truth.bad] == -1).all()
    assert not (truth.verdict[~own] == 1).any()
    foreign = (truth.verdict == -1) & ~own
    assert foreign.any(axis=1).all()
    for row in foreign:  # planted in one other community
        assert len(set(truth.item_community[row])) == 1
    frame = truth.frame
    user = frame["user_id"].replace_strict(list(truth.users), list(range(n_users))).to_numpy()
    item = frame["item_id"].replace_strict(list(truth.items), list(range(n_items))).to_numpy()
    assert (truth.verdict[user, item] == frame["sign"].to_numpy()).all()
    assert frame.select("user_id", "item_id").is_duplicated().sum() == 0
    assert (np.diff(frame["timestamp"].to_numpy()) > 0).all()
    rating = frame["rating"].to_numpy()
    assert (np.sign(np.where(rating >= 4, 1, np.where(rating <= 2, -1, 0))) == frame["sign"].to_numpy()).all()
    seen = truth.seen()
    assert seen.sum() == frame.height
    for level in (1, 0, -1):  # every user has something of each kind left to be ranked, and has events of each sign
        assert ((truth.verdict == level) & ~seen).any(axis=1).all()
        assert ((truth.verdict == level) & seen).any(axis=1).all()


def test_the_toy_set_depends_on_its_seed_and_is_known_to_somebody() -> None:
    truth = planted()
    assert truth.seen().any(axis=0).all()
    assert truth.frame.filter(pl.col("sign") == -1)["item_id"].n_unique() >= truth.bad.sum()
    assert planted(seed=1).frame.equals(planted(seed=1).frame)
    assert not planted(seed=1).frame.equals(planted(seed=2).frame)


def auc(scores: np.ndarray, truth: Planted, high: int, low: int) -> float:
    """Share of unseen pairs (higher verdict, lower verdict) of a user that are in the right order, averaged."""
    shares = []
    for row, verdict, seen in zip(scores, truth.verdict, truth.seen(), strict=True):
        above, below = row[~seen & (verdict == high)][:, None], row[~seen & (verdict == low)]
        shares.append(((above > below) + 0.5 * (above == below)).mean())
    return float(np.mean(shares))


@pytest.mark.parametrize("seed", [2024, 1, 2])
def test_the_right_ranking_is_found_with_signs_and_not_without(seed: int) -> None:
    truth = planted(seed=seed)
    likes = truth.seen() * (truth.verdict == 1).astype(float)
    dislikes = truth.seen() * (truth.verdict == -1).astype(float)
    signed, exposed = likes - dislikes, likes + dislikes
    paths = {name: matrix @ matrix.T @ matrix for name, matrix in (("+-", signed), ("+", likes), ("all", exposed))}
    assert auc(paths["+-"], truth, 1, 0) > 0.99
    assert auc(paths["+-"], truth, 0, -1) > 0.99
    assert auc(paths["+"], truth, 1, 0) > 0.99
    assert auc(paths["+"], truth, 0, -1) == pytest.approx(0.5, abs=0.05)
    assert auc(paths["all"], truth, 0, -1) < 0.1
    assert auc(np.tile(likes.sum(axis=0), (len(truth.users), 1)), truth, 1, 0) < 0.7


@pytest.mark.parametrize("arguments", [{"communities": 2}, {"items": 23}, {"users": 5}])
def test_planted_sets_that_are_too_small(arguments: dict[str, int]) -> None:
    check_refused("is too small for a planted data set", planted, **arguments)
