"""Features of ``.item`` and ``.user`` files: what is read, what is refused, and the matrix that comes of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import check_refused

from recbole_signed.atomic.feature_file import read_feature_file, read_features, table_of
from recbole_signed.atomic.feature_space import MAX_TOKENS, TEXT_BUCKETS, Features, FeatureSpace
from recbole_signed.errors import UsageError

HEADER = "item_id:token\tgenre:token_seq\tauthor:token\tyear:float\ttitle:token\tvector:float_seq"
ROWS = [
    "1\tcrime drama\tann\t1990\tHeat and dust\t1 0",
    "2\tdrama\tann\t2000\tThe Heat\t0 1",
    "3\t\tbob\t\t\t",
    "4\tcrime\tann\t2010\tdust\t1 1",
]
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(*rows: str, header: str = HEADER, name: str = "toy.item") -> Path:
        path = tmp_path / name
        path.write_text("\n".join([header, *rows]) + "\n", "utf-8")
        return path

    return make


def matrix_of(path: Path, wanted: Any, ids: list[str]) -> tuple[np.ndarray, list[tuple[str, str]]]:
    made = Features.from_table(read_feature_file(path, "item_id", wanted), ids)
    return made.matrix.toarray(), made.space.names


def test_ids_are_read_as_in_interactions_and_equal_rows_once(write: Write) -> None:
    table = read_feature_file(write(" 1\t crime \tann\t1990\tHeat\t1 0", *ROWS), "item_id", ["genre"])
    assert table.rows_of([" 1", "1"]).tolist() == [0, 1]
    assert table.columns["genre"][0] == "crime"
    assert len(read_feature_file(write(*ROWS, ROWS[0]), "item_id").ids) == 4


def test_lines_and_quotes_are_read_as_in_interactions(write: Write) -> None:
    plain, spaced = (read_feature_file(write(*r), "item_id") for r in (ROWS, ["", ROWS[0], "\r", "", *ROWS[1:], ""]))
    assert spaced.ids.equals(plain.ids)
    assert all(spaced.columns[name].equals(plain.columns[name]) for name in plain.columns)
    path = write(*ROWS)
    plain = read_feature_file(path, "item_id")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r"))
    found = read_feature_file(path, "item_id")
    assert found.ids.equals(plain.ids)
    assert all(found.columns[name].equals(plain.columns[name]) for name in plain.columns)
    titles = ['12" vinyl', '"Weird Al" live', 'say "hi" now', '"a ""b"" c"', '"two\nlines"']
    path = write(*(f"{number}\tcrime\tann\t1990\t{title}\t1 0" for number, title in enumerate(titles)))
    table = read_feature_file(path, "item_id")
    assert table.ids.to_list() == list("01234")
    assert table.columns["title"].to_list() == ['12" vinyl', "Weird Al live", titles[2], 'a "b" c', "two\nlines"]
    check_refused("can't be read", read_feature_file, write(*ROWS, '5\t"crime'), "item_id")


def test_columns_become_indicators_and_bins(write: Write) -> None:
    found, names = matrix_of(write(*ROWS), ["genre", "author"], ["4", "2", "no", "1", "3"])
    assert names[0] == ("", "")
    assert set(names[1:]) == {("author", "ann"), ("genre", "crime"), ("genre", "drama")}
    rows = {i: {names[j] for j in np.flatnonzero(found[i])} - {("", "")} for i in range(5)}
    assert (rows[0], rows[1]) == ({("author", "ann"), ("genre", "crime")}, {("author", "ann"), ("genre", "drama")})
    assert rows[3] == {("author", "ann"), ("genre", "crime"), ("genre", "drama")}
    assert not found[2].any()  # an id without a row
    assert found[4].tolist() == [1.0, 0.0, 0.0, 0.0]  # bob is nobody else's author
    rows = [f"{i}\ta\tb\t{i}\tt\t1" for i in range(320)]
    found, names = matrix_of(write(*rows, "x\ta\tb\t\tt\t1"), ["year"], [str(i) for i in range(320)] + ["x"])
    assert len(names) == 17
    assert (found[:320, 1:].sum(axis=1) == 1).all()
    assert (found[:320, 1:].sum(axis=0) == 20).all()
    assert not found[320, 1:].any()
    assert ("year", "below 19.9375") in names


@pytest.mark.parametrize("kind", ["bins", "levels"])
def test_a_number_on_a_bound_lies_in_the_bin_that_begins_there(write: Write, kind: str) -> None:
    rows = [f"{i}\ta\tb\t{1900 + i // 20}\tt\t1" for i in range(40)]
    found, names = matrix_of(write(*rows), [f"year:{kind}"], [str(i) for i in range(40)])
    for number, row in ((1900, found[0]), (1901, found[39])):
        for _, name in (names[place] for place in np.flatnonzero(row)[1:]):
            low, _, high = name.removeprefix("from ").replace("below ", " to ").partition(" to ")
            assert not low or float(low) <= number, name
            assert not high or number < float(high), name
    assert not (found[0, 1:] * found[39, 1:]).any()


def test_levels_are_bins_of_several_widths_one_within_the_other(write: Write) -> None:
    ids = [str(i) for i in range(320)]
    rows = [f"{i}\ta\tb\t{i}\tt\t1" for i in range(320)]
    found, names = matrix_of(write(*rows, "x\ta\tb\t\tt\t1"), ["year:levels"], [*ids, "x"])
    assert len(names) == 1 + 64 + 16 + 4
    assert (found[:320, 1:].sum(axis=1) == 3).all()
    assert sorted(found[:320, 1:].sum(axis=0)) == [5] * 64 + [20] * 16 + [80] * 4
    assert not found[320, 1:].any()
    assert {("year", "below 79.75"), ("year", "below 19.9375"), ("year", "from 239.25")} <= set(names)
    assert len(set(names)) == len(names)
    # who shares a narrow bin shares the wider ones
    shared = found[:320, 1:] @ found[:320, 1:].T
    assert set(np.unique(shared)) == {0, 1, 2, 3}
    assert (shared[0, 1], shared[0, 319]) == (3, 0)


def test_levels_of_repeated_numbers_and_of_words(write: Write) -> None:
    rows = [f"{i}\ta\tb\t{1900 + i % 3}\tt\t1" for i in range(90)]
    found, names = matrix_of(write(*rows), ["year:levels"], [str(i) for i in range(90)])
    assert (found[:, 1:].sum(axis=1) == 3).all()
    assert (found[:, 1:].sum(axis=0) > 0).all()
    assert len(names) == 1 + 3 * 3
    years = ["1990", "unknown", "unknown", "V", "", "1990", "2000", "2000", "nan"]
    rows = [f"{i}\ta\tb\t{year}\tt\t1" for i, year in enumerate(years)]
    found, names = matrix_of(write(*rows), ["year:levels"], [str(i) for i in range(len(years))])
    assert ("year", "unknown") in names
    assert ("year", "V") not in names  # one id has it
    assert found[:, names.index(("year", "unknown"))].tolist() == [0, 1, 1, 0, 0, 0, 0, 0, 0]
    assert found[:, 1:].sum(axis=1).tolist() == [3, 1, 1, 0, 0, 3, 3, 3, 0]


def test_text_and_vectors_have_the_length_1(write: Write) -> None:
    found, names = matrix_of(write(*ROWS), ["title:text"], ["1", "2", "3", "4"])
    assert len(names) == 1 + TEXT_BUCKETS
    assert np.linalg.norm(found[:, 1:], axis=1) == pytest.approx([1, 1, 0, 1])
    assert found[0, 1:] @ found[3, 1:] > 0  # both say dust
    assert found[1, 1:] @ found[3, 1:] == 0
    assert np.count_nonzero(found[0, 1:]) == 5  # three words and two pairs of neighbours
    for row in (0, 1, 3):  # no pair goes over the end of a row
        alone, _ = matrix_of(write(ROWS[row]), ["title:text"], [ROWS[row][0]])
        np.testing.assert_array_equal(alone[0], found[row])
    found, names = matrix_of(write(*ROWS), ["vector"], ["1", "2", "3", "4"])
    assert names[1:] == [("vector", "0"), ("vector", "1")]
    assert np.square(found[[0, 1, 3], 1:]).sum() == pytest.approx(3)
    assert not found[2, 1:].any()


def test_a_space_outlives_its_table(write: Write) -> None:
    table = read_feature_file(write(*ROWS), "item_id")
    space = FeatureSpace.learn(table, ["1", "2", "3", "4"])
    again = FeatureSpace.from_json(json.loads(json.dumps(space.to_json())))
    new = pl.DataFrame({"item_id": ["9"], "genre": ["drama new"], "author": ["ann"], "year": ["1991"]}).with_columns(
        pl.lit("Heat").alias("title"), pl.lit(None, pl.String).alias("vector")
    )
    row = again.matrix(table_of(new, "item_id", again.kinds, "an event"), ["9"])
    assert again.names == space.names
    assert {again.names[j] for j in row.indices} >= {("genre", "drama"), ("author", "ann")}


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=4), min_size=1, max_size=12), st.integers(0, 2**32 - 1))
def test_every_kept_token_of_an_id_is_in_its_row(own: list[list[str]], seed: int) -> None:
    ids = [f"i{n}" for n in range(len(own))]
    frame = pl.DataFrame({"item_id": ids, "tag": [" ".join(each) for each in own]})
    table = table_of(frame, "item_id", {"tag": "tokens"}, "a frame")
    order = np.random.default_rng(seed).permutation(len(ids))
    made = Features.from_table(table, np.array(ids)[order])
    counts = {token: sum(token in each for each in own) for token in "abcdef"}
    names = made.space.names
    assert {token for _, token in names[1:]} == {token for token, count in counts.items() if count >= 2}
    for place, number in enumerate(order):
        row = {names[j][1] for j in made.matrix[place].indices} - {""}
        assert row == {token for token in own[number] if counts[token] >= 2}


def test_a_million_distinct_tokens_leave_the_most_frequent() -> None:
    n = 1_000_000
    frame = pl.DataFrame({"item_id": pl.int_range(n, eager=True).cast(pl.String)})
    frame = frame.with_columns(
        pl.col("item_id").alias("unique"), (pl.int_range(n, eager=True) % 5000).cast(pl.String).alias("shared")
    )
    made = Features.from_table(
        table_of(frame, "item_id", {"unique": "token", "shared": "token"}, "a frame"), frame["item_id"]
    )
    assert made.matrix.shape == (n, 1 + MAX_TOKENS)
    assert {name for name, _ in made.space.names[1:]} == {"shared"}


@pytest.mark.parametrize(
    ("rows", "wanted", "message"),
    [
        ([*ROWS, "1\tcrime drama\tbob\t1990\tHeat and dust\t1 0"], "all", "'1' has rows with 'ann' and with 'bob' in"),
        (ROWS, ["gender"], "no column 'gender' of features; did you mean 'genre'"),
        (ROWS, ["genre:colour"], "can't be read as 'colour'; use one of token, tokens, bins, levels, text, vector"),
        (ROWS, ["title:bins"], "holds 'Heat and dust', but a finite number was expected; read it as 'title:token'"),
        (
            ["1\ta\tb\t1\tt\t1 2", "2\ta\tb\t1\tt\t1"],
            ["vector"],
            "a vector of 'vector' has 1 numbers, but others have 2",
        ),
        (["\ta\tb\t1\tt\t1"], "all", "row 1: the column 'item_id' is blank"),
    ],
)
def test_what_does_not_fit_is_refused(write: Write, rows: list[str], wanted: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Features.from_table(read_feature_file(write(*rows), "item_id", wanted), ["1", "2", "3", "4"])


def test_rows_of_unknown_ids_change_nothing(write: Write) -> None:
    ids, wanted = ["1", "2", "3", "4"], ["genre", "author", "year"]
    more = [f"x{i}\thorror\tbob\t{1800 + i}\t\t" for i in range(20)]
    found, names = matrix_of(write(*ROWS), wanted, ids)
    again, same = matrix_of(write(*more, *ROWS), wanted, ids)
    assert same == names  # bob, horror and the early years are not theirs
    assert np.array_equal(again, found)


class Settings(dict[str, Any]):
    def __missing__(self, key: str) -> None:
        return None


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("genre", "features must look like"),
        ({"items": "all"}, "features has the key 'items'; did you mean 'item'"),
        ({"item": 3}, "features.item is 3"),
        ({"user": "all"}, "toy.user does not exist; ask for none, or write it"),
    ],
)
def test_the_configuration_is_checked(write: Write, features: Any, message: str) -> None:
    settings = Settings(features=features, data_path=str(write(*ROWS).parent), dataset="toy")
    side = "user" if isinstance(features, dict) and "user" in features else "item"
    check_refused(message, read_features, settings, side)


def test_the_configuration_names_columns(write: Write) -> None:
    settings = Settings(features={"item": ["genre", "year:token"]}, data_path=str(write(*ROWS).parent), dataset="toy")
    table = read_features(settings, "item")
    assert table is not None
    assert dict(table.kinds) == {"genre": "tokens", "year": "token"}
    assert read_features(settings, "user") is None
