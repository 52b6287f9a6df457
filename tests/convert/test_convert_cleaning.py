"""Cleaning: what is left, the order of its steps, what dataset.json says; spooling to disk changes nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from converted import Raw, manifest_of, tuples_of
from hypothesis import given
from hypothesis import strategies as st
from refusals import check_refused

from recbole_signed.convert import cleaning, convert, raw_files
from recbole_signed.convert.cleaning import K_CORE, MIN_LIKES, signed_core
from recbole_signed.convert.token_codes import TokenCodes
from recbole_signed.errors import UsageError

HEADER = "user,item,sign,time"


def write(folder: Path, rows: list[tuple[Any, ...]], name: str = "raw.csv", header: str = HEADER) -> Path:
    path = folder / name
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows), ""]), encoding="utf-8")
    return path


def rows_of(folder: Path, part: str = "") -> list[tuple[str, ...]]:
    return tuples_of(folder / f"{folder.name}{part}.inter")


def dropped(folder: Path) -> dict[str, int]:
    return {step["step"]: step["dropped"]["total"] for step in manifest_of(folder)["cleaning"]["steps"]}


def test_a_verdict_stands_against_a_later_look(tmp_path: Path) -> None:
    rows = [("a", "x", 1, 1), ("a", "x", 0, 2), ("a", "y", 0, 3), ("a", "y", 0, 4), ("b", "x", 1, 5), ("b", "x", -1, 6)]
    raw = write(tmp_path, rows)
    made = convert("csv", raw, tmp_path / "out", time_unit="s", dedup="last")
    assert rows_of(made) == [("a", "x", "1", "1"), ("a", "y", "0", "4"), ("b", "x", "-1", "6")]
    assert dropped(made) == {"dedup": 3}
    made = convert("csv", raw, tmp_path / "first", time_unit="s", dedup="first")
    assert rows_of(made) == [("a", "x", "1", "1"), ("a", "y", "0", "3"), ("b", "x", "1", "5")]
    made = convert("csv", write(tmp_path, rows[::-1]), tmp_path / "undated", time="none", dedup="last")
    assert rows_of(made) == [("b", "x", "1"), ("a", "y", "0"), ("a", "x", "1")]


def test_repetitions_go_before_degrees_are_counted(tmp_path: Path) -> None:
    rows = [*square(3), (8, 0, 1, 90), (8, 0, 1, 91), (8, 1, 0, 92), (8, 1, 1, 93)]
    made = convert("csv", write(tmp_path, rows), tmp_path / "out", time_unit="s", k_core=3, dedup="last")
    assert {row[0] for row in rows_of(made)} == {"0", "1", "2"}
    assert dropped(made) == {"dedup": 2, "k_core": 2}
    assert [step["step"] for step in manifest_of(made)["cleaning"]["steps"]] == ["dedup", "k_core"]


def square(size: int = 5) -> list[tuple[Any, ...]]:
    """Everybody likes or dislikes everything, in order of time."""
    return [(u, i, 1 if (u + i) % 3 else -1, 10 * u + i) for u in range(size) for i in range(size)]


def test_k_core_and_min_likes_hold_together_and_each_step_is_counted(tmp_path: Path) -> None:
    rows = square()
    rows += [(7, i, -1, 100 + i) for i in range(5)]  # dislikes all: goes by min_likes
    rows += [(0, 50, 1, 200), (8, 0, 1, 201), (1, 0, 0, 202), (8, 50, 0, 203)]  # go by the core, but for (1, 0)
    raw = write(tmp_path, rows)
    made = convert("csv", raw, tmp_path / "out", time_unit="s", k_core=5, min_likes=3)
    assert {(int(u), int(i)) for u, i, *_ in rows_of(made)} == {(u, i) for u in range(5) for i in range(5)}
    assert ("1", "0", "0", "202") in rows_of(made), "a neutral row of those who stay"
    assert dropped(made) == {"min_likes": 7, "k_core": 1}
    record = manifest_of(made)
    assert record["cleaning"]["options"] == {"dedup": "none", "min_likes": 3, "k_core": 5, "gap_filling": False}
    assert record["cleaning"]["steps"][0]["dropped"] == {"total": 7, "like": 1, "dislike": 5, "neutral": 1}
    assert record["rows"]["total"] == 26
    assert (record["users"], record["items"]) == (5, 5)
    alone = convert("csv", raw, tmp_path / "alone", time_unit="s", k_core=5)
    assert dropped(alone) == {"k_core": 3}
    assert {row[0] for row in rows_of(alone)} == {*"01234", "7"}


def test_numbers_without_gaps(tmp_path: Path) -> None:
    raw = write(tmp_path, [(30, 7, 1, 1), (4, 100, -1, 2), (4, 7, 1, 3), (200, 8, 1, 4), (5, 7, -1, 5)])
    made = convert("csv", raw, tmp_path / "out", time_unit="s", gap_filling=True, min_likes=1)
    assert rows_of(made) == [("1", "0", "1", "1"), ("0", "2", "-1", "2"), ("0", "0", "1", "3"), ("2", "1", "1", "4")]
    assert (made / "raw.user_ids.tsv").read_text() == "user_id\traw_user_id\n0\t4\n1\t30\n2\t200\n"
    assert (made / "raw.item_ids.tsv").read_text() == "item_id\traw_item_id\n0\t7\n1\t8\n2\t100\n"
    assert {"raw.user_ids.tsv", "raw.item_ids.tsv"} < set(manifest_of(made)["outputs"])
    words = write(tmp_path, [("ann", 1, 1, 1), (5, 1, 1, 2)], "words.csv")
    with pytest.raises(UsageError, match="ids again that are whole numbers, but user_id has 'ann'; leave it out"):
        convert("csv", words, tmp_path / "out", gap_filling=True)


def test_features_follow_the_new_numbers(tmp_path: Path) -> None:
    files = {
        "ratings.dat": "10::500::5::1\n10::70::1::2\n3::500::1::3\n99::1::1::4\n",
        "movies.dat": "500::Late (1999)::Drama\n70::Early (1990)::Comedy\n1::Gone (1980)::War\n",
        "users.dat": "3::F::1::10::48067\n10::M::25::6::11106\n99::M::1::1::1\n",
    }
    raw = Raw(tmp_path / "ml-1m", "movielens", files)
    users = raw.rows(suffix="user", gap_filling="yes", min_likes=0, k_core=0)
    assert [row.split("|")[0] for row in users] == ["0", "1", "2"]
    options = {"gap_filling": "yes", "min_likes": 1}
    assert raw.rows(**options) == ["0|1|5|1|1", "0|0|1|-1|2"]
    assert raw.rows(suffix="user", **options) == ["0|M|25|6|11106"]
    assert sorted(raw.rows(suffix="item", **options)) == ["0|Early|1990|Comedy", "1|Late|1999|Drama"]


def test_parts_of_a_published_split(tmp_path: Path) -> None:
    files = {
        "train.txt": "1 1 1\n1 1 0\n1 2 1\n2 1 1\n2 2 0\n3 1 1\n",
        "valid.txt": "1 2 1\n2 1 1\n",
        "test.txt": "2 2 1\n1 1 1\n3 2 0\n",
    }
    raw = Raw(tmp_path / "split", "signed-split", files)
    made = raw.made(dedup="last", k_core=2)
    # user 3 has two items over all parts, so it stays in each; repetitions are looked for within a part
    train = [("1", "1", "-1"), ("1", "2", "1"), ("2", "1", "1"), ("2", "2", "-1"), ("3", "1", "1")]
    assert rows_of(made, ".train") == train
    assert rows_of(made, ".test") == [("2", "2", "1"), ("1", "1", "1"), ("3", "2", "-1")]
    assert dropped(made) == {"dedup": 1, "k_core": 0}
    raw.write({"valid.txt": "9 9 1\n"})
    raw.refuses("leaves nothing of the 1 row of 'valid'; give smaller numbers", k_core=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k_core": 50}, r"Cleaning \(min_likes=0, k_core=50\) leaves nothing of 25 rows; give smaller numbers"),
        ({"k_core": -1}, "k_core .* is -1; give an integer of 0 or more"),
        ({"k_core": "many"}, "k_core .* is 'many'; give an integer"),
        ({"dedup": "newest"}, "dedup .* is 'newest'.*; use one of none, last, first"),
        ({"on_error": "ignore"}, "on_error .* is 'ignore'; use one of stop, skip"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    check_refused(message, convert, "csv", write(tmp_path, square()), tmp_path / "out", time_unit="s", **options)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_spooling_to_disk_gives_the_same_bytes_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    rows = [
        (int(u), int(i), int(s), n % 97) for n, (u, i, s) in enumerate(rng.integers(-1, 12, (600, 3)) % [12, 12, 3])
    ]
    raw = write(tmp_path, [(u, i, s - 1, t) for u, i, s, t in rows])
    options: dict[str, Any] = {"dedup": "last", "k_core": 4, "min_likes": 3, "gap_filling": True, "time_unit": "s"}
    one = convert("csv", raw, tmp_path / "one", **options)
    assert manifest_of(one)["rows"]["total"] > 50
    assert min(dropped(one).values()) >= 0
    monkeypatch.setattr(cleaning, "MEMORY_ROWS", 40)
    monkeypatch.setattr(raw_files, "BLOCK_BYTES", 300)
    two = convert("csv", raw, tmp_path / "two", **options)
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes(), path.name


def test_the_real_tail_of_kuairand(tmp_path: Path, shared_data: Any) -> None:
    log = shared_data("kuairand-pure-tail") / "log_standard_4_25_to_5_08_pure.csv.xz"
    made = convert("kuairand", log, tmp_path, dedup="last", k_core=5, keep="")
    frame = pl.read_csv(made / f"{made.name}.inter", separator="\t", infer_schema_length=0)
    frame = frame.rename(lambda name: name.split(":")[0])
    assert frame.height == manifest_of(made)["rows"]["total"] == 228_329 - sum(dropped(made).values())
    assert dropped(made)["dedup"] == 7_441, "as many as there are repeated rows"
    for name in ("user_id", "item_id"):
        assert frame.group_by(name).len()["len"].min() >= 5


signed = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from([-1, 0, 1])), max_size=40)


def by_definition(events: list[tuple[int, int, int]], min_likes: int, k: int) -> list[bool]:
    """Leave out whoever has too little, one at a time, until nobody has: which rows stay."""
    users, items = {u for u, _, _ in events}, {i for _, i, _ in events}
    while True:
        inside = [(u, i, s) for u, i, s in events if u in users and i in items]
        for user in users:
            likes = {i for u, i, s in inside if u == user and s == 1}
            both = {i for u, i, s in inside if u == user and s != 0}
            if len(likes) < min_likes or len(both) < k:
                users = users - {user}
                break
        else:
            for item in items:
                if len({u for u, i, s in inside if i == item and s != 0}) < k:
                    items = items - {item}
                    break
            else:
                return [u in users and i in items for u, i, _ in events]


@given(events=signed, min_likes=st.integers(0, 3), k=st.integers(0, 3))
def test_core_against_its_definition(events: list[tuple[int, int, int]], min_likes: int, k: int) -> None:
    user, item, sign = (
        (np.array(column, dtype=np.int32) for column in zip(*events, strict=True))
        if events
        else (np.empty(0, np.int32) for _ in range(3))
    )
    core = signed_core(user, item, sign.astype(np.int8), (6, 6), min_likes=min_likes, k=k)
    assert (core.step_of_row == 0).tolist() == by_definition(events, min_likes, k)
    if not min_likes:
        assert not (core.step_of_row == MIN_LIKES).any()
    if not k:
        assert not (core.step_of_row == K_CORE).any()


def test_degrees_are_of_distinct_verdicts_until_both_conditions_hold() -> None:
    # a chain: each user has two items, the last item one user; a 2-core takes all of it, one link a round
    user = np.arange(100).repeat(2)
    item = (np.arange(100)[:, None] + np.array([0, 1])).ravel()
    core = signed_core(user, item, np.ones(200, np.int8), (100, 101), k=2)
    assert (core.step_of_row == K_CORE).all()
    assert core.rounds > 40
    # closed to a ring nothing has to go
    core = signed_core(user, item % 100, np.ones(200, np.int8), (100, 100), k=2)
    assert not core.step_of_row.any()
    assert core.rounds == 1
    user, item = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 0, 1])
    sign = np.array([1, 1, 0, 1, -1], np.int8)
    assert signed_core(user, item, sign, (2, 2), k=2).step_of_row.tolist() == [2, 2, 2, 2, 2]
    assert signed_core(user, item, sign, (2, 2), min_likes=1).step_of_row.tolist() == [0] * 5
    assert signed_core(user, item, sign, (2, 2), min_likes=2).step_of_row.tolist() == [1] * 5


# ---- numbers for tokens that come block by block ----


@given(st.lists(st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=20), max_size=4))
def test_a_vocabulary_counts_by_first_appearance(blocks: list[list[str | None]]) -> None:
    vocabulary = TokenCodes()
    codes = [vocabulary.codes(pl.Series(block, dtype=pl.String)).tolist() for block in blocks]
    tokens = [token for block in blocks for token in block]
    known = list(dict.fromkeys(token for token in tokens if token is not None))
    assert vocabulary.tokens().tolist() == vocabulary.series().to_list() == known
    assert [code for block in codes for code in block] == [-1 if each is None else known.index(each) for each in tokens]


def test_a_vocabulary_notices_colliding_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    real = pl.Series.hash

    def poor(self: pl.Series, seed: int = 0) -> pl.Series:
        return real(self, seed) if seed == 2 else pl.Series(np.full(len(self), seed, dtype=np.uint64))

    monkeypatch.setattr(pl.Series, "hash", poor)
    vocabulary = TokenCodes()
    assert vocabulary.codes(pl.Series(["a", "b", "a"])).tolist() == [0, 1, 0]
    assert vocabulary.codes(pl.Series(["c", "b"])).tolist() == [2, 1]
    monkeypatch.setattr(pl.Series, "hash", lambda self, seed=0: pl.Series(np.zeros(len(self), dtype=np.uint64)))
    with pytest.raises(RuntimeError, match="same 64-bit hash"):
        TokenCodes().codes(pl.Series(["a", "b"]))
